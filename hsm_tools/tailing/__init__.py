"""What `hsm-stream-tail` is made of."""
