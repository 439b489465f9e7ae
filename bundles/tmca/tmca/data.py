"""The cases of a run, with or without a sentence: a data set on disk, the built-in phantoms, or one picture."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from typing import Any

from shared.core.errors import InputError, require
from shared.datasets import cases
from shared.datasets import preflight as checks
from shared.datasets.datalist import Items
from shared.datasets.faults import fault_of, mark
from tmca.phantoms.dataset import make_chest_phantoms

TEXT = "text"  # key of the sentence in the data list


def preflight(
    items: Sequence[Items],
    output_dir: str | os.PathLike,
    labels: Sequence[int] | None = None,
    whole: bool | None = None,
    strict: bool | None = None,
) -> None:
    """Check the pictures as `shared.datasets.preflight.preflight` does; log how many cases have no sentence.

    Raises:
        InputError: every problem, one line each.
    """
    checks.preflight(items, ["image"], output_dir, labels, pictures=True, whole=whole, strict=strict)
    sentences = [item[TEXT] for part in items for item in part if fault_of(item) is None]
    if absent := sentences.count(""):
        logging.getLogger(__name__).warning(
            f'{absent} of {len(sentences)} cases have no sentence (key "{TEXT}"): they are segmented by the image alone'
        )


def load_split(dataset_dir: str | os.PathLike, split: str, builtin_dir: str | os.PathLike) -> Items:
    """Return the cases of a split with their sentences, see `shared.datasets.cases.load_split` and `with_sentences`."""
    return with_sentences(cases.load_split(dataset_dir, split, builtin_dir, maker=make_chest_phantoms))


def load_input(
    dataset_dir: str | os.PathLike,
    split: str,
    builtin_dir: str | os.PathLike,
    input: Any = None,
    text: str | None = None,
) -> Items:
    """Return the one case of ``--input`` with the sentence of ``--text``, or the cases of a split.

    Args:
        dataset_dir, split, builtin_dir: see `load_split`.
        input: path of a picture; None for the split.
        text: its sentence; None for none.

    Raises:
        InputError: a sentence without a picture; see also `load_split`.
    """
    if input is None and text is not None:
        raise InputError("--text is the sentence of one picture: give its path with --input, or leave out --text")
    items = cases.load_input(dataset_dir, split, builtin_dir, input, maker=make_chest_phantoms)
    given = items if text is None else [{**item, TEXT: text} for item in items]
    return with_sentences(given, mark_faults=input is None)


def with_sentences(items: Items, mark_faults: bool = False) -> Items:
    """Return the cases with ``text`` as a string, which is empty where there is no sentence.

    Args:
        items: the cases.
        mark_faults: mark a case whose text has another type, see `shared.datasets.faults`; False raises.

    Raises:
        InputError: texts of another type, one line per case.
    """
    found = [{**item, TEXT: text.strip() if isinstance(text := item.get(TEXT), str) else ""} for item in items]
    wrong = {
        number: f"case {item.get('case_id')}: {TEXT} is a {type(item[TEXT]).__name__} ({item[TEXT]!r:.80}) where a "
        "string is expected: give a sentence, or leave the key out"
        for number, item in enumerate(items)
        if not (item.get(TEXT) is None or isinstance(item[TEXT], str))
    }
    if not mark_faults:
        require(list(wrong.values()))
    for number, problem in wrong.items():
        mark(found[number], [problem])
    return found
