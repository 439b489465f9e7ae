"""Other programs: the MONAI Label app, packaging, releases."""
