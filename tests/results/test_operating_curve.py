"""Figures by threshold, their intervals, and the threshold that is chosen."""

import numpy as np
import pytest

from shared.results.operating_curve import RegionCounts, best_threshold, operating_curve

THRESHOLDS = np.array([0.1, 0.3, 0.5, 0.7])


def case(patient="a", dice=(0.4, 0.7, 0.8, 0.5), found=(4, 3, 2, 1), false=(5, 2, 1, 0), lesions=4):
    return RegionCounts(patient, np.array(dice), np.array(found), np.array(false), lesions, np.zeros((2, 1)))


def test_dice_is_a_mean_of_cases_and_recall_a_share_of_all_lesions():
    curve = operating_curve([case("a"), case("b", (0.2, 0.3, 0.4, 0.1), (1, 1, 0, 0), (1, 0, 0, 0), 1)])
    assert curve.dice.value == pytest.approx([0.3, 0.5, 0.6, 0.3])
    assert curve.recall.value == pytest.approx([1, 0.8, 0.4, 0.2])
    assert curve.false_lesions.value == pytest.approx([3, 1, 0.5, 0])


def test_the_intervals_hold_the_truth_as_often_as_they_say():
    """Cases of mean Dice 0.6: 95 % of the intervals of 30 patients should hold it."""
    numbers = np.random.default_rng(0)
    held = 0
    for _ in range(150):
        curve = operating_curve([case(str(n), [value]) for n, value in enumerate(numbers.normal(0.6, 0.1, 30))], 300)
        held += bool(curve.dice.low[0] <= 0.6 <= curve.dice.high[0])
    assert 0.88 <= held / 150 <= 0.99


def test_cases_of_one_patient_count_once_for_the_interval():
    """Five scans of each of six patients say no more than one scan of each."""
    values = np.linspace(0.3, 0.8, 6)
    once = operating_curve([case(str(n), [value]) for n, value in enumerate(values)]).dice
    often = operating_curve([case(str(n), [value]) for n, value in enumerate(values) for _ in range(5)]).dice
    alone = operating_curve([case(f"{n}{k}", [value]) for n, value in enumerate(values) for k in range(5)]).dice
    assert [*once.low, *once.high] == pytest.approx([*often.low, *often.high])
    assert alone.high - alone.low < 0.6 * (often.high - often.low)


def test_without_lesions_there_is_no_recall():
    curve = operating_curve([case(found=(0, 0, 0, 0), lesions=0)])
    assert np.isnan(curve.recall.value).all() and np.isnan(curve.recall.low).all()
    assert curve.dice.value == pytest.approx([0.4, 0.7, 0.8, 0.5])


@pytest.mark.parametrize(
    ("aim", "limit", "index"),
    [("dice", 0, 2), ("sensitivity", 5, 0), ("sensitivity", 2, 1), ("sensitivity", 1.5, 2), ("sensitivity", 0, 3)],
)
def test_the_threshold_serves_the_aim(aim, limit, index):
    assert best_threshold(operating_curve([case()]), THRESHOLDS, aim, limit) == index


def test_no_threshold_may_serve():
    assert best_threshold(operating_curve([case(false=(5, 4, 3, 2))]), THRESHOLDS, "sensitivity", 1) is None


def test_a_mask_of_everything_is_not_sensitive():
    """One piece that covers the image finds every lesion, without a false one."""
    curve = operating_curve([case(dice=(0.02, 0.7, 0.8, 0.5), false=(0, 2, 1, 0))])
    assert best_threshold(curve, THRESHOLDS, "sensitivity", 2) == 1


def test_of_equal_thresholds_the_usual_one_is_taken():
    curve = operating_curve([case(dice=(0.8, 0.8, 0.8, 0.8), found=(4, 4, 4, 4))])
    assert best_threshold(curve, THRESHOLDS, "dice") == best_threshold(curve, THRESHOLDS, "sensitivity", 9) == 2
