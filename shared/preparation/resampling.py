"""Put a scan on another scan's grid."""

from __future__ import annotations

from typing import Literal

import numpy as np
from scipy import ndimage

from shared.preparation.scan import Scan

ORDERS = {"nearest": 0, "linear": 1, "bspline": 3}
STRAIGHT = 1e-3  # largest cosine between two axes of a grid that counts as orthogonal
SAME_GRID = 1e-6  # voxels; rounding in the product of two affines


def resample(
    moving: Scan,
    like: Scan,
    matrix: np.ndarray | None = None,
    interpolation: Literal["nearest", "linear", "bspline"] = "linear",
) -> Scan:
    """Sample a scan at the voxels of another one.

    Args:
        moving: scan to sample; its axes may shear.
        like: gives the grid of the result: its shape and affine. Its voxels are not read.
        matrix: 4 x 4, from the world of `like` to the world of `moving` (RAS, mm), as `register` returns it. None: the
            worlds are the same.
        interpolation: "nearest" for masks, "linear", or "bspline" (cubic, kept within the range of `moving`).

    Returns:
        The scan, of the type of `moving`. Voxels outside the field of view of `moving` are 0; a grid that is the same
        returns the voxels unchanged.
    """
    matrix = np.eye(4) if matrix is None else matrix
    to_index = np.linalg.inv(moving.affine) @ matrix @ like.affine
    shape = like.voxels.shape
    if shape == moving.voxels.shape and np.abs(to_index - np.eye(4)).max() < SAME_GRID:
        return Scan(moving.voxels.copy(), like.affine)
    order = ORDERS[interpolation]
    voxels = ndimage.affine_transform(
        moving.voxels, to_index[:3, :3], to_index[:3, 3], output_shape=shape, order=order, mode="nearest"
    )
    if order > 1:
        np.clip(voxels, moving.voxels.min(), moving.voxels.max(), out=voxels)
    voxels[~in_field(moving, like, matrix)] = 0
    return Scan(voxels, like.affine)


def in_field(moving: Scan, like: Scan, matrix: np.ndarray) -> np.ndarray:
    """Return the voxels of `like` that lie in the field of view of `moving`: bool (X, Y, Z).

    Args:
        moving: its voxels are not read.
        like: gives the grid.
        matrix: 4 x 4, from the world of `like` to the world of `moving` (RAS, mm).
    """
    to_index = np.linalg.inv(moving.affine) @ matrix @ like.affine
    x, y, z = np.ogrid[tuple(slice(size) for size in like.voxels.shape)]
    inside = np.ones(like.voxels.shape, bool)
    for (a, b, c, start), size in zip(to_index[:3], moving.voxels.shape):
        index = a * x + b * y + (c * z + start)
        inside &= (index >= -0.5 - SAME_GRID) & (index <= size - 0.5 + SAME_GRID)
    return inside


def straighten(scan: Scan) -> Scan:
    """Return a scan whose axes are orthogonal.

    A scan with sheared slices, as a tilted gantry gives, is resampled (linear) to the nearest orthogonal grid that
    holds it, with the same spacing; voxels outside its field of view are 0. Other scans are returned as they are.
    """
    axes = scan.affine[:3, :3] / scan.spacing
    if np.abs(axes.T @ axes - np.eye(3)).max() <= STRAIGHT:
        return scan
    left, _, right = np.linalg.svd(axes)
    affine = np.eye(4)
    affine[:3, :3] = (left @ right) * scan.spacing
    corners = np.stack(np.meshgrid(*((0, size - 1) for size in scan.voxels.shape), indexing="ij"), -1).reshape(-1, 3)
    places = (corners @ scan.affine[:3, :3].T + scan.affine[:3, 3]) @ np.linalg.inv(affine[:3, :3]).T
    lowest = places.min(0)
    shape = np.ceil(places.max(0) - lowest - SAME_GRID).astype(int) + 1
    affine[:3, 3] = affine[:3, :3] @ lowest
    return resample(scan, Scan(np.broadcast_to(np.float32(0), shape), affine))
