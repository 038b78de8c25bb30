"""What `hsm-action-shipper` does beside running: status, check, maintain, one poll of everything."""
