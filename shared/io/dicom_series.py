"""A folder with one DICOM series as a volume: slices are sorted by position, not by instance number or file name."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom

from shared.core.errors import InputError
from shared.core.messages import reason
from shared.io.dicom_enhanced import as_plain_slice
from shared.io.dicom_files import check_broken, check_pixels, decoding, dicom_files, number, read_dicom
from shared.io.dicom_stack import Plane, plane, stack
from shared.io.opened import OpenedVolume

SEGMENTATION = "SEG"
OF_ONE_IMAGE = ("EchoTime", "EchoNumbers", "TemporalPositionIdentifier", "DiffusionBValue")
TELL_APART = (
    *("AcquisitionNumber", "ImageType", "InversionTime", "FlipAngle", "TriggerTime", "AcquisitionTime"),
    *("ContentTime", "SequenceName", "SeriesNumber", "ReconstructionDiameter", "ConvolutionKernel"),
)
SAME = 0.01  # of the larger number
APART = "give each image its own folder"
ONE_SLICE = "a single DICOM file with one slice, not a series of slices"


def open_series(folder: Path) -> OpenedVolume:
    """Read the slices of a folder, plain or enhanced files of one frame each; their pixels are decoded later.

    Returns:
        The volume (columns, rows, slices), slices along the normal of the image plane.

    Raises:
        InputError: no decoder is installed for the files' compression.
        ValueError: no DICOM in the folder, several series, or slices that form no volume.
    """
    slices, affine = _stacked(folder)
    shape = int(slices[0].Columns), int(slices[0].Rows), len(slices)
    compressed = any(piece.file_meta.TransferSyntaxUID.is_compressed for piece in slices)
    return OpenedVolume(
        shape, affine, lambda: np.stack([slice_pixels(piece).T for piece in slices], axis=-1), compressed
    )


def read_series(folder: os.PathLike | str) -> list[pydicom.Dataset]:
    """Return the slices of a folder in the order of `open_series`.

    Raises:
        InputError: as `open_series`, for every slice or folder that it refuses.
    """
    try:
        return _stacked(Path(folder))[0]
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"{folder}: {reason(error)}") from error


def check_equal(keyword: str, values: Sequence[Any], what: str) -> None:
    """Check that slices or frames of one image have one value of an attribute; those without it do not count.

    Args:
        keyword: of the attribute.
        values: one per slice or frame; numbers may differ by a hundredth.
        what: "slices" or "frames", for the message.

    Raises:
        ValueError: there are several values.
    """
    found = sorted({str(value) for value in values if value not in (None, "")})
    try:
        numbers = [float(value) for value in found]
        kinds = found[:1] if found and max(numbers) - min(numbers) <= SAME * max(numbers) else found
    except ValueError:
        kinds = found
    if len(kinds) > 1:
        shown = ", ".join(map(str, kinds[:4])) + (", ..." if len(kinds) > 4 else "")
        raise ValueError(f"its {what} have {len(kinds)} values of {keyword} ({shown}); {APART}")


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


def _stacked(folder: Path) -> tuple[list[pydicom.Dataset], np.ndarray]:
    """Return the slices in the order of their positions, and the affine (RAS, mm) of their volume."""
    slices = _slices(folder)
    planes = [plane_of(piece) for piece in slices]
    try:
        order, affine = stack(planes)
    except ValueError as error:
        words = _differing(slices, planes)
        if words:
            raise ValueError(f"it has several images at one position, which differ in {words}; {APART}") from error
        raise
    return [slices[index] for index in order], affine


def _differing(slices: list[pydicom.Dataset], planes: list[Plane]) -> str:
    """Return the names of the attributes in which slices at one position differ."""
    places: dict[tuple, list[pydicom.Dataset]] = {}
    for piece, where in zip(slices, planes):
        places.setdefault(tuple(np.round(where.origin, 2) + 0.0), []).append(piece)
    doubled = [pieces for pieces in places.values() if len(pieces) > 1]
    return ", ".join(
        word for word in TELL_APART if any(len({str(piece.get(word)) for piece in pieces}) > 1 for pieces in doubled)
    )


def _slices(folder: Path) -> list[pydicom.Dataset]:
    """Return the slices in the order of the file names; a segmentation beside them and copies are left out."""
    check_broken(folder)
    pieces = [as_plain_slice(read_dicom(file)) for file in dicom_files(folder)]
    slices = without_copies([piece for piece in pieces if piece.get("Modality") != SEGMENTATION])
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
    for word in OF_ONE_IMAGE:
        check_equal(word, [piece.get(word) for piece in slices], "slices")
    for piece in slices:
        if int(piece.get("NumberOfFrames") or 1) > 1:
            raise ValueError("a file with several frames lies beside other files: give the path of that file")
        if int(piece.get("SamplesPerPixel") or 1) > 1:
            raise ValueError("its slices have colours")
        check_pixels(piece)
    return slices


def without_copies(slices: list[pydicom.Dataset]) -> list[pydicom.Dataset]:
    """Leave out files that a folder holds twice, such as ``IM1 (1).dcm``: same identifier, same content."""
    kept: dict[Any, list[pydicom.Dataset]] = {}
    return [piece for piece in slices if _is_new(piece, kept.setdefault(piece.get("SOPInstanceUID"), []))]


def _is_new(piece: pydicom.Dataset, known: list[pydicom.Dataset]) -> bool:
    if piece.get("SOPInstanceUID") and piece in known:
        return False
    known.append(piece)
    return True


def slice_pixels(piece: pydicom.Dataset) -> np.ndarray:
    """Return (rows, columns), float32, rescaled as the slice says."""
    slope, intercept = number(piece, "RescaleSlope", 1), number(piece, "RescaleIntercept", 0)
    with decoding(piece):
        pixels = piece.pixel_array.astype(np.float32)
    if (slope, intercept) == (1, 0):
        return pixels
    return (pixels.astype(np.float64) * slope + intercept).astype(np.float32)
