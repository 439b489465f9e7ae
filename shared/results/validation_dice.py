"""The Dice that chooses the weights to keep during training."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from monai.handlers import from_engine
from monai.handlers.ignite_metric import IgniteMetricHandler
from monai.metrics import DiceMetric


class AnnotatedDiceMetric(DiceMetric):
    """MONAI's `DiceMetric` with the definition of `shared.results.metrics.case_metrics`.

    A class that is empty in label and prediction has Dice 1, false positives in a healthy case have Dice 0, and a class
    that was not annotated (a channel of -1 in the label) has no Dice. MONAI's handler ``MeanDice`` ignores healthy
    cases, so it may choose weights that find lesions everywhere.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(ignore_empty=False, **options)

    def _compute_tensor(self, y_pred: torch.Tensor, y: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        """Compute Dice for masks (B, C, H, W[, D]), shape (B, C)."""
        found = super()._compute_tensor(y_pred, y.clamp(min=0))
        return found.masked_fill((y < 0).flatten(2).any(-1), math.nan)


class MeanCaseDice(IgniteMetricHandler):
    """Mean over cases of the mean Dice of their annotated classes, in the manner of MONAI's ``MeanDice``.

    Args:
        output_transform: function from the engine's output to predicted and true masks (C, H, W[, D]), one per case;
            None takes ``pred`` and ``label``.
        save_details: keep the value of every case in ``engine.state.metric_details``.

    """

    def __init__(self, output_transform: Callable | None = None, save_details: bool = True) -> None:
        transform = output_transform or from_engine(["pred", "label"])
        super().__init__(AnnotatedDiceMetric(), output_transform=transform, save_details=save_details)
