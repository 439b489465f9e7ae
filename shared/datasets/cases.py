"""The cases of a run: a data set on disk, or the built-in phantoms of a bundle, which `maker` makes."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import ignite.distributed as idist

from shared.core.errors import InputError, require
from shared.core.files import check_output_dir
from shared.datasets.datalist import expand_datalist, parse_input
from shared.datasets.preflight import check_items, check_pictures

Items = list[dict[str, Any]]
Maker = Callable[[Path], Path]  # makes phantoms in a folder, or finds them there; returns the path of dataset.json


def dataset_file(dataset_dir: str | os.PathLike, builtin_dir: str | os.PathLike, *, maker: Maker) -> Path:
    """Return ``dataset.json`` of a folder; the built-in phantoms are made on first use.

    Args:
        dataset_dir: the folder.
        builtin_dir: the folder whose phantoms are made on first use.
        maker: makes them.

    Raises:
        InputError: the folder is not the built-in one and holds no ``dataset.json``.
    """
    folder = Path(dataset_dir).absolute()
    if folder == Path(builtin_dir).absolute():
        with idist.one_rank_first(local=True):  # the other processes of a machine wait, then find them there
            return maker(folder)
    if not (folder / "dataset.json").is_file():
        raise InputError(
            f"no dataset.json in {folder}: write one (docs/README.md shows it) or leave --dataset_dir away"
        )
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

    A data set without ``validation`` gives a share of its training cases, drawn once with a fixed seed (our choice).

    Args:
        dataset_dir: folder with a Decathlon-style ``dataset.json``.
        split: "training", "validation", "testing" or another list of that file.
        builtin_dir: the folder whose phantoms are made on first use.
        val_share: that share, in (0, 1).
        maker: makes the phantoms.

    Raises:
        InputError: there is no such list, see `dataset_file` and `expand_datalist`.
    """
    file = dataset_file(dataset_dir, builtin_dir, maker=maker)
    if split not in ("training", "validation"):
        return expand_datalist(file, split)
    training = expand_datalist(file, "training") if split == "training" else []
    try:
        validation = expand_datalist(file, "validation")
    except InputError:
        training = training or expand_datalist(file, "training")
        order = random.Random(0).sample(range(len(training)), len(training))
        held_back = set(order[: max(1, round(val_share * len(training)))])
        chosen = (i in held_back for i in range(len(training)))
        return [item for item, held in zip(training, chosen) if held == (split == "validation")]
    return training if split == "training" else validation


def load_input(
    dataset_dir: str | os.PathLike, split: str, builtin_dir: str | os.PathLike, input: Any = None, *, maker: Maker
) -> Items:
    """Return the one case of ``--input``, or the cases of a split (arguments: see `load_split`)."""
    return load_split(dataset_dir, split, builtin_dir, maker=maker) if input is None else [parse_input(input)]


def preflight(
    items: Sequence[Items],
    channels: Sequence[str],
    output_dir: str | os.PathLike,
    labels: Sequence[int] | None = None,
    pictures: bool = False,
) -> None:
    """Check all data by their headers and the output folder by writing, before anything long begins.

    Args:
        items: lists of cases.
        channels: names of the channels of ``image``, in order.
        output_dir: the folder of the run.
        labels: values a label map may hold, every case needs one then; None for cases without labels.
        pictures: the cases are pictures (PNG, JPG, TIFF, BMP); `channels` is left aside, as they are all in colour.

    Raises:
        InputError: every problem, one line each.
    """
    cases = [item for part in items for item in part]
    need_label = labels is not None
    if pictures:
        problems = check_pictures(cases, labels, need_label)
    else:
        problems = check_items(cases, channels, labels, need_label)
    require(problems + check_output_dir(output_dir, needed_mb=200))
