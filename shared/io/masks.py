"""Masks."""

from __future__ import annotations

import os
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from monai.data import MetaTensor
from PIL import Image

from shared.core.files import whole


def save_prediction(pred: MetaTensor, folder: str | os.PathLike, case_id: str) -> Path:
    """Write a label map as ``<folder>/<case_id>/<case_id>_seg.nii.gz``, that of a picture as ``<case_id>_seg.png``.

    Args:
        pred: label map (1, X, Y, Z) or (X, Y, Z), integers 0..255, in the grid of the input; its affine (RAS, mm) is
            written unchanged, so the file lies on the input in every viewer. Of a picture (1, H, W), rows from top to
            bottom, in the size of the input.
        folder: output folder; made if absent.
        case_id: name of the case.

    Returns:
        The path; uint8 NIfTI or grey 8-bit PNG. An interrupted run leaves no half-written file under that name.

    Raises:
        ValueError: `pred` has more than one channel, or values that uint8 cannot hold.

    """
    array = torch.as_tensor(pred).detach().cpu()
    picture = is_picture(array)
    if picture or (array.ndim == 4 and len(array) == 1):
        array = array[0]
    if array.ndim != 3 and not picture:
        raise ValueError(
            f"prediction of shape {tuple(array.shape)} where a label map (1, X, Y, Z) or (1, H, W) is expected"
        )
    if not torch.equal(array.to(torch.uint8).to(array.dtype), array):
        raise ValueError("prediction holds values that are no integers from 0 to 255")
    values = array.to(torch.uint8).numpy()
    target = Path(folder) / case_id / (f"{case_id}_seg.png" if picture else f"{case_id}_seg.nii.gz")
    with whole(target) as draft:
        if picture:
            Image.fromarray(values).save(draft)
        else:
            nib.save(_nifti(values, np.asarray(pred.affine.cpu(), float)), draft)
    return target


def is_picture(pred: torch.Tensor) -> bool:
    """Whether a prediction is (1, H, W)."""
    return pred.ndim == 3 and len(pred) == 1


def _nifti(values: np.ndarray, affine: np.ndarray) -> nib.Nifti1Image:
    image = nib.Nifti1Image(values, affine)  # MONAI's writer drops the last axis of a slice
    image.header.set_xyzt_units("mm")
    image.set_sform(affine, code=1)
    image.set_qform(affine, code=1)
    return image
