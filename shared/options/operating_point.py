"""``python -m shared operating_point``: the threshold and temperature that suit a user's own labelled cases."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from shared.core.errors import InputError, require
from shared.core.files import write_atomic
from shared.core.messages import nearest
from shared.options.check import find_bundle, find_config
from shared.options.next_command import quoted
from shared.options.threshold_run import ThresholdRun
from shared.options.typed_words import as_typed, wrong_texts
from shared.results.calibration import TEMPERATURES, expected_calibration_error
from shared.results.operating_curve import AIMS, operating_curve
from shared.results.operating_point import (
    GRID,
    USUAL,
    OperatingPoint,
    curve_lines,
    curve_records,
    fit_operating_point,
    point_lines,
)
from shared.results.operating_point_picture import save_operating_point_picture

FITTED = ("threshold", "temperature")
FEW = 5  # patients; with fewer, an interval means little


def operating_point(
    bundle: str,
    split: str = "validation",
    aim: str = "dice",
    false_lesions: float = 1.0,
    report_split: str | None = None,
    config_file: Sequence[str] = (),
    words: Sequence[str] = (),
    /,
    **overrides: Any,
) -> dict[str, Any]:
    """Fit threshold and temperature on labelled cases, and print, draw and write the figures.

    The cases are segmented once. The bundle's own steps after the threshold (such as keeping the largest piece) are
    repeated for every threshold, so the figures are those of an evaluation.

    Args:
        bundle: a folder, or its name in the current folder or in ``bundles``.
        split: list of ``dataset.json`` to fit on.
        aim: "dice", or "sensitivity": the highest lesion recall with at most `false_lesions` per scan.
        false_lesions: see `aim`.
        report_split: another list, on which the chosen point is measured; None measures on none.
        config_file: names of override files of the bundle, such as "cardiac".
        words: the words of the command line that the overrides were read from; empty for none.
        overrides: options of the bundle's evaluation.

    Returns:
        The content of ``operating_point.json`` in the output folder.

    Raises:
        InputError: an argument cannot be used, a case has no label, or no threshold meets `false_lesions`.
    """
    limit = _check(split, aim, false_lesions, report_split, overrides)
    root = find_bundle(bundle)
    extra = [find_config(root, name) for name in config_file]
    overrides = as_typed(overrides, root / "configs", words)
    require(wrong_texts(overrides, root / "configs"))
    start = partial(ThresholdRun, root, [find_config(root, name) for name in ("train", "evaluate")] + extra, overrides)

    run = start(split)
    report_run = None if report_split is None else start(report_split)  # so that a wrong name stops here
    sweep = run.sweep([[threshold] for threshold in GRID])
    names = run.region_names(len(sweep.regions))
    points = [fit_operating_point(name, cases, aim, limit) for name, cases in zip(names, sweep.regions, strict=True)]
    several = len(points) > 1
    found = {
        "threshold": [point.threshold for point in points] if several else points[0].threshold,
        "temperature": [point.temperature for point in points] if several else points[0].temperature,
    }
    notes = _notes(run, split, points)
    record: dict[str, Any] = {
        "bundle": run.root.name,
        "weights": str(run.parser.get_parsed_content("report#weights")),
        "dataset_dir": str(run.parser.get_parsed_content("dataset_dir")),
        "split": split,
        "aim": aim if aim == "dice" else f"{aim} at no more than {limit:g} false lesions per scan",
        "cases": sweep.cases,
        "patients": len(set(run.patients.values())),
        "regions": {point.name: _region_record(point) for point in points},
        "notes": notes,
    }
    lines = [f"{run.root.name}  {run.size} in {split}", ""]
    for point in points:
        lines += [*point_lines(point), ""]
    output = Path(run.parser.get_parsed_content("output_dir"))
    picture = save_operating_point_picture(output / "operating_point.png", points)
    print("\n".join([*lines, *notes]), flush=True)

    if failed := [_unreachable(point, limit) for point in points if point.chosen is None]:
        _write(output, record)
        require(failed)
    record["options"] = " ".join(f"--{key} {quoted(value)}" for key, value in found.items())
    if report_run is not None:
        record["report"] = _report(report_run, names, found)
    path = _write(output, record)
    last = {"picture": picture, "record": path, "option": record["options"]}
    last |= run.next_commands(found, extra, report_split)
    print("\n".join(f"{word:<10}{text}" for word, text in last.items()), flush=True)
    return record


def _check(split: Any, aim: Any, false_lesions: Any, report_split: Any, overrides: Mapping[str, Any]) -> float:
    """Check the arguments; return `false_lesions` as a number."""
    if aim not in AIMS:
        raise InputError(f"--aim {aim!r} is unknown: {nearest(str(aim), AIMS)}")
    if report_split == split:
        raise InputError(f"--report_split is '{split}', on which the threshold is chosen: give another list")
    for key in FITTED:
        if key in overrides:
            raise InputError(f"--{key} is what operating_point finds: leave it out")
    try:
        limit = float(false_lesions)
    except (TypeError, ValueError):
        limit = -1.0
    if not 0 <= limit < float("inf"):
        raise InputError(f"--false_lesions is {false_lesions!r}: give a number of at least 0, such as 1.0")
    return limit


def _notes(run: ThresholdRun, split: str, points: Sequence[OperatingPoint]) -> list[str]:
    """Return what a reader should know of the figures, one line each."""
    notes = [f"The figures of the chosen threshold are optimistic: it was chosen on these cases ('{split}')."]
    if len(set(run.patients.values())) < FEW:
        notes.append(f"Only {run.size}: with fewer than {FEW} {run.counted}s the intervals mean little.")
    for point in points:
        if not 1.01 * TEMPERATURES[0] < point.temperature < 0.99 * TEMPERATURES[1]:
            notes.append(
                f"{point.name}: the temperature lies at the end of the range that is tried; do not rely on the "
                "probabilities."
            )
    if len(points) > 1:
        notes.append("Each table has one threshold for all regions; the chosen ones are combined in the options.")
    return notes


def _unreachable(point: OperatingPoint, limit: float) -> str:
    false = point.curve.false_lesions.value
    least = int(np.argmin(false))
    if false[least] <= limit:
        return (
            f"{point.name}: thresholds with {limit:g} false lesions per scan or fewer lose more than half of the best "
            "Dice: allow more with --false_lesions"
        )
    return (
        f"{point.name}: no threshold keeps false lesions at {limit:g} per scan; the fewest are {false[least]:.3g}, at "
        f"{point.thresholds[least]:g}: allow more with --false_lesions"
    )


def _region_record(point: OperatingPoint) -> dict[str, Any]:
    before, after = (expected_calibration_error(point.histogram, value) for value in (1.0, point.temperature))
    return {
        "threshold": point.threshold if point.chosen is not None else None,
        "temperature": point.temperature,
        "expected_calibration_error": {"before": round(before, 6), "after": round(after, 6)},
        "curve": curve_records(point.thresholds, point.curve),
    }


def _report(run: ThresholdRun, names: Sequence[str], found: Mapping[str, Any]) -> dict[str, Any]:
    """Measure the usual and the chosen threshold on other cases; print and return the figures."""
    chosen = np.atleast_1d(found["threshold"]).tolist()
    sweep = run.sweep([[USUAL] * len(names), chosen], found["temperature"])
    split = run.parser.get("validation_items")["split"]
    record: dict[str, Any] = {
        "split": split,
        "cases": sweep.cases,
        "patients": len(set(run.patients.values())),
        "regions": {},
    }
    print(f"\nOn the {run.size} in {split}, which played no part in the choice:")
    for name, cases, threshold in zip(names, sweep.regions, chosen):
        if not cases:
            continue
        curve = operating_curve(cases)
        record["regions"][name] = curve_records([USUAL, threshold], curve)
        print("\n".join([name, *curve_lines([f"{USUAL:g}", f"{threshold:g}"], curve, (0, 1), ("default", "chosen"))]))
    print(flush=True)
    return record


def _write(output: Path, record: Mapping[str, Any]) -> Path:
    return write_atomic(output / "operating_point.json", json.dumps(record, indent=2) + "\n")
