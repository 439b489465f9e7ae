"""Rules that correct predicted masks, as MONAI transforms.

- `rules`: the rules of a config, in their order
- `pieces`: keep one connected piece of all structures
- `cavity`: keep a cavity inside its wall
- `drawn_size`: scale structures to the size that another hospital draws
"""
