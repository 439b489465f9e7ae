"""Patches from slices: crop, deform, change the contrast, and drop sequences."""

from __future__ import annotations

import numpy as np
import torch
from scipy import ndimage
from torch.nn import functional as F

from brainsegdmlf.training.slices import Array, Slice

SIDE = 96  # pixels
INSIDE = 36  # pixels; least distance of a patch's centre from the edge of its slice, if the slice is large enough
AT_LESION = 0.6  # share of patches around a pixel of a lesion, if the slice has any
ALONE = {0: 0.15, 1: 0.15, 3: 0.05}  # probability that only this sequence (FLAIR, T1, T2) is kept
SINGLE_DROP = (0.3, 0.4)  # probability that single sequences are dropped, and then of each one


def make_patch(rng: np.random.Generator, item: Slice) -> dict[str, torch.Tensor]:
    """Cut a patch from a slice and vary it.

    Returns:
        image (M, 96, 96), label and weight (1, 96, 96), float32.
    """
    image, label, weight = crop(rng, item)
    image = vary_intensity(rng, drop_sequences(rng, image))
    return {
        "image": torch.from_numpy(image),
        "label": torch.from_numpy(label)[None],
        "weight": torch.from_numpy(weight)[None],
    }


def crop(rng: np.random.Generator, item: Slice) -> tuple[Array, Array, Array]:
    """Sample a patch through a random affine map: flipped, in half of the cases also turned, scaled and sheared.

    Returns:
        image (M, 96, 96), label and weight (96, 96), float32; zero image, zero label and weight 1 outside the slice.
    """
    height, width = item.label.shape
    matrix = np.eye(2)
    if rng.random() < 0.5:
        angle, shear = rng.uniform(-0.3, 0.3), rng.uniform(-0.1, 0.1)
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        matrix = turn @ np.array([[1, shear], [0, 1]]) @ np.diag(rng.uniform(0.8, 1.25, 2))
    if rng.random() < 0.5:
        matrix[:, 0] *= -1  # left and right; front and back in sagittal slices
    spots = np.argwhere(item.label)
    if not len(spots) or rng.random() > AT_LESION:
        spots = np.argwhere(item.image.any(0))
    spot = spots[rng.integers(len(spots))] if len(spots) else np.array([height, width]) / 2
    centre = spot - matrix @ rng.uniform(-SIDE / 3, SIDE / 3, 2)  # the spot lies anywhere in the middle of the patch
    inside = np.minimum(INSIDE, np.array([height, width]) / 2)
    centre = np.floor(np.clip(centre, inside, np.array([height, width]) - inside)) + 0.5  # samples fall on pixels
    offsets = np.stack(np.meshgrid(*[np.arange(SIDE) - (SIDE - 1) / 2] * 2, indexing="ij"), -1)
    places = offsets @ matrix.T + centre
    scaled = (places[..., ::-1] / np.array([width - 1, height - 1]) * 2 - 1).astype(np.float32)
    grid = torch.from_numpy(scaled)[None]

    def sample(arrays: Array, mode: str) -> Array:
        stacked = torch.from_numpy(np.ascontiguousarray(arrays, np.float32))[None]
        return F.grid_sample(stacked, grid, mode=mode, align_corners=True)[0].numpy()

    tissue = item.image != 0
    image = sample(item.image, "bilinear") * sample(tissue, "nearest")
    label, ignored = sample(np.stack([item.label, 1 - item.weight]), "nearest")
    return image, label, 1 - ignored


def drop_sequences(rng: np.random.Generator, image: Array) -> Array:
    """Keep one sequence alone, drop single ones, or keep all, at random; an image with one sequence stays as it is.

    Args:
        rng: random generator.
        image: (M, H, W); a missing sequence is zero.
    """
    present = image.any((1, 2))
    keep = present.copy()
    chance = rng.random()
    for index, share in ALONE.items():
        if 0 <= chance < share and index < len(keep) and present[index]:
            keep[:] = False
            keep[index] = True
        chance -= share
    if 0 <= chance < SINGLE_DROP[0]:
        keep &= rng.random(len(keep)) >= SINGLE_DROP[1]
    if not keep.any():
        keep = present
    return image * keep[:, None, None]


def vary_intensity(rng: np.random.Generator, image: Array) -> Array:
    """Change brightness, contrast, sharpness and noise of each sequence, within the tissue only.

    Args:
        rng: random generator.
        image: (M, H, W) z-scores.
    """
    result = np.zeros_like(image)
    blur = rng.random()
    for index, channel in enumerate(image):
        tissue = channel != 0
        if not tissue.any():
            continue
        if blur < 0.15:
            channel = ndimage.gaussian_filter(channel, rng.uniform(0.3, 1.0, 2))
        elif blur < 0.25:  # thick slices, seen from the side
            channel = ndimage.gaussian_filter(channel, rng.permutation([0.0, rng.uniform(0.8, 2.0)]))
        if rng.random() < 0.3:
            low, high = channel.min(), channel.max()
            power = np.exp(rng.uniform(np.log(0.7), np.log(1.5)))
            channel = ((channel - low) / max(high - low, 1e-6)) ** power * (high - low) + low
        if rng.random() < 0.4:
            channel = channel * rng.uniform(0.7, 1.3) + rng.uniform(-0.3, 0.3)
        if rng.random() < 0.2:
            channel = channel + rng.normal(0, rng.uniform(0.03, 0.25), channel.shape)
        result[index] = np.where(tissue, channel, 0)
    return result
