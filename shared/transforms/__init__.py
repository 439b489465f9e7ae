"""MONAI dictionary transforms on tensors. They open no file."""
