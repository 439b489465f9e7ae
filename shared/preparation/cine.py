"""Cines, films of one heartbeat: which inputs are one, and their phases as one array.

A cine comes as a 4-D NIfTI file, as a folder with the DICOM images of all slices and phases, or as one file per phase.
The check before a run, the list of phases and the loading transform all use `find_cine`, so that they agree.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from shared.core.errors import InputError
from shared.core.messages import reason
from shared.core.missing import is_missing
from shared.io.affine import check_affine
from shared.io.dicom_files import has_dicom
from shared.io.memory import check_memory
from shared.preparation.cine_checks import check_phases
from shared.preparation.cine_dicom import open_dicom_cine
from shared.preparation.cine_files import find_phase_files, open_phase_files
from shared.preparation.cine_nifti import open_nifti_cine
from shared.preparation.cine_opened import OpenedCine


class Cine(NamedTuple):
    """A cine in memory.

    Args:
        voxels: float32 (X, Y, Z, T), phases in their order, finite.
        affine: 4 x 4, from voxel indices to RAS, mm.
        step_s: time between phases in seconds; None if unknown.
        source: the file that a mask takes its header from; of DICOM, the folder.
    """

    voxels: np.ndarray
    affine: np.ndarray
    step_s: float | None
    source: str

    @property
    def from_dicom(self) -> bool:
        """Whether the cine came as DICOM."""
        return Path(self.source).is_dir()


def find_cine(image: Any, where: str) -> OpenedCine | None:
    """Open a case's input if it is a cine; only headers are read.

    Args:
        image: ``image`` of a case: a path, or a list of paths.
        where: the case, begins the message.

    Returns:
        The cine, or None for a single frame, and for what cannot be read at all: the reader of volumes says why.

    Raises:
        InputError: a cine that cannot be used, or a fourth axis that is not time; one line.
    """
    paths = [image] if isinstance(image, (str, os.PathLike)) else list(image or [])
    if all(map(is_missing, paths)):
        return None
    shown = paths[0] if len(paths) == 1 else f"{len(paths)} files"
    opened = _attempt(lambda: _open(paths), f"{where}: {shown}")
    if opened is not None:
        _attempt(lambda: check_affine(opened.affine), f"{where}: {shown}")
        _attempt(lambda: check_memory(math.prod(opened.shape)), f"{where}: {shown}")
    return opened


def read_cine(opened: OpenedCine, where: str) -> Cine:
    """Read the voxels of a cine and check that they are the phases of one heartbeat, see `check_phases`.

    Args:
        opened: of `find_cine`.
        where: the case, begins the message.

    Raises:
        InputError: damaged pixels, NaN, or phases that do not belong together; one line.
    """

    def read() -> np.ndarray:
        with np.errstate(over="ignore"):
            voxels = np.asarray(opened.voxels(), dtype=np.float32)
        check_phases(voxels, opened.affine)
        return voxels

    voxels = _attempt(read, f"{where}: {opened.source}")
    return Cine(voxels, opened.affine, opened.step_s, opened.source)


def _open(paths: list[Any]) -> OpenedCine | None:
    if len(paths) > 1:
        return open_phase_files(paths)
    source = Path(paths[0]).expanduser()
    if not source.is_dir():
        return open_nifti_cine(source) if source.is_file() else None
    if has_dicom(source):
        return open_dicom_cine(source)
    files = find_phase_files(source)
    return open_phase_files(files) if files else None


def _attempt(step: Callable[[], Any], where: str) -> Any:
    """Turn any error into an `InputError` of one line that begins with `where`."""
    try:
        return step()
    except MemoryError as error:
        raise InputError(f"{where}: does not fit into memory: crop or resample it") from error
    except (InputError, ValueError) as error:
        raise InputError(f"{where}: {error}") from error
    except Exception as error:
        raise InputError(f"{where}: cannot be read ({reason(error)}): copy or export it again") from error
