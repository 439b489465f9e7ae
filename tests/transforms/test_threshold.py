"""Masks at a threshold, and probabilities at a temperature."""

import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import AsDiscreted

from shared.core.errors import InputError
from shared.transforms.temperature import Temperatured
from shared.transforms.threshold import Thresholdd

AFFINE = torch.diag(torch.tensor([2.0, 3.0, 4.0, 1.0]))


@pytest.fixture
def probabilities():
    """Two regions, values around a half, and the certain ones."""
    values = torch.rand(2, 6, 5, 4, generator=torch.Generator().manual_seed(0))
    values[:, 0, 0] = torch.tensor([0.0, 0.5, 1.0, 0.49999997])
    return MetaTensor(values, affine=AFFINE)


@pytest.mark.parametrize("threshold", [0.5, 0.35])
def test_one_threshold_gives_the_masks_of_monai_bit_by_bit(probabilities, threshold):
    ours = Thresholdd("pred", threshold)({"pred": probabilities})["pred"]
    theirs = AsDiscreted("pred", threshold=threshold)({"pred": probabilities})["pred"]
    assert torch.equal(ours, theirs) and ours.dtype == theirs.dtype == torch.float32
    assert torch.equal(ours.affine, AFFINE.double())


def test_each_region_has_its_own_threshold(probabilities):
    masks = Thresholdd("pred", [0.2, 0.9])({"pred": probabilities})["pred"]
    assert torch.equal(masks[0] > 0, probabilities[0] >= 0.2) and torch.equal(masks[1] > 0, probabilities[1] >= 0.9)


@pytest.mark.parametrize("one", [1, 1.0, [1.0, 1.0]])
def test_temperature_one_changes_no_bit(probabilities, one):
    assert torch.equal(Temperatured("pred", one)({"pred": probabilities})["pred"], probabilities)


def test_temperature_divides_the_logits(probabilities):
    scaled = Temperatured("pred", [2.0, 0.5])({"pred": probabilities})["pred"]
    inside = (probabilities > 0) & (probabilities < 1)
    for channel, temperature in enumerate((2.0, 0.5)):
        wanted = torch.logit(probabilities[channel][inside[channel]]) / temperature
        torch.testing.assert_close(torch.logit(scaled[channel][inside[channel]]), wanted, rtol=0, atol=0.005)
    assert torch.equal(scaled[~inside], probabilities[~inside]) and torch.equal(scaled.affine, AFFINE.double())


def test_rounding_errors_of_interpolation_are_no_numbers_beyond_certainty():
    scaled = Temperatured("pred", 3.0)({"pred": torch.tensor([[-1e-7, 1.0000001]])})["pred"]
    assert scaled.tolist() == [[0.0, 1.0]]


@pytest.mark.parametrize("step", [Thresholdd("pred", [0.1, 0.2, 0.3]), Temperatured("pred", [1.0, 2.0, 3.0])])
def test_numbers_for_other_regions_get_one_line(probabilities, step):
    with pytest.raises(InputError, match="has 3 numbers for 2 regions: give one, or one per region"):
        step({"pred": probabilities})
