"""What the benchmarks share: the processor's name, and where results go."""

from __future__ import annotations

import json
import os
import platform
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

RESULTS = Path(__file__).resolve().parent / "results"


def cpu_name() -> str:
    """Return the processor's name as the system gives it."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())


def real_images(name: str) -> Path:
    """Return the folder of a data set below BUNDLES_REAL_DATA; end with one line if it is not there."""
    folder = Path(os.environ.get("BUNDLES_REAL_DATA", "")) / name
    if not (folder / "dataset.json").is_file():
        raise SystemExit(f"no images in {folder}: set BUNDLES_REAL_DATA to the folder that holds {name}")
    return folder


def check(kind: str, name: str, known: Sequence[str]) -> None:
    """End with one line if `name`, of a "model" or a "task", is not among the known ones: before anything trains."""
    from shared.core.messages import nearest

    if name not in known:
        raise SystemExit(f"unknown {kind} {name!r}: {nearest(name, known)}")


def named(label: str, overrides: Mapping[str, Any]) -> str:
    """A model's label with its run's own options, without the size of the image, which has a column."""
    return ", ".join([label, *(f"{key} {value}" for key, value in overrides.items() if key != "image_size")])


def run_name(model: str, pixels: int, seed: int, minutes: float, overrides: Mapping[str, Any]) -> str:
    """A run's file, of images of so many pixels: other sizes and options do not take the place of the plain run."""
    options = [f"{key}-{value}" for key, value in overrides.items() if key != "image_size"]
    return re.sub(r"[^\w.-]+", "-", "_".join([model, f"{pixels}px", f"seed{seed}", f"{minutes:g}min", *options]))


def save_run(folder: Path, name: str, result: dict[str, Any]) -> None:
    """Write one run, with the version of torch, the processor and its precision, to ``folder/<name>.json``.

    What a run that is measured once more says of the machine that trained it stays.
    """
    from shared.engine.precision import precision

    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"{name}.json"
    machine = {"torch": torch.__version__, "cpu": cpu_name(), "precision": precision("cpu", amp=True)}
    target.write_text(json.dumps(machine | result, indent=1) + "\n")
    print(f"-> {target}")


def save(name: str, result: Any, table: str) -> None:
    """Write ``results/<name>.json`` and, as Markdown, ``results/<name>.md``."""
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(result, indent=2) + "\n")
    (RESULTS / f"{name}.md").write_text(table)
