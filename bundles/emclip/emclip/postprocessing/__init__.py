"""Rules that clean up predicted masks."""
