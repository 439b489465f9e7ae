"""Prepare raw scans for a network: find the sequences, register them, extract the brain. Imports no bundle."""
