"""Chest X-ray phantoms: the built-in data set."""
