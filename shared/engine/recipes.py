"""Steps of the recipes that make the shipped weights: data lists, resumable trainings, mixing of weights."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from monai.bundle import run

from shared.core.errors import InputError
from shared.core.files import write_atomic
from shared.datasets.cases import Items
from shared.engine.run_folder import BEST, save_checkpoint


def write_lists(folder: Path, **lists: Items) -> Path:
    """Write ``<folder>/dataset.json`` with the lists by name and return the folder."""
    write_atomic(folder / "dataset.json", json.dumps(lists, indent=1))
    return folder


def repeated(items: Items, times: int) -> Items:
    """Return every case `times` times, each time with another ``case_id``."""
    return [{**item, "case_id": f"{item['case_id']}_{n}"} for n in range(times) for item in items]


def train_once(config_file: str | Sequence[str], output: Path, **options: Any) -> Path:
    """Train, unless an earlier call has finished; a training that was stopped goes on.

    Args:
        config_file: the bundle's config, or several that are merged.
        output: output folder.
        options: overrides of the config.

    Returns:
        The path of the weights.
    """
    if not (output / "metrics.json").is_file():  # the report is the last thing that a training writes
        run(config_file=config_file, output_dir=str(output), resume=True, **options)
    return output / "models" / BEST


def kept(file: str | Path, path: Path) -> Path:
    """Copy a file in the first run of a recipe; later runs take the copy, even if the file has changed.

    Returns:
        The path of the copy.

    Raises:
        InputError: there is neither the file nor a copy.
    """
    if not path.is_file():
        if not Path(file).is_file():
            raise InputError(f"weights {file} not found: give the path of a file")
        write_atomic(path, Path(file).read_bytes())
    return path


def between(before: Path, after: Path, share: float, path: Path) -> Path:
    """Interpolate between a network's weights before and after a further training, and return the path of the result.

    The mixture often keeps what the first training learnt and gains nearly all of the second (WiSE-FT, Wortsman 2022).

    Args:
        before, after: files of weights of one network.
        share: 0 for `before`, 1 for `after`. Integer and boolean tensors are those of `after`.
        path: file to write; its folder is created.
    """
    old, new = (torch.load(file, map_location="cpu", weights_only=True) for file in (before, after))
    mixed = {k: torch.lerp(old[k].float(), v.float(), share) if v.is_floating_point() else v for k, v in new.items()}
    save_checkpoint(mixed, path)
    return path


def ship(weights: Path, path: Path) -> None:
    """Write weights for the repository as float16, half of the size; networks load them as float32.

    Integer and boolean tensors keep their type.
    """
    state = torch.load(weights, map_location="cpu", weights_only=True)
    save_checkpoint({k: v.half() if v.is_floating_point() else v for k, v in state.items()}, path)
