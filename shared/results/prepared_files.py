"""What a preparation leaves beside the mask: record, brain mask, picture, and at will the prepared sequences."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor

from shared.core.files import write_atomic
from shared.io.masks import save_prediction, save_scan
from shared.io.sources import load_volume
from shared.preparation.cache import BRAIN, RECORD, read_case
from shared.preparation.load import record_in
from shared.preparation.prepare import VERSION
from shared.results.measures import Measures, rounded
from shared.results.preparation_picture import save_preparation_picture


def record_of(item: Mapping[str, Any]) -> dict[str, Any]:
    """Return the record of the preparation of an item of an evaluator's batch; empty if there was none."""
    return record_in(item.get("image"))


def left_out(record: Mapping[str, Any], channels: Sequence[str]) -> list[str] | None:
    """Return the channels that a prepared case lacks, including those that could not be registered.

    Args:
        record: of the preparation.
        channels: names of the channels.

    Returns:
        Their names; None if nothing was prepared.
    """
    return [name for name in channels if name not in record["sequences"]] if "sequences" in record else None


def share_of_brain(record: Mapping[str, Any], measures: Measures) -> Measures:
    """Return the volume of the brain in mL, and the volume in `measures` as a percentage of it.

    Args:
        record: of the preparation; without a brain the result is empty.
        measures: of the case; its first key that ends in ``_volume_ml`` counts.
    """
    brain = record.get("brain", {}).get("volume_ml")
    if not brain:
        return {}
    volume = next((value for key, value in measures.items() if key.endswith("_volume_ml")), None)
    share = {} if volume is None else {"percent_of_brain": rounded(100 * volume / brain)}
    return {"brain_volume_ml": brain, **share}


def save_record(record: Mapping[str, Any], prediction: Path, name: str) -> dict[str, Path]:
    """Write the record of a preparation beside the label map; return it as "preparation"."""
    file = prediction.with_name(f"{name}_{RECORD}")
    kept = {key: value for key, value in record.items() if key != "folder"}
    write_atomic(file, json.dumps(kept, indent=2) + "\n")
    return {"preparation": file}


def save_prepared_files(
    record: Mapping[str, Any], source: Any, pred: MetaTensor, prediction: Path, name: str, sequences: bool = False
) -> dict[str, Path]:
    """Write the files of a case that was prepared.

    Args:
        record: of its preparation, with ``folder``.
        source: the reference sequence as the scanner gave it, see `load_volume`.
        pred: the label map on its grid, (1, X, Y, Z).
        prediction: file of the label map; the others lie beside it.
        name: of the case.
        sequences: also write the prepared sequences.

    Returns:
        By kind ("preparation", "brain", "preparation_picture" and names of sequences), the files.
    """
    cached = read_case(Path(record["folder"]), VERSION)
    if cached is None:
        return {}
    folder, files = prediction.parent, save_record(record, prediction, name)
    brain = load_volume(cached.folder / BRAIN, name)
    on_grid = MetaTensor(brain.as_tensor(), meta=pred.meta)
    files["brain"] = save_prediction(on_grid, folder.parent, name, "brain")
    reference = record["reference"]
    files["preparation_picture"] = save_preparation_picture(
        folder / f"{name}_preparation.png",
        load_volume(source, name).numpy()[0],
        {other: scan.voxels for other, scan in cached.scans.items() if other != reference},
        brain.numpy()[0] > 0,
        torch.as_tensor(pred).cpu().numpy().reshape(brain.shape[1:]) > 0,
        np.asarray(brain.affine, float),
        name,
        record["warnings"],
    )
    if sequences:
        for other, scan in cached.scans.items():
            on_grid = MetaTensor(torch.from_numpy(scan.voxels)[None], meta=pred.meta)
            files[other] = save_scan(on_grid, folder.parent, name, other)
    return files
