"""Dice when all masks of a domain are scaled by one factor: how much of an error is only how large experts draw.

Experts of one data set may draw a structure larger than those of another (the optic disc with or without the pale ring
round it). A network that finds every disc exactly as its source draws it then loses by the same ratio everywhere. One
factor for a whole domain, fitted to its labels, takes that away and leaves errors of place and shape. It is an analysis
of labels and no score to compete on: a network that draws too small by accident needs no factor.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
from emclip.postprocessing.drawn_size import scale_mask
from ignite.engine import Engine, Events
from monai.utils import convert_to_numpy

from shared.results.metrics import dice, not_annotated

FACTORS = np.round(np.arange(0.7, 1.301, 0.025), 3)
SIDE = 256  # masks are compared at no more pixels a side


def best_factor(pairs: list[tuple[np.ndarray, np.ndarray]]) -> tuple[float, float]:
    """The factor of `FACTORS` with the highest mean Dice of (prediction, label), and that Dice."""
    means = [np.mean([dice(scale_mask(pred, float(factor)), label) for pred, label in pairs]) for factor in FACTORS]
    best = int(np.argmax(means))
    return float(FACTORS[best]), float(means[best])


class Masks:
    """Keep an evaluator's predictions and labels, small, by domain and structure."""

    def __init__(self, structures: list[str]) -> None:
        self.structures = structures
        self.pairs: dict[tuple[str, str], list[tuple[np.ndarray, np.ndarray]]] = defaultdict(list)

    def attach(self, engine: Engine) -> None:
        """Register on the evaluator."""
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.keep)

    def keep(self, engine: Any) -> None:
        """Keep the annotated structures of a batch."""
        for item, output in zip(engine.state.batch, engine.state.output):
            pred, label = (convert_to_numpy(output[key])[-len(self.structures) :] for key in ("pred", "label"))
            step = -(-max(label.shape[1:3]) // SIDE)
            for name, found, truth in zip(self.structures, pred, label):
                if not not_annotated(truth):
                    pair = (found[::step, ::step] > 0, truth[::step, ::step] > 0)
                    self.pairs[str(item["domain"]), name].append(pair)
