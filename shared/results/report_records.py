"""The records of ``report.html``: of the predictions in a folder, of an evaluation, and of the bundle itself."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from shared.results.case_report import CaseReport
from shared.results.report_page import About, Record

FILES = {  # key of an entry of predictions.json -> text of the link
    "prediction": "mask",
    "overlay": "overlay",
    "probabilities": "probability map",
    "dicom_seg": "DICOM SEG",
    "overlay_es": "overlay of end systole",
    "curve": "curve",
    "loop": "loop (GIF)",
    "preparation_picture": "preparation",
    "brain": "brain mask",
    "preparation": "record (JSON)",
}
UNITS = {"ml": "mL", "g": "g", "px": "px", "cm2": "cm²", "mm": "mm", "voxels": "voxels"}
ABBREVIATIONS = {"lv": "LV", "rv": "RV"}
UNKNOWN_SIZE = "The voxel size is unknown: measured in voxels."


def prediction_records(entries: Iterable[Mapping[str, Any]], failures: Mapping[str, str]) -> list[Record]:
    """Return the records of all cases of an output folder, failed ones first.

    Args:
        entries: as ``predictions.json`` lists them.
        failures: name of a failed case -> what is wrong with it.

    """
    failed = [Record(case_id, failed=problem) for case_id, problem in failures.items()]
    return [*failed, *map(_prediction, entries)]


def _prediction(entry: Mapping[str, Any]) -> Record:
    measures = entry.get("measures") or {}
    notes = [f"Missing: {', '.join(entry['missing'])}."] if entry.get("missing") else []
    if any(key.endswith("_voxels") for key in measures):
        notes.append(UNKNOWN_SIZE)
    notes += [str(warning) for warning in entry.get("warnings") or ()]
    files = {text: str(entry[key]) for key, text in FILES.items() if isinstance(entry.get(key), str)}
    return Record(
        case_id=str(entry["case_id"]),
        figures={heading(str(key)): value for key, value in measures.items()},
        text=entry.get("text") or "",
        overlay=entry.get("overlay"),
        preparation=entry.get("preparation_picture"),
        curve=entry.get("curve"),
        files=files,
        inputs=[path for path in entry["image"] if path],
        notes=notes,
    )


def evaluation_records(
    report: CaseReport, pictures: Sequence[str | os.PathLike], folder: str | os.PathLike
) -> list[Record]:
    """Return the records of an evaluation.

    Args:
        report: metrics of the cases; the page shows those that the terminal does, ``metrics.csv`` has all.
        pictures: overlays, called after their cases.
        folder: folder of the page.

    """
    overlays = {Path(path).stem: Path(os.path.relpath(path, folder)).as_posix() for path in pictures}
    records = []
    for case_id, row in sorted(report.rows.items()):
        texts = {key: value for key, value in row.items() if isinstance(value, str) and key not in ("case_id", "text")}
        figures: dict[str, Any] = {heading(key): value for key, value in texts.items()}
        figures |= {name: row.get(column) for column, (name, _) in report.headings().items()}
        overlay = overlays.get(case_id)
        files = {"overlay": overlay} if overlay else {}
        records.append(Record(case_id, figures, row.get("text") or "", overlay, files=files))
    return records


def heading(key: str) -> str:
    """Return the heading of a measure: ``lesion_volume_ml`` is "lesion volume (mL)"."""
    words = key.split("_")
    unit = UNITS.get(words[-1]) if len(words) > 1 else None
    words = [ABBREVIATIONS.get(word, word) for word in (words[:-1] if unit else words)]
    return f"{' '.join(words)} ({unit})" if unit else " ".join(words)


def about_bundle(bundle_root: str | os.PathLike | None, weights: str | os.PathLike | None = None) -> About:
    """Return what a page says about the bundle, from its ``configs/metadata.json``.

    What the weights were trained on is known of the shipped ones only: those in the bundle's folder ``models``.

    Args:
        bundle_root: the bundle's folder; None or a folder without metadata where it is unknown.
        weights: file of weights of the run, if known.

    """
    facts: dict[str, str] = {}
    root = Path(bundle_root) if bundle_root is not None else None
    try:
        metadata = json.loads((root / "configs" / "metadata.json").read_text(encoding="utf-8")) if root else {}
    except (OSError, ValueError):
        metadata = {}
    if metadata.get("task"):
        facts["Made for"] = metadata["task"]
    if weights is not None:
        facts["Weights"] = _weights(Path(weights), root, metadata)
    if metadata.get("intended_use"):
        facts["Intended use"] = metadata["intended_use"]
    return About(str(metadata.get("name", "")), str(metadata.get("version", "")), facts)


def _weights(weights: Path, root: Path | None, metadata: Mapping[str, Any]) -> str:
    shipped = root is not None and weights.resolve().parent == (root / "models").resolve()
    if shipped and metadata.get("data_source"):
        return f"{weights.name}, shipped with the bundle. Trained on: {metadata['data_source']}"
    try:
        written = time.strftime(", of %Y-%m-%d %H:%M", time.localtime(weights.stat().st_mtime))
    except OSError:
        written = ""
    return f"{os.path.abspath(weights)}{written}"
