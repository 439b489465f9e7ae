"""Writing masks, and maps on their grid: NIfTI with the transforms of the scan, PNG in the size of the picture."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from monai.data import MetaTensor
from PIL import Image

from shared.core.files import whole
from shared.io.affine import same_affine
from shared.io.nifti import mm_affine

# what a NIfTI header says about space: both transforms with their codes, voxel sizes, units
QFORM = ("qform_code", "quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z")
SFORM = ("sform_code", "srow_x", "srow_y", "srow_z")
SPACE = (*QFORM, *SFORM, "xyzt_units")
FULL_SCALE = 32000  # of a scan's stored integers


def save_prediction(pred: MetaTensor, folder: str | os.PathLike, case_id: str, kind: str = "seg") -> Path:
    """Write a label map as ``<folder>/<case_id>/<case_id>_seg.nii.gz``, that of a picture as ``<case_id>_seg.png``.

    If the meta entry ``filename_or_obj`` names a NIfTI file on the same grid, as after `LoadSequencesd`, the mask
    gets that file's qform and sform with their codes, and its unit of length, bit for bit. Otherwise both forms are
    the affine, in mm.

    Args:
        pred: label map (1, X, Y, Z) or (X, Y, Z), integers 0..255, on the grid of the input, with its affine (RAS, mm).
            Of a picture (1, H, W), rows from top to bottom, in the size of the input.
        folder: output folder; created if absent.
        case_id: name of the case.
        kind: what the label map shows, ends the file's name.

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
        raise ValueError("prediction holds values other than the integers from 0 to 255")
    values = array.to(torch.uint8).numpy()
    target = Path(folder) / case_id / (f"{case_id}_{kind}.png" if picture else f"{case_id}_{kind}.nii.gz")
    with whole(target) as draft:
        if picture:
            Image.fromarray(values).save(draft)
        else:
            nib.save(_nifti(values, np.asarray(pred.affine.cpu(), float), pred.meta.get("filename_or_obj")), draft)
    return target


def save_probabilities(maps: MetaTensor, folder: str | os.PathLike, case_id: str) -> Path:
    """Write probability maps as ``<folder>/<case_id>/<case_id>_probabilities.nii.gz``, with the scan's transforms.

    Args:
        maps: (C, X, Y, Z) in [0, 1], on the grid of the input, with its affine (RAS, mm).
        folder: output folder; created if absent.
        case_id: name of the case.

    Returns:
        The path; uint8 NIfTI (X, Y, Z), or (X, Y, Z, C) for several classes, whose slope gives steps of 1/255.
    """
    values = torch.as_tensor(maps).detach().cpu().float().clamp(0, 1).mul(255).round().to(torch.uint8).numpy()
    stored = values[0] if len(values) == 1 else np.moveaxis(values, 0, -1)
    image = _nifti(stored, np.asarray(maps.affine.cpu(), float), maps.meta.get("filename_or_obj"))
    image.header.set_slope_inter(1 / 255, 0)
    target = Path(folder) / case_id / f"{case_id}_probabilities.nii.gz"
    with whole(target) as draft:
        nib.save(image, draft)
    return target


def save_phases(
    labels: np.ndarray, affine: np.ndarray, source: str, step_s: float | None, folder: str | os.PathLike, case_id: str
) -> Path:
    """Write the label maps of a cine as ``<folder>/<case_id>/<case_id>_seg.nii.gz``, with the cine's transforms.

    Args:
        labels: uint8 (X, Y, Z, T).
        affine: 4 x 4, from voxel indices to RAS, mm.
        source: a NIfTI file of the cine, whose header gives transforms, units and time step; or a folder.
        step_s: time between phases in seconds, where that file does not say it; None if unknown.
        folder: output folder; created if absent.
        case_id: name of the case.

    Returns:
        The path; uint8 NIfTI (X, Y, Z, T).
    """
    image = _nifti(labels, affine, source)
    reference = _reference(labels.shape[:3], affine, source)
    if reference is not None and len(reference.shape) == 4:
        image.header["pixdim"][4] = reference.header["pixdim"][4]
    elif step_s is not None:
        image.header["pixdim"][4] = step_s
        image.header.set_xyzt_units(image.header.get_xyzt_units()[0], "sec")
    target = Path(folder) / case_id / f"{case_id}_seg.nii.gz"
    with whole(target) as draft:
        nib.save(image, draft)
    return target


def save_scan(image: MetaTensor, folder: str | os.PathLike, case_id: str, kind: str) -> Path:
    """Write a scan as ``<folder>/<case_id>/<case_id>_<kind>.nii.gz``, with the transforms of the scan it lies on.

    Args:
        image: (1, X, Y, Z), at least 0, with its affine (RAS, mm).
        folder: output folder; created if absent.
        case_id: name of the case.
        kind: ends the file's name, such as the name of the sequence.

    Returns:
        The path; int16 NIfTI whose slope gives 32000 steps. Zero stays zero.
    """
    values = torch.as_tensor(image).detach().cpu().float().numpy()[0]
    slope = float(values.max()) / FULL_SCALE or 1.0
    stored = np.rint(values / slope).astype(np.int16)
    written = _nifti(stored, np.asarray(image.affine.cpu(), float), image.meta.get("filename_or_obj"))
    written.header.set_slope_inter(slope, 0)
    target = Path(folder) / case_id / f"{case_id}_{kind}.nii.gz"
    with whole(target) as draft:
        nib.save(written, draft)
    return target


def is_picture(pred: torch.Tensor) -> bool:
    """Return True for a prediction (1, H, W), False for one of a volume."""
    return pred.ndim == 3 and len(pred) == 1


def _nifti(values: np.ndarray, affine: np.ndarray, source: Any) -> nib.Nifti1Image:
    """Build the image; MONAI's writer drops the last axis of a single slice."""
    reference = _reference(values.shape[:3], affine, source)
    if reference is None:
        image = nib.Nifti1Image(values, affine)
        image.header.set_xyzt_units("mm")
        image.set_sform(affine, code=1)
        image.set_qform(affine, code=1)
        return image
    kind = nib.Nifti2Image if isinstance(reference.header, nib.Nifti2Header) else nib.Nifti1Image
    header = kind.header_class(endianness=reference.header.endianness)
    header.set_data_dtype(values.dtype)
    for field in SPACE:
        header[field] = reference.header[field]
    header["pixdim"][:4] = reference.header["pixdim"][:4]
    return kind(values, None, header)


def _reference(shape: tuple[int, ...], affine: np.ndarray, source: Any) -> Any:
    """Return the NIfTI image that a label map lies on, or None."""
    try:
        image: Any = nib.load(source)
    except (TypeError, OSError, nib.filebasedimages.ImageFileError):  # none, a folder, DICOM
        return None
    on_grid = isinstance(image, nib.Nifti1Pair) and image.shape[:3] == shape and same_affine(mm_affine(image), affine)
    return image if on_grid else None
