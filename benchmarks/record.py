"""Results of the benchmarks: names of runs, facts about the machine, files in ``benchmarks/results``.

Importing this module puts the repository and the three bundles on ``sys.path``.
"""

from __future__ import annotations

import json
import platform
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
sys.path[:0] = [str(ROOT), *(str(ROOT / "bundles" / name) for name in ("brainsegdmlf", "emclip", "tmca"))]


def cpu_name() -> str:
    """Return the name of the processor."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())


def named(label: str, overrides: Mapping[str, Any]) -> str:
    """Return a model's label with the options of its run, except the image size, which has its own column."""
    return ", ".join([label, *(f"{key} {value}" for key, value in overrides.items() if key != "image_size")])


def run_name(model: str, pixels: int, seed: int, minutes: float, overrides: Mapping[str, Any]) -> str:
    """Return the name of a run's file, which contains its image size and options."""
    options = [f"{key}-{value}" for key, value in overrides.items() if key != "image_size"]
    return re.sub(r"[^\w.-]+", "-", "_".join([model, f"{pixels}px", f"seed{seed}", f"{minutes:g}min", *options]))


def save_run(folder: Path, name: str, result: dict[str, Any]) -> None:
    """Write one run to ``<folder>/<name>.json``, with torch's version, the processor and its precision.

    Entries of `result` take precedence: a run that is measured again keeps the machine on which it was trained.
    """
    from shared.engine.precision import precision

    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"{name}.json"
    machine = {"torch": torch.__version__, "cpu": cpu_name(), "precision": precision("cpu", amp=True)}
    target.write_text(json.dumps(machine | result, indent=1) + "\n", encoding="utf-8")
    print(f"-> {target}")


def saved_runs(folder: Path) -> list[dict[str, Any]]:
    """Return all runs that `save_run` wrote to `folder`, sorted by name."""
    return [json.loads(file.read_text(encoding="utf-8")) for file in sorted(folder.glob("*.json"))]


def save(name: str, result: Any, table: str, folder: Path = RESULTS) -> None:
    """Write ``<folder>/<name>.json`` and the Markdown table ``<folder>/<name>.md``, and print the table."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    (folder / f"{name}.md").write_text(table, encoding="utf-8")
    print(table)
