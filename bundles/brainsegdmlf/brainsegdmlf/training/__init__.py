"""Training of the shipped weights: real slices, phantoms, patches, loss and validation of ``make_weights.py``."""
