"""A head whose brain is its bright part, and a network that knows it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from scipy import ndimage

from shared.preparation.brain import SPACING, BrainDistance
from shared.preparation.scan import Scan

SCALP = 0.35  # brightness, of the brain's


class BrightBrain(BrainDistance):
    """Measure the distance to the surface of everything brighter than half of the maximum."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        bright = np.pad(image[0, 0].numpy() > 0.5, 1)
        distance = ndimage.distance_transform_edt(~bright) - ndimage.distance_transform_edt(bright)
        distance += np.where(bright, 0.5, -0.5)
        return torch.from_numpy(distance[1:-1, 1:-1, 1:-1].astype(np.float32))[None, None] * SPACING


def ball_scan(
    spacing: Sequence[float], radius: float, skull: bool = False, centre: Sequence[float] = (0.0, 0.0, 0.0)
) -> tuple[Scan, np.ndarray]:
    """Return a bright ball, at will within a dark shell and a scalp, and the ball as a mask.

    Args:
        spacing: mm per voxel.
        radius: of the ball, mm.
        skull: add a scalp from 8 to 14 mm outside the ball.
        centre: of the ball in the world, mm.
    """
    shape = [int(np.ceil(2 * (radius + 24) / edge)) for edge in spacing]
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = centre - (np.array(shape) - 1) / 2 * spacing
    index = np.indices(shape).reshape(3, -1)
    world = affine[:3, :3] @ index + affine[:3, 3:]
    reach = np.linalg.norm(world - np.array(centre)[:, None], axis=0).reshape(shape)
    ball = reach <= radius
    voxels = np.where(ball, 1.0, 0.0)
    if skull:
        voxels += np.where((reach > radius + 8) & (reach <= radius + 14), SCALP, 0.0)
    return Scan(voxels.astype(np.float32), affine), ball
