"""Long attacks behind `make torture`: the simulation at length, its guards taken away, faults on real processes."""
