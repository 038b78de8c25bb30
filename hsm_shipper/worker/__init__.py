"""The worker: polls one MDT, decides what changed, ships it."""
