"""The live state of all MDTs, kept up to date, and what the events come to."""
