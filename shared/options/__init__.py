"""The options of a bundle: start-up, overrides, types and ranges, the check command."""
