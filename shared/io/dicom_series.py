"""A folder with one DICOM series as a volume: slices are sorted by position, not by instance number or file name."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pydicom

from shared.core.errors import InputError
from shared.core.messages import reason
from shared.io.dicom_files import check_broken, check_pixels, dicom_files, number, read_dicom
from shared.io.dicom_stack import Plane, plane, stack
from shared.io.opened import OpenedVolume

SEGMENTATION = "SEG"
ONE_SLICE = "a single DICOM file with one slice, not a series of slices"


def open_series(folder: Path) -> OpenedVolume:
    """Read the slices of a folder; their pixels are decoded later.

    Returns:
        The volume (columns, rows, slices), slices along the normal of the image plane.

    Raises:
        InputError: no decoder is installed for the files' compression.
        ValueError: no DICOM in the folder, several series, or slices that form no volume.
    """
    slices = _slices(folder)
    order, affine = stack([plane_of(piece) for piece in slices])
    slices = [slices[index] for index in order]
    shape = int(slices[0].Columns), int(slices[0].Rows), len(slices)
    return OpenedVolume(shape, affine, lambda: np.stack([_pixels(piece).T for piece in slices], axis=-1))


def read_series(folder: os.PathLike | str) -> list[pydicom.Dataset]:
    """Return the slices of a folder in the order of `open_series`.

    Raises:
        InputError: as `open_series`, for every slice or folder that it refuses.
    """
    try:
        slices = _slices(Path(folder))
        order, _ = stack([plane_of(piece) for piece in slices])
        return [slices[index] for index in order]
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"{folder}: {reason(error)}") from error


def plane_of(piece: pydicom.Dataset) -> Plane:
    """Return where a slice lies.

    Raises:
        ValueError: it has no position, orientation or pixel spacing.
    """
    return plane(
        piece.get("ImagePositionPatient"),
        piece.get("ImageOrientationPatient"),
        piece.get("PixelSpacing"),
        (int(piece.Rows), int(piece.Columns)),
    )


def _slices(folder: Path) -> list[pydicom.Dataset]:
    """Return the slices in the order of the file names; a segmentation beside them is left out."""
    check_broken(folder)
    pieces = [read_dicom(file) for file in dicom_files(folder)]
    slices: list[pydicom.Dataset] = [piece for piece in pieces if piece.get("Modality") != SEGMENTATION]
    if not slices:
        raise ValueError("no DICOM file in this folder")
    if len(slices) == 1:
        raise ValueError(ONE_SLICE)
    series = {str(piece.get("SeriesInstanceUID", "")) for piece in slices}
    if len(series) > 1 and "" in series:
        raise ValueError("a slice has no SeriesInstanceUID: a file cut short? copy the series again")
    if len(series) > 1:
        raise ValueError(f"the folder holds {len(series)} series; give each its own folder")
    for word in ("PatientID", "FrameOfReferenceUID"):
        values = {str(piece.get(word) or "").strip() for piece in slices} - {""}
        if len(values) > 1:
            raise ValueError(f"its slices have {len(values)} values of {word}; give each its own folder")
    for piece in slices:
        if int(piece.get("NumberOfFrames") or 1) > 1:
            raise ValueError("a file with several frames lies beside other files: give the path of that file")
        if int(piece.get("SamplesPerPixel") or 1) > 1:
            raise ValueError("its slices have colours")
        check_pixels(piece)
    return slices


def _pixels(piece: pydicom.Dataset) -> np.ndarray:
    """Return (rows, columns), float32, rescaled as the slice says."""
    slope, intercept = number(piece, "RescaleSlope", 1), number(piece, "RescaleIntercept", 0)
    pixels = piece.pixel_array.astype(np.float32)
    if (slope, intercept) == (1, 0):
        return pixels
    return (pixels.astype(np.float64) * slope + intercept).astype(np.float32)
