"""Names of results in an output folder: the same input keeps its name, and no other input replaces its result."""

from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shared.core.errors import InputError
from shared.core.missing import present
from shared.datasets.case_names import fit_name, fold, qualify

SENTENCES = 1000  # of one image in one folder, at most


@dataclass(frozen=True)
class Input:
    """What a result was made from."""

    files: frozenset[str]  # the same for every spelling of their paths
    text: str = ""  # the sentence

    @classmethod
    def of(cls, image: Any, text: str | None = None) -> Input:
        """Return the input of a case.

        Args:
            image: a path, or a list with None for a missing sequence.
            text: the sentence; None and an empty one are the same.
        """
        return cls(frozenset(os.path.realpath(path) for path in present(image)), text or "")

    def is_same(self, other: Input) -> bool:
        """Tell whether two inputs share a file and have the same sentence."""
        return bool(self.files & other.files) and self.text == other.text


def choose_names(
    cases: Mapping[str, tuple[Any, str | None]], owners: Mapping[str, Input], folder: str | os.PathLike
) -> dict[str, str]:
    """Choose a name for each case of a run.

    A case keeps its own name if it is free, or if it belongs to an earlier result of the same input, which will be
    replaced. If the name belongs to another file, the case is called after its folder as well: ``p2_scan``; if it
    belongs to the same file with another sentence, ``p2_text2``. Names that differ only in upper and lower case, or
    in how their accents are stored, count as the same: some file systems take them for the same folder.

    Args:
        cases: ``case_id`` -> image (a path, or a list with None for a missing sequence) and sentence (or None).
        owners: names that are in use in the folder, and the input of each.
        folder: the output folder; masks in it that no owner has are not replaced either.

    Returns:
        ``case_id`` -> name.

    Raises:
        InputError: no name of a case is free.
    """
    spelled = {fold(name): name for name in owners}
    by_key = {key: owners[name] for key, name in spelled.items()}
    wanted = {fold(case_id): case_id for case_id in cases}
    masks = _folders_with_mask(folder)
    names: dict[str, str] = {}
    used: set[str] = set()
    for case_id, (image, text) in cases.items():
        made_from = Input.of(image, text)
        for name in _candidates(case_id, image, by_key):
            key = fold(name)
            if key in used or wanted.get(key, case_id) != case_id:
                continue
            if key in spelled:
                if not by_key[key].is_same(made_from):
                    continue
                name = spelled[key]
            elif key in masks:
                continue
            break
        else:
            raise InputError(f"case {case_id}: {folder} holds results of other inputs: give another --output_dir")
        names[case_id] = name
        used.add(key)
    return names


def _folders_with_mask(folder: str | os.PathLike) -> set[str]:
    """Return the names of the folders that hold a mask, as keys of `fold`."""
    home = Path(folder)
    found = (path.name for path in home.iterdir() if path.is_dir()) if home.is_dir() else ()
    return {
        fold(name)
        for name in found
        if any(fold(file.name).startswith(fold(f"{name}_seg.")) for file in (home / name).iterdir())
    }


def _candidates(case_id: str, image: Any, owners: Mapping[str, Input]) -> Iterator[str]:
    """Yield names of a case: its own, with one folder more each time, each also numbered by sentence, with a digest."""
    source, files = Path(os.path.abspath(present(image)[0])), Input.of(image).files
    for name in (case_id, *itertools.islice(qualify(case_id, source.parent), 1, None)):
        yield name
        owner = owners.get(fold(name))
        if owner is not None and owner.files & files:  # with this sentence or another
            yield from (fit_name(f"{name}_text{number}") for number in range(2, SENTENCES))
    yield fit_name(f"{case_id}_{hashlib.sha256(os.fsencode(source)).hexdigest()[:8]}")
