"""Structures scaled to the size that another hospital draws."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from emclip.postprocessing.drawn_size import DrawnSized, scale_mask
from hypothesis import given
from hypothesis import strategies as st
from monai.data import MetaTensor
from scipy import ndimage

from shared.core.errors import InputError
from shared.results.metrics import dice


def ellipse(
    size: int = 96, radii: tuple[float, float] = (20, 26), centre: tuple[float, float] = (45, 50)
) -> np.ndarray:
    rows, columns = np.ogrid[:size, :size]
    return ((rows - centre[0]) / radii[0]) ** 2 + ((columns - centre[1]) / radii[1]) ** 2 <= 1


@given(st.floats(0.5, 1.6), st.floats(38, 58), st.floats(38, 58))
def test_an_ellipse_becomes_the_scaled_ellipse_in_the_same_place(factor, row, column):
    found = scale_mask(ellipse(centre=(row, column)), factor)
    assert dice(found, ellipse(radii=(20 * factor, 26 * factor), centre=(row, column))) > 0.96
    moved = np.subtract(ndimage.center_of_mass(found), ndimage.center_of_mass(ellipse(centre=(row, column))))
    assert np.abs(moved).max() < 0.6


@given(st.floats(0.6, 1.5))
def test_scaling_back_restores_the_mask(factor):
    assert dice(scale_mask(scale_mask(ellipse(), factor), 1 / factor), ellipse()) > 0.95


def test_an_empty_mask_and_factor_one_change_nothing():
    assert not scale_mask(np.zeros((5, 7), bool), 0.8).any()
    assert np.array_equal(scale_mask(ellipse(), 1), ellipse())


def test_a_volume_is_scaled_within_its_slices():
    volume = np.stack([np.zeros((96, 96), bool), ellipse(), ellipse(), np.zeros((96, 96), bool)], -1)
    found = scale_mask(volume, 0.8)
    assert found.any((0, 1)).tolist() == [False, True, True, False]
    assert np.array_equal(found[..., 1], found[..., 2]) and dice(found[..., 1], scale_mask(ellipse(), 0.8)) > 0.98


def test_the_transform_scales_only_the_named_structures():
    masks = torch.as_tensor(np.stack([ellipse(), ellipse(radii=(8, 8))])).float()
    pred = MetaTensor(masks, affine=torch.diag(torch.tensor([2.0, 3.0, 4.0, 1.0])))
    found = DrawnSized("pred", ["disc", "cup"], {"disc": 0.85})({"pred": pred})["pred"]
    assert isinstance(found, MetaTensor) and torch.equal(found.affine, pred.affine) and found.dtype == pred.dtype
    assert torch.equal(found[1], masks[1]) and torch.equal(pred[0], masks[0])
    assert float(found[0].sum() / masks[0].sum()) == pytest.approx(0.85**2, abs=0.02)


@pytest.mark.parametrize("factors", [{"disk": 0.9}, {"disc": 0}, {"disc": 3}, {"disc": "small"}, 0.9, ["disc"]])
def test_unknown_structures_and_impossible_factors_are_one_line(factors):
    with pytest.raises(InputError, match=r"drawn_size is .*disc, cup.* 0\.5 to 2"):
        DrawnSized("pred", ["disc", "cup"], factors)
