"""The supervisord that runs it all, and discovery, which tells it which MDTs are here."""
