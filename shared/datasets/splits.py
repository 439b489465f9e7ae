"""Splits by patient: all cases of a patient belong to one list."""

from __future__ import annotations

import os
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from shared.core.errors import InputError
from shared.core.missing import is_missing
from shared.datasets.datalist import Items


def hold_out(items: Items, share: float, where: str) -> tuple[Items, Items]:
    """Divide cases into training and validation, always in the same way.

    Patients are drawn, with a fixed seed, and at least one stays on each side. A case without ``patient`` counts as a
    patient of its own, together with other cases of the same image.

    Args:
        items: cases of one list.
        share: share of the patients that validates, in (0, 1).
        where: names the list in messages.

    Returns:
        The training and the validation cases, each in the order of the list.

    Raises:
        InputError: all cases are of one patient.
    """
    patients = [_patient(item) for item in items]
    distinct = list(dict.fromkeys(patients))
    if len(distinct) < 2:
        count = "1 case" if len(items) == 1 else f"{len(items)} cases of one patient"
        raise InputError(
            f"{where} has {count}, and there is no validation list to choose the weights by: add a case of another "
            "patient, or a validation list"
        )
    number = min(max(1, round(share * len(distinct))), len(distinct) - 1)
    held = {distinct[index] for index in random.Random(0).sample(range(len(distinct)), len(distinct))[:number]}
    training = [item for item, patient in zip(items, patients) if patient not in held]
    validation = [item for item, patient in zip(items, patients) if patient in held]
    return training, validation


def check_apart(training: Sequence[Any], validation: Sequence[Any], where: str | os.PathLike) -> None:
    """Check that no patient, and no image file, both trains and validates.

    Args:
        training, validation: entries of a data list; the patients of those without ``patient`` are not compared.
        where: path of the data list, which paths of images may be relative to; names it in the message.

    Raises:
        InputError: a patient or a file has a place in both.
    """
    lists = (training, validation)
    first, second = (
        {str(item["patient"]) for item in items if isinstance(item, Mapping) and item.get("patient") is not None}
        for items in lists
    )
    if both := sorted(first & second):
        more = f" ({len(both)} such patients)" if len(both) > 1 else ""
        raise InputError(
            f"patient '{both[0]}' has cases in training and in validation of {where}{more}: move all cases of a "
            "patient to one list"
        )
    here, there = ({path for item in items for path in _files(item, Path(where).parent)} for items in lists)
    if twice := sorted(here & there):
        more = f" ({len(twice)} such files)" if len(twice) > 1 else ""
        raise InputError(f"{twice[0]} is an image of training and of validation in {where}{more}: keep it in one list")


def _files(item: Any, folder: Path) -> list[str]:
    """Return the absolute paths of an entry's image; what is not a path is left out."""
    image = item.get("image") if isinstance(item, Mapping) else item
    paths = image if isinstance(image, (list, tuple)) else [image]
    named = [str(path) for path in paths if isinstance(path, (str, os.PathLike)) and not is_missing(path)]
    return [os.path.normpath(folder / os.path.expanduser(path)) for path in named]


def _patient(item: Mapping[str, Any]) -> tuple[str, str]:
    if item.get("patient") is not None:
        return ("patient", str(item["patient"]))
    return ("case", str(item["case_id"])) if item["image"] is None else ("image", str(item["image"]))
