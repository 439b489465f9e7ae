"""Dice after scaling all masks of a domain by one factor: errors of position and shape without those of size.

Experts of one data set may draw a structure larger than experts of another, such as the optic disc with or without the
pale ring around it. A network that reproduces the size of its source then loses Dice in every image of the other data
set. One factor per domain, fitted to the domain's labels, removes this part of the error. The result explains the
labels; it does not rank networks, because a network that draws too small by accident needs no factor.
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
SIDE = 256  # masks are compared at this side in pixels or less


def best_factor(pairs: list[tuple[np.ndarray, np.ndarray]]) -> tuple[float, float]:
    """Return the factor of `FACTORS` with the highest mean Dice of (prediction, label), and this Dice."""
    means = [np.mean([dice(scale_mask(pred, float(factor)), label) for pred, label in pairs]) for factor in FACTORS]
    best = int(np.argmax(means))
    return float(FACTORS[best]), float(means[best])


class Masks:
    """Collect an evaluator's predictions and labels, subsampled, by domain and structure."""

    def __init__(self, structures: list[str]) -> None:
        self.structures = structures
        self.pairs: dict[tuple[str, str], list[tuple[np.ndarray, np.ndarray]]] = defaultdict(list)

    def attach(self, engine: Engine) -> None:
        """Register with the evaluator."""
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.keep)

    def keep(self, engine: Any) -> None:
        """Collect the annotated structures of a batch."""
        for item, output in zip(engine.state.batch, engine.state.output):
            pred, label = (convert_to_numpy(output[key])[-len(self.structures) :] for key in ("pred", "label"))
            step = -(-max(label.shape[1:3]) // SIDE)
            for name, found, truth in zip(self.structures, pred, label):
                if not not_annotated(truth):
                    pair = (found[::step, ::step] > 0, truth[::step, ::step] > 0)
                    self.pairs[str(item["domain"]), name].append(pair)
