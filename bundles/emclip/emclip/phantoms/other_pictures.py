"""Synthetic pictures of something else: clouds of colour, round and square things, dark surroundings, text."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage

from emclip.phantoms.eye import Array


def make_other_picture(seed: int, size: int = 208) -> Array:
    """Make a picture that shows no eye, uint8 (size, size, 3); the same arguments give the same picture."""
    rng = np.random.default_rng([seed, 9])
    image = _cloud(rng, size)
    drawn = Image.fromarray(image)
    pen = ImageDraw.Draw(drawn)
    for _ in range(rng.integers(0, 14)):
        corner = rng.uniform(-0.2, 1, 2) * size
        extent = rng.uniform(0.03, 0.5) * size * rng.uniform(0.6, 1.6, 2)
        box = [*corner.tolist(), *(corner + extent).tolist()]
        colour = tuple(rng.integers(0, 256, 3).tolist())
        kind = rng.integers(4)
        if kind == 0:
            pen.ellipse(box, fill=colour)
        elif kind == 1:
            pen.rectangle(box, fill=colour)
        elif kind == 2:
            pen.line(box, fill=colour, width=int(rng.integers(1, 8)))
        else:
            letters = "".join(rng.choice(list("ABCDEFGHKLMNORSTUabcdefghik 0123456789"), 12))
            pen.text((box[0], box[1]), letters, fill=colour)
    blurred = ndimage.gaussian_filter(
        np.asarray(drawn, np.float32), (*[rng.uniform(0, 4) * (rng.random() < 0.5)] * 2, 0)
    )
    noisy = blurred + rng.uniform(0, 12) * rng.standard_normal(blurred.shape, np.float32)
    if rng.random() < 0.3:  # a round field, as of an endoscope or a microscope
        rows, columns = np.indices((size, size)) / size - 0.5
        noisy = noisy * (np.hypot(rows, columns) < rng.uniform(0.35, 0.55))[..., None]
    if rng.random() < 0.3:
        noisy = np.repeat(noisy.mean(-1, keepdims=True), 3, -1)
    return np.clip(noisy, 0, 255).astype(np.uint8)


def _cloud(rng: np.random.Generator, size: int) -> Array:
    """Draw a smooth field of colours around a random one, uint8 (size, size, 3)."""
    cells = int(rng.integers(2, 12))
    mean = rng.uniform(20, 235, 3) if rng.random() < 0.6 else np.array([170, 80, 45]) * rng.uniform(0.5, 1.4)
    coarse = mean + rng.uniform(5, 80) * rng.standard_normal((cells, cells, 3))
    field = ndimage.zoom(coarse, (size / cells, size / cells, 1), order=1, grid_mode=True, mode="nearest")
    return np.clip(field[:size, :size], 0, 255).astype(np.uint8)
