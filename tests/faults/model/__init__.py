"""A seeded simulation of everything that can go wrong: real code, real SQLite, a modelled Redis, virtual time."""
