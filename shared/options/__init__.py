"""What a user may set: start-up, overrides, ranges, the check command."""
