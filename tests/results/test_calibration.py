"""Calibration from histograms of logits: answers that are known."""

import numpy as np
import pytest
import torch
from monai.metrics.calibration import calibration_binning
from scipy.special import expit, logit

from shared.results.calibration import (
    BINS,
    CENTRES,
    expected_calibration_error,
    fit_temperature,
    logit_histogram,
    negative_log_likelihood,
    reliability,
)

VOXELS = 1000 * np.exp(-(((CENTRES + 3) / 4) ** 2))  # more background than target


def histogram_of(factor: float) -> np.ndarray:
    """Voxels whose logits are `factor` times what they should be."""
    right = expit(CENTRES / factor)
    return np.stack([VOXELS * (1 - right), VOXELS * right])


@pytest.fixture(scope="module")
def voxels():
    """Probabilities of a case and its truth, which is drawn from them."""
    numbers = np.random.default_rng(0)
    probabilities = expit(numbers.normal(-1, 2, (40, 40))).astype(np.float32)
    return probabilities, numbers.random((40, 40)) < probabilities


@pytest.mark.parametrize("factor", [0.4, 1.0, 1.7, 4.0])
def test_the_temperature_is_the_factor_of_the_logits(factor):
    assert fit_temperature(histogram_of(factor)) == pytest.approx(factor, rel=2e-3)


def test_the_temperature_lowers_the_loss_and_the_calibration_error():
    wrong = histogram_of(2.5)
    fitted = fit_temperature(wrong)
    assert negative_log_likelihood(wrong, fitted) < negative_log_likelihood(wrong) - 0.01
    assert expected_calibration_error(wrong) > 0.02 and expected_calibration_error(wrong, fitted) < 1e-3


def test_a_histogram_counts_voxels_and_leaves_out_what_was_not_seen():
    probabilities = np.array([[0.0, 0.5, 1.0, 1e-12], [0.0, 0.75, 0.5, 1.0]])
    background, target = logit_histogram(probabilities, np.array([[1, 0, 0, 0], [0, 1, 1, 1]]))
    assert background.sum() == target.sum() == 3
    assert background[[0, BINS // 2, -1]].tolist() == [1, 1, 1] and target[-1] == 1
    assert target[np.argmin(np.abs(CENTRES - logit(0.75)))] == 1


def test_a_histogram_gives_the_likelihood_of_its_voxels(voxels):
    probabilities, truth = voxels
    exact = -np.log(np.where(truth, probabilities, 1 - probabilities)).mean()
    assert negative_log_likelihood(logit_histogram(probabilities, truth)) == pytest.approx(exact, abs=1e-3)


def test_reliability_is_that_of_monai(voxels):
    probabilities, truth = voxels
    found = reliability(logit_histogram(probabilities, truth))
    tensors = [torch.from_numpy(part.astype(np.float32))[None, None] for part in voxels]
    predicted, observed, number = (part[0, 0].numpy() for part in calibration_binning(*tensors, num_bins=10))
    np.testing.assert_allclose(found.predicted, predicted, atol=0.02)
    np.testing.assert_allclose(found.observed, observed, atol=0.05)
    assert found.voxels.sum() == number.sum() == truth.size


def test_the_calibration_error_is_the_distance_of_the_shares():
    counts = np.zeros((2, BINS))
    counts[:, np.argmin(np.abs(CENTRES - logit(0.8)))] = 50
    assert expected_calibration_error(counts) == pytest.approx(0.3, abs=0.01)
