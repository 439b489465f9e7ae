"""A small synthetic head in two contrasts, and motions of it. No real image."""

from __future__ import annotations

import numpy as np
from scipy import ndimage
from scipy.spatial.transform import Rotation

from shared.preparation.scan import Scan

EDGES = (3.0, 3.0, 4.0)  # mm
SHAPE = (60, 70, 42)
VALUES = {"t1": (60, 15, 110, 75, 25), "t2": (50, 20, 70, 95, 190)}  # scalp, skull, white, grey, fluid


def head(contrast: str, person: int = 0) -> Scan:
    """A head of ellipsoids, 140 x 180 x 130 mm, in RAS with the origin at its centre.

    Args:
        contrast: "t1" or "t2".
        person: seed of the folds of the cortex, the ventricles and the position of the parts.
    """
    random = np.random.default_rng(person)
    scalp, skull, white, grey, fluid = VALUES[contrast]
    affine = np.diag([*EDGES, 1.0])
    affine[:3, 3] = -(np.array(SHAPE) - 1) / 2 * EDGES
    voxels = np.zeros(SHAPE, np.float32)
    place = place_of(Scan(voxels, affine))

    def fill(
        centre: tuple[float, float, float], half: tuple[float, float, float], value: float, bumps: object = 0
    ) -> None:
        radius = np.linalg.norm((place - np.array(centre)) / np.array(half), axis=-1)
        voxels[radius + bumps < 1] = value

    folds = ndimage.gaussian_filter(random.normal(size=SHAPE), 1.5)
    fill((0, 0, 0), (70, 90, 66), scalp)
    fill((0, -2, 1), (64, 84, 60), skull)
    fill((0, -2, 2), (58, 77, 54), fluid)
    fill((0, -2, 2), (55, 74, 51), grey, 0.6 * folds)
    fill((0, -4, 4), (46, 64, 42), white, 2.0 * folds)
    for side in (-1, 1):
        shift = random.uniform(-4, 4, 3)
        fill((side * 14 + shift[0], 8 + shift[1], 8 + shift[2]), (6, 28, 9), fluid)
        fill((side * 24 + shift[1], 2 + shift[2], -4 + shift[0]), (7, 14, 9), grey)
    fill((3, 80, -30), (14, 22, 18), scalp)  # face: front and back differ
    noise = np.random.default_rng(len(contrast) + ord(contrast[-1])).normal(0, 2, SHAPE)
    return Scan(np.clip(voxels + noise, 0, None).astype(np.float32), affine)


def place_of(scan: Scan) -> np.ndarray:
    """Places of the voxels in the world (X, Y, Z, 3), mm."""
    return np.moveaxis(np.indices(scan.voxels.shape), 0, -1) @ scan.affine[:3, :3].T + scan.affine[:3, 3]


def motion(angles: tuple[float, float, float], shift: tuple[float, float, float]) -> np.ndarray:
    """A rigid motion: 4 x 4, degrees about X, Y and Z, then a shift in mm."""
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
    matrix[:3, 3] = shift
    return matrix


def move(scan: Scan, matrix: np.ndarray) -> Scan:
    """The same voxels with a header that has moved."""
    return scan._replace(affine=matrix @ scan.affine)
