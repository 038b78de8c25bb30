"""Hostile input: what every parser of ours makes of anything at all, held against a slow and strict reading of it."""
