"""The results of a run: predictions, metrics, tables, overlays, measurements. Trains nothing and reads no options."""
