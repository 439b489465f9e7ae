"""A cavity inside its wall: synthetic hearts whose right answer is clear, and properties of the rule."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from emclip.postprocessing.cavity import CavityInWalld, cavity_in_wall
from emclip.postprocessing.rules import shape_rules
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data import MetaTensor

from shared.core.errors import InputError

NAMES = ["left ventricle", "myocardium", "right ventricle"]
SIZE, DEPTH = 48, 10
HEART = range(2, 7)  # slices with a cavity
ROWS, COLUMNS = np.mgrid[:SIZE, :SIZE]


def circle(radius: float, row: float = 20, column: float = 22) -> np.ndarray:
    return np.hypot(ROWS - row, COLUMNS - column) < radius


def wall(inner: float, share: float = 1.0, row: float = 20, column: float = 22) -> np.ndarray:
    """Return a ring of muscle, 4 pixels thick, around this share of a circle."""
    turn = (np.arctan2(ROWS - row, COLUMNS - column) / np.pi + 1) / 2
    return circle(inner + 4, row, column) & ~circle(inner, row, column) & (turn < share)


def heart(radius: float = 4) -> np.ndarray:
    """Return masks (3, H, W, D): a small systolic cavity in five slices, muscle below it, and a right ventricle."""
    masks = np.zeros((3, SIZE, SIZE, DEPTH), bool)
    for i in HEART:
        masks[0, ..., i], masks[1, ..., i] = circle(radius), wall(radius)
        masks[2, ..., i] = circle(7, 20, 36) & ~circle(radius + 4)
    masks[1, ..., HEART[0] - 1] = circle(radius + 1)  # an apical slice without a cavity
    return masks


def clean(masks: np.ndarray) -> np.ndarray:
    """Apply all rules for hearts."""
    data = {"pred": torch.as_tensor(masks.copy()).float()}
    for rule in shape_rules(NAMES, cavity_and_wall=NAMES[:2]):
        data = rule(data)
    return data["pred"].numpy() > 0


def add_vessel(masks: np.ndarray, slices: range, share: float = 0.0, place: tuple[float, float] = (20, 22)) -> None:
    """Add a false cavity, much larger than the true one, with a wall around a share of it."""
    for i in slices:
        masks[0, ..., i], masks[1, ..., i] = circle(12, *place), wall(12, share, *place)


ABOVE = range(7, 9)


def vessel_above(masks):
    add_vessel(masks, ABOVE)


def vessel_with_a_little_wall(masks):
    add_vessel(masks, ABOVE, 0.2)


def vessel_beside(masks):
    add_vessel(masks, range(8, 10), 0.0, (36, 36))


def false_cavity_in_a_slice_of_the_heart(masks):
    masks[0, ..., 6] |= circle(6, 20, 36)
    masks[2, ..., 6] = circle(10, 20, 36) & ~circle(7, 20, 36) & ~masks[1, ..., 6]


def specks(masks):
    masks[0, 2, 2, 4] = masks[0, 44, 44, 9] = masks[0, 26, 22, 4] = True
    masks[1, 26, 22, 4] = False


@pytest.mark.parametrize("add", [vessel_above, vessel_with_a_little_wall, vessel_beside, specks])
@pytest.mark.parametrize("upside_down", [False, True])
def test_the_small_true_cavity_is_kept_and_the_false_one_goes(add, upside_down):
    masks, turn = heart(), (slice(None), slice(None), slice(None, None, -1))
    add(masks)
    kept = clean(masks[(slice(None), *turn)] if upside_down else masks)[0]
    assert np.array_equal(kept[turn] if upside_down else kept, heart()[0])


def test_a_false_cavity_beside_the_true_one_goes():
    masks = heart()
    false_cavity_in_a_slice_of_the_heart(masks)
    assert np.array_equal(clean(masks)[0], heart()[0])


def test_a_heart_without_a_fault_stays():
    for radius in (4, 9):
        assert np.array_equal(clean(heart(radius)), heart(radius))


def test_an_apical_slice_without_a_cavity_keeps_its_muscle():
    masks = heart()
    vessel_above(masks)
    assert np.array_equal(clean(masks)[1, ..., 1], heart()[1, ..., 1])


@pytest.mark.parametrize("missing", HEART)
def test_a_slice_without_a_cavity_costs_no_other_slice(missing):
    masks = heart()
    masks[0, ..., missing] = False
    assert np.array_equal(clean(masks)[0], masks[0])


@pytest.mark.parametrize("share", [0.3, 0.6])
def test_a_wall_open_at_the_base_keeps_the_cavity(share):
    masks = heart(9)
    masks[1, ..., HEART[-1]] = wall(9, share)
    assert np.array_equal(clean(masks)[0], masks[0])


def test_a_slice_with_a_gap_in_its_wall_stays_between_walled_slices():
    masks = heart(9)
    masks[1, ..., 4] = wall(9, 0.05)
    assert np.array_equal(cavity_in_wall(masks[0], masks[1]), masks[0])


def test_without_any_wall_the_largest_piece_stays():
    cavity = np.stack([circle(6) | circle(3, 40, 40), circle(6)], -1)
    assert np.array_equal(cavity_in_wall(cavity, np.zeros_like(cavity)), np.stack([circle(6)] * 2, -1))


def test_a_single_slice_keeps_the_walled_cavity():
    cavity = circle(4) | circle(9, 38, 36)
    assert np.array_equal(cavity_in_wall(cavity, wall(4)), circle(4))
    assert np.array_equal(cavity_in_wall(circle(9), np.zeros((SIZE, SIZE), bool)), circle(9))


def random_masks(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return a cavity and a wall of a few random circles and rings in each slice, with noise."""
    random = np.random.default_rng(seed)
    cavity, muscle = np.zeros((2, SIZE, SIZE, 6), bool)
    for i in range(6):
        for _ in range(random.integers(0, 3)):
            radius, row, column = random.uniform(1, 10), *random.integers(8, 40, 2)
            cavity[..., i] |= circle(radius, row, column)
            muscle[..., i] |= wall(radius, random.uniform(), row, column)
    cavity ^= random.random(cavity.shape) > 0.999
    return cavity, muscle & ~cavity


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_voxels_are_only_removed_never_all_and_once_is_enough(seed):
    cavity, muscle = random_masks(seed)
    kept = cavity_in_wall(cavity, muscle)
    assert not (kept & ~cavity).any() and kept.any() == cavity.any()
    assert np.array_equal(cavity_in_wall(kept, muscle), kept)


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 2))
def test_flips_and_the_order_of_the_axes_in_plane_make_no_difference(seed, axis):
    cavity, muscle = random_masks(seed)
    kept = cavity_in_wall(cavity, muscle)
    assert np.array_equal(cavity_in_wall(np.flip(cavity, axis), np.flip(muscle, axis)), np.flip(kept, axis))
    assert np.array_equal(cavity_in_wall(cavity.swapaxes(0, 1), muscle.swapaxes(0, 1)), kept.swapaxes(0, 1))


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 4))
def test_thinner_slices_make_no_difference(seed, times):
    cavity, muscle = random_masks(seed)
    kept = cavity_in_wall(cavity, muscle)
    assert np.array_equal(cavity_in_wall(cavity.repeat(times, -1), muscle.repeat(times, -1)), kept.repeat(times, -1))


def test_empty_masks_stay_empty():
    for shape in [(5, 7), (5, 7, 3)]:
        assert not cavity_in_wall(np.zeros(shape, bool), np.ones(shape, bool)).any()
    assert not clean(np.zeros((3, 8, 8, 2), bool)).any()


def test_the_transform_changes_only_the_cavity():
    masks = heart()
    vessel_above(masks)
    pred = MetaTensor(torch.as_tensor(masks[[1, 2, 0]]).float(), affine=torch.diag(torch.tensor([2.0, 3.0, 4.0, 1.0])))
    before = pred.clone()
    kept = CavityInWalld("pred", ["wall", "other", "cavity"], ["cavity", "wall"])({"pred": pred})["pred"]
    assert isinstance(kept, MetaTensor) and kept.dtype == pred.dtype and torch.equal(kept.affine, pred.affine)
    assert torch.equal(kept[:2], before[:2]) and torch.equal(pred, before)
    assert np.array_equal(kept[2].numpy() > 0, heart()[0])


@pytest.mark.parametrize("pair", [["cavity", "shell"], ["cavity"], "cavity"])
def test_unknown_structures_get_one_line(pair):
    with pytest.raises(InputError, match="give two of the structures .cavity, wall., or null") as caught:
        CavityInWalld("pred", ["cavity", "wall"], pair)
    assert "\n" not in str(caught.value)
