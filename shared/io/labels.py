"""Label maps of volumes: whole numbers among the declared ones, on the grid of the image."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import torch
from monai.data import MetaTensor

from shared.core.errors import InputError
from shared.io.affine import check_same_grid
from shared.io.dicom_labels import find_dicom_seg, load_dicom_seg
from shared.io.sources import load_volume, read_header

ROUNDING = 1e-3  # largest difference from a whole number
LARGEST_ROUNDING = 0.45


def load_label(
    path: str | os.PathLike, labels: Sequence[int], where: str, image: MetaTensor | None = None, name: str = "image"
) -> MetaTensor:
    """Read a label map and check it.

    Values are rounded by as much as the file may have rounded them: stored as bytes with a slope of 1/255, a 1 comes
    back as 1.00000006, and with a slope of 4/255 as 1.004.

    Args:
        path: what `shared.io.sources.load_volume` reads; or, with `image`, a DICOM SEG or the folder that holds it
            alone: the numbers of its segments are the values.
        labels: values that may occur.
        where: case and role of the file, begins the message.
        image: (M, X, Y, Z), whose grid the label map must share; None to skip that check.
        name: of the image, for messages.

    Returns:
        MetaTensor uint8 (int32 if a declared value exceeds 255) (1, X, Y, Z), with its affine and ``filename_or_obj``.

    Raises:
        InputError: an unreadable file, more than one channel, values that are not declared, another grid than the
            image's; one line.
    """
    segmentation = find_dicom_seg(path) if image is not None else None
    label: Any
    if segmentation and image is not None:
        label = load_dicom_seg(segmentation, image, where)
    else:
        label = load_volume(path, where)
    where = f"{where}: {path}"
    if len(label) != 1:
        raise InputError(f"{where}: {len(label)} channels where a label map has one: merge them into one label map")
    values = label.as_tensor()
    whole = values.round()
    if not torch.equal(values, whole):
        step = 0.0 if segmentation else read_header(path, where, whole=False).step
        rounding = min(max(ROUNDING, 0.51 * step), LARGEST_ROUNDING)
        values = torch.where((values - whole).abs() <= rounding, whole, values)
    check_values(values, labels, where)
    if image is not None:
        check_same_grid(
            (name, tuple(image.shape[1:]), image.affine), ("label", tuple(label.shape[1:]), label.affine), where
        )
    return MetaTensor(values.to(torch.uint8 if max(labels) < 256 else torch.int32), meta=label.meta)


def check_values(values: torch.Tensor, labels: Sequence[int], where: str) -> None:
    """Raise InputError, which begins with `where`, if `values` holds anything but `labels`."""
    found = torch.unique(values)
    if torch.isin(found, torch.tensor(labels, dtype=found.dtype)).all():
        return
    shown = ", ".join(f"{value:g}" for value in found[:10].tolist()) + (", ..." if len(found) > 10 else "")
    raise InputError(f"{where}: holds the values {shown} where {', '.join(map(str, labels))} are declared: remap them")
