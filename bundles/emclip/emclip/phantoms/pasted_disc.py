"""Lay a real disc, cropped from a photograph, over the disc of a synthetic whole photograph."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from emclip.phantoms.eye import Array
from emclip.phantoms.whole_fundus import WholeFundus

FADE = 0.4  # width of the transition, in half sides of the crop


class DiscCrop(NamedTuple):
    """A photograph cropped round the disc: uint8 (h, w, 3), and bool (h, w), the disc."""

    image: Array
    disc: Array


def paste_disc(whole: WholeFundus, crop: DiscCrop, rng: np.random.Generator) -> WholeFundus:
    """Lay a crop over a whole photograph so that its disc takes the place, the size and the light of the disc there.

    The crop is mirrored and turned a little at random, takes the colours of the retina around it, and fades out round
    the disc. Where it would not cover the synthetic disc, the photograph stays as it is.
    """
    rows, columns = np.indices(whole.disc.shape, np.float32)
    middle, radius = ndimage.center_of_mass(crop.disc), np.sqrt(crop.disc.sum() / np.pi)
    zoom = radius / whole.radius
    angle, mirror = rng.normal(0, 0.15), rng.choice([-1.0, 1.0])
    dy, dx = rows - whole.centre[0], mirror * (columns - whole.centre[1])
    row = middle[0] + zoom * (np.cos(angle) * dy + np.sin(angle) * dx)
    column = middle[1] + zoom * (np.cos(angle) * dx - np.sin(angle) * dy)
    height, width = crop.disc.shape
    away = np.hypot(2 * row / (height - 1) - 1, 2 * column / (width - 1) - 1)
    if not whole.disc.any() or away[whole.disc].max() > 1 - FADE / 2:
        return whole
    smooth = ndimage.gaussian_filter(crop.image.astype(np.float32), (zoom / 2, zoom / 2, 0)) if zoom > 1 else crop.image
    picture = np.stack(
        [ndimage.map_coordinates(smooth[..., c], [row, column], np.float32, order=1, mode="nearest") for c in range(3)],
        axis=-1,
    )
    disc = ndimage.map_coordinates(crop.disc.astype(np.float32), [row, column], order=1) > 0.5
    both = ndimage.binary_dilation(disc | whole.disc, iterations=max(round(0.2 * whole.radius), 1))
    retina = (away < 1.1) & whole.field & ~both
    if retina.sum() < 20:
        return whole
    gain = (_light(whole.image, retina, whole.radius) / _light(picture, retina, whole.radius)) ** rng.uniform(0.8, 1.0)
    part = (np.clip((1 - away) / FADE, 0, 1) * whole.field)[..., None]
    image = np.clip(whole.image + part * (np.clip(picture * gain, 0, 255) - whole.image), 0, 255).astype(np.uint8)
    return replace(whole, image=image, disc=disc & whole.field)


def _light(image: Array, retina: Array, radius: float) -> Array:
    """Return the colour of the retina nearby, (H, W, 3): a mean over about a disc diameter that leaves out the disc."""
    weight = ndimage.gaussian_filter(retina.astype(np.float32), radius)[..., None] + 1e-3
    light = ndimage.gaussian_filter(image * retina[..., None].astype(np.float32), (radius, radius, 0))
    return (light + 1e-3 * image[retina].mean(0)) / weight + 3
