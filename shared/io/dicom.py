"""DICOM series as volumes: slices in the order of their positions, whatever their numbers and file names say."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import pydicom
from monai.data import MetaTensor, PydicomReader

from shared.core.errors import InputError

SPACING_TOLERANCE = 0.05  # of the median slice distance; scanners round positions (our choice)
LPS = np.diag([-1.0, -1.0, 1.0, 1.0])  # DICOM's world, against ours (RAS)
LARGEST_SHIFT = 0.25  # voxels; a pixel further from its voxel lies in another grid (our choice)
PLACE = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing")


class DicomSeriesReader(PydicomReader):
    """MONAI's pydicom reader for one folder that holds one series, with the slices sorted by position.

    MONAI sorts by ``InstanceNumber``, which may be absent, repeated or run against space. Here slices are ordered along
    the normal of ``ImageOrientationPatient``, so the volume and its affine (RAS, mm) do not depend on the numbering.
    """

    def __init__(self) -> None:
        super().__init__()
        self.fname_regex = None  # type: ignore[assignment]  # keep only files that are DICOM

    def read(self, data: Sequence[os.PathLike | str] | os.PathLike | str, **kwargs):
        """Read a folder of several files.

        Raises:
            ValueError: the folder holds no DICOM, more than one series, slices without position or series, or gaps
                between slices.

        """
        (folder,) = [data] if isinstance(data, (str, os.PathLike)) else data
        if not has_dicom(folder):
            raise ValueError("no DICOM file in this folder")
        slices = super().read([str(folder)], **kwargs)
        series = {str(getattr(piece, "SeriesInstanceUID", "")) for piece in slices}
        if len(series) > 1 and "" in series:
            raise ValueError("a slice has no SeriesInstanceUID: a file cut short? copy the series again")
        if len(series) > 1:
            raise ValueError(f"the folder holds {len(series)} series; give each its own folder")
        for number, index in enumerate(_order(slices)):
            slices[index].InstanceNumber = number
        return slices

    def _get_meta_dict(self, img: pydicom.Dataset) -> dict:
        """Return what says where a slice lies, and no more.

        MONAI's own lists all tags, and makes pydicom refuse overlong numbers meanwhile, in every thread. `CacheDataset`
        loads in threads: where two of them do so at once, pydicom may stay strict for the rest of the process.
        """
        return {f"{int(img[word].tag):08X}": img[word].to_json_dict(None, 0) for word in PLACE if word in img}


def read_series(folder: os.PathLike | str) -> list[pydicom.Dataset]:
    """Return the slices of the one series in a folder, sorted by position as `DicomSeriesReader` sorts them.

    Raises:
        InputError: what that reader refuses; one line.
    """
    slices = [pydicom.dcmread(file) for file in dicom_files(folder)]
    try:
        if not slices:
            raise ValueError("no DICOM file in this folder")
        return [slices[index] for index in _order(slices)]
    except ValueError as error:
        raise InputError(f"{folder}: {error}") from error


def has_dicom(path: os.PathLike | str) -> bool:
    """Return True if at least one file directly in a folder, or a file itself, starts as a DICOM file does."""
    return next(dicom_files(path), None) is not None


def dicom_files(path: os.PathLike | str) -> Iterator[Path]:
    """Files directly in a folder that start as a DICOM file does, by name; of a file itself, if it does."""
    source = Path(path)
    files = sorted(source.iterdir()) if source.is_dir() else [source]
    return (file for file in files if file.is_file() and pydicom.misc.is_dicom(file))


def only_dicom(path: os.PathLike | str) -> Path | None:
    """Return the DICOM file that a path means: itself, or the only one in a folder; else None."""
    first_two = list(islice(dicom_files(Path(path).expanduser()), 2))
    return first_two[0] if len(first_two) == 1 else None


def to_voxels(world: np.ndarray, image: MetaTensor) -> np.ndarray:
    """Return the voxels that places lie on.

    Args:
        world: places (..., 3) in DICOM's world (LPS, mm).
        image: (M, X, Y, Z) or (X, Y, Z), with its affine (RAS, mm).

    Returns:
        Indices (..., 3) along X, Y and Z.

    Raises:
        ValueError: places between the voxels or outside.
    """
    to_voxel = np.linalg.inv(np.asarray(image.affine.cpu(), float)) @ LPS
    place = world @ to_voxel[:3, :3].T + to_voxel[:3, 3]
    voxel = np.rint(place).astype(int)
    if np.abs(place - voxel).max() > LARGEST_SHIFT or (voxel < 0).any() or (voxel >= image.shape[-3:]).any():
        raise ValueError("it does not lie in the image's grid")
    return voxel


def _order(slices: list) -> np.ndarray:
    """Return the indices that sort slices along their common normal; refuse what is no regular stack."""
    for piece in slices:
        if "ImagePositionPatient" not in piece or "ImageOrientationPatient" not in piece:
            raise ValueError("a slice has no ImagePositionPatient or ImageOrientationPatient")
    directions = np.array([piece.ImageOrientationPatient for piece in slices], float)
    if np.ptp(directions, axis=0).max() > 1e-3:
        raise ValueError("slices of different orientations (a localiser?)")
    normal = np.cross(directions[0, :3], directions[0, 3:])
    positions = np.array([piece.ImagePositionPatient for piece in slices], float) @ normal
    order = np.argsort(positions)
    steps = np.diff(positions[order])
    step = float(np.median(steps))
    if np.abs(steps - step).max() > SPACING_TOLERANCE * step:
        raise ValueError(f"slice distances from {steps.min():.2f} to {steps.max():.2f} mm: slices missing or doubled")
    return order
