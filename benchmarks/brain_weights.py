"""Measure a file of weights of BrainSegDMLF on the data that the recipe holds out, and write tables.

    python benchmarks/brain_weights.py --data_dir FOLDER [--weights FILE] [--threshold 0.5] [--only slices,patients]

The folder holds ``brain_ms``, ``brain_flair_slices``, ``brain_heads``, ``brain_lesion_shapes`` and ``brain_raw``. All
parts take about 15 minutes of one core. Each part is written to ``brain_weights/<part>.json`` as soon as it is
measured, and is taken from there when the command is repeated with the same weights and options. The MS patients are
the exception: the recipe trains on them unless one is left out, see ``--seen``.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import brain_weights_cases as cases
import fire
import numpy as np
from brain_weights_inference import BUNDLE, Inference, score
from brain_weights_tables import report
from pipeline import check
from preparation_masks import measure_lesions
from record import RESULTS, save, save_run

from shared.core.errors import install_one_line_errors

ALL = ("all",)
SINGLE = ("flair", "t1", "t2")
PARTS = {  # part -> data sets that it needs, and the sequences with which it is segmented, one after the other
    "slices": (("brain_flair_slices",), ("flair",)),
    "phantoms": (("brain_heads", "brain_lesion_shapes", "brain_ms"), ALL + SINGLE),
    "chronic": (("brain_heads", "brain_lesion_shapes", "brain_ms"), ("all", "t1")),
    "healthy": (("brain_heads", "brain_lesion_shapes", "brain_ms"), ALL),
    "skull": ((), ALL),
    "patients": (("brain_ms",), ALL + SINGLE),
    "raw": (("brain_raw",), ALL),
}


def main(
    data_dir: str,
    weights: str = str(BUNDLE / "models" / "model.pt"),
    threshold: float | None = None,
    only: str | Sequence[str] = tuple(PARTS),
    seen: str | Sequence[str] = ("patient07", "patient26"),
    output_dir: str = str(RESULTS),
) -> None:
    """Measure, and write ``brain_weights.json`` and ``brain_weights.md``.

    Args:
        data_dir: folder of the data sets.
        weights: file of the network's weights.
        threshold: of the probability; None takes that of ``inference.json``.
        only: of `PARTS`; the tables also show parts that were measured before with the same weights and options.
        seen: patients of ``brain_ms`` on which the weights were trained, which the tables mark; "" for none.
        output_dir: where to write.
    """
    data, folder = Path(data_dir), Path(output_dir) / "brain_weights"
    for part in names(only):
        check("part", part, list(PARTS))
        if missing := [name for name in PARTS[part][0] if not (data / name).is_dir()]:
            raise SystemExit(
                f"{data} has no {missing[0]}, which {part} needs: correct --data_dir, or choose with --only"
            )
    with tempfile.TemporaryDirectory() as scratch:
        inference = Inference(Path(weights), threshold, scratch)
        for part in names(only):
            if not measured(folder, part, inference.settings):
                save_run(folder, part, {"settings": inference.settings, "rows": measure(part, data, inference)})
    found = {part: rows for part in PARTS if (rows := measured(folder, part, inference.settings))}
    result = {"settings": inference.settings, "seen": names(seen), "parts": found}
    save("brain_weights", result, report(result), Path(output_dir))


def names(given: str | Sequence[str]) -> list[str]:
    """Return names that are given as a list or as text with commas."""
    return [name.strip() for name in (given.split(",") if isinstance(given, str) else given) if name.strip()]


def measured(folder: Path, part: str, settings: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the rows of a part if it was measured with these settings, else none."""
    file = folder / f"{part}.json"
    before = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    return before["rows"] if before.get("settings") == settings else []


def measure(part: str, data: Path, inference: Inference) -> list[dict[str, Any]]:
    """Measure a part: one row per case and choice of sequences."""
    if part == "raw":
        return measure_raw(data, inference)
    return scored(getattr(cases, part)(data, inference), inference, PARTS[part][1])


def scored(found: Iterable[cases.Case], inference: Inference, choices: Sequence[str]) -> list[dict[str, Any]]:
    """Segment cases from each choice of sequences, and score the masks."""
    rows = []
    for case in found:
        voxel_ml = abs(float(np.linalg.det(case.image.affine[:3, :3]))) / 1000
        for choice in choices:
            mask = inference.segment(case.image, inference.channels if choice == "all" else [choice])
            row = {"case": case.name, "source": case.source, "sequences": choice} | score(mask, case.label, voxel_ml)
            if case.brain is not None:
                row["outside_ml"] = float((mask & ~case.brain).sum() * voxel_ml)
            rows.append(row)
            print(f"{case.name}, {case.source}, {choice}: Dice {row['dice']:.3f}", flush=True)
    return rows


def measure_raw(data: Path, inference: Inference) -> list[dict[str, Any]]:
    """Run the command of the bundle on ``brain_raw``, see `preparation_masks.measure_lesions`."""
    with tempfile.TemporaryDirectory() as scratch:
        shutil.copyfile(inference.weights, Path(scratch) / "model.pt")
        return measure_lesions(data, ckpt_dir=scratch, threshold=inference.settings["threshold"])


if __name__ == "__main__":
    install_one_line_errors()
    fire.Fire(main)
