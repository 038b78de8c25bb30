"""What pages are made of: tables, lines, the header. A widget never fetches."""
