"""Calibration of probabilities: histograms of logits, the temperature that fits them, and reliability.

Likelihood, temperature and reliability are computed from a histogram of the voxels by logit, so that the probabilities
of many cases need not be kept in memory.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import expit, logit

# Bins of 0.1; logits beyond the limit are counted in the outermost bins. In float32, probabilities end at 1 - exp(-16).
LIMIT, BINS = 16.0, 320
CENTRES = (np.arange(BINS) + 0.5) * (2 * LIMIT / BINS) - LIMIT
TEMPERATURES = (0.05, 20.0)  # lowest and highest that are tried
GROUPS = 10  # of probabilities, in a reliability diagram


class Reliability(NamedTuple):
    """Mean probability and share of target voxels in each of G groups of probabilities, NaN in an empty group.

    predicted, observed: (G,), in [0, 1].
    voxels: (G,), number of voxels.
    """

    predicted: np.ndarray
    observed: np.ndarray
    voxels: np.ndarray


def logit_histogram(probabilities: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Count the voxels of background and target by the logit of their probability.

    Voxels with a probability of exactly 0 lie outside the region that the network saw, and are left out.

    Args:
        probabilities: any shape, in [0, 1].
        truth: mask of the target, the same shape.

    Returns:
        (2, BINS), int64: background, then target.
    """
    seen = probabilities > 0
    with np.errstate(divide="ignore"):
        logits = logit(np.minimum(probabilities[seen], 1)).clip(-LIMIT, LIMIT)
    inside = truth[seen] > 0
    parts = (logits[~inside], logits[inside])
    return np.stack([np.histogram(part, BINS, (-LIMIT, LIMIT))[0] for part in parts]).astype(np.int64)


def negative_log_likelihood(histogram: np.ndarray, temperature: float = 1.0) -> float:
    """Return the mean negative log likelihood of the voxels of a histogram (2, BINS), in nats."""
    scaled = CENTRES / temperature
    background, target = histogram
    return float((background @ np.logaddexp(0, scaled) + target @ np.logaddexp(0, -scaled)) / histogram.sum())


def fit_temperature(histogram: np.ndarray) -> float:
    """Return the temperature with the lowest negative log likelihood (Guo et al., ICML 2017).

    Args:
        histogram: (2, BINS), with voxels of background and target.

    Returns:
        The temperature, in `TEMPERATURES`. Above 1, the probabilities were too close to 0 and 1.
    """
    found = minimize_scalar(
        lambda exponent: negative_log_likelihood(histogram, np.exp(exponent)),
        bounds=np.log(TEMPERATURES),
        method="bounded",
    )
    return float(np.exp(found.x))


def reliability(histogram: np.ndarray, temperature: float = 1.0) -> Reliability:
    """Group the voxels of a histogram (2, BINS) by probability and compare each group with the truth."""
    probabilities = expit(CENTRES / temperature)
    group = np.minimum((probabilities * GROUPS).astype(int), GROUPS - 1)
    background, target = histogram
    voxels = np.bincount(group, background + target, GROUPS)
    with np.errstate(invalid="ignore"):
        predicted = np.bincount(group, (background + target) * probabilities, GROUPS) / voxels
        observed = np.bincount(group, target, GROUPS) / voxels
    return Reliability(predicted, observed, voxels)


def expected_calibration_error(histogram: np.ndarray, temperature: float = 1.0) -> float:
    """Return the mean difference between predicted and observed shares, groups weighted by their voxels, in [0, 1]."""
    found = reliability(histogram, temperature)
    return float(np.nansum(np.abs(found.predicted - found.observed) * found.voxels) / found.voxels.sum())
