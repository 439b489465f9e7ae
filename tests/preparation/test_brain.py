"""Brain extraction: geometry, scaling, refusals; with a network that takes the bright part of a scan for the brain."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from nibabel.orientations import apply_orientation, axcodes2ornt, inv_ornt_aff

from shared.core.errors import InputError
from shared.preparation.brain import BrainDistance, extract_brain, largest_piece, scale
from shared.preparation.scan import Scan
from tests.preparation.bright_brain import BrightBrain, ball_scan

RADIUS = 60.0


def dice(first: np.ndarray, second: np.ndarray) -> float:
    return float(2 * (first & second).sum() / (first.sum() + second.sum()))


@pytest.mark.parametrize("spacing", [(1.5, 1.5, 1.5), (1.0, 1.0, 5.0), (3.0, 2.5, 2.0), (5.0, 1.2, 1.2)])
def test_the_mask_lies_on_the_scans_own_grid_at_any_resolution(spacing):
    scan, ball = ball_scan(spacing, RADIUS)
    brain = extract_brain(scan, BrightBrain())
    assert brain.mask.shape == scan.voxels.shape
    assert dice(brain.mask, ball) > 0.96
    assert brain.volume(scan) == pytest.approx(4 / 3 * np.pi * RADIUS**3 / 1000, rel=0.05)


@pytest.mark.parametrize("codes", ["LPS", "PSR", "RAI", "SAL", "IPR"])
def test_storage_order_does_not_change_the_mask(codes):
    scan, _ = ball_scan((2.0, 2.0, 4.0), RADIUS, centre=(7.0, -11.0, 5.0))
    order = axcodes2ornt(tuple(codes))
    inverse = np.column_stack([np.argsort(order[:, 0]), order[np.argsort(order[:, 0]), 1]])
    stored = np.ascontiguousarray(apply_orientation(scan.voxels, inverse))
    affine = scan.affine @ inv_ornt_aff(inverse, scan.voxels.shape)
    expected = extract_brain(scan, BrightBrain()).mask
    found = extract_brain(Scan(stored, affine), BrightBrain()).mask
    assert np.array_equal(found, apply_orientation(expected, inverse))


def test_a_margin_moves_the_surface_by_so_many_mm():
    scan, _ = ball_scan((1.5, 1.5, 1.5), RADIUS)
    radii = []
    for margin in (-3.0, 0.0, 3.0):
        volume = extract_brain(scan, BrightBrain(), margin).volume(scan)
        radii.append((volume * 1000 * 3 / 4 / np.pi) ** (1 / 3))
    assert np.diff(radii) == pytest.approx([3, 3], abs=0.5)


def test_a_scan_without_a_brain_is_refused():
    tiny, _ = ball_scan((2.0, 2.0, 2.0), 20.0)
    with pytest.raises(InputError, match=r"no brain was found \(\d+ mL\)"):
        extract_brain(tiny, BrightBrain())


def test_a_brain_that_the_scan_cuts_off_is_named():
    scan, _ = ball_scan((2.0, 2.0, 3.0), 66.0)
    half = scan._replace(voxels=scan.voxels[..., scan.voxels.shape[2] // 2 :])
    assert not extract_brain(scan, BrightBrain()).warnings
    warnings = extract_brain(half, BrightBrain()).warnings
    assert any("cuts the brain off at its first slice along z" in line for line in warnings)


def test_a_small_brain_is_named():
    scan, _ = ball_scan((2.0, 2.0, 2.0), 40.0)
    assert any("unusual for an adult" in line for line in extract_brain(scan, BrightBrain()).warnings)


@pytest.mark.parametrize("factor", [1e-3, 1.0, 4000.0])
def test_scaling_ignores_the_unit_of_intensity_and_keeps_zero(factor):
    image = np.random.default_rng(0).gamma(2, 1, (20, 20, 20)).astype(np.float32)
    image[:5] = 0
    scaled = scale(image * np.float32(factor))
    assert np.allclose(scaled, scale(image), atol=1e-4)
    assert (scaled[:5] == 0).all() and scaled.max() == 1
    assert not scale(np.zeros((4, 4, 4), np.float32)).any()


def test_the_largest_piece_is_kept_without_holes():
    mask = np.zeros((20, 20, 20), bool)
    mask[2:12, 2:12, 2:12] = True
    mask[5, 5, 5] = False
    mask[15:18, 15:18, 15:18] = True
    kept = largest_piece(mask)
    assert kept.sum() == 1000 and kept[5, 5, 5]
    assert not largest_piece(np.zeros((4, 4, 4), bool)).any()


def test_the_network_keeps_the_grid_and_learns():
    torch.manual_seed(0)
    network = BrainDistance()
    image = torch.rand(1, 1, 32, 16, 16)
    assert network(image).shape == image.shape
    optimizer = torch.optim.Adam(network.parameters(), 1e-2)
    losses = []
    for _ in range(12):
        loss = ((network(image) - 8 * (0.5 - image)) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize("axis", range(3))
def test_every_axis_may_be_shorter_than_the_networks_multiple(axis):
    scan, _ = ball_scan((2.0, 2.0, 2.0), RADIUS)
    middle = scan.voxels.shape[axis] // 2
    slab = scan._replace(voxels=scan.voxels.take(range(middle - 6, middle + 6), axis))
    assert extract_brain(slab, BrightBrain()).mask.shape == slab.voxels.shape
