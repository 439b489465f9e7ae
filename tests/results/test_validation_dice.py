"""The Dice that chooses weights has the definition of the table."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data import DataLoader, Dataset
from monai.engines import SupervisedEvaluator

from shared.results.case_report import CaseReport
from shared.results.metrics import case_metrics
from shared.results.validation_dice import MeanCaseDice

NAMES = ["disc", "cup"]


def selection_dice(cases: list[tuple[torch.Tensor, torch.Tensor]], batch_size: int = 1) -> float:
    """Run an evaluator over masks (C, H, W) and return its key metric."""
    data = [{"image": pred, "label": label} for pred, label in cases]
    evaluator = SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=DataLoader(Dataset(data), batch_size=batch_size),
        network=torch.nn.Identity(),
        key_val_metric={"val_mean_dice": MeanCaseDice()},
    )
    evaluator.run()
    return evaluator.state.metrics["val_mean_dice"]


def masks(*filled: float) -> torch.Tensor:
    """One channel per value: empty (0), filled (1) or not annotated (-1)."""
    return torch.stack([torch.full((6, 5), value) for value in filled])


@pytest.mark.parametrize(
    ("pred", "label", "expected"),
    [
        (masks(0, 0), masks(0, 0), 1),
        (masks(1, 1), masks(0, 0), 0),
        (masks(0, 0), masks(1, 1), 0),
        (masks(1, 0), masks(1, -1), 1),
        (masks(1, 1), masks(1, -1), 1),
        (masks(1, 0), masks(0, -1), 0),
    ],
    ids=["both empty", "false positives", "missed", "not annotated", "not annotated but found", "healthy"],
)
def test_each_kind_of_case(pred, label, expected):
    assert selection_dice([(pred, label)]) == expected


def test_healthy_cases_count():
    lesion, healthy = (masks(1), masks(1)), (masks(1), masks(0))
    assert selection_dice([lesion, lesion, healthy, healthy]) == 0.5


def test_healthy_cases_alone_are_enough():
    assert selection_dice([(masks(0), masks(0))] * 3) == 1


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 3))
def test_it_is_the_mean_of_the_table(seed, batch_size):
    rng = np.random.default_rng(seed)
    cases = []
    for _ in range(4):
        pred, label = (rng.random((2, 4, 3)) < rng.choice([0, 0.5]) for _ in range(2))
        cases.append((torch.from_numpy(pred).float(), torch.from_numpy(label).float()))
    report = CaseReport(NAMES)
    for number, (pred, label) in enumerate(cases):
        report.add(str(number), case_metrics(pred, label, None, NAMES, channel_wise=True))
    table = report.frame()[["dice_disc", "dice_cup"]].to_numpy().mean()
    assert selection_dice(cases, batch_size) == pytest.approx(table, abs=1e-6)
