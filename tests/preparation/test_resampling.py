from __future__ import annotations

import numpy as np
import pytest

from shared.preparation.resampling import in_field, resample, straighten
from shared.preparation.scan import Scan
from tests.preparation.heads import head, motion, move, place_of


@pytest.mark.parametrize("interpolation", ["nearest", "linear", "bspline"])
def test_same_grid_returns_the_scan_exactly(interpolation):
    scan = move(head("t1"), motion((3, 4, 5), (6, 7, 8)))
    result = resample(scan, scan, np.eye(4), interpolation)
    np.testing.assert_array_equal(result.voxels, scan.voxels)
    np.testing.assert_array_equal(result.affine, scan.affine)


@pytest.mark.parametrize("interpolation", ["linear", "bspline"])
def test_matrix_undoes_a_motion(interpolation):
    scan, moved = head("t1"), motion((9, -8, 7), (20, 10, -5))
    result = resample(move(scan, moved), scan, moved, interpolation)
    np.testing.assert_allclose(result.voxels, scan.voxels, atol=1e-2)


def test_voxels_hold_what_lies_at_their_place():
    like = Scan(np.zeros((7, 8, 9), np.float32), motion((20, -10, 30), (4, 5, 6)) @ np.diag([2.0, 3.0, 1.5, 1.0]))
    moving = Scan(np.zeros((60, 60, 60), np.float32), np.diag([1.0, 1.0, 1.0, 1.0]))
    moving.affine[:3, 3] = -30
    moving = moving._replace(voxels=(place_of(moving) @ (1.0, 2.0, -0.5)).astype(np.float32))
    expected = place_of(like) @ (1.0, 2.0, -0.5)
    seen = in_field(moving, like, np.eye(4))
    assert seen.mean() > 0.5
    np.testing.assert_allclose(resample(moving, like).voxels[seen], expected[seen], atol=1.0)
    inner = seen & (np.abs(place_of(like)) < 28).all(-1)
    np.testing.assert_allclose(resample(moving, like).voxels[inner], expected[inner], atol=1e-3)


def test_outside_the_field_of_view_is_zero_and_counted():
    scan = Scan(np.full((10, 10, 10), 5, np.float32), np.eye(4))
    shifted = Scan(scan.voxels, motion((0, 0, 0), (0, 0, 4)))
    result = resample(shifted, scan)
    assert (result.voxels[:, :, :4] == 0).all()
    assert (result.voxels[:, :, 4:] == 5).all()
    assert in_field(shifted, scan, np.eye(4)).mean() == pytest.approx(0.6)


def test_masks_stay_masks():
    scan = head("t1")
    mask = Scan((scan.voxels > 60).astype(np.uint8), scan.affine)
    result = resample(mask, move(scan, motion((5, 5, 5), (3, 3, 3))), None, "nearest")
    assert result.voxels.dtype == np.uint8
    assert set(np.unique(result.voxels)) == {0, 1}


def test_cubic_interpolation_stays_in_the_range_of_the_scan():
    scan = head("t1")
    result = resample(scan, move(scan, motion((5, 5, 5), (3, 3, 3))), None, "bspline")
    assert result.voxels.min() >= 0
    assert result.voxels.max() <= scan.voxels.max()


def test_straight_scan_is_returned_as_it_is():
    scan = head("t1")
    assert straighten(scan) is scan


def test_sheared_scan_comes_onto_an_orthogonal_grid_that_holds_it():
    scan = head("t1")
    affine = scan.affine.copy()
    affine[1, 2] += 0.8
    sheared = Scan(scan.voxels, affine)
    straight = straighten(sheared)
    axes = straight.affine[:3, :3] / straight.spacing
    np.testing.assert_allclose(axes.T @ axes, np.eye(3), atol=1e-6)
    np.testing.assert_allclose(straight.spacing, sheared.spacing)
    weights, total = sheared.voxels, sheared.voxels.sum()
    centre = (place_of(sheared) * weights[..., None]).sum((0, 1, 2)) / total
    again = (place_of(straight) * straight.voxels[..., None]).sum((0, 1, 2)) / straight.voxels.sum()
    np.testing.assert_allclose(again, centre, atol=0.1)
    volume = abs(np.linalg.det(affine[:3, :3]))  # mm3 of a voxel
    assert straight.voxels.sum() * np.prod(straight.spacing) == pytest.approx(total * volume, rel=0.02)
