"""The cases of a training in MONAI Label, made from its list of labelled images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from shared.core.errors import InputError
from shared.datasets.cases import Items


def as_cases(items: Sequence[Mapping[str, Any]], role: str, domain: str | None = None) -> Items:
    """Turn MONAI Label's list of labelled images into cases like those of a ``dataset.json``.

    Args:
        items: ``{"image": path, "label": path}`` per image.
        role: "training" or "validation", for the error message.
        domain: the cases' domain; None omits the key.

    Returns:
        The items with ``case_id`` (the image's file name without its extension), ``text`` (the content of
        ``<case_id>.txt`` beside the image, if that file exists) and ``domain``.

    Raises:
        InputError: the list is empty.
    """
    if not items:
        raise InputError(
            f"no labelled image for {role}: label and submit more images, or give another val_split (above 0, below 1)"
        )
    cases = []
    for item in items:
        image = Path(item["image"])
        case_id = image.name[: -len(extension(image))]
        case = {**item, "case_id": case_id}
        sentence = image.with_name(f"{case_id}.txt")
        if sentence.is_file():
            case["text"] = sentence.read_text(encoding="utf-8").strip()
        if domain is not None:
            case["domain"] = domain
        cases.append(case)
    return cases


def extension(file: Path) -> str:
    """Return a file's extension: ``.nii.gz`` as a whole, otherwise the last suffix."""
    return "".join(file.suffixes[-2:]) if file.suffix.lower() == ".gz" else file.suffix
