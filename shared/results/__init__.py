"""What a run leaves: predictions, metrics, tables, overlays, measurements."""
