"""From attenuation to the stored picture: cables, scatter, contrast, noise, collimator, letters, JPEG."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from tmca.phantoms.anatomy import Array, Line, smooth_curve
from tmca.phantoms.painting import blur, noise, paint_lines

WORDS = ("AP", "PA", "PORTABLE", "SUPINE", "SEDESTACION")


def _cables(rng: np.random.Generator, size: int) -> Array:
    """Draw the strength of electrodes with wires, lines and a tracheal tube: float32 (size, size)."""
    lines = []
    for _ in range(rng.integers(1, 5)):
        bends = rng.uniform([0.05, 0.1], [0.95, 1.1], (rng.integers(3, 6), 2)) * size
        wire = smooth_curve(bends, closed=False, roundness=rng.uniform(2, 5))
        lines.append(Line(wire, size * rng.uniform(0.004, 0.009), rng.uniform(0.3, 1.0)))
        if rng.random() < 0.6:
            lines.append(Line(wire[:2], size * rng.uniform(0.02, 0.045), rng.uniform(0.4, 1.0), True))
    if rng.random() < 0.4:
        middle = rng.uniform(0.46, 0.54)
        tube = np.array([(middle, -0.05), (middle + rng.normal(0, 0.015), rng.uniform(0.2, 0.75))]) * size
        lines.append(Line(tube, size * rng.uniform(0.008, 0.02), rng.uniform(0.3, 0.7)))
    return paint_lines(lines, np.eye(2, 3), size, 0.3)


def _collimator(rng: np.random.Generator, size: int) -> Array:
    """Draw slightly rotated black borders: float32 (size, size), 0 in the borders, 1 elsewhere."""
    angle = np.deg2rad(rng.normal(0, 3))
    left, top, right, bottom = np.where(rng.random(4) < 0.45, 0.5 - rng.uniform(0, 0.12, 4), 0.8)  # 0.8: no border
    corners = np.array([(-left, -top), (right, -top), (right, bottom), (-left, bottom)])
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    canvas = Image.new("L", (2 * size, 2 * size))
    ImageDraw.Draw(canvas).polygon([tuple(corner) for corner in ((corners @ turn + 0.5) * 2 * size).tolist()], fill=255)
    return np.asarray(canvas.reduce(2), np.float32) / 255


def _letters(rng: np.random.Generator, image: Array) -> Array:
    """Write marks into the upper corners of `image` (H, H)."""
    size = len(image)
    canvas = Image.fromarray(image)
    corners = (("R", "D", *WORDS), 0.04, "la"), (("L", "I", *WORDS), 0.96, "ra")  # the patient's right is on the left
    for marks, column, anchor in corners:
        if rng.random() < 0.6:
            place = (size * column, size * rng.uniform(0.01, 0.12))
            font = ImageFont.load_default(size * rng.uniform(0.04, 0.075))
            fill = float(rng.uniform(0.7, 1.0))
            ImageDraw.Draw(canvas).text(place, str(rng.choice(marks)), fill=fill, font=font, anchor=anchor)
    return np.asarray(canvas)


def _detect(rng: np.random.Generator, attenuation: Array) -> Array:
    """Add scattered radiation and the blur of the detector."""
    size, scatter = len(attenuation), rng.uniform(0.0, 0.35)
    seen = (1 - scatter) * attenuation + scatter * blur(attenuation, 0.08 * size)
    return blur(seen, rng.uniform(0.2, 0.9) * size / 224)


def _tone(rng: np.random.Generator, image: Array) -> Array:
    """Map attenuation (H, H) to grey values: an S-curve between floor and ceiling, plus a gradient."""
    centre, width = rng.normal(0.50, 0.05), np.exp(rng.normal(-1.75, 0.25))
    floor, ceiling = rng.beta(1.2, 5) * 0.5, rng.uniform(0.75, 1.0)
    across = np.linspace(-0.5, 0.5, len(image), dtype=np.float32)
    down, right = rng.normal(0, 0.08, 2)
    return floor + (ceiling - floor) / (1 + np.exp((centre - image) / width)) + down * across[:, None] + right * across


def expose(rng: np.random.Generator, attenuation: Array) -> Array:
    """Make the stored picture.

    Args:
        rng: random generator.
        attenuation: float32 (H, H), 0 in air and about 1 in the middle.

    Returns:
        uint8 (H, H).
    """
    size, air = len(attenuation), attenuation < 0.03
    if rng.random() < 0.35:
        attenuation = attenuation + rng.uniform(0.1, 0.35) * _cables(rng, size)
    image = _tone(rng, _detect(rng, attenuation))
    image = np.where(air, image * rng.uniform(0, 0.6), image)
    image = image + rng.uniform(0, 1.0) * (image - blur(image, rng.uniform(1, 5) * size / 224))  # sharpened
    image = image + np.exp(rng.uniform(-6.5, -3.8)) * noise(rng, size, 1.3) * (0.4 + image)
    if rng.random() < 0.35:
        image = image * _collimator(rng, size)
    if rng.random() < 0.5:
        image = _letters(rng, image.astype(np.float32))
    packed = io.BytesIO()
    whole = np.round(255 * np.clip(image, 0, 1)).astype(np.uint8)
    Image.fromarray(whole).save(packed, "JPEG", quality=int(rng.integers(70, 96)))
    return np.array(Image.open(packed))
