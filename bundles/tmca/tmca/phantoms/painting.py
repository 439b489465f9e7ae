"""Paint outlines, lines and random fields as pixels."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage

from tmca.phantoms.anatomy import Array, Line

SUPERSAMPLING = 2


def noise(rng: np.random.Generator, size: int, scale: float) -> Array:
    """Draw a random field, float32 (size, size), mean 0, standard deviation 1, correlation length `scale` pixels."""
    reach = size / scale
    number = int(np.ceil(reach)) + 4
    coarse = Image.fromarray(rng.standard_normal((number, number), np.float32))
    left, top = rng.uniform(1, 2, 2)
    fine = coarse.resize((size, size), Image.Resampling.BICUBIC, box=(left, top, left + reach, top + reach))
    field = np.asarray(fine)
    return field / (field.std() + 1e-6)


def blur(image: Array, sigma: float) -> Array:
    """Blur `image` (H, W) with a Gaussian of `sigma` pixels."""
    return ndimage.gaussian_filter(image, sigma, truncate=2.5)


def scale_of(matrix: Array) -> float:
    """Return the pixels per unit of the coordinates that `matrix` (2, 3) maps to pixels."""
    return float(np.sqrt(abs(np.linalg.det(matrix[:, :2]))))


def _to_pixels(points: Array, matrix: Array) -> list[tuple[float, float]]:
    """Return points (N, 2) as supersampled pixels for Pillow."""
    return list(map(tuple, ((points @ matrix[:, :2].T + matrix[:, 2] + 0.5) * SUPERSAMPLING).tolist()))


def _canvas(size: int) -> Image.Image:
    return Image.new("L", (size * SUPERSAMPLING,) * 2)


def _finish(canvas: Image.Image) -> Array:
    return np.asarray(canvas.reduce(SUPERSAMPLING), np.float32) / 255


def paint_outlines(outlines: Iterable[Array], matrix: Array, size: int) -> Array:
    """Paint closed outlines (N, 2).

    Args:
        outlines: in any order.
        matrix: (2, 3), their coordinates to pixels (column, row).
        size: side in pixels.

    Returns:
        Coverage, float32 (size, size) in [0, 1].
    """
    canvas = _canvas(size)
    for outline in outlines:
        ImageDraw.Draw(canvas).polygon(_to_pixels(outline, matrix), fill=255)
    return _finish(canvas)


def paint_lines(lines: Sequence[Line], matrix: Array, size: int, rim: float = 0.0) -> Array:
    """Paint lines, later ones over earlier ones.

    Args:
        lines: in the order of painting.
        matrix: (2, 3), their coordinates to pixels (column, row).
        size: side in pixels.
        rim: how much weaker the inside of a line is than its edges, as in bones; 0 paints lines evenly.

    Returns:
        Strength, float32 (size, size) in [0, 1].
    """
    canvas = _canvas(size)
    pen = ImageDraw.Draw(canvas)
    scale = scale_of(matrix) * SUPERSAMPLING
    for line in lines:
        corners = _to_pixels(line.points, matrix)
        for share, strength in ((1.0, 1.0), (0.62, 1 - rim)) if rim else ((1.0, 1.0),):
            width, fill = max(line.width * scale * share, 1), round(255 * line.strength * strength)
            pen.line(corners, fill=fill, width=round(width), joint="curve" if width > 6 else None)
            if line.round:
                for x, y in (corners[0], corners[-1]):
                    pen.ellipse((x - width / 2, y - width / 2, x + width / 2, y + width / 2), fill=fill)
    return _finish(canvas)
