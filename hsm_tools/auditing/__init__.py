"""What `hsm-stream-reconciler` looks at, and what it says."""
