"""What the recipes of the shipped weights share: data lists of their own, trainings that go on where they stopped."""

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
from shared.engine.run_folder import save_checkpoint


def write_datalist(folder: Path, **lists: Items) -> Path:
    """Write ``<folder>/dataset.json`` with the lists by name; return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "dataset.json").write_text(json.dumps(lists, indent=1))
    return folder


def repeated(items: Items, times: int) -> Items:
    """Every case so many times, each time under another name."""
    return [{**item, "case_id": f"{item['case_id']}_{n}"} for n in range(times) for item in items]


def train_once(config_file: str | Sequence[str], output: Path, **options: Any) -> Path:
    """Train, going on where it was stopped, and not at all where it is complete; return the path of the weights."""
    if not (output / "metrics.json").is_file():  # the report is the last thing that a training writes
        run(config_file=config_file, output_dir=str(output), resume=True, **options)
    return output / "models" / "model.pt"


def kept(file: str | Path, path: Path) -> Path:
    """Copy a file on the first run of a recipe; return the copy, which later runs take though the file has changed."""
    if not path.is_file():
        if not Path(file).is_file():
            raise InputError(f"weights {file} not found: give the path of a file")
        write_atomic(path, Path(file).read_bytes())  # a part of it would be taken for the whole by the next run
    return path


def between(before: Path, after: Path, share: float, path: Path) -> Path:
    """Write weights on the line between a network's before and after a further training; return their path.

    They often keep what the first knew and have nearly all that the second learnt (WiSE-FT, Wortsman 2022).

    Args:
        before, after: files of weights of one network.
        share: 0 for `before`, 1 for `after`; masks and tokens are those of `after`.
        path: to write; its folder is made.
    """
    old, new = (torch.load(file, map_location="cpu", weights_only=True) for file in (before, after))
    mixed = {k: torch.lerp(old[k].float(), v.float(), share) if v.is_floating_point() else v for k, v in new.items()}
    save_checkpoint(mixed, path)
    return path


def ship(weights: Path, path: Path) -> None:
    """Write weights for the repository, as float16: half of the bytes, and networks load them as their own float32.

    Masks and tokens among them stay as they are.
    """
    state = torch.load(weights, map_location="cpu", weights_only=True)
    save_checkpoint({k: v.half() if v.is_floating_point() else v for k, v in state.items()}, path)
