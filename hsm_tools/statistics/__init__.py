"""What `hsm-stream-stats` reports, and its formats."""
