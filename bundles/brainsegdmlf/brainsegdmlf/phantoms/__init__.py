"""Brain phantoms: the built-in data set."""
