"""Artefacts of clinical scans: surface coils, bright last slices, motion, ringing, coarse slices, bad stripping.

Training on these effects makes a network robust against them. The built-in data set has none of them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import fft, ndimage

from brainsegdmlf.phantoms.anatomy import Anatomy, Array, sigmoid, smooth_noise

COIL_SHARE = 0.4  # of the images
COIL_MM, COIL_REACH = 110.0, (90.0, 250.0)  # mm: distance from the middle; over which sensitivity falls to 1/e
END_SHARE = 0.5  # of the images, with a slab whose last slices are too bright or too dark
END_GAIN, END_REACH = (-0.4, 0.8), (4.0, 20.0)  # added to 1 at the last slice; mm over which it falls to 1/e
LOWER_END, AIR = 0.8, 0.05  # share of those ends that are the lower one; image of tissue is above this
K_SPACE_SHARE = 0.25  # of the images, with motion, ringing or both
MOTION_MM = (0.3, 1.5)  # amplitude
RINGING = (0.55, 0.85)  # part of the spatial frequencies that is kept along one axis
COARSE_SHARE, COARSE_MM = 0.2, (2.0, 5.0)  # share of images, and slice thickness before they were resampled
STRIPPING_SHARE = 0.35  # of the cases, for remnants and for missing cortex each
EYES, NECK = ((33, 64, -34), (-33, 64, -34)), ((0, -40, -66),)  # mm in MNI space


def spoil(rng: np.random.Generator, image: Array, spacing: Sequence[float]) -> Array:
    """Add coarse slices, a surface coil, odd last slices, motion and ringing to a noise-free image, each by chance.

    Args:
        rng: random generator.
        image: float32 (X, Y, Z).
        spacing: mm per voxel.
    """
    if rng.random() < COARSE_SHARE:
        axis = int(rng.integers(3))
        width = max(1, round(rng.uniform(*COARSE_MM) / spacing[axis]))
        image = ndimage.uniform_filter1d(image, width, axis)
    if rng.random() < COIL_SHARE:
        image = image * surface_coil(rng, image.shape, spacing)
    if rng.random() < END_SHARE:
        image = image * slab_end(rng, image, spacing)
    if rng.random() < K_SPACE_SHARE:
        image = shake(rng, image, spacing)
    return image


def surface_coil(rng: np.random.Generator, shape: Sequence[int], spacing: Sequence[float]) -> Array:
    """Return the sensitivity of a coil beside the head, float32 (X, Y, Z), 1 in the middle of the grid."""
    side = rng.standard_normal(3) * (1, 1, 0.4)
    side *= COIL_MM / np.linalg.norm(side)
    squared = np.float32(0)
    for axis, (n, d) in enumerate(zip(shape, spacing)):
        along = ((np.arange(n, dtype=np.float32) - (n - 1) / 2) * d - side[axis]) ** 2
        squared = squared + along.reshape([-1 if a == axis else 1 for a in range(3)])
    return np.exp((COIL_MM - np.sqrt(squared)) / rng.uniform(*COIL_REACH)).astype(np.float32)


def slab_end(rng: np.random.Generator, image: Array, spacing: Sequence[float]) -> Array:
    """Return the gain of slices near one end of the slab, float32 (1, 1, Z), 1 far from it.

    Blood and fluid that flow in are not yet saturated, and a short coil loses signal: the lowest slices of a clinical
    FLAIR, with medulla and cerebellum, are often brighter or darker than the rest.
    """
    lit = np.flatnonzero((image > AIR).any((0, 1)))
    if not len(lit):
        return np.ones((1, 1, image.shape[2]), np.float32)
    places = np.arange(image.shape[2])
    away = places - lit[0] if rng.random() < LOWER_END else lit[-1] - places
    away = np.maximum(away, 0) * spacing[2]
    return (1 + rng.uniform(*END_GAIN) * np.exp(-away / rng.uniform(*END_REACH))).astype(np.float32)[None, None]


def shake(rng: np.random.Generator, image: Array, spacing: Sequence[float]) -> Array:
    """Add mild ghosts of motion, ringing, or both, along one axis of the slice.

    Motion shifts the phase of the lines of k-space. Ringing comes from lines that are missing at its edges.
    """
    axis = int(rng.integers(2))
    size = image.shape[axis]
    lines = fft.rfft(image, axis=axis)
    frequency = np.arange(lines.shape[axis]) / size  # cycles per voxel
    weight = np.ones(len(frequency), np.complex64)
    kinds = rng.choice(["motion", "ringing", "both"])
    if kinds != "ringing":
        period, start = rng.uniform(3, 12), rng.uniform(0, 2 * np.pi)
        moved = rng.uniform(*MOTION_MM) / spacing[axis] * np.sin(2 * np.pi * np.arange(len(frequency)) / period + start)
        moved[: max(2, size // 20)] = 0  # the head rests while the middle lines are taken
        weight = weight * np.exp(2j * np.pi * frequency * moved)
    if kinds != "motion":
        weight = weight * (frequency <= 0.5 * rng.uniform(*RINGING))
    factor = weight.reshape([-1 if a == axis else 1 for a in range(3)]).astype(np.complex64)
    return np.maximum(fft.irfft(lines * factor, size, axis=axis), 0).astype(np.float32)


def missing_cortex(rng: np.random.Generator, anatomy: Anatomy, spacing: Sequence[float]) -> Array:
    """Return patches below the surface that a stripping tool removed by mistake, bool (X, Y, Z); often empty."""
    if rng.random() > STRIPPING_SHARE:
        return np.zeros(anatomy.depth.shape, bool)
    noise = smooth_noise(rng, anatomy.depth.shape, spacing, rng.uniform(12, 35))
    return anatomy.depth < rng.uniform(3, 9) * np.clip(noise - rng.uniform(0.8, 1.8), 0, 1)


def remnants(rng: np.random.Generator, anatomy: Anatomy, spacing: Sequence[float]) -> Array:
    """Return what a stripping tool left outside the brain, as share of each voxel, float32 (X, Y, Z); often nothing.

    Remnants are sheets of dura, parts of eyes and neck, and blobs at random places of the surface.
    """
    depth, mni = anatomy.depth, anatomy.mni
    left = np.zeros(depth.shape, np.float32)
    if rng.random() > STRIPPING_SHARE:
        return left
    if rng.random() < 0.6:
        patchy = smooth_noise(rng, depth.shape, spacing, 25.0) > rng.uniform(0.3, 1.2)
        near, thickness = rng.uniform(1.5, 4), rng.uniform(1, 3)
        left = np.maximum(left, sigmoid((thickness - np.abs(depth + near + thickness)) / 0.4) * patchy)
    places = [place for places in (EYES, NECK) if rng.random() < 0.4 for place in places if rng.random() < 0.7]
    rim = np.flatnonzero(np.abs(depth + 5) < 2)
    if len(rim):
        places += [tuple(mni.reshape(3, -1)[:, rng.choice(rim)]) for _ in range(rng.integers(0, 4))]
    rough = 0.25 * smooth_noise(rng, depth.shape, spacing, 8.0)
    for place in places:
        away = np.sqrt(sum((mni[axis] - place[axis]) ** 2 for axis in range(3)))
        radius = rng.uniform(4, 14)
        left = np.maximum(left, sigmoid((1 - away / radius + rough) * radius / 0.6))
    return (left * sigmoid(-(depth + 1) / 0.3)).astype(np.float32)


def paint_remnants(rng: np.random.Generator, image: Array, left: Array, spacing: Sequence[float]) -> Array:
    """Give remnants one random intensity per image, from air to fat, with texture (white matter is about 1)."""
    if not left.any():
        return image
    texture = 1 + smooth_noise(rng, image.shape, spacing, 8.0, 3.0, amplitudes=(0.25, 0.1))
    return image * (1 - left) + left * np.maximum(rng.uniform(0.1, 2.5) * texture, 0)
