"""Training: handlers, checkpoints, precision, several processes. Writes checkpoints, never tables or pictures."""
