"""The handler that compares the masks at several thresholds with the labels, case by case."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from ignite.engine import Engine
from monai.engines import IterationEvents
from monai.utils import convert_to_numpy
from scipy import ndimage

from shared.results.batch_items import case_name
from shared.results.calibration import logit_histogram
from shared.results.metrics import dice, lesion_wise, not_annotated
from shared.results.operating_curve import RegionCounts

Point = Sequence[float]  # one threshold for all regions, or one per region
Masks = Callable[[Mapping[str, Any], Point], Mapping[str, Any]]


class ThresholdSweep:
    """Count per case and region what `shared.results.operating_curve` needs; no probabilities are kept.

    Attach it to a MONAI evaluator whose postprocessing ends with probabilities (R, ...) under ``pred``.

    Args:
        points: T thresholds, each one number for all regions or one per region.
        masks: function from a case's item and a threshold to the item with masks under ``pred`` and ``label``, each
            (R, ...). A channel of -1 in the label is a region that was not annotated.
        patients: patient of each case, by its name; a case that is not named counts as its own patient.

    Attributes:
        regions: for each region the counts of its annotated cases.
        cases: number of cases.
    """

    def __init__(self, points: Sequence[Point], masks: Masks, patients: Mapping[str, str]) -> None:
        self.points = points
        self.masks = masks
        self.patients = patients
        self.regions: list[list[RegionCounts]] = []
        self.cases = 0

    def attach(self, engine: Engine) -> None:
        """Register the handler's event."""
        engine.add_event_handler(IterationEvents.MODEL_COMPLETED, self._collect)

    def _collect(self, engine: Engine) -> None:
        state: Any = engine.state
        for item, output in zip(state.batch, state.output):
            name = case_name(item, self.cases)
            self.cases += 1
            self._add({**item, **output}, self.patients.get(name, name))

    def _add(self, item: Mapping[str, Any], patient: str) -> None:
        probabilities = convert_to_numpy(item["pred"])
        found: list[list[tuple[float, int, int, int]]] = [[] for _ in probabilities]
        for point in self.points:
            result = self.masks(item, point)
            masks, labels = convert_to_numpy(result["pred"]), convert_to_numpy(result["label"])
            for counts, mask, label in zip(found, masks, labels):
                counts.append(_compared(mask > 0, label > 0))
        self.regions = self.regions or [[] for _ in probabilities]
        for region, counts, part, label in zip(self.regions, found, probabilities, labels):
            if not not_annotated(label):
                overlap, hits, false, lesions = map(np.array, zip(*counts))
                histogram = logit_histogram(part, label > 0)
                region.append(RegionCounts(patient, overlap, hits, false, int(lesions[0]), histogram))


def _compared(mask: np.ndarray, label: np.ndarray) -> tuple[float, int, int, int]:
    """Return Dice, lesions found, false pieces and lesions of the label, computed in the box of both masks."""
    box = next(iter(ndimage.find_objects((mask | label).astype(np.uint8))), None)
    if box is None:
        return 1.0, 0, 0, 0
    mask, label = mask[box], label[box]
    counts = lesion_wise(mask, label)
    pieces = int(counts["lesions_pred"])
    false = pieces - round(pieces * counts["lesion_precision"])
    return dice(mask, label), int(counts["lesions_found"]), false, int(counts["lesions"])
