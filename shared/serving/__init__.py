"""Bundles for other programs: the MONAI Label server, zips, releases. Nothing in `shared` imports this room."""
