"""Cases of a folder as the scanner left it: one per study, with the paths of its sequences."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from shared.core.errors import InputError
from shared.datasets.case_names import fit_name
from shared.datasets.datalist import Items
from shared.datasets.faults import mark
from shared.preparation.sequences import find_studies

TABLE = "series"  # key of a case: what each series of its study was taken as, and why; aligned text
MOST_TABLES = 3  # of more studies one line each is printed


def is_folder(input: Any) -> bool:
    """Tell whether ``--input`` names a folder."""
    return isinstance(input, (str, os.PathLike)) and Path(input).expanduser().is_dir()


def load_studies(
    folder: str | os.PathLike,
    channels: Sequence[str],
    links: str | os.PathLike,
    series: Mapping[str, Any] | None = None,
    reference: str | None = None,
) -> Items:
    """Return one case per study in a folder.

    A study that cannot be used is marked, see `shared.datasets.faults`.

    Args:
        folder: of one study or of many, see `shared.preparation.sequences`.
        channels: the network's sequences, in order.
        links: folder for links to the files of DICOM series that share their folder with others.
        series: by sequence, the series to take: a folder, file, number or description; None to leave it out.
        reference: the sequence that must be there; None for the first.

    Returns:
        Items with ``image`` (one path per sequence, None for one that the study lacks), ``case_id`` and `TABLE`.

    Raises:
        InputError: the folder holds no image, or an option names no sequence.
    """
    items: Items = []
    for name, study in find_studies(folder, channels, series, reference).items():
        if isinstance(study, InputError):
            item: dict[str, Any] = {"case_id": fit_name(name), "image": None}
            mark(item, study.problems)
        else:
            image = [None if path is None else os.path.abspath(path) for path in study.image(links)]
            item = {"case_id": fit_name(name), "image": image, TABLE: study.table()}
        items.append(item)
    return items


def print_tables(items: Sequence[Mapping[str, Any]]) -> None:
    """Print what was taken of each study; of many studies, which sequences each has."""
    studies = [item for item in items if TABLE in item]
    for item in studies[:MOST_TABLES]:
        print(item[TABLE], flush=True)
    if len(studies) > MOST_TABLES:
        print(f"and {len(studies) - MOST_TABLES} further studies", flush=True)
