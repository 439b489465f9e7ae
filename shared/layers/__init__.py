"""Layers of the methods; they know torch and nothing else."""
