"""What a run leaves: predictions, metrics, tables, overlays, measurements. Trains nothing and reads no options."""
