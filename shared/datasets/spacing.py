"""Voxel sizes: which files state them in millimetres."""

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
LENGTHS = (1, 2, 3)  # codes of metre, millimetre and micron in NIfTI's xyzt_units
SCANNER = 1  # code of a NIfTI transform that comes from the scanner


def spacing_is_known(item: Mapping[str, Any]) -> bool:
    """Tell whether the voxel size of a case is known, so that volumes can be given in mL.

    ``"spacing": "mm"`` or ``"nominal"`` of the case in the data list decides. Without it, the size is known for DICOM,
    NRRD and MetaImage, and for NIfTI files that name their unit of length or say that their transform is the
    scanner's; it is unknown for pictures.

    Args:
        item: a case, with ``image`` (a path, or a list of paths and None).
    """
    if item.get("spacing") is not None:
        return str(item["spacing"]).lower() == KNOWN
    return all(_is_known(Path(path)) for path in present(item["image"]))


def _is_known(path: Path) -> bool:
    if path.is_dir() or is_nrrd_or_meta(path) or has_dicom(path):
        return True
    if path.name.lower().endswith((".nii", ".nii.gz")):
        header: Any = nib.load(path).header
        codes = int(header["qform_code"]), int(header["sform_code"])
        return int(header["xyzt_units"]) & LENGTH_BITS in LENGTHS or SCANNER in codes
    return False
