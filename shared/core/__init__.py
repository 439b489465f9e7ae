"""Errors, messages and files. Imports nothing of ours."""
