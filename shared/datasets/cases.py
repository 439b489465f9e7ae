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
        maker: writes the phantoms.

    Raises:
        InputError: there is no such list, too few cases to divide, or a patient or an image file both trains and
            validates; see `dataset_file` and `expand_datalist`.
    """
    file = dataset_file(dataset_dir, builtin_dir, maker=maker)
    lists = read_datalist(file)
    if split in ("training", "validation") and not lists.get("validation"):
        training, validation = hold_out(expand_datalist(file, "training"), val_share, f"training of {file}")
        return training if split == "training" else validation
    items = expand_datalist(file, split)
    if split == "training" and isinstance(lists["validation"], list):
        check_apart(items, lists["validation"], file.absolute())
    return items


def load_input(
    dataset_dir: str | os.PathLike, split: str, builtin_dir: str | os.PathLike, input: Any = None, *, maker: Maker
) -> Items:
    """Return the one case of ``--input``, or the cases of a split (arguments: see `load_split`)."""
    return load_split(dataset_dir, split, builtin_dir, maker=maker) if input is None else [parse_input(input)]
