"""Built-in data: made, seeded, never clinical."""
