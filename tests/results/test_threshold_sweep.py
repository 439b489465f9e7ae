"""Thresholds compared case by case, through the events of a MONAI evaluator."""

import numpy as np
import pytest
import torch
from ignite.engine import Engine
from monai.engines import IterationEvents
from scipy import ndimage

from shared.results.calibration import logit_histogram
from shared.results.metrics import dice, lesion_wise
from shared.results.operating_curve import best_threshold, operating_curve
from shared.results.operating_point import GRID
from shared.results.threshold_sweep import ThresholdSweep

SHAPES = {"picture": (32, 40), "volume": (20, 24, 16)}


def masks(item, point):
    return {**item, "pred": (item["pred"] >= point[0]).float()}


def swept(items, points=GRID):
    """The sweep over items with ``pred`` and ``label``, one per batch."""

    def step(engine, item):
        engine.state.batch, engine.state.output = [{"case_id": item["case_id"]}], [item]
        engine.fire_event(IterationEvents.MODEL_COMPLETED)
        return [item]

    engine = Engine(step)
    engine.register_events(*IterationEvents)
    handler = ThresholdSweep([[point] for point in points], masks, {"p0": "anna"})
    handler.attach(engine)
    engine.run(items)
    return handler


def smooth(shape, seed):
    """Probabilities with blobs."""
    field = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=shape), 1.5)
    return torch.from_numpy((field - field.min()) / np.ptp(field)).float()[None]


@pytest.fixture(scope="module", params=SHAPES.values(), ids=SHAPES)
def case(request):
    probabilities = smooth(request.param, 0)
    label = ((0.6 * probabilities + 0.4 * smooth(request.param, 1)) >= 0.66).float()
    return {"case_id": "p0", "pred": probabilities, "label": label}


def test_counts_are_those_of_the_metrics(case):
    ((counts,),) = swept([case]).regions
    truth = case["label"][0].numpy() > 0
    for number, threshold in enumerate(GRID):
        mask = case["pred"][0].numpy() >= threshold
        whole = lesion_wise(mask, truth)
        assert counts.dice[number] == dice(mask, truth) and counts.found[number] == whole["lesions_found"]
        assert counts.false[number] == round(whole["lesions_pred"] * (1 - whole["lesion_precision"]))
    assert counts.lesions == whole["lesions"] > 1 and counts.patient == "anna"
    np.testing.assert_array_equal(counts.histogram, logit_histogram(case["pred"][0].numpy(), truth))


def test_lesion_recall_never_rises_with_the_threshold(case):
    (cases,) = swept([case]).regions
    recall = operating_curve(cases, 10).recall.value
    assert (np.diff(recall) <= 0).all() and recall[0] == 1 and recall[-1] < 1


@pytest.mark.parametrize("best", [0.35, 0.5, 0.8])
def test_the_best_threshold_is_found(best):
    probabilities = smooth((32, 40), 2)
    item = {"case_id": "p0", "pred": probabilities, "label": (probabilities >= best).float()}
    (cases,) = swept([item]).regions
    curve = operating_curve(cases, 10)
    index = best_threshold(curve, GRID, "dice")
    assert GRID[index] == best and curve.dice.value[index] == 1


def test_regions_that_were_not_annotated_are_left_out(case):
    pair = torch.cat([case["pred"], 1 - case["pred"]])
    label = torch.cat([case["label"], torch.full_like(case["label"], -1)])
    items = [{"case_id": "p0", "pred": pair, "label": label}, {"case_id": "p1", "pred": pair, "label": label.abs()}]
    first, second = swept(items).regions
    assert [counts.patient for counts in first] == ["anna", "p1"] and [counts.patient for counts in second] == ["p1"]


def test_empty_mask_and_label_agree():
    empty = torch.zeros(1, 6, 5)
    ((counts,),) = swept([{"case_id": "p0", "pred": empty, "label": empty}], [0.5]).regions
    assert (counts.dice[0], counts.found[0], counts.false[0], counts.lesions) == (1, 0, 0, 0)
