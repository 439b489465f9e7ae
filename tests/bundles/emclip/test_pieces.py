"""One heart per image: the piece with most votes of the structures; cavities need a wall."""

from __future__ import annotations

import pytest
import torch
from emclip.postprocessing.pieces import KeepCommonPieced, KeepWalledd, common_piece, walled
from hypothesis import given
from hypothesis import strategies as st
from monai.data import MetaTensor
from skimage.measure import label

from shared.core.errors import InputError


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


def ring(share: float, size: int = 48) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a round cavity, and a wall around this share of it."""
    rows, columns = torch.meshgrid(*[torch.arange(size) - (size - 1) / 2] * 2, indexing="ij")
    radius, turn = torch.hypot(rows, columns), (torch.atan2(rows, columns) / torch.pi + 1) / 2
    return (radius < 10).float(), ((radius >= 10) & (radius < 15) & (turn < share)).float()


@pytest.mark.parametrize("share", [0.0, 0.1, 0.2, 0.3, 0.8, 1.0])
def test_a_cavity_needs_a_quarter_of_a_wall(share):
    cavity, wall = ring(share)
    kept = walled(cavity, wall)
    assert torch.equal(kept, cavity if share > 0.25 else torch.zeros_like(cavity))


def test_each_slice_is_judged_alone():
    slices = [ring(share) for share in (1.0, 0.1, 0.9)]
    cavity, wall = (torch.stack(parts, dim=-1) for parts in zip(*slices))
    kept = walled(cavity, wall)
    assert [bool(kept[..., i].any()) for i in range(3)] == [True, False, True]
    empty = torch.zeros_like(cavity)
    assert not walled(empty, wall).any() and not walled(cavity, empty).any()


def test_the_transform_changes_only_the_cavity():
    cavity, wall = ring(0.1)
    masks = MetaTensor(torch.stack([wall, torch.ones_like(wall), cavity])[..., None])
    turn = KeepWalledd("pred", ["wall", "other", "cavity"], ["cavity", "wall"])
    before = masks.clone()
    kept = turn({"pred": masks})["pred"]
    assert isinstance(kept, MetaTensor) and not kept[2].any()
    assert torch.equal(kept[:2], before[:2]) and torch.equal(masks, before)


@pytest.mark.parametrize("pair", [["cavity", "shell"], ["cavity"], "cavity"])
def test_unknown_structures_get_one_line(pair):
    with pytest.raises(InputError, match="give two of the structures .cavity, wall., or null") as caught:
        KeepWalledd("pred", ["cavity", "wall"], pair)
    assert "\n" not in str(caught.value)
