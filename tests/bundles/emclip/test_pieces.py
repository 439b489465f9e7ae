"""One heart per image: the piece with most votes of the structures."""

from __future__ import annotations

import torch
from emclip.postprocessing.pieces import KeepCommonPieced, common_piece
from hypothesis import given
from hypothesis import strategies as st
from monai.data import MetaTensor
from skimage.measure import label


def scene() -> torch.Tensor:
    """Return three structures side by side, and elsewhere a larger piece of the first."""
    masks = torch.zeros(3, 20, 20)
    masks[0, 2:5, 2:4] = masks[1, 2:5, 4:8] = masks[2, 2:5, 8:10] = 1
    masks[0, 12:18, 12:18] = 1
    return masks


def test_a_large_piece_of_one_structure_does_not_replace_the_common_one():
    kept = common_piece(scene())
    assert torch.equal(common_piece(scene()[[2, 0, 1]]), kept[[2, 0, 1]])
    assert kept.sum((1, 2)).tolist() == [6, 12, 6]
    assert not kept[:, 10:].any()


def test_a_single_piece_and_empty_masks_stay():
    one = scene()
    one[0, 12:18, 12:18] = 0
    assert torch.equal(common_piece(one), one)
    assert not common_piece(torch.zeros(2, 4, 4, 4)).any()


@given(st.integers(0, 2**32 - 1))
def test_the_result_is_one_piece_of_the_masks(seed):
    masks = (torch.rand(3, 9, 9, 3, generator=torch.Generator().manual_seed(seed)) > 0.9).float()
    kept = common_piece(masks)
    assert torch.equal(kept * masks, kept) and torch.equal(common_piece(kept), kept)
    assert label(kept.any(0).numpy()).max() == 1


def test_the_transform_keeps_type_and_affine():
    pred = MetaTensor(scene(), affine=torch.diag(torch.tensor([2.0, 3.0, 4.0, 1.0])))
    data = {"pred": pred, "image": 1}
    found = KeepCommonPieced("pred")(data)
    assert isinstance(found["pred"], MetaTensor) and torch.equal(found["pred"].affine, pred.affine)
    assert data["pred"] is pred and pred[0, 15, 15] == 1 and found["pred"][0, 15, 15] == 0
