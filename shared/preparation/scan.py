"""A scan: one volume and its place in the world. The unit that every step of the preparation takes and returns."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import SimpleITK

from shared.io.affine import LPS


class Scan(NamedTuple):
    """One volume.

    Args:
        voxels: float32 or uint8 (X, Y, Z).
        affine: 4 x 4, from voxel indices to RAS, mm. Its columns are orthogonal unless the slices shear.
    """

    voxels: np.ndarray
    affine: np.ndarray

    @property
    def spacing(self) -> np.ndarray:
        """Edge lengths of a voxel along X, Y and Z, in mm."""
        return np.linalg.norm(self.affine[:3, :3], axis=0)

    @property
    def centre(self) -> np.ndarray:
        """The middle of the volume in the world (RAS, mm)."""
        middle = (np.array(self.voxels.shape) - 1) / 2
        return self.affine[:3, :3] @ middle + self.affine[:3, 3]


def to_itk(scan: Scan) -> SimpleITK.Image:
    """Convert a scan to SimpleITK, whose axes are LPS.

    Raises:
        ValueError: the affine shears: SimpleITK only knows orthogonal axes.
    """
    affine = LPS @ scan.affine
    direction = affine[:3, :3] / scan.spacing
    if not np.allclose(direction.T @ direction, np.eye(3), atol=1e-3):
        raise ValueError("the axes of the scan are not orthogonal")
    image = SimpleITK.GetImageFromArray(np.ascontiguousarray(scan.voxels.transpose(2, 1, 0)))
    image.SetSpacing(scan.spacing.tolist())
    image.SetOrigin(affine[:3, 3].tolist())
    image.SetDirection(direction.ravel().tolist())
    return image


def from_itk(image: SimpleITK.Image) -> Scan:
    """Convert a 3-D image of SimpleITK to a scan."""
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    return Scan(np.ascontiguousarray(SimpleITK.GetArrayFromImage(image).transpose(2, 1, 0)), LPS @ affine)
