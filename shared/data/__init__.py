"""Reading data, and the built-in data."""
