"""The machinery of the readers: finding streams, keeping positions, waiting out trouble; asked for by generators."""
