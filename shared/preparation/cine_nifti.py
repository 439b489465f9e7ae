"""A cine in one NIfTI file (X, Y, Z, T): is its fourth axis time?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib

from shared.io.nifti import open_nifti
from shared.preparation.cine_opened import FEWEST_PHASES, OpenedCine, check_stack

TIME_UNITS = {8: 1.0, 16: 1e-3, 24: 1e-6}  # of xyzt_units, in seconds
OTHER_UNITS = {32: "Hz", 40: "ppm", 48: "rad/s"}
TIME_BITS = 0x38  # of xyzt_units
TIME_INTENTS = (0, 2001)  # of intent_code: none, and time series
SUFFIXES = (".nii", ".nii.gz", ".img", ".hdr")


def open_nifti_cine(file: Path) -> OpenedCine | None:
    """Open a 4-D file.

    The fourth axis is time if it has at least six positions, a unit of time or none, and no intent other than a time
    series. The unit alone does not decide: many programs write seconds into every 4-D file. Whether the volumes are
    phases of one heart is checked when they are read.

    Returns:
        The cine; None for a 3-D file, another format, or a file that cannot be read.

    Raises:
        ValueError: the fourth axis is not time, or the film has one slice.
    """
    if not file.name.lower().endswith(SUFFIXES):
        return None
    try:
        volume = open_nifti(file)
    except Exception:  # the reader of volumes says why
        return None
    shape = volume.shape
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) <= 3:
        return None
    header: Any = nib.load(file).header
    why = _why_not_time(shape, header)
    if why:
        raise ValueError(f"its volumes are not the phases of a cine ({why}): give a cine, or one volume per case")
    check_stack(min(shape[:3]))
    step = float(header["pixdim"][4]) * TIME_UNITS.get(int(header["xyzt_units"]) & TIME_BITS, 0.0)
    size = (int(shape[0]), int(shape[1]), int(shape[2]), int(shape[3]))
    return OpenedCine(size, volume.affine, step if step > 0 else None, str(file), lambda: volume.voxels().reshape(size))


def _why_not_time(shape: tuple[int, ...], header: Any) -> str:
    unit, intent = int(header["xyzt_units"]) & TIME_BITS, int(header["intent_code"])
    if len(shape) > 4:
        return "they stand along the fifth axis, which NIfTI keeps for channels"
    if unit in OTHER_UNITS:
        return f"the fourth axis is in {OTHER_UNITS[unit]}, not time"
    if intent not in TIME_INTENTS:
        return f"its intent_code {intent} is not that of a time series"
    if shape[3] < FEWEST_PHASES:
        return f"{shape[3]} along the fourth axis, as channels are, where a cine has at least {FEWEST_PHASES}"
    return ""
