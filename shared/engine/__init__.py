"""Training: handlers, checkpoints, precision, several processes."""
