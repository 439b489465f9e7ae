"""Attenuation of X-rays by a chest, layer by layer: soft tissue, air, heart, bones, vessels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tmca.phantoms.anatomy import Array, Chest
from tmca.phantoms.painting import blur, noise, paint_lines, paint_outlines, scale_of


@dataclass(frozen=True)
class Projection:
    """A chest in a picture (H, W).

    Attributes:
        attenuation: float32 without the vessels, 0 in air, about 1 behind the heart.
        vessels: float32, attenuation of the vessels, kept apart because opacities hide them.
        lungs: bool (2, H, W), on the left and on the right of the picture, as far as they are seen beside the heart.
    """

    attenuation: Array
    vessels: Array
    lungs: Array


@dataclass(frozen=True)
class _View:
    """Positions of the pixels.

    Attributes:
        matrix: (2, 3), chest coordinates to pixels (column, row).
        size: side in pixels.
        scale: pixels per unit of chest coordinates.
        x: (H, W), in chest coordinates.
        depth: (H, W), in heights of the lungs from their tops.
    """

    matrix: Array
    size: int
    scale: float
    x: Array
    depth: Array


def _rise(value: Array, start: float, width: float) -> Array:
    """Return a logistic step from 0 to 1 at `start`."""
    return 1 / (1 + np.exp(-np.clip((value - start) / width, -30, 30)))


def _view(matrix: Array, size: int, height: float) -> _View:
    rows, columns = np.indices((size, size), np.float32)
    back = np.linalg.inv(matrix[:, :2]).astype(np.float32)
    dx, dy = columns - np.float32(matrix[0, 2]), rows - np.float32(matrix[1, 2])
    depth = (back[1, 0] * dx + back[1, 1] * dy) / np.float32(height)
    return _View(matrix, size, scale_of(matrix), back[0, 0] * dx + back[0, 1] * dy, depth)


def _cover(view: _View, outlines: tuple[Array, ...], soft: float) -> Array:
    return blur(paint_outlines(outlines, view.matrix, view.size), soft * view.scale)


def _flesh(rng: np.random.Generator, chest: Chest, view: _View, density: float) -> tuple[Array, Array]:
    """Return the attenuation of the body without its air, and the thickness of the body in [0, 1]."""
    trunk, *arms = chest.body
    body = _cover(view, (trunk,), 0.01)
    body = body * (0.45 + 0.55 * blur(body, rng.uniform(0.05, 0.14) * view.scale))
    body = np.maximum(body, 0.75 * _cover(view, tuple(arms), 0.03))
    flesh = body * (density + rng.uniform(0.18, 0.4) * _rise(view.depth, 0.9, 0.12))
    if chest.breasts:
        fold = _cover(view, chest.breasts, 0.02) * np.clip(0.33 + 0.5 * view.depth, 0.1, 1)
        flesh = flesh + rng.uniform(0.06, 0.18) * fold
    return flesh, body


def _air(view: _View, lungs: list[Array]) -> Array:
    """Return the thickness of the lung in [0, 1], which is small at its edges and behind the shoulders."""
    air = lungs[0] + lungs[1]
    inside = np.clip(1.5 * blur(air, 0.16 * view.scale) - 0.45, 0, 1)
    return (0.45 * blur(air, 0.015 * view.scale) + 0.55 * air * inside) * np.clip(0.72 + 0.9 * view.depth, 0.72, 1)


def _middle(rng: np.random.Generator, view: _View, heart: Array, body: Array) -> Array:
    """Return the attenuation of heart, great vessels and spine, reduced by the windpipe."""
    edge = blur(heart, rng.uniform(0.012, 0.03) * view.scale)
    edge = edge * np.clip(0.35 + 2.2 * view.depth, 0, 1)  # the neck is thin
    edge = edge * np.clip(4 * (1 - view.depth), 0, 1)  # the liver is as dense as the heart
    spine = np.exp(-((view.x / 0.13) ** 4)) * (1 + 0.18 * np.cos(2 * np.pi * rng.uniform(8, 11) * view.depth))
    windpipe = np.exp(-(((view.x - 0.02) / 0.055) ** 2)) * (1 - _rise(view.depth, 0.3, 0.03))
    return rng.uniform(0.32, 0.48) * edge + (rng.uniform(0.02, 0.12) * spine - rng.uniform(0.05, 0.2) * windpipe) * body


def _bones(rng: np.random.Generator, chest: Chest, view: _View) -> Array:
    """Return the attenuation of ribs, clavicles, shoulder blades and upper arms."""
    back = paint_lines(chest.back_ribs, view.matrix, view.size, rim=0.45)
    front = paint_lines(chest.front_ribs, view.matrix, view.size, rim=0.4)
    ribs = blur(0.085 * back + 0.06 * front, 0.008 * view.scale) * (1 - 0.6 * _rise(view.depth, 0.9, 0.12))
    shoulders = blur(paint_lines(chest.shoulders, view.matrix, view.size, rim=0.25), 0.012 * view.scale)
    return rng.uniform(0.6, 1.3) * (ribs + 0.13 * shoulders)


def _vessels(rng: np.random.Generator, chest: Chest, view: _View) -> Array:
    """Return the attenuation of the lung vessels, with the haze around each hilum."""
    down = 1.1 * chest.height * (view.depth - 0.5)
    near = np.exp(-((np.abs(view.x) - 0.3) ** 2 + down**2) / 0.09)
    haze = rng.uniform(0.0, 0.13) * near * (1 + 0.3 * noise(rng, view.size, 0.09 * view.scale))
    branches = blur(paint_lines(chest.vessels, view.matrix, view.size), 0.01 * view.scale)
    return haze + rng.uniform(0.05, 0.12) * branches


def project(rng: np.random.Generator, chest: Chest, matrix: Array, size: int) -> Projection:
    """Project a chest.

    Args:
        rng: random generator for the densities of the layers.
        chest: from `draw_chest`.
        matrix: (2, 3), chest coordinates to pixels (column, row).
        size: side in pixels.
    """
    view = _view(matrix, size, chest.height)
    density = rng.uniform(0.50, 0.66)
    heart = paint_outlines([chest.heart], matrix, size)
    lungs = [paint_outlines([outline], matrix, size) for outline in chest.lungs]
    air = _air(view, lungs)
    attenuation, body = _flesh(rng, chest, view, density)
    attenuation = attenuation - rng.uniform(0.8, 0.95) * density * air
    attenuation += _middle(rng, view, heart, body) + _bones(rng, chest, view)
    if chest.gas:
        outside = 1 - np.clip(lungs[0] + lungs[1], 0, 1)
        attenuation -= rng.uniform(0.05, 0.25) * _cover(view, chest.gas, 0.05) * outside
    attenuation += 0.02 * noise(rng, size, 0.35 * view.scale) * body + 0.014 * noise(rng, size, 0.05 * view.scale) * air
    attenuation = np.maximum(attenuation, 0.07 * body)  # lungs contain some tissue
    seen = np.stack([(lung > 0.5) & (heart < 0.5) for lung in lungs])
    return Projection(attenuation.astype(np.float32), (_vessels(rng, chest, view) * air).astype(np.float32), seen)
