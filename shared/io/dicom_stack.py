"""Slices in space: their order along the normal and the affine of the volume that they form."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from shared.io.affine import LPS, check_affine

SPACING_TOLERANCE = 0.05  # of the median slice distance; scanners round positions
PLACE_TOLERANCE = 0.1  # voxels; how far a slice may lie from where the affine puts it
COSINE_TOLERANCE = 1e-3  # of ImageOrientationPatient: differences, lengths, and the angle between rows and columns


class Plane(NamedTuple):
    """Where a slice lies, in DICOM's axes (LPS, mm).

    Args:
        origin: (3,), centre of the first pixel.
        down: (3,), step to the next row.
        right: (3,), step to the next column.
        shape: rows, columns.
    """

    origin: np.ndarray
    down: np.ndarray
    right: np.ndarray
    shape: tuple[int, int]

    @property
    def normal(self) -> np.ndarray:
        """Of length 1; slices are sorted along it."""
        normal = np.cross(self.right, self.down)
        return normal / np.linalg.norm(normal)


def plane(position: Sequence | None, orientation: Sequence | None, spacing: Sequence | None, shape: tuple) -> Plane:
    """Build a plane from ImagePositionPatient, ImageOrientationPatient, PixelSpacing, and (rows, columns).

    Raises:
        ValueError: one of them is absent, or no numbers that describe a plane.
    """
    if not position or not orientation:
        raise ValueError("a slice has no ImagePositionPatient or ImageOrientationPatient")
    if not spacing:
        raise ValueError("a slice has no PixelSpacing, so the size of its pixels is unknown")
    origin, cosines, steps = _numbers(position, 3), _numbers(orientation, 6), _numbers(spacing, 2)
    along_row, along_column = cosines.reshape(2, 3)
    lengths = np.linalg.norm(along_row), np.linalg.norm(along_column)
    if np.abs(np.subtract(lengths, 1)).max() > COSINE_TOLERANCE or abs(along_row @ along_column) > COSINE_TOLERANCE:
        raise ValueError("a slice's ImageOrientationPatient is not two perpendicular directions")
    if steps.min() <= 0:
        raise ValueError(f"a slice has a PixelSpacing of {steps.min():g} mm")
    return Plane(origin, steps[0] * along_column, steps[1] * along_row, shape)


def stack(planes: Sequence[Plane]) -> tuple[np.ndarray, np.ndarray]:
    """Order planes along their normal and describe the volume that they form.

    The steps from slice to slice may be oblique to the slices, as with a tilted gantry: the affine is then sheared.

    Args:
        planes: of two or more slices, in any order.

    Returns:
        The indices that sort the planes, and the affine (RAS, mm) of the volume (columns, rows, slices).

    Raises:
        ValueError: slices of different sizes or orientations, at one position, or not evenly spaced along a line.
    """
    first = planes[0]
    if any(other.shape != first.shape for other in planes):
        raise ValueError("slices of different sizes")
    for name, edge in (("right", first.right), ("down", first.down)):
        unit = np.linalg.norm(edge)
        others = np.array([getattr(other, name) for other in planes])
        if np.abs(others / np.linalg.norm(others, axis=1, keepdims=True) - edge / unit).max() > COSINE_TOLERANCE:
            raise ValueError("slices of different orientations (a localiser?)")
        if np.abs(np.linalg.norm(others, axis=1) / unit - 1).max() > COSINE_TOLERANCE:
            raise ValueError("slices with pixels of different sizes")
    origins = np.array([other.origin for other in planes])
    heights = origins @ first.normal
    order = np.argsort(heights, kind="stable")
    steps = np.diff(heights[order])
    step = float(np.median(steps))
    thinnest = 1e-3 * min(np.linalg.norm(first.right), np.linalg.norm(first.down))
    if np.ptp(heights) < thinnest:
        raise ValueError(f"its {len(planes)} slices all lie at one position (several times of one slice, or a film)")
    if np.abs(steps - step).max() > SPACING_TOLERANCE * step:
        raise ValueError(f"slice distances from {steps.min():.2f} to {steps.max():.2f} mm: slices missing or doubled")
    affine = _affine(first, origins[order])
    _check_places(origins[order], affine)
    return order, LPS @ affine


def _numbers(values: Sequence, count: int) -> np.ndarray:
    try:
        array = np.array(values, float)
    except (TypeError, ValueError):
        array = np.array([])
    if array.shape != (count,) or not np.isfinite(array).all():
        raise ValueError("a slice's position, orientation or PixelSpacing is not made of finite numbers")
    return array


def _affine(first: Plane, origins: np.ndarray) -> np.ndarray:
    """Return the affine (LPS, mm) of sorted slices."""
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1] = first.right, first.down
    affine[:3, 2] = (origins[-1] - origins[0]) / (len(origins) - 1)
    affine[:3, 3] = origins[0]
    check_affine(affine)
    return affine


def _check_places(origins: np.ndarray, affine: np.ndarray) -> None:
    """Raise ValueError if a slice does not lie where the affine puts it."""
    away = origins - (affine[:3, 3] + np.arange(len(origins))[:, None] * affine[:3, 2])
    if np.abs(np.linalg.solve(affine[:3, :3], away.T)).max() > PLACE_TOLERANCE:
        worst = np.linalg.norm(away, axis=1).max()
        raise ValueError(f"its slices are shifted sideways against each other, by up to {worst:.1f} mm")
