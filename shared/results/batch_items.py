"""Name and voxel size of a case, from an item of an evaluator's batch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from monai.data import MetaTensor
from monai.utils import convert_to_numpy

from shared.results.measures import voxel_spacing


def case_name(item: Mapping[str, Any], number: int) -> str:
    """Return the ``case_id`` of a decollated item, or else the name of its image file, or else ``case_<number>``."""
    if "case_id" in item:
        return str(item["case_id"])
    source = getattr(item.get("image"), "meta", {}).get("filename_or_obj")
    return Path(str(source)).name.split(".")[0] if source else f"case_{number:03d}"


def spacing_of(array: Any) -> list[float]:
    """Return the voxel size in mm of a channel-first array along each spatial axis; 1 for an array without affine."""
    axes = convert_to_numpy(array).ndim - 1
    if not isinstance(array, MetaTensor):
        return [1.0] * axes
    return voxel_spacing(convert_to_numpy(array.affine)[:axes, :axes])
