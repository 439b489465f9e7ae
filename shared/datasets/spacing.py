"""Voxel sizes: which are taken as millimetres, and which files do not name their unit."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nibabel as nib

from shared.core.missing import present
from shared.io.dicom_files import has_dicom
from shared.io.nifti import LENGTH_BITS
from shared.io.nrrd_meta import is_nrrd_or_meta

KNOWN = "mm"  # value of ``spacing`` in a data list; any other, such as "nominal", means that the size is unknown
NIFTI = (".nii", ".nii.gz", ".img", ".hdr")
VOLUMES = (*NIFTI, ".mgh", ".mgz")
LENGTHS = (1, 2, 3)  # codes of metre, millimetre and micron in NIfTI's xyzt_units
SCANNER = 1  # code of a NIfTI transform that comes from the scanner


def spacing_is_known(item: Mapping[str, Any]) -> bool:
    """Tell whether the voxel size of a case is known, so that volumes can be given in mL.

    ``"spacing": "mm"`` or ``"nominal"`` of the case in the data list decides. Without it, the size of every volume is
    known, because NIfTI without a unit of length counts as mm, as in nibabel, FSL, SPM and ITK-SNAP; see
    `unit_is_assumed`. It is unknown for pictures.

    Args:
        item: a case, with ``image`` (a path, or a list of paths and None).
    """
    if item.get("spacing") is not None:
        return str(item["spacing"]).lower() == KNOWN
    return all(_is_volume(Path(path)) for path in present(item["image"]))


def unit_is_assumed(item: Mapping[str, Any]) -> bool:
    """Tell whether a file of a case is NIfTI that leaves its unit of length open, so that mm is an assumption.

    It is none where the data list has a ``spacing``, or where the transform is the scanner's, whose unit is mm.

    Args:
        item: a case, with ``image`` (a path, or a list of paths and None).
    """
    return item.get("spacing") is None and any(_leaves_unit_open(Path(path)) for path in present(item["image"]))


def _is_volume(path: Path) -> bool:
    named = path.name.lower().endswith(VOLUMES)
    return path.is_dir() or named or is_nrrd_or_meta(path) or has_dicom(path)


def _leaves_unit_open(path: Path) -> bool:
    if path.is_dir() or not path.name.lower().endswith(NIFTI):
        return False
    header: Any = nib.load(path).header
    if "xyzt_units" not in header:
        return False
    codes = int(header["qform_code"]), int(header["sform_code"])
    return int(header["xyzt_units"]) & LENGTH_BITS not in LENGTHS and SCANNER not in codes
