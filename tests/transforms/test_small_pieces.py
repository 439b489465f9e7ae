"""Small pieces go, by volume, and nothing else changes."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data import MetaTensor
from scipy import ndimage

from shared.transforms.small_pieces import RemoveSmallPiecesd


def removed(mask, smallest, affine):
    return RemoveSmallPiecesd("pred", smallest)({"pred": MetaTensor(torch.from_numpy(mask), affine=affine)})["pred"]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**20), st.floats(0, 60))
def test_every_piece_is_there_whole_or_not_at_all(seed, smallest):
    rng = np.random.default_rng(seed)
    mask = (rng.random((2, 7, 6, 5)) > 0.8).astype(np.float32)
    affine = np.eye(4)
    affine[:3, :3] = rng.normal(size=(3, 3)) + 2 * np.eye(3)  # flips, turns and shear
    found = removed(mask, smallest, affine).numpy()
    for before, after in zip(mask, found):
        pieces, count = ndimage.label(before, np.ones((3, 3, 3)))
        for piece in range(1, count + 1):
            where = pieces == piece
            stays = where.sum() * abs(np.linalg.det(affine[:3, :3])) >= smallest - 1e-5
            assert (after[where] == stays).all()
        assert not after[before == 0].any()


@pytest.mark.parametrize("smallest, left", [(6.0, 3), (6.1, 2), (0, 3)])
def test_a_piece_of_exactly_the_smallest_volume_stays(smallest, left):
    mask = np.zeros((1, 8, 8, 4), np.uint8)
    mask[0, 1, 1, 1] = 1  # 6 mm3
    mask[0, 4:6, 4, 2] = 1  # 12 mm3
    assert removed(mask, smallest, np.diag([1.0, 2, 3, 1])).sum() == left


def test_pieces_of_two_regions_are_not_joined():
    mask = np.zeros((2, 8, 8, 4), np.uint8)
    mask[0, 2, 2, 2] = mask[1, 2, 2, 2] = mask[1, 3, 2, 2] = 1
    found = removed(mask, 2.0, np.eye(4))
    assert not found[0].any() and found[1].sum() == 2


def test_an_empty_mask_stays_empty_and_keeps_its_place():
    found = removed(np.zeros((1, 3, 3, 3), np.uint8), 10.0, np.diag([2.0, 2, 2, 1]))
    assert not found.any() and torch.equal(found.affine, torch.diag(torch.tensor([2.0, 2, 2, 1], dtype=torch.float64)))
