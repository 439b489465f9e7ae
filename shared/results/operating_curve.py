"""Dice, lesion recall and false lesions at several thresholds, and the choice of the best threshold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

DRAWS = 2000  # of the bootstrap
INTERVAL = (0.025, 0.975)
AIMS = ("dice", "sensitivity")
USABLE = 0.5  # least share of the best mean Dice; without it, one piece over the whole image would "find" all lesions


@dataclass
class RegionCounts:
    """One region of one case at T thresholds.

    patient: name of the patient; the bootstrap draws patients.
    dice: (T,), in [0, 1].
    found: (T,), number of lesions of the label that were found.
    false: (T,), number of pieces of the mask that touch no lesion.
    lesions: number of lesions of the label.
    histogram: (2, BINS), see `shared.results.calibration.logit_histogram`.
    """

    patient: str
    dice: np.ndarray
    found: np.ndarray
    false: np.ndarray
    lesions: int
    histogram: np.ndarray


class Estimate(NamedTuple):
    """A figure at T thresholds, and the ends of its 95 % interval; each (T,)."""

    value: np.ndarray
    low: np.ndarray
    high: np.ndarray


class Curve(NamedTuple):
    """Figures at T thresholds.

    dice: mean of the cases.
    recall: share of all lesions that were found; NaN without any lesion.
    false_lesions: mean number per case.
    """

    dice: Estimate
    recall: Estimate
    false_lesions: Estimate


def operating_curve(cases: Sequence[RegionCounts], draws: int = DRAWS, seed: int = 0) -> Curve:
    """Average over cases, with percentile intervals of a bootstrap over patients.

    Args:
        cases: at least one, all at the same T thresholds.
        draws: of patients, with replacement.
        seed: of the draws.
    """
    names = sorted({case.patient for case in cases})
    member = np.array([[case.patient == name for case in cases] for name in names], float)  # patients x cases
    drawn = np.random.default_rng(seed).multinomial(len(names), np.full(len(names), 1 / len(names)), draws)

    def ratio(values: Sequence[np.ndarray], per: Sequence[float]) -> Estimate:
        above, below = member @ np.stack(values), member @ np.asarray(per, float)[:, None]  # sums per patient
        with np.errstate(invalid="ignore"):
            sampled = drawn @ above / (drawn @ below)
            value = above.sum(0) / below.sum(0)
        kept = sampled[np.isfinite(sampled).all(1)]  # a draw may have no lesion
        low, high = np.quantile(kept, INTERVAL, axis=0) if len(kept) else np.stack([value, value])
        return Estimate(value, low, high)

    ones = [1.0] * len(cases)
    return Curve(
        ratio([case.dice for case in cases], ones),
        ratio([case.found for case in cases], [case.lesions for case in cases]),
        ratio([case.false for case in cases], ones),
    )


def best_threshold(curve: Curve, thresholds: np.ndarray, aim: str, false_lesions: float = 1.0) -> int | None:
    """Return the index of the threshold that serves an aim best.

    Args:
        curve: at T thresholds.
        thresholds: (T,); of equally good ones the nearest to 0.5 is taken.
        aim: "dice" for the highest mean Dice; "sensitivity" for the highest lesion recall with at most `false_lesions`
            per case and at least half of the best mean Dice, and the highest Dice among equal ones.
        false_lesions: see `aim`.

    Returns:
        The index, or None if no threshold meets both limits.
    """
    keys, usable = [-np.abs(thresholds - 0.5), curve.dice.value], np.full(len(thresholds), True)
    if aim == "sensitivity":
        accurate = curve.dice.value >= USABLE * curve.dice.value.max()
        keys, usable = [*keys, curve.recall.value], accurate & (curve.false_lesions.value <= false_lesions)
    ranked = np.lexsort(keys)  # ascending by the last key, ties by the one before it
    return next((int(index) for index in ranked[::-1] if usable[index]), None)
