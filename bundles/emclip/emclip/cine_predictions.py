"""The handler that writes the results of single frames and of cines, whose phases are put together."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine
from monai.data import MetaTensor

from emclip.cine_curve import save_curve
from emclip.cine_loop import save_loop
from emclip.cine_measures import Curves, curves_of, doubts, jumps, measure_cine
from shared.datasets.phases import PHASES
from shared.datasets.studies import notes_of, source_of
from shared.io.masks import save_phases
from shared.preparation.cine import Cine
from shared.preparation.cine_load import PHASE, load_cine
from shared.results.measures import Measures, Spacing
from shared.results.overlays import save_overlay
from shared.results.predictions import PredictionHandler

NO_DICOM_SEG = "No DICOM SEG: of a cine only the NIfTI mask is written."


class CinePredictionHandler(PredictionHandler):
    """Write what `PredictionHandler` writes, and of a cine its 4-D mask, curve, loop and the measures of the heartbeat.

    The phases of a cine come one after the other, as `shared.datasets.phases.PhaseDataset` lists them. Its results are
    written after the last one; a cine with a phase that fails has none.

    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._case = ""  # the cine whose phases are coming
        self._masks: dict[int, np.ndarray] = {}  # phase -> uint8 (X, Y, Z)

    def _write(self, engine: Engine) -> None:
        state: Any = engine.state
        if not state.batch or PHASE not in state.batch[0]:
            super()._write(engine)
            return
        for item, output in zip(state.batch, state.output):
            case_id = str(item["case_id"])
            if case_id != self._case:
                self._case, self._masks = case_id, {}
            pred = torch.as_tensor(output["pred"]).detach().cpu()
            self._masks[int(item[PHASE])] = pred[0].to(torch.uint8).numpy()
            if len(self._masks) == int(item[PHASES]):
                self._finish(case_id)
                self._masks = {}

    def _finish(self, case_id: str) -> None:
        """Write the results of a cine, all of whose phases are there."""
        asked, name = self.items[case_id], self.names[case_id]
        cine = load_cine(asked["image"], f"case {case_id}")
        labels = np.stack([self._masks[phase] for phase in range(len(self._masks))], axis=-1)
        self.notes = notes_of(asked)
        prediction = save_phases(labels, cine.affine, cine.source, cine.step_s, self.output_dir, name)
        curves = self._curves(asked, labels, cine)
        measures, files = None, {}
        if curves is not None:
            self.notes += doubts(curves)
            measures = measure_cine(curves)
            files["curve"] = save_curve(prediction.with_name(f"{name}_curve.png"), curves, name)
        if self.overlays:
            files |= self._pictures(labels, cine, curves, prediction, name)
        overlay = files.pop("overlay", None)
        if self.dicom_seg is not None and cine.from_dicom:
            self.notes.append(NO_DICOM_SEG)
        self.index.add(name, source_of(asked), prediction, overlay, measures=measures, warnings=self.notes, files=files)
        self.done.add(case_id)

    def _pictures(
        self, labels: np.ndarray, cine: Cine, curves: Curves | None, prediction: Path, name: str
    ) -> dict[str, Path]:
        """Draw the loop, and end diastole and end systole; the first phase where no heart was measured."""
        numbered = np.zeros_like(labels)
        for number, value in enumerate(self.class_values, 1):
            numbered[labels == value] = number
        words = {} if curves is None else {curves.end_diastole: "ED", curves.end_systole: "ES"}
        loop = prediction.with_name(f"{name}_loop.gif")
        files = {"loop": save_loop(loop, cine.voxels, numbered, cine.affine, cine.step_s, words)}
        for phase, word in (words or {0: "first"}).items():
            kind = f"overlay_{word.lower()}" if files.get("overlay") else "overlay"
            files[kind] = save_overlay(
                prediction.with_name(f"{name}_{kind}.png"),
                MetaTensor(torch.from_numpy(cine.voxels[None, ..., phase]), affine=torch.from_numpy(cine.affine)),
                numbered[..., phase],
                title=f"{name}   {word}, phase {phase + 1} of {labels.shape[3]}",
                names=self.class_names,
            )
        return files

    def _curves(self, item: Mapping[str, Any], labels: np.ndarray, cine: Cine) -> Curves | None:
        """Measure every phase and note where the heart jumps; None where no heart is measured."""
        if self.measure is None:
            return None
        measure = self.measure
        phases: list[Measures] = []

        def every_phase(_: np.ndarray, spacing: Spacing) -> Measures:
            phases.extend(measure(labels[..., phase], spacing) for phase in range(labels.shape[3]))
            self.notes += jumps(labels, spacing)
            return {}

        self._measures(
            item, MetaTensor(torch.zeros(1, *labels.shape[:3]), affine=torch.from_numpy(cine.affine)), every_phase
        )
        return curves_of(phases, cine.step_s)
