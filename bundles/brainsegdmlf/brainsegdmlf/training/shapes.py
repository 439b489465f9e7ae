"""Heads and lesion masks from which phantoms are made, divided into those of training and those of validation."""

from __future__ import annotations

from collections.abc import Iterable
from inspect import signature
from pathlib import Path

from brainsegdmlf.phantoms.dataset import make_brain_case
from brainsegdmlf.training.slices import held_out

HEADS, LESIONS = "brain_heads", "brain_lesion_shapes"
VALIDATION_HEADS = 4  # the last ones


def phantom_folders(data: Path, work: Path, validation: bool, without: Iterable[str]) -> dict[str, str]:
    """Fill a folder with links to the heads and masks of one part, and return the options of `make_brain_case`.

    Args:
        data: may hold ``brain_heads`` (``labels.json``, ``head_*.nii.gz``) and ``brain_lesion_shapes`` (``stroke`` with
            masks named by patient number, ``ms``).
        work: folder that is filled.
        validation: whether to take the last heads and the strokes of patients that are held out, or all others.
        without: names of MS patients whose images are used elsewhere.

    Returns:
        heads_dir and lesion_dir, each if its data are there. Masks of MS are given to the training only.
    """
    options = {}
    if (data / HEADS).is_dir():
        heads = sorted((data / HEADS).glob("head_*.nii.gz"))
        chosen = heads[-VALIDATION_HEADS:] if validation else heads[:-VALIDATION_HEADS]
        options["heads_dir"] = _link(work / HEADS, [data / HEADS / "labels.json", *chosen])
    if (data / LESIONS).is_dir():
        strokes = sorted((data / LESIONS / "stroke").glob("*.nii.gz"))
        _link(work / LESIONS / "stroke", [path for path in strokes if held_out(_stem(path)) == validation])
        masks = sorted((data / LESIONS / "ms").glob("*.nii.gz"))
        excluded = set(without)
        chosen = [] if validation else [path for path in masks if _stem(path) not in excluded]
        _link(work / LESIONS / "ms", chosen)
        options["lesion_dir"] = str(work / LESIONS)
    return {name: folder for name, folder in options.items() if name in signature(make_brain_case).parameters}


def _stem(path: Path) -> str:
    return path.name.split(".")[0]


def _link(folder: Path, files: Iterable[Path]) -> str:
    """Make the folder hold links to these files and nothing else."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    for file in files:
        (folder / file.name).symlink_to(file.absolute())
    return str(folder)
