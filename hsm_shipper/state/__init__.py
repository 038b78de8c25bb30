"""All that is kept in SQLite, and the locks beside it."""
