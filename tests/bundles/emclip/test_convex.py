"""Convex structures: the hull of the pixel centres, and the transform."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from emclip.postprocessing.convex import ConvexHulld, convex_hull
from hypothesis import given
from hypothesis import strategies as st
from monai.data import MetaTensor
from scipy.spatial import ConvexHull

from shared.core.errors import InputError


def disc(size: int = 40, radius: float = 14) -> torch.Tensor:
    rows, columns = torch.meshgrid(*[torch.arange(size) - (size - 1) / 2] * 2, indexing="ij")
    return (torch.hypot(rows, columns) < radius).float()


def test_a_vessel_across_the_border_leaves_no_dent():
    whole, cut = disc(), disc()
    cut[:, 18:21] = 0  # a vessel from top to bottom
    cut[25, 25] = 0  # and a hole
    mended = convex_hull(cut)
    assert (mended - whole).abs().sum() <= 4 < (cut - whole).abs().sum()  # rows at the ends of the vessel


def test_convex_empty_and_thin_masks_stay():
    assert torch.equal(convex_hull(disc()), disc())
    assert not convex_hull(torch.zeros(5, 7)).any()
    for place in ((2, 3), (0, 0), (4, slice(1, 6)), (slice(0, 5), 6)):  # a pixel, a corner, lines
        thin = torch.zeros(5, 7, dtype=torch.uint8)
        thin[place] = 1
        assert torch.equal(convex_hull(thin), thin) and convex_hull(thin).dtype == torch.uint8


@given(st.integers(0, 2**32 - 1))
def test_a_hull_holds_the_mask_and_is_its_own_hull(seed):
    mask = (torch.rand(12, 15, generator=torch.Generator().manual_seed(seed)) > 0.9).float()
    hull = convex_hull(mask)
    assert torch.equal(hull * mask, mask) and torch.equal(convex_hull(hull), hull)
    assert torch.equal(convex_hull(mask.flip(1)), hull.flip(1))
    assert torch.equal(convex_hull(mask.t()), hull.t())
    inside, around = mask.nonzero(), hull.nonzero()
    if len(inside):
        assert torch.equal(inside.amin(0), around.amin(0)) and torch.equal(inside.amax(0), around.amax(0))


@given(st.integers(0, 2**32 - 1))
def test_the_hull_is_that_of_the_pixel_centres(seed):
    mask = (torch.rand(12, 15, generator=torch.Generator().manual_seed(seed)) > 0.9).float()
    corners = mask.nonzero().numpy()
    if len(corners) > 2 and np.linalg.matrix_rank(corners - corners[0]) == 2:
        everywhere = np.argwhere(np.ones(mask.shape))
        normals = ConvexHull(corners).equations
        inside = (everywhere @ normals[:, :2].T + normals[:, 2] <= 1e-6).all(1)
        assert np.array_equal(convex_hull(mask).numpy().ravel() > 0, inside)


def test_the_transform_changes_only_the_named_structures():
    dented = disc()
    dented[18:21] = 0
    pred = MetaTensor(torch.stack([dented, dented]), affine=torch.diag(torch.tensor([2.0, 3.0, 4.0, 1.0])))
    found = ConvexHulld("pred", ["disc", "cup"], ["disc"])({"pred": pred})["pred"]
    assert isinstance(found, MetaTensor) and torch.equal(found.affine, pred.affine)
    assert torch.equal(found[1], dented) and found[0].sum() > dented.sum() and torch.equal(pred[0], dented)


@pytest.mark.parametrize("convex", ["disc", ["disk"], ["disc", "macula"]])
def test_an_unknown_name_is_one_line(convex):
    with pytest.raises(InputError, match=r"convex is .*disc, cup"):
        ConvexHulld("pred", ["disc", "cup"], convex)


def test_a_volume_is_one_line():
    with pytest.raises(InputError, match=r"masks of shape \(1, 4, 4, 4\) are not pictures: set convex to null"):
        ConvexHulld("pred", ["disc"], ["disc"])({"pred": torch.zeros(1, 4, 4, 4)})
