"""From FIDs to paths: which mount, which program, how long to wait."""
