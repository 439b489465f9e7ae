"""Cases of a folder as the scanner left it: one per study, with the paths of its sequences."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from shared.core.errors import InputError, OutputError
from shared.core.files import writing
from shared.datasets.case_names import fit_name
from shared.datasets.datalist import Items
from shared.datasets.faults import mark
from shared.preparation.sequences import find_studies
from shared.preparation.series import Series

TABLE = "series"  # key of a case: what each series of its study was taken as, and why; aligned text
SOURCE = "source"  # key of a case: where its images lie, if `image` leads through links; JSON, which batches can hold
NOTES = "notes"  # key of a case: what a user should know about it, lines of one text
MOST_TABLES = 3  # of more studies one line each is printed
MOST_LINES = 20


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
        Items with ``image`` (one path per sequence, None for one that the study lacks), ``case_id``, `TABLE`, `SOURCE`
        and `NOTES`.

    Raises:
        InputError: the folder holds no image, or an option names no sequence.
        OutputError: the links cannot be written.
    """
    items: Items = []
    for name, study in find_studies(folder, channels, series, reference).items():
        case_id = fit_name(name)
        if isinstance(study, InputError):
            item: dict[str, Any] = {"case_id": case_id, "image": None}
            mark(item, [f"case {case_id}: {line.removeprefix(f'{name}: ')}" for line in study.problems])
        else:
            try:
                with writing(Path(links) / "link"):
                    image = study.image(links)
            except OutputError as error:
                raise OutputError(f"{error}, with --prepared_dir") from error
            item = {
                "case_id": case_id,
                "image": [None if path is None else os.path.abspath(path) for path in image],
                SOURCE: json.dumps([_place(study.series[channel]) for channel in study.sequences]),
                TABLE: study.table(),
                NOTES: "\n".join(study.notes),
            }
        items.append(item)
    return items


def source_of(item: Mapping[str, Any]) -> Any:
    """Return where the images of a case lie, as the user knows them; in the form of ``image``."""
    return json.loads(item[SOURCE]) if SOURCE in item else item["image"]


def notes_of(item: Mapping[str, Any]) -> list[str]:
    """Return what a user should know about a case, one line each."""
    return item.get(NOTES, "").splitlines()


def print_tables(items: Sequence[Mapping[str, Any]], channels: Sequence[str]) -> None:
    """Print what was taken of each study; of many studies, which sequences each has, and the notes.

    Args:
        items: of `load_studies`; others are left out.
        channels: names of their sequences, in order.
    """
    studies = [item for item in items if TABLE in item]
    if len(studies) <= MOST_TABLES:
        for item in studies:
            print(item[TABLE], flush=True)
        return
    print(f"{len(studies)} studies", flush=True)
    for item in studies[:MOST_LINES]:
        print(f"  {item['case_id']}: {', '.join(name for name, path in zip(channels, item['image']) if path)}")
        for note in notes_of(item):
            print(f"    note: {note}")
    if len(studies) > MOST_LINES:
        print(f"  ... and {len(studies) - MOST_LINES} more", flush=True)


def _place(series: Series | None) -> str | None:
    """Return the file or the folder of a series."""
    return None if series is None else os.path.abspath(series.path or series.folder)
