"""The cases of a run: a data set on disk, the built-in phantoms of a bundle, or one input."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ignite.distributed as idist

from shared.core.errors import InputError
from shared.datasets.datalist import Items, expand_datalist, parse_input, read_datalist
from shared.datasets.splits import check_apart, hold_out

Maker = Callable[[Path], Path]  # writes phantoms to a folder unless it has them; returns the path of dataset.json


def dataset_file(dataset_dir: str | os.PathLike, builtin_dir: str | os.PathLike, *, maker: Maker) -> Path:
    """Return the path of a folder's ``dataset.json``; the built-in phantoms are written on first use.

    Args:
        dataset_dir: the folder.
        builtin_dir: the folder of the built-in phantoms.
        maker: writes them.

    Raises:
        InputError: the folder is not the built-in one and holds no ``dataset.json``.
    """
    folder = Path(dataset_dir).absolute()
    if folder == Path(builtin_dir).absolute():
        with idist.one_rank_first(local=True):  # the other processes of this machine wait for the first
            return maker(folder)
    if not (folder / "dataset.json").is_file():
        raise InputError(f"no dataset.json in {folder}: write one (docs/README.md shows it) or leave out --dataset_dir")
    return folder / "dataset.json"


def load_split(
    dataset_dir: str | os.PathLike,
    split: str,
    builtin_dir: str | os.PathLike,
    val_share: float = 0.2,
    mark_faults: bool = False,
    *,
    maker: Maker,
) -> Items:
    """Return the cases of a split.

    Without a ``validation`` list, a share of the training cases is held back, by patient, see `shared.datasets.splits`.

    Args:
        dataset_dir: folder with a Decathlon-style ``dataset.json``.
        split: "training", "validation", "testing" or another list of that file.
        builtin_dir: the folder of the built-in phantoms, which are written on first use.
        val_share: the share that is held back, in (0, 1).
        mark_faults: keep cases that cannot be used, marked as `shared.datasets.faults` says; False raises.
        maker: writes the phantoms.

    Raises:
        InputError: there is no such list, too few cases to divide, or a patient or an image file both trains and
            validates; see `dataset_file` and `expand_datalist`.
    """
    file = dataset_file(dataset_dir, builtin_dir, maker=maker)
    lists = read_datalist(file)
    if split in ("training", "validation") and not lists.get("validation"):
        held = expand_datalist(file, "training", mark_faults)
        training, validation = hold_out(held, val_share, f"training of {file}")
        return training if split == "training" else validation
    items = expand_datalist(file, split, mark_faults)
    if split == "training" and isinstance(lists["validation"], list):
        check_apart(items, lists["validation"], file.absolute())
    return items


def load_input(
    dataset_dir: str | os.PathLike, split: str, builtin_dir: str | os.PathLike, input: Any = None, *, maker: Maker
) -> Items:
    """Return the cases of an inference: the one of ``--input``, or those of a split (arguments: see `load_split`).

    Cases of a split that cannot be used are marked, see `shared.datasets.faults`.

    Raises:
        InputError: ``--input`` cannot be used; see also `load_split`.
    """
    if input is not None:
        return [parse_input(input)]
    return load_split(dataset_dir, split, builtin_dir, mark_faults=True, maker=maker)
