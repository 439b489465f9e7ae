"""Colour of an eye at given points, before any camera: retina, choroid, disc, cup, atrophy, vessels, lesions."""

from __future__ import annotations

import functools

import numpy as np
from scipy import ndimage

from emclip.phantoms.eye import Array, Eye, Look

TILES, TILE_SIZE, TILE_GRAIN = 4, 512, 5.0  # number, side in pixels and correlation length in pixels
BLOOD = np.array([0.42, 0.06, 0.05], np.float32)  # colour of a haemorrhage
EXUDATE = np.array([0.95, 0.80, 0.35], np.float32)
REFLEX = np.array([0.30, 0.24, 0.20], np.float32)
SHEEN = np.array([0.045, 0.075, 0.06], np.float32)  # nerve fibres scatter more green and blue light than red


def sigmoid(x: Array) -> Array:
    """Return the logistic function of `x`, which is in units of the transition's width."""
    return 1 / (1 + np.exp(-np.clip(x, -30, 30)))


@functools.cache
def _tiles() -> Array:
    """Return periodic Gaussian random fields, float32 (TILES, TILE_SIZE, TILE_SIZE), mean 0, standard deviation 1."""
    noise = np.random.default_rng(0).standard_normal((TILES, TILE_SIZE, TILE_SIZE), dtype=np.float32)
    smooth = ndimage.gaussian_filter(noise, (0, TILE_GRAIN / 2, TILE_GRAIN / 2), mode="wrap")
    return (smooth - smooth.mean((1, 2), keepdims=True)) / smooth.std((1, 2), keepdims=True)


def texture(rng: np.random.Generator, x: Array, y: Array, scale: float, stretch: float = 1.0) -> Array:
    """Sample a Gaussian random field with mean about 0 and standard deviation about 1.

    The field depends on the random stream but not on the points, so that all cameras see the same eye. It is a random
    section of a fixed periodic picture, ten times faster than a new field, and repeats after 100 correlation lengths.

    Args:
        rng: random generator.
        x, y: points, disc radii.
        scale: correlation length along y, disc radii.
        stretch: correlation length along x relative to `scale`.

    Returns:
        float32 array of the shape of `x`.
    """
    tile, (down, right) = _tiles()[rng.integers(TILES)], rng.uniform(0, TILE_SIZE, 2)
    places = np.stack([y * (TILE_GRAIN / scale) + down, x * (TILE_GRAIN / scale / stretch) + right])
    return ndimage.map_coordinates(tile, places, np.float32, order=1, mode="grid-wrap")


def blend(image: Array, colour: Array, part: Array) -> Array:
    """Lay `colour` (3,) or (3, H, W) over `image` (3, H, W) with the opacity `part` (H, W)."""
    return image + part * ((colour[:, None, None] if colour.ndim == 1 else colour) - image)


def _box(mask: Array) -> tuple[slice, slice]:
    """Return the bounding box of `mask` (H, W), outside which nothing has to be computed; empty for an empty mask."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)) if len(rows) else (slice(0), slice(0))


def _ground(rng: np.random.Generator, look: Look, x: Array, y: Array) -> Array:
    """Paint the retina over the choroid: uneven pigment, choroidal vessels, nerve fibres fanning out up and down."""
    angle = rng.uniform(0, np.pi)
    u, v = np.cos(angle) * x + np.sin(angle) * y, np.cos(angle) * y - np.sin(angle) * x
    v = v + 0.12 * texture(rng, x, y, 0.6)
    net = np.exp(-((texture(rng, u, v, 0.22, 2.2) / 0.7) ** 2)) + 0.5 * texture(rng, x, y, 0.2) - 0.5
    cloud, grain = texture(rng, x, y, 1.3), texture(rng, x, y, 0.06)
    tone = 0.09 * cloud + 0.016 * grain + 0.55 * look.tessellation * net * (0.9 + 0.3 * cloud)
    reddening = look.tessellation * net
    image = look.retina[:, None, None] * np.exp(np.stack([tone, 0.8 * tone - 0.25 * reddening, tone - 0.3 * reddening]))
    distance, direction = np.hypot(x, y), np.arctan2(y, x)
    streaks = texture(rng, 2.2 * np.log(distance + 0.3), 5.0 * direction / np.pi, 0.045, 12.0)
    fan = np.exp(-(((np.abs(np.sin(direction)) - 0.9) / 0.45) ** 2)) * np.exp(-np.maximum(distance - 1, 0) / 1.3)
    sheen = look.fibres * fan * (1 + 0.45 * streaks)
    return image + SHEEN[:, None, None] * np.clip(sheen, 0, 2)


def _atrophy(rng: np.random.Generator, eye: Eye, image: Array, x: Array, y: Array, rho: Array) -> Array:
    """Paint atrophy beside the disc: beta, as pale as the disc, and outside it alpha, dark and speckled."""
    if eye.look.beta == eye.look.alpha == 0:
        return image
    look, rough = eye.look, texture(rng, x, y, 0.45)
    speckle = texture(rng, x, y, 0.07)
    facing = np.cos(np.arctan2(y, x) - look.atrophy_angle)
    reach = np.clip(0.45 + 0.55 * facing, 0, 1) ** 1.3
    beta = look.beta * reach * (1 + 0.2 * rough)
    part = sigmoid((1 + beta - rho) / 0.03) * np.clip(beta / 0.04, 0, 1)
    image = blend(image, look.beta_tint[:, None, None] * (1 + 0.06 * (speckle + rough)), 0.9 * part)
    alpha = look.alpha * np.clip(0.2 + 0.8 * facing, 0, 1) * (1 + 0.4 * rough)
    rim = sigmoid((1 + beta + alpha - rho) / 0.06) * sigmoid((rho - 1 - beta) / 0.03) * np.clip(alpha / 0.08, 0, 1)
    dark = look.darkness * np.clip(0.8 + 0.25 * speckle, 0, 1) * rim
    return blend(image, 0.35 * look.retina + np.float32(0.015), dark)


def _disc(rng: np.random.Generator, eye: Eye, image: Array, x: Array, y: Array, rho: Array) -> Array:
    """Paint the rim, pink or pale, and the cup, whose floor shows the pores of the lamina cribrosa."""
    look = eye.look
    cup_rho = eye.cup.rho(x, y) * look.pallor
    cloud, grain = texture(rng, x, y, 0.35), texture(rng, x, y, 0.05)
    nasal = sigmoid(-(x + 0.1) / 0.3) - 0.5  # more nerve fibres, so redder
    rim = look.rim[:, None, None] * (1 + 0.05 * cloud + 0.02 * grain)
    rim = rim * (1 - nasal * np.array([0.06, 0.22, 0.28], np.float32)[:, None, None])
    slope = look.cup_slope * (1 - 0.9 * nasal) + 0.02  # the wall is steep on the nasal side
    depth = sigmoid((1 - cup_rho) / slope * 1.2)
    pores = np.clip(texture(rng, x, y, 0.06) - 0.6, 0, 1.5) * sigmoid((0.6 - cup_rho) / 0.1)
    floor = look.cup[:, None, None] * (1 + 0.03 * cloud - 0.07 * pores + 0.06 * np.clip(1 - cup_rho, 0, 1))
    tissue = blend(rim, floor, depth)
    tissue = tissue * (1 - 0.06 * np.exp(-(((cup_rho - 1.05) / 0.12) ** 2)))  # shadow at the wall
    ring = np.exp(-(((rho - 0.99) / 0.025) ** 2)) * np.clip(0.4 + 0.8 * np.cos(np.arctan2(y, x)), 0, 1)
    part = sigmoid((1 - rho) / look.edge)
    return blend(image, tissue, part) + look.ring * ring * np.array([0.8, 0.8, 0.55], np.float32)[:, None, None]


def _haemorrhages(rng: np.random.Generator, number: int, image: Array, x: Array, y: Array, rho: Array) -> Array:
    """Paint haemorrhages: flame-shaped along the nerve fibres at the disc's edge, round further out."""
    for _ in range(number):
        flame, direction = rng.random() < 0.6, rng.uniform(0, 2 * np.pi)
        away = rng.uniform(0.9, 1.3) if flame else rng.uniform(1.3, 2.8)
        dx, dy = x - away * np.cos(direction), y - away * np.sin(direction)
        along, across = dx * np.cos(direction) + dy * np.sin(direction), dy * np.cos(direction) - dx * np.sin(direction)
        size = rng.uniform(0.05, 0.13)
        far = np.hypot(along / (size * (2.4 if flame else 1)), across / (size * (0.6 if flame else 1)))
        image = blend(image, BLOOD, 0.8 * sigmoid((1 - far + 0.2 * texture(rng, x, y, 0.07)) / 0.15))
    return image


def _exudates(rng: np.random.Generator, groups: int, image: Array, x: Array, y: Array, rho: Array) -> Array:
    """Paint exudates: groups of small yellow spots with sharp borders on the retina."""
    for _ in range(groups):
        direction, away = rng.uniform(0, 2 * np.pi), rng.uniform(1.6, 3.2)
        far = np.hypot(x - away * np.cos(direction), y - away * np.sin(direction)) / rng.uniform(0.25, 0.6)
        spots = texture(rng, x, y, 0.09) - 0.9 - 1.5 * far**2
        image = blend(image, EXUDATE, 0.8 * sigmoid(spots / 0.1) * (rho > 1.1))
    return image


def reflectance(eye: Eye, x: Array, y: Array, blood: Array, reflex: Array) -> Array:
    """Return the colour of an evenly lit eye at given points.

    Args:
        eye: from `draw_eye`.
        x, y: (H, W), points, disc radii.
        blood, reflex: (H, W), vessels at these points, from `paint_vessels`.

    Returns:
        float32 (3, H, W), red, green, blue: 0 is black, about 1 the brightest tissue.
    """
    look = eye.look
    ground, atrophy, disc, spots, shine = np.random.default_rng(eye.texture_seed).spawn(5)
    rho = eye.disc.rho(x, y)
    image = _ground(ground, look, x, y)
    image *= 1 + 0.10 * np.exp(-np.maximum(rho - 1, 0) / 0.25)  # the disc scatters light into the retina
    for paint, stream, reach in ((_atrophy, atrophy, 2.2), (_disc, disc, 1.4)):
        near = _box(rho < reach)
        part = image[:, near[0], near[1]]
        part[:] = paint(stream, eye, part, x[near], y[near], rho[near])
    image = _exudates(spots, look.exudates, image, x, y, rho)
    clarity = np.clip(1 + 0.12 * texture(shine, x, y, 0.9), 0.6, 1.3)
    image = image * np.exp(-look.haemoglobin[:, None, None] * blood * clarity)
    image = image + (0.10 + 0.25 * look.reflexes) * REFLEX[:, None, None] * reflex
    image = _haemorrhages(spots, look.bleeding, image, x, y, rho)
    if look.reflexes:
        patches = np.clip(texture(shine, x, y, 0.5) - 0.5, 0, 1)
        glints = np.clip(texture(shine, x, y, 0.05, 0.5) - 0.6, 0, 1.2) * patches * np.exp(-(((rho - 1.2) / 0.8) ** 2))
        image = image + look.reflexes * REFLEX[:, None, None] * glints
    return image.astype(np.float32, copy=False)
