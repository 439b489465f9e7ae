"""Errors, messages, files and locks. Imports nothing else of the project."""
