from __future__ import annotations

import os
from pathlib import Path

import nibabel
import numpy as np
import pytest

from shared.preparation.registration import agree, register
from shared.preparation.scan import Scan
from tests.preparation.heads import head, motion, move, place_of

SAME = 1.0  # mm; the synthetic voxels have edges of 3 and 4 mm
TURNED = motion((8, -6, 12), (15, -12, 9))

REAL = os.environ.get("BUNDLES_REAL_DATA", "")


@pytest.fixture(scope="module")
def fixed() -> Scan:
    return head("t1")


@pytest.fixture(scope="module")
def found(fixed):
    return register(move(head("t2"), TURNED), fixed)


def distance(one: np.ndarray, other: np.ndarray, scan: Scan) -> float:
    """Mean distance, in mm, between where two matrices send the head."""
    points = place_of(scan)[scan.voxels > 40]
    apart = one - other
    return float(np.linalg.norm(points @ apart[:3, :3].T + apart[:3, 3], axis=1).mean())


def test_known_motion_is_recovered(found, fixed):
    assert found.reliable, found.reason
    assert distance(found.matrix, TURNED, fixed) < SAME
    np.testing.assert_allclose(found.matrix[:3, :3] @ found.matrix[:3, :3].T, np.eye(3), atol=1e-6)


def test_same_input_gives_the_same_matrix(found, fixed):
    again = register(move(head("t2"), TURNED), fixed).matrix
    np.testing.assert_allclose(again, found.matrix, atol=1e-9)  # threads add up in another order


def test_backwards_gives_the_inverse(found, fixed):
    back = register(fixed, move(head("t2"), TURNED))
    assert back.reliable
    assert distance(back.matrix @ found.matrix, np.eye(4), fixed) < SAME


def test_order_of_storage_changes_nothing(found, fixed):
    moving = move(head("t2"), TURNED)
    stored = Scan(np.ascontiguousarray(moving.voxels.transpose(2, 0, 1)[:, ::-1]), np.eye(4))
    affine = moving.affine[:, [2, 0, 1, 3]]
    affine[:3, 3] += affine[:3, 1] * (stored.voxels.shape[1] - 1)
    affine[:3, 1] *= -1
    other = register(Scan(stored.voxels, affine), fixed)
    assert other.reliable
    assert distance(other.matrix, found.matrix, fixed) < 0.5


def test_sequences_that_lie_together_agree_and_moved_ones_do_not(fixed):
    assert agree(head("t2"), fixed)
    assert not agree(move(head("t2"), motion((4, -3, 3), (4, 3, -3))), fixed)
    assert not agree(fixed._replace(voxels=np.zeros_like(fixed.voxels)), fixed)


@pytest.mark.parametrize("origin", [(0, 0, 0), (400, -300, 250)])
def test_header_with_a_wrong_origin(fixed, origin):
    moving = head("t2")
    wrong = moving.affine.copy()
    wrong[:3, 3] = origin
    shift = np.eye(4)
    shift[:3, 3] = np.array(origin) - moving.affine[:3, 3]
    found = register(Scan(moving.voxels, wrong), fixed)
    assert found.reliable, found.reason
    assert distance(found.matrix, shift, fixed) < SAME


def test_header_that_agrees_is_kept(fixed):
    found = register(head("t2"), fixed)
    assert found.reliable
    assert found.start == "kept"
    np.testing.assert_array_equal(found.matrix, np.eye(4))


def test_smaller_field_of_view(fixed):
    moving = head("t2")
    part = Scan(moving.voxels[4:-4, 5:-5, 14:], moving.affine.copy())
    part.affine[:3, 3] = 0
    truth = np.eye(4)
    truth[:3, 3] = -(moving.affine[:3, :3] @ (4, 5, 14) + moving.affine[:3, 3])
    found = register(part, fixed)
    assert found.reliable, found.reason
    assert distance(found.matrix, truth, fixed) < 1.5
    assert found.coverage < 0.9


def test_sheared_slices(fixed):
    moving = head("t2")
    shear = np.eye(4)
    shear[1, 2] = np.tan(np.deg2rad(10))
    tilted = Scan(moving.voxels, moving.affine @ shear)
    undone = np.linalg.inv(tilted.affine @ np.linalg.inv(moving.affine))
    straight = Scan(resampled(moving, undone), tilted.affine)  # the true head, scanned in tilted slices
    found = register(straight, fixed)
    assert distance(found.matrix, np.eye(4), fixed) < SAME


def resampled(scan: Scan, matrix: np.ndarray) -> np.ndarray:
    from scipy import ndimage

    index = np.linalg.inv(scan.affine) @ np.linalg.inv(matrix) @ scan.affine
    return ndimage.affine_transform(scan.voxels, index[:3, :3], index[:3, 3], order=1)


@pytest.mark.parametrize("kind", ["noise", "constant", "empty", "ball"])
def test_unrelated_image_is_not_reliable(fixed, kind):
    shape = fixed.voxels.shape
    if kind == "noise":
        voxels = np.random.default_rng(0).uniform(0, 100, shape)
    elif kind == "ball":
        voxels = 100.0 * (np.linalg.norm(place_of(fixed), axis=-1) < 60)
    else:
        voxels = np.full(shape, 0.0 if kind == "empty" else 70.0)
    found = register(Scan(voxels.astype(np.float32), fixed.affine), fixed)
    assert not found.reliable
    assert found.reason
    assert np.isfinite(found.matrix).all() and np.isfinite(found.quality)


@pytest.mark.skipif(not REAL, reason="set BUNDLES_REAL_DATA to the folder of real images")
@pytest.mark.parametrize(("patient", "reliable"), [("patient07", True), ("patient26", False)])
def test_a_sequence_of_another_patient_is_not_reliable(patient, reliable):
    scans = []
    for path in (f"{patient}/t1.nii.gz", "patient07/flair.nii.gz"):
        image = nibabel.load(Path(REAL) / "brain_ms" / path)
        scans.append(Scan(image.get_fdata(dtype=np.float32), image.affine))
    assert register(*scans).reliable is reliable
