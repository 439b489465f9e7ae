"""Fundus phantoms: the built-in data set."""
