"""The handler that writes the results of inference: masks, overlays, measurements and their index."""

from __future__ import annotations

import os
import warnings
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.data import MetaTensor
from monai.engines import IterationEvents

from shared.core.errors import InputError, OutputError
from shared.core.messages import reason
from shared.core.missing import is_missing
from shared.datasets.faults import fault_of
from shared.datasets.spacing import spacing_is_known, unit_is_assumed
from shared.datasets.studies import notes_of, source_of
from shared.io.dicom_picture import find_dicom_picture
from shared.io.masks import is_picture, save_prediction, save_probabilities
from shared.io.pictures import load_picture
from shared.io.sources import load_volume
from shared.results.batch_items import case_name, spacing_of
from shared.results.measures import Measures, Spacing
from shared.results.overlays import save_overlay
from shared.results.prediction_index import PredictionIndex
from shared.results.prediction_page import write_prediction_page
from shared.results.prepared_files import left_out, record_of, save_prepared_files, save_record, share_of_brain
from shared.results.report_records import about_bundle

Measure = Callable[[np.ndarray, Spacing], Measures]

MAX_LINES = 20  # of each list in the terminal


class PredictionHandler:
    """Write label map, overlay, measurements and index entry of every case of an inference run.

    Attach it to a MONAI evaluator, or list it among the evaluator's handlers. It reads ``pred`` (label map on the
    input's own grid, after postprocessing) of ``engine.state.output`` and ``case_id`` of the batch. With a
    `CaseEvaluator`, a case that fails is left out and named by `summary`.

    Args:
        output_dir: folder of the run.
        items: the data list of the run: items with ``case_id`` and ``image``. Their ``text``, if any, goes into the
            index and under the titles of the overlays.
        channels: names of the channels of ``image``.
        class_names: names of the classes of the label map.
        overlays: write overlays.
        channel: image channel in the overlays; if a case lacks it, the first sequence that it has. Photographs are
            shown in colour.
        grey: pictures have one channel, as X-rays do, and are shown in grey.
        measure: function of the bundle that measures a case's label map; None measures nothing.
        measure_patients: function of the bundle that measures all cases of a patient together, for items with
            ``patient`` and ``phase``; its result joins the measures of each of these cases.
        dicom_seg: `shared.io.dicom_seg.save_dicom_seg` with its codes, for cases whose first sequence is a DICOM series
            or whose picture is a DICOM image; None writes none.
        class_values: label values of the classes; None for 1, 2, ...
        report_page: write ``report.html``, which shows all cases of the folder.
        bundle_root: folder of the bundle, whose metadata the page names; None names no bundle.
        weights: file of weights to name on the page.
        save_prepared: also write the prepared sequences of cases that were prepared.

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
        report_page: bool = False,
        bundle_root: str | os.PathLike | None = None,
        weights: str | os.PathLike | None = None,
        save_prepared: bool = False,
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
        self.patients: dict[str, dict[str, Measures]] = defaultdict(dict)  # patient -> case_id -> measures
        self.unknown_spacing = 0  # cases measured in voxels
        self.assumed_mm = 0  # cases whose files leave the unit of length open
        self.failures: Mapping[str, str] = {}  # case_id -> what is wrong with it
        self.done: set[str] = set()  # case_ids of this run that have a result
        self.notes: list[str] = []  # what a reader should know about the case that is being written
        self.report_page = report_page
        self.about = bundle_root, weights
        self.save_prepared = save_prepared
        self.page: Path | None = None
        self.index = PredictionIndex(output_dir, channels)

    def attach(self, engine: Engine) -> None:
        """Register the handler's events."""
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(IterationEvents.MODEL_COMPLETED, self._write)
        engine.add_event_handler(Events.COMPLETED, self._close)
        engine.add_event_handler(Events.EXCEPTION_RAISED, self._stop)

    @cached_property
    def names(self) -> dict[str, str]:
        """Name of each case in the output folder, where its ``case_id`` may belong to another input."""
        usable = {case_id: item for case_id, item in self.items.items() if fault_of(item) is None}
        texts = {case_id: item["text"] for case_id, item in usable.items() if "text" in item}
        return self.index.claim({case_id: source_of(item) for case_id, item in usable.items()}, texts)

    def summary(self) -> None:
        """Print where the results are.

        Raises:
            InputError: cases failed; names each of them and what is wrong with it.

        """
        self.index.close()
        entries = list(self.index.entries.values())
        print(f"segmented {len(entries)} {'case' if len(entries) == 1 else 'cases'}")
        for entry in entries[:MAX_LINES]:
            missing = f"  (without {', '.join(entry['missing'])})" if entry["missing"] else ""
            print(f"  {self.output_dir / entry['prediction']}{missing}")
        if len(entries) > MAX_LINES:
            print(f"  ... and {len(entries) - MAX_LINES} more")
        self._print_renamed()
        if self.unknown_spacing:
            print(
                f"{self.unknown_spacing} of them measured in voxels: their voxel size is unknown "
                '(to declare it, write "spacing": "mm" for the case in the data list)'
            )
        if self.assumed_mm:
            print(
                f"{self.assumed_mm} of them measured in mm on assumption: their NIfTI headers name no unit of length "
                '(if it is not mm, write "spacing": "nominal" for the case in the data list)'
            )
        if entries:
            tables = " and .csv" if self.measure else ""
            print(f"index  {self.output_dir / 'predictions.json'}{tables}", flush=True)
        if self.page:
            print(f"page   {self.page}", flush=True)
        if self.failures:
            failed = [f"  {_named(case_id, problem)}" for case_id, problem in self.failures.items()]
            raise InputError("\n".join([f"{len(failed)} of {len(self.items)} cases failed", *failed]))

    def _print_renamed(self) -> None:
        renamed = [(case_id, name) for case_id, name in self.names.items() if name != case_id]
        if renamed:
            where = f"{self.output_dir} holds results of other files or sentences"
            print(f"{len(renamed)} of them under another name, as {where}")
        for case_id, name in renamed[:MAX_LINES]:
            print(f"  {case_id} as {name}")

    def _start(self, engine: Engine) -> None:
        self.failures = getattr(engine, "failures", {})
        self.names  # noqa: B018 - reserves the names before the first case is computed

    def _close(self, engine: Engine) -> None:
        self.index.close()
        self._write_page()

    def _stop(self, engine: Engine, error: Exception) -> None:
        self.index.close()
        with suppress(InputError):  # what stopped the run, as a full disk, may stop the page too: `error` says it
            self._write_page(stopped=reason(error))
        raise error  # ignite leaves that to the handlers of this event

    def _write_page(self, stopped: str = "") -> None:
        if self.report_page:
            about = about_bundle(*self.about)
            self.page = write_prediction_page(self.output_dir, self.done, self.failures, about, stopped)

    def _write(self, engine: Engine) -> None:
        state: Any = engine.state
        for item, output in zip(state.batch, state.output):
            case_id = case_name(item, len(self.index.entries))
            asked, name, pred = self.items[case_id], self.names[case_id], output["pred"]
            record = record_of(item)
            self.notes = [*notes_of(asked), *record.get("warnings", [])]
            prediction = save_prediction(pred, self.output_dir, name)
            files = self._prepared(record, asked, pred, prediction, name)
            if "probabilities" in output:
                files["probabilities"] = save_probabilities(output["probabilities"], self.output_dir, name)
            overlay = self._overlay(asked, pred, prediction, name) if self.overlays else None
            measures = None if self.measure is None else self._measures(asked, pred, self.measure)
            if measures is not None:
                measures |= share_of_brain(record, measures)
            dicom_seg = self._dicom_seg(asked, pred, prediction, name)
            self.index.add(
                name,
                source_of(asked),
                prediction,
                overlay,
                left_out(record, self.index.channels),
                text=asked.get("text"),
                measures=measures,
                dicom_seg=dicom_seg,
                warnings=self.notes,
                files=files,
            )
            self.done.add(case_id)
            if measures is not None:
                self._measure_patient(asked, measures)

    def _prepared(
        self, record: Mapping[str, Any], item: Mapping[str, Any], pred: MetaTensor, prediction: Path, name: str
    ) -> dict[str, Path]:
        """Write what the preparation of a case leaves, if it was prepared."""
        if "folder" not in record:
            return save_record(record, prediction, name) if record.get("steps") else {}
        paths = item["image"]
        source = paths if isinstance(paths, (str, os.PathLike)) else self._shown(paths)
        return save_prepared_files(record, source, pred, prediction, name, self.save_prepared)

    def _dicom_seg(self, item: Mapping[str, Any], pred: MetaTensor, prediction: Path, name: str) -> Path | None:
        """Write a DICOM SEG if the case came as DICOM."""
        paths = item["image"]
        series = paths if isinstance(paths, (str, os.PathLike)) else self._shown(paths)
        if self.dicom_seg is None or not (Path(series).is_dir() or find_dicom_picture(series)):
            return None
        target = prediction.with_name(f"{name}_seg.dcm")
        try:
            return self.dicom_seg(self._numbered(pred), series, target, self.class_names)
        except (OutputError, OSError, MemoryError):
            raise
        except Exception as error:  # the mask is written, and the next case may be convertible
            why = error if isinstance(error, InputError) else reason(error)
            self.notes.append(f"No DICOM SEG: {why}.")
            warnings.warn(f"no DICOM SEG for case {name}: {why}", stacklevel=2)
            return None

    def _numbered(self, pred: MetaTensor) -> MetaTensor:
        """Return the label map with the values 1, 2, ... in place of `class_values`."""
        numbers: Any = torch.zeros_like(pred)
        for number, value in enumerate(self.class_values, 1):
            numbers[pred == value] = number
        return numbers

    def _measures(self, item: Mapping[str, Any], pred: MetaTensor, measure: Measure) -> Measures:
        """Measure a label map, in mm and mL if the voxel size is known."""
        spacing = None
        if not is_picture(pred):
            if spacing_is_known(item):
                spacing = spacing_of(pred)
                if unit_is_assumed(item):
                    self.assumed_mm += 1
                    self.notes.append("The header names no unit of length: measured in mm.")
            else:
                self.unknown_spacing += 1
        return measure(torch.as_tensor(pred).cpu().numpy(), spacing)

    def _measure_patient(self, item: Mapping[str, Any], measures: Measures) -> None:
        """Measure all cases of the patient that are there so far, and enter the result in each of them."""
        if self.measure_patients is None or item.get("patient") is None:
            return
        same = self.patients[str(item["patient"])]
        same[str(item["case_id"])] = measures
        cases = [{**self.items[case_id], **found} for case_id, found in same.items()]
        for result in self.measure_patients(cases).values():
            for found in same.values():
                found.update(result)
            self.index.measure({self.names[case_id]: found for case_id, found in same.items()})

    def _overlay(self, item: Mapping[str, Any], pred: MetaTensor, prediction: Path, name: str) -> Path:
        """Draw the prediction on the input as it is on disk: the network's input may lie on another grid."""
        paths, case = item["image"], f"case {item['case_id']}"
        channel: int | None
        if is_picture(pred):
            image, channel = load_picture(paths, case, self.grey), 0 if self.grey else None
        else:
            image = load_volume(paths if isinstance(paths, (str, os.PathLike)) else self._shown(paths), case)
            channel = self.channel if len(image) > 1 else 0
        return save_overlay(
            prediction.with_name(f"{name}_overlay.png"),
            image,
            self._numbered(pred),
            channel=channel,
            title=name,
            names=self.class_names,
            caption=item.get("text") or "",
        )

    def _shown(self, paths: Sequence[Any]) -> Any:
        """Return the path of the sequence to show."""
        wanted = paths[self.channel]
        return wanted if not is_missing(wanted) else next(path for path in paths if not is_missing(path))


def _named(case_id: str, problem: str) -> str:
    return problem if problem.startswith(case_id) else f"{case_id}: {problem}"
