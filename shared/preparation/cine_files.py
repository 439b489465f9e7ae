"""A cine in one file per phase, listed in their order or named by a number."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from shared.core.missing import is_missing
from shared.io.affine import check_same_grid
from shared.io.nrrd_meta import is_nrrd_or_meta
from shared.io.sources import load_volume, read_header
from shared.preparation.cine_opened import FEWEST_PHASES, OpenedCine, check_stack

NIFTI = (".nii", ".nii.gz")
NUMBER = re.compile(r"\d+")


def find_phase_files(folder: Path) -> list[Path]:
    """Return the volumes of a folder in the order of the number in which their names differ.

    Returns:
        The files; empty if the folder holds fewer than two volumes.

    Raises:
        ValueError: names of several kinds, a number that is missing or stands twice.
    """
    files = [file for file in sorted(folder.iterdir()) if _is_volume(file)]
    if len(files) < 2:
        return []
    kinds = {NUMBER.sub("#", file.name.lower()): file.name for file in files}
    if len(kinds) > 1:
        names = " and ".join(list(kinds.values())[:2])
        raise ValueError(f"its files have names of several kinds ({names}): keep only the phases of one cine there")
    numbers = np.array([[int(found) for found in NUMBER.findall(file.name)] for file in files])
    changing = [column for column in numbers.T if len(set(column)) > 1]
    if len(changing) != 1:
        raise ValueError("its files do not differ in one number, that of the phase: rename them, or list them in order")
    order = np.argsort(changing[0], kind="stable")
    steps = np.diff(changing[0][order])
    if steps.min() < 1:
        twice = files[order[int(steps.argmin())]].name
        raise ValueError(f"two files have the number of {twice}: keep one of them")
    if steps.max() > steps.min():
        before = order[int(steps.argmax())]
        raise ValueError(f"a phase is missing after {files[before].name}: its number does not follow, add the file")
    return [files[index] for index in order]


def open_phase_files(paths: Sequence[Any]) -> OpenedCine:
    """Open files that hold one phase each, in their order.

    Args:
        paths: volumes of one grid.

    Raises:
        InputError: a file that cannot be read, or of another grid.
        ValueError: too few files, a missing one, a file of several volumes, or a film of one slice.
    """
    if len(paths) < FEWEST_PHASES:
        raise ValueError(
            f"{len(paths)} files, where a cine has at least {FEWEST_PHASES} phases: give each volume as a case"
        )
    files: list[str] = []
    for number, path in enumerate(paths, 1):
        if is_missing(path):
            raise ValueError(f"phase {number} of {len(paths)} is missing: give the file of every phase")
        files.append(os.fspath(path))
    headers = [read_header(file, f"phase {number}", whole=False) for number, file in enumerate(files, 1)]
    first = headers[0]
    for number, header in enumerate(headers, 1):
        if header.channels > 1:
            raise ValueError(f"phase {number} holds {header.channels} volumes: give one volume per file")
        check_same_grid(
            ("phase 1", first.shape[:3], first.affine),
            (f"phase {number}", header.shape[:3], header.affine),
            "the phases of a cine have one grid",
        )
    check_stack(min(first.shape[:3]))

    def voxels() -> np.ndarray:
        return np.stack([load_volume(file, f"phase {number}").numpy()[0] for number, file in enumerate(files, 1)], -1)

    columns, rows, slices = (int(size) for size in first.shape[:3])
    return OpenedCine((columns, rows, slices, len(files)), first.affine, None, files[0], voxels)


def _is_volume(file: Path) -> bool:
    hidden = file.name.startswith(".")
    return file.is_file() and not hidden and (file.name.lower().endswith(NIFTI) or is_nrrd_or_meta(file))
