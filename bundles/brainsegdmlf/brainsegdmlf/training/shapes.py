"""Heads and lesion masks for phantoms, divided between training and validation."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from brainsegdmlf.phantoms.any_contrast import head_files
from brainsegdmlf.training.slices import held_out

HEADS, LESIONS = "brain_heads", "brain_lesion_shapes"
VALIDATION_HEADS = 4  # the last ones by name


def phantom_options(data: Path, validation: bool, without: Iterable[str]) -> dict[str, Any]:
    """Return the options of `make_brain_case` that name the heads and masks of one part.

    Args:
        data: may hold ``brain_heads`` (``labels.json``, ``head_*.nii.gz``) and ``brain_lesion_shapes`` (``stroke`` with
            masks named by patient number, ``ms`` with masks named patient01 and so on).
        validation: take the last heads and the held-out patients (`held_out`); False takes all others.
        without: names of MS patients whose images are used elsewhere; their masks belong to neither part.

    Returns:
        heads_dir with heads, and lesion_dir with strokes and exclude, each if its data are there.
    """
    options: dict[str, Any] = {}
    if (data / HEADS).is_dir():
        heads = [file.name for file in head_files(data / HEADS)]
        options["heads_dir"] = str(data / HEADS)
        options["heads"] = heads[-VALIDATION_HEADS:] if validation else heads[:-VALIDATION_HEADS]
    if (data / LESIONS).is_dir():
        strokes, patients = (_names(data / LESIONS / kind) for kind in ("stroke", "ms"))
        options["lesion_dir"] = str(data / LESIONS)
        options["strokes"] = [name for name in strokes if held_out(name) == validation]
        others = [name for name in patients if held_out(name.removeprefix("patient")) != validation]
        options["exclude"] = sorted({*others, *set(patients).intersection(without)})
    return options


def _names(folder: Path) -> list[str]:
    return sorted(path.name.removesuffix(".nii.gz") for path in folder.glob("*.nii.gz"))
