"""The steps of a preparation: which of them a case gets, and what the result looks like."""

from __future__ import annotations

import numpy as np
import pytest

from shared.core.errors import InputError
from shared.preparation.brain import extract_brain
from shared.preparation.prepare import check_head, has_skull, prepare, shows_head
from shared.preparation.registration import agree
from shared.preparation.resampling import resample
from shared.preparation.scan import Scan
from tests.preparation.bright_brain import BrightBrain, ball_scan
from tests.preparation.heads import head, motion, move

RADIUS = 62.0


def quiet(line: str) -> None:
    """Print nothing."""


@pytest.fixture
def raw():
    """A ball of brain with a scalp."""
    return ball_scan((2.0, 2.0, 3.0), RADIUS, skull=True)[0]


@pytest.fixture
def stripped():
    return ball_scan((2.0, 2.0, 3.0), RADIUS)[0]


def test_a_stripped_case_on_one_grid_stays_as_it_is(stripped):
    scans = {"flair": stripped, "t1": stripped._replace(voxels=stripped.voxels * 2)}
    done = prepare(scans, "flair", BrightBrain(), say=quiet)
    assert done.record["steps"] == []
    assert all(np.array_equal(done.scans[name].voxels, scan.voxels) for name, scan in scans.items())


def test_the_skull_becomes_exactly_zero_and_the_brain_stays(raw):
    done = prepare({"flair": raw}, "flair", BrightBrain(), say=quiet)
    voxels = done.scans["flair"].voxels
    assert "remove the skull" in done.record["steps"]
    assert (voxels[~done.brain.mask] == 0).all()
    assert (voxels[done.brain.mask & (raw.voxels == 1)] > 0.5).all()
    assert np.array_equal(done.scans["flair"].affine, raw.affine)


def test_the_skull_is_seen_where_it_is(raw, stripped):
    assert has_skull(raw, extract_brain(raw, BrightBrain()))
    assert not has_skull(stripped, extract_brain(stripped, BrightBrain()))


def test_always_takes_every_step(stripped):
    done = prepare({"flair": stripped}, "flair", BrightBrain(), always=True, say=quiet)
    assert done.record["steps"] == ["correct the field", "remove the skull"]


def test_a_sequence_that_cannot_be_registered_is_left_out_and_named(raw):
    noise = np.random.default_rng(0).uniform(0, 1, (60, 60, 40)).astype(np.float32)
    done = prepare({"flair": raw, "t1": Scan(noise, np.diag([3.0, 3, 3, 1]))}, "flair", BrightBrain(), say=quiet)
    assert set(done.scans) == {"flair"}
    assert any(line.startswith("t1 cannot be registered to flair and is left out") for line in done.record["warnings"])


def test_sequences_on_one_grid_that_do_not_agree_are_registered():
    fixed = head("t1")
    moved = resample(move(head("t2"), motion((4, -3, 3), (4, 3, -3))), fixed, np.eye(4))
    done = prepare({"flair": fixed, "t1": moved}, "flair", BrightBrain(), say=quiet)
    assert done.record["steps"][0] == "register t1"
    assert not agree(moved, fixed) and agree(done.scans["t1"], fixed)


def test_a_sequence_on_the_same_grid_that_agrees_nowhere_is_left_out(stripped):
    noise = stripped._replace(voxels=np.random.default_rng(0).uniform(0, 1, stripped.voxels.shape).astype(np.float32))
    done = prepare({"flair": stripped, "t1": noise}, "flair", BrightBrain(), say=quiet)
    assert set(done.scans) == {"flair"} and done.record["steps"] == ["register t1"]
    assert done.record["warnings"][0].startswith("t1 cannot be registered to flair and is left out")


def test_every_step_says_one_line_and_is_timed(raw):
    said = []
    record = prepare({"flair": raw}, "flair", BrightBrain(), say=said.append).record
    assert [line[: line.index("(")] for line in said] == [
        f"brain of {record['brain']['volume_ml']} mL found, with skull ",
        "skull removed ",
    ]
    assert list(record["seconds"]) == ["find the brain", "correct the field"]
    assert record["brain"]["skull"] is True and record["brain"]["volume_ml"] > 900


def test_ct_is_refused():
    hounsfield = ball_scan((3.0, 3.0, 3.0), RADIUS)[0]
    ct = hounsfield._replace(voxels=np.where(hounsfield.voxels > 0, 40, -1000).astype(np.float32))
    with pytest.raises(InputError, match="flair looks like CT .* give MR"):
        prepare({"flair": ct}, "flair", BrightBrain(), say=quiet)


def test_a_few_slices_are_refused(raw):
    with pytest.raises(InputError, match="flair has 5 slices where a head needs at least 8"):
        check_head(raw._replace(voxels=raw.voxels[..., 20:25]), "flair")


def test_an_image_that_was_reduced_is_no_scan_of_a_head():
    assert shows_head(Scan(np.ones((80, 80, 24), np.float32), np.diag([2.5, 2.5, 6, 1])))
    assert not shows_head(Scan(np.ones((64, 64, 24), np.float32), np.diag([4, 4, 6, 1])))


def test_a_nominal_voxel_size_is_no_head():
    small = Scan(np.ones((64, 64, 20), np.float32), np.eye(4))
    assert not shows_head(small)
    with pytest.raises(InputError, match="too small or too coarse for a head .64 x 64 x 20 mm, voxels of 1 mm."):
        check_head(small, "flair")


@pytest.mark.parametrize(("strength", "corrected"), [(0.02, False), (0.4, True)])
def test_only_a_strong_field_is_corrected(raw, strength, corrected):
    slope = np.exp(strength * np.linspace(-2, 2, raw.voxels.shape[0], dtype=np.float32))[:, None, None]
    shaded = raw._replace(voxels=raw.voxels * slope)
    done = prepare({"flair": shaded}, "flair", BrightBrain(), say=quiet)
    brain = done.brain.mask & (shaded.voxels > 0)
    changed = not np.allclose(done.scans["flair"].voxels[brain], shaded.voxels[brain], rtol=1e-3)
    assert changed is corrected
    assert done.record["field"]["flair"]["strength"] == pytest.approx(strength, abs=0.6 * strength)
