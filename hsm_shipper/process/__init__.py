"""What every program of ours does: logging, signals, ending with its parent, the garbage collector."""
