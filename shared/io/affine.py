"""Affines: 4 x 4 matrices that take voxel indices to places in millimetres."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from monai.data import MetaTensor

from shared.core.errors import InputError

SAME_PLACE = 1e-3  # mm; largest difference of any entry of two affines of one grid
SAME_VOXEL = 1e-2  # of a voxel's edge; replaces SAME_PLACE for voxels below 0.1 mm
ROUNDING = 4e-7  # of the largest entry; NIfTI stores affines as float32
SMALLEST, LARGEST = 1e-9, 1e9  # mm; range of plausible voxel sizes and positions
FLATTEST = 1e-6  # volume of a voxel over the product of its edges
LARGEST_SHIFT = 0.25  # voxels; a pixel further from the centre of its voxel belongs to another grid
LPS = np.diag([-1.0, -1.0, 1.0, 1.0])  # DICOM's axes (left, posterior, superior) against NIfTI's (RAS)


def check_affine(affine: np.ndarray) -> None:
    """Check that an affine (mm) is finite, invertible and of a plausible size.

    Raises:
        ValueError: it is not finite, not invertible, or its sizes are absurd.
    """
    if not np.isfinite(affine).all():
        raise ValueError("its affine holds NaN or infinite values")
    edges = np.linalg.norm(affine[:3, :3], axis=0)
    if edges.max() > LARGEST or np.abs(affine[:3, 3]).max() > LARGEST:
        raise ValueError(f"its affine holds values up to {np.abs(affine).max():.3g} mm")
    if edges.min() < SMALLEST:
        raise ValueError(f"its affine gives voxels a size of {edges.min():.3g} mm")
    if abs(np.linalg.det(affine[:3, :3] / edges)) < FLATTEST:
        raise ValueError("its affine cannot be inverted: all voxels lie in one plane")


def check_extent(shape: Sequence[int], affine: np.ndarray, extent_mm: Sequence[float]) -> None:
    """Check that a volume has the size of what it should show.

    Args:
        shape: voxels along X, Y and Z.
        affine: 4 x 4, mm.
        extent_mm: the smallest length of the two longest edges, as thin slabs and single slices have them, and the
            largest length of any edge.

    Raises:
        ValueError: an edge is too short or too long.
    """
    edges = np.linalg.norm(affine[:3, :3], axis=0) * np.asarray(shape[:3])
    smallest, largest = extent_mm
    if np.sort(edges)[1] < smallest or edges.max() > largest:
        size = " x ".join(f"{edge:.3g}" for edge in edges)
        raise ValueError(
            f"it covers {size} mm where {smallest:g} to {largest:g} mm are expected: "
            "correct the unit or the voxel size in its header"
        )


def same_affine(first: Any, other: Any) -> bool:
    """Return True if no entry of two affines (mm) differs by more than the rounding in files."""
    return affine_difference(first, other) <= _tolerance(np.asarray(first, float))


def affine_difference(first: Any, other: Any) -> float:
    """Return the largest difference of any entry of two affines, in mm."""
    return float(np.abs(np.asarray(first, float) - np.asarray(other, float)).max())


def check_same_grid(
    first: tuple[str, tuple, Any], other: tuple[str, tuple, Any], where: str, other_way: str = ""
) -> None:
    """Raise InputError unless two volumes lie on the same grid.

    Args:
        first: name, spatial shape and 4 x 4 affine (mm) of the volume to compare with.
        other: the same of the volume to check.
        where: case, begins the message.
        other_way: another remedy, appended to the message, such as ", or run with --prepare auto".

    Raises:
        InputError: the shapes differ, or an entry of the affines differs by more than 1e-3 mm (by more than a hundredth
            of a voxel where voxels are smaller than 0.1 mm).
    """
    (name, shape, affine), (other_name, other_shape, other_affine) = first, other
    if shape != other_shape:
        raise InputError(
            f"{where}: {other_name} has shape {shape_text(other_shape)}, {name} has {shape_text(shape)}: "
            f"resample {other_name} to {name}'s grid{other_way}"
        )
    if not same_affine(affine, other_affine):
        raise InputError(
            f"{where}: {other_name} and {name} lie differently in space (affines differ by "
            f"{affine_difference(affine, other_affine):.3g} mm): "
            f"register {other_name} to {name} and resample it to the same grid{other_way}"
        )


def to_voxels(world: np.ndarray, image: MetaTensor) -> np.ndarray:
    """Return the indices of the voxels at given places.

    Args:
        world: places (..., 3) in DICOM's axes (LPS, mm).
        image: (M, X, Y, Z) or (X, Y, Z), with its affine (RAS, mm).

    Returns:
        Indices (..., 3) along X, Y and Z.

    Raises:
        ValueError: places between the voxels or outside the image.
    """
    to_voxel = np.linalg.inv(np.asarray(image.affine.cpu(), float)) @ LPS
    place = world @ to_voxel[:3, :3].T + to_voxel[:3, 3]
    voxel = np.rint(place).astype(int)
    if np.abs(place - voxel).max() > LARGEST_SHIFT or (voxel < 0).any() or (voxel >= image.shape[-3:]).any():
        raise ValueError("it does not lie in the image's grid")
    return voxel


def shape_text(shape: Sequence[int]) -> str:
    """Return a shape as messages show it: ``6 x 5 x 4``."""
    return " x ".join(str(int(size)) for size in shape)


def _tolerance(affine: np.ndarray) -> float:
    edge = np.linalg.norm(affine[:3, :3], axis=0).min()
    return max(min(SAME_PLACE, SAME_VOXEL * edge), ROUNDING * np.abs(affine).max())
