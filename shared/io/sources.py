"""One reader for every source of a volume: NIfTI, NRRD, MetaImage, a folder with a DICOM series, multi-frame DICOM.

The check before a run uses `read_header`, the run uses `load_volume`. Both open the file in the same way, so what one
accepts the other can load.
"""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from monai.data import MetaTensor
from monai.utils import MetaKeys, SpaceKeys

from shared.core.errors import InputError
from shared.core.messages import reason
from shared.io.affine import check_affine, shape_text
from shared.io.dicom_frames import find_frames, open_frames
from shared.io.dicom_series import open_series
from shared.io.memory import check_memory
from shared.io.nifti import open_nifti
from shared.io.nrrd_meta import is_nrrd_or_meta, open_nrrd_or_meta
from shared.io.opened import OpenedVolume

FORMATS = (
    "give NIfTI (.nii, .nii.gz), NRRD, MetaImage (.mha, .mhd), the folder of one DICOM series, or a volume in one "
    "DICOM file"
)
VOLUME_SHAPES = "volumes are (X, Y, Z) or (X, Y, Z, M), a single slice is (X, Y, 1)"


class Header(NamedTuple):
    """Geometry of a volume.

    Args:
        shape: (X, Y, Z) or (X, Y, Z, M).
        affine: 4 x 4, from voxel indices to RAS, mm.
        step: difference between neighbouring values that the file can store, see `OpenedVolume`.
    """

    shape: tuple[int, ...]
    affine: np.ndarray
    step: float = 0.0

    @property
    def channels(self) -> int:
        """Number of volumes in the file."""
        return self.shape[3] if len(self.shape) == 4 else 1


def read_header(path: str | os.PathLike, where: str, whole: bool = True) -> Header:
    """Check a source of a volume and return its geometry.

    Args:
        path: a NIfTI, FreeSurfer, NRRD or MetaImage file, the folder of a DICOM series, or a DICOM file of several
            frames.
        where: case and role of the file, begins the message.
        whole: also read the voxels where only they show a fault: a compressed file's checksum, compressed pixels of
            DICOM, NaN in floating-point numbers. False reads headers alone, and the pixels of DICOM undecoded.

    Raises:
        InputError: what `load_volume` would refuse; one line.
    """
    volume, header = _open(path, where)
    if whole and volume.needs_reading:
        _read(volume, path, where)
    return header


def load_volume(path: str | os.PathLike, where: str) -> MetaTensor:
    """Read a volume.

    Args:
        path: as in `read_header`; 3-D (X, Y, Z), 4-D (X, Y, Z, M) or 5-D (X, Y, Z, 1, M). A slice is (X, Y, 1).
        where: case and role of the file, begins the message.

    Returns:
        MetaTensor float32 (M, X, Y, Z), finite, with its affine (RAS, mm) and the path as meta ``filename_or_obj``.

    Raises:
        InputError: absent, unreadable, damaged, not a volume, larger than the free memory, without a usable affine, or
            with NaN or infinite voxels; one line.
    """
    volume, header = _open(path, where)
    voxels = _read(volume, path, where).reshape(*header.shape[:3], header.channels)
    meta = {
        MetaKeys.ORIGINAL_AFFINE: header.affine.copy(),
        MetaKeys.SPATIAL_SHAPE: np.asarray(header.shape[:3]),
        MetaKeys.SPACE: SpaceKeys.RAS,
        MetaKeys.ORIGINAL_CHANNEL_DIM: 0,
        "filename_or_obj": str(Path(path).expanduser()),
    }
    channel_first = torch.from_numpy(np.ascontiguousarray(np.moveaxis(voxels, -1, 0)))
    return MetaTensor(channel_first, affine=torch.from_numpy(header.affine), meta=meta)


def _open(path: str | os.PathLike, where: str) -> tuple[OpenedVolume, Header]:
    source = Path(path).expanduser()
    try:
        if not source.exists():
            raise InputError(f"{where}: {path} not found: correct the path, or give null for a missing sequence")
        volume = _opener(source)
        _check_affine(volume.affine)
        shape = volume.shape
        while len(shape) > 4 and shape[-1] == 1:  # axes that some programs append
            shape = shape[:-1]
        if len(shape) == 5 and shape[3] == 1:
            shape = (*shape[:3], shape[4])
        if len(shape) not in (3, 4) or min(shape) < 1:
            raise InputError(f"{where}: {path} has shape {shape_text(shape)}: {VOLUME_SHAPES}")
        check_memory(math.prod(shape))
    except Exception as error:
        raise _refusal(error, path, where) from error
    return volume, Header(tuple(int(size) for size in shape), volume.affine, volume.step)


def _check_affine(affine: np.ndarray) -> None:
    try:
        check_affine(affine)
    except ValueError as error:
        raise InputError(f"{error}: convert the scan again, or correct its header") from error


def _opener(source: Path) -> OpenedVolume:
    if is_nrrd_or_meta(source) and source.is_file():
        return open_nrrd_or_meta(source)
    if file := find_frames(source):
        return open_frames(file)
    return open_series(source) if source.is_dir() else open_nifti(source)


def _read(volume: OpenedVolume, path: Any, where: str) -> np.ndarray:
    """Return the voxels, float32."""
    try:
        with np.errstate(over="ignore"):  # numbers beyond float32 become infinite and are refused below
            voxels = np.asarray(volume.voxels(), dtype=np.float32)
    except Exception as error:
        raise _refusal(error, path, where) from error
    wrong = voxels.size - int(np.count_nonzero(np.isfinite(voxels)))
    if wrong:
        raise InputError(
            f"{where}: {path} holds {wrong} NaN or infinite voxels: replace them, e.g. by 0 outside the head"
        )
    return voxels


def _refusal(error: Exception, path: Any, where: str) -> Exception:
    """Turn any error into an `InputError` of one line that names the case; one that already does is returned as is."""
    if isinstance(error, InputError):
        text = str(error)
        return error if text.startswith(f"{where}: ") else InputError(f"{where}: {path}: {text}")
    if isinstance(error, MemoryError):
        return InputError(f"{where}: {path} does not fit into memory: crop or resample it")
    return InputError(f"{where}: {path} cannot be read ({reason(error)}): {FORMATS}")
