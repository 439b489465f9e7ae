"""Whether the size of a voxel can be believed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nibabel as nib

from shared.core.missing import present
from shared.io.dicom_files import has_dicom

KNOWN, NOMINAL = "mm", "nominal"  # what ``spacing`` of a case in a data list may say
SCANNER = 1  # code of a NIfTI transform that a scanner's geometry gave


def spacing_is_known(item: Mapping[str, Any]) -> bool:
    """Tell whether volumes in mL may be read off a case.

    A case's own ``"spacing": "mm"`` or ``"nominal"`` in the data list decides. Else DICOM is believed, a NIfTI file if
    it names its unit of length or says that its transform is the scanner's, and a picture is not.

    Args:
        item: a case, with ``image`` (a path, or a list of paths and None).
    """
    if item.get("spacing") is not None:
        return str(item["spacing"]).lower() == KNOWN
    return all(_is_known(Path(path)) for path in present(item["image"]))


def _is_known(path: Path) -> bool:
    if path.is_dir() or has_dicom(path):
        return True
    if path.name.lower().endswith((".nii", ".nii.gz")):
        header: Any = nib.load(path).header
        codes = int(header["qform_code"]), int(header["sform_code"])
        return header.get_xyzt_units()[0] != "unknown" or SCANNER in codes
    return False
