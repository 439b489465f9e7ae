"""Results of inference on disk: a label map a case in the input's own grid or size, and an index of the whole run."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from ignite.engine import Engine, Events
from monai.data import MetaTensor

from shared.core.errors import InputError
from shared.core.files import write_atomic
from shared.core.missing import is_missing, present
from shared.datasets.spacing import spacing_is_known
from shared.io.dicom_picture import find_dicom_picture
from shared.io.masks import is_picture, save_prediction
from shared.io.pictures import load_picture
from shared.io.sources import load_volume
from shared.results.batch_items import case_name, spacing_of
from shared.results.measures import Measures, Spacing
from shared.results.overlays import save_overlay

Measure = Callable[[np.ndarray, Spacing], Measures]

MAX_LINES = 20  # of the summary in the terminal


class PredictionIndex:
    """``predictions.json``: which input gave which result; rewritten after each case, whole at any time.

    Args:
        output_dir: folder of the run; paths of results in the index are relative to it.
        channels: names of the channels of ``image``, to name missing sequences.

    """

    def __init__(self, output_dir: str | os.PathLike, channels: Sequence[str]) -> None:
        self.output_dir = Path(output_dir)
        self.channels = list(channels)
        self.entries: dict[str, dict[str, Any]] = {}

    def add(
        self,
        case_id: str,
        image: Any,
        prediction: str | os.PathLike,
        overlay: str | os.PathLike | None = None,
        missing: Sequence[str] | None = None,
        text: str | None = None,
        measures: Measures | None = None,
        dicom_seg: str | os.PathLike | None = None,
    ) -> Path:
        """Add a case, or replace it, and write the index.

        Args:
            case_id: name of the case.
            image: its paths as in the data list (a path, or a list with None for a missing sequence).
            prediction: the label map written.
            overlay: the picture written, if any.
            missing: names of missing sequences; None to read them from `image`.
            text: the sentence that guided it, empty for none; None where a bundle takes no sentences.
            measures: what the mask means in numbers, flat; None where nothing was measured.
            dicom_seg: the DICOM SEG written, if any.

        Returns:
            Path of ``predictions.json``: a list of ``{case_id, image, missing, prediction, overlay}``, and ``text``,
            ``measures`` and ``dicom_seg``. Measures stand in ``predictions.csv`` too, a line a case.

        """
        paths = [image] if isinstance(image, (str, os.PathLike)) else list(image)
        if missing is None:
            missing = [name for name, path in zip(self.channels, paths) if is_missing(path)]
        self.entries[case_id] = {
            "case_id": case_id,
            "image": [None if is_missing(path) else str(path) for path in paths],
            "missing": list(missing),
            "prediction": self._relative(prediction),
            "overlay": None if overlay is None else self._relative(overlay),
            **({} if text is None else {"text": text}),
            **({} if measures is None else {"measures": measures}),
            **({} if dicom_seg is None else {"dicom_seg": self._relative(dicom_seg)}),
        }
        rows = [{"case_id": e["case_id"], **e["measures"]} for e in self.entries.values() if "measures" in e]
        if rows:
            write_atomic(self.output_dir / "predictions.csv", pd.DataFrame(rows).to_csv(index=False))
        return write_atomic(
            self.output_dir / "predictions.json", json.dumps(list(self.entries.values()), indent=2) + "\n"
        )

    def _relative(self, path: str | os.PathLike) -> str:
        return Path(os.path.relpath(path, self.output_dir)).as_posix()


class PredictionHandler:
    """Ignite-style handler that writes label map, overlay and index of every case of an inference run.

    It reads ``pred`` (label map in the input's grid or size, after postprocessing) of ``engine.state.output`` and
    ``case_id`` of the batch. A case's paths come from `items`, the data list the run was started with.

    Args:
        output_dir: folder of the run.
        items: items with ``case_id`` and ``image``, as `shared.datasets.datalist` makes them; their ``text``, if they
            have one, goes into the index and under the overlays' titles.
        channels: names of the channels of ``image``.
        class_names: names of the classes of the label map.
        class_values: their values; None for 1, 2, ...
        overlays: write the overlays.
        channel: image channel in the overlays; of a case without it, the first sequence it has. Photographs are shown
            in colour.
        grey: photographs are of one channel, as X-rays are, and shown so.
        measure: function of the bundle for a case's label map; None measures nothing.
        measure_patients: function of the bundle for all cases of a patient, where items have ``patient`` and
            ``phase``; what it finds joins the measures of each of these cases.
        dicom_seg: `shared.io.dicom_seg.save_dicom_seg` with its codes, for cases whose first sequence is a DICOM
            series, or whose picture is a DICOM image; None writes none.

    """

    def __init__(
        self,
        output_dir: str | os.PathLike,
        items: Sequence[dict],
        channels: Sequence[str],
        class_names: Sequence[str],
        overlays: bool = True,
        channel: int = 0,
        grey: bool = False,
        measure: Measure | None = None,
        measure_patients: Callable[[Sequence[Mapping[str, Any]]], dict[str, Measures]] | None = None,
        dicom_seg: Callable[..., Path] | None = None,
        class_values: Sequence[int] | None = None,
    ) -> None:
        self.output_dir = Path(output_dir)
        self.items = {str(item["case_id"]): item for item in items}
        self.class_names = list(class_names)
        self.class_values = list(class_values or range(1, len(self.class_names) + 1))
        self.overlays = overlays
        self.channel = channel
        self.grey = grey
        self.measure = measure
        self.measure_patients = measure_patients
        self.dicom_seg = dicom_seg
        self.measured: dict[str, Measures] = {}  # also in the index, so what a later case adds is written with it
        self.unknown_spacing = 0  # cases measured in voxels
        self.index = PredictionIndex(output_dir, channels)

    def attach(self, engine: Engine) -> None:
        """Register the handler's event."""
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._write)

    def summary(self) -> None:
        """Print where the results of the run are."""
        entries = list(self.index.entries.values())
        print(f"segmented {len(entries)} {'case' if len(entries) == 1 else 'cases'}")
        for entry in entries[:MAX_LINES]:
            missing = f"  (without {', '.join(entry['missing'])})" if entry["missing"] else ""
            print(f"  {self.output_dir / entry['prediction']}{missing}")
        if len(entries) > MAX_LINES:
            print(f"  ... and {len(entries) - MAX_LINES} more")
        if self.unknown_spacing:
            print(
                f"{self.unknown_spacing} of them measured in voxels: their files do not say how large one is "
                '("spacing": "mm" of a case in the data list does)'
            )
        tables = " and .csv" if self.measure else ""
        print(f"index  {self.output_dir / 'predictions.json'}{tables}", flush=True)

    def _write(self, engine: Engine) -> None:
        state: Any = engine.state
        for item, output in zip(state.batch, state.output):
            case_id = case_name(item, len(self.index.entries))
            prediction = save_prediction(output["pred"], self.output_dir, case_id)
            overlay = self._overlay(case_id, output["pred"], prediction) if self.overlays else None
            measures = None if self.measure is None else self._measures(case_id, output["pred"], self.measure)
            asked = self.items[case_id]
            self.index.add(
                case_id,
                asked["image"],
                prediction,
                overlay,
                text=asked.get("text"),
                measures=measures,
                dicom_seg=self._dicom_seg(case_id, output["pred"], prediction),
            )

    def _dicom_seg(self, case_id: str, pred: MetaTensor, prediction: Path) -> Path | None:
        """Write a DICOM SEG if the case came as DICOM."""
        series = present(self.items[case_id]["image"])[0]
        if self.dicom_seg is None or not (Path(series).is_dir() or find_dicom_picture(series)):
            return None
        target = prediction.with_name(f"{case_id}_seg.dcm")
        try:
            return self.dicom_seg(self._numbered(pred), series, target, self.class_names)
        except InputError as error:  # the mask is written; the next case may be a better one
            warnings.warn(f"no DICOM SEG for case {case_id}: {error}", stacklevel=2)
            return None

    def _numbered(self, pred: MetaTensor) -> MetaTensor:
        """The label map with the values 1, 2, ... in place of `class_values`."""
        numbers: Any = torch.zeros_like(pred)
        for number, value in enumerate(self.class_values, 1):
            numbers[pred == value] = number
        return numbers

    def _measures(self, case_id: str, pred: MetaTensor, measure: Measure) -> Measures:
        """What the label map means, in mL where the size of a voxel is known; earlier cases of the patient learn it."""
        item, spacing = self.items[case_id], None
        if not is_picture(pred):
            if spacing_is_known(item):
                spacing = spacing_of(pred)
            else:
                self.unknown_spacing += 1
        self.measured[case_id] = measure(torch.as_tensor(pred).cpu().numpy(), spacing)
        if self.measure_patients is not None and item.get("patient") is not None:
            same = [i for i in self.measured if self.items[i].get("patient") == item["patient"]]
            cases = [{**self.items[i], **self.measured[i]} for i in same]
            for found in self.measure_patients(cases).values():
                for i in same:
                    self.measured[i].update(found)
        return self.measured[case_id]

    def _overlay(self, case_id: str, pred: MetaTensor, prediction: Path) -> Path:
        """Show the prediction on the input as it is on disk: the network's input may lie in another grid."""
        paths, case = self.items[case_id]["image"], f"case {case_id}"
        channel: int | None
        if is_picture(pred):
            image, channel = load_picture(paths, case, self.grey), 0 if self.grey else None
        else:
            image = load_volume(paths if isinstance(paths, (str, os.PathLike)) else self._shown(paths), case)
            channel = self.channel if len(image) > 1 else 0
        target = prediction.with_name(f"{case_id}_overlay.png")
        caption = self.items[case_id].get("text") or ""
        return save_overlay(
            target, image, self._numbered(pred), channel=channel, title=case_id, names=self.class_names, caption=caption
        )

    def _shown(self, paths: Sequence[Any]) -> Any:
        """Return the path of the sequence to show."""
        wanted = paths[self.channel]
        return wanted if not is_missing(wanted) else next(path for path in paths if not is_missing(path))
