"""Apply a network of slices to volumes: to axial slices, or to slices of three planes, whose logits are averaged."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from monai.data import MetaTensor
from monai.data.utils import affine_to_spacing
from monai.inferers import Inferer, SliceInferer

from shared.core.errors import InputError
from shared.engine.precision import Device, PrecisionInferer

PLANES = {"axial": (2,), "all": (2, 1, 0)}
THINNEST_TO_THICKEST = 1.25  # ratio of voxel sides up to which all planes are used


class PlaneInferer(Inferer):
    """Run a network of slices over volumes, in axial slices or in axial, coronal and sagittal ones.

    Averaging the logits of three planes removes false lesions that appear in one plane only, such as bright cortex cut
    along its length (view aggregation, FastSurfer, Henschel 2020).

    Args:
        planes: "axial"; "all"; or "auto": all planes for volumes with nearly isotropic voxels by their affine
            (`THINNEST_TO_THICKEST`), axial for thick slices and for tensors without an affine.
        device, amp: of `PrecisionInferer`.
        options: of `monai.inferers.SliceInferer`, such as roi_size, overlap and mode.

    Raises:
        InputError: `planes` is unknown.
    """

    def __init__(self, planes: str, device: Device, amp: bool = True, **options: Any) -> None:
        super().__init__()
        if planes not in (*PLANES, "auto"):
            raise InputError(f"planes {planes!r} is unknown: choose axial, all or auto")
        self.planes = planes
        self.inferers = {
            dim: PrecisionInferer(SliceInferer(spatial_dim=dim, **options), device, amp) for dim in PLANES["all"]
        }

    def __call__(self, inputs: torch.Tensor, network: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Segment volumes (B, M, X, Y, Z) in RAS orientation: logits (B, K, X, Y, Z), float32."""
        dims = self.dims(inputs)
        total = self.inferers[dims[0]](inputs, network, *args, **kwargs)
        for dim in dims[1:]:
            total += self.inferers[dim](inputs, network, *args, **kwargs)
        return total / len(dims)

    def dims(self, inputs: torch.Tensor) -> Sequence[int]:
        """Return the axes along which these volumes are cut into slices."""
        if self.planes != "auto":
            return PLANES[self.planes]
        return PLANES["all" if isinstance(inputs, MetaTensor) and _isotropic(inputs) else "axial"]


def _isotropic(volumes: MetaTensor) -> bool:
    spacings = torch.stack([affine_to_spacing(affine) for affine in volumes.affine.reshape(-1, 4, 4)])
    return bool((spacings.amax(1) <= THINNEST_TO_THICKEST * spacings.amin(1)).all())
