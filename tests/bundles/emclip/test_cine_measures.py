"""Volumes of a heartbeat, what speaks against them, and their loop."""

from __future__ import annotations

import numpy as np
import pytest
from emclip.cine_loop import GREYS, MOST_BYTES, MOST_FRAMES, save_loop
from emclip.cine_measures import Curves, curves_of, doubts, jumps, measure_cine
from emclip.measures import heart
from PIL import Image

from tests.making import make_cine

STEADY = Curves([100, 80, 50, 75, 95, 98], [110, 90, 60, 80, 100, 105], [90, 91, 92, 91, 90, 90], "ml")


def test_the_heartbeat_may_begin_anywhere():
    for start in range(6):
        turned = Curves(*(np.roll(volumes, start).tolist() for volumes in STEADY[:3]), "ml")
        found = measure_cine(turned)
        assert found["end_diastolic_phase"] == start + 1 and found["end_systolic_phase"] == (start + 2) % 6 + 1
        assert found["lv_ejection_fraction"] == 50 and found["lv_stroke_volume_ml"] == 50
        assert found["rv_ejection_fraction"] == pytest.approx(100 * 50 / 110, rel=1e-3)
        assert found["myocardial_mass_g"] == pytest.approx(90 * 1.05)


def test_volumes_are_those_of_single_frames():
    label = make_cine()[1]
    curves = curves_of([heart(label[..., phase], (1.5, 1.5, 8)) for phase in range(8)])
    assert curves is not None and curves.left == [heart(label[..., p], (1.5, 1.5, 8))["lv_volume_ml"] for p in range(8)]
    assert curves.muscle == pytest.approx((label == 2).sum((0, 1, 2)) * 0.018, rel=1e-3)
    assert curves_of([{"vertical_cup_to_disc_ratio": 0.5}] * 8) is None


def test_an_empty_ventricle_has_no_ejection_fraction():
    found = measure_cine(STEADY._replace(left=[0] * 6))
    assert found["lv_ejection_fraction"] is None and found["lv_stroke_volume_ml"] == 0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"left": [100, 80, 0, 75, 95, 98]}, "No left ventricle in phase 3"),
        ({"muscle": [90, 91, 130, 91, 90, 90]}, "from 90 to 130 mL"),
    ],
)
def test_curves_that_no_heart_has_are_named(change, words):
    assert doubts(STEADY) == []
    assert any(words in doubt for doubt in doubts(STEADY._replace(**change)))


@pytest.mark.parametrize("count", [12, 20, 30])
def test_a_phase_that_leaves_the_curve_is_named(count):
    time = np.arange(count) / count
    left = 75 + 25 * np.cos(np.pi * np.where(time < 3 / 8, time * 8 / 3, (1 - time) * 8 / 5))
    smooth = Curves(left.tolist(), left.tolist(), [90] * count, "ml")
    assert doubts(smooth) == []
    left[count - 4] -= 30
    assert doubts(smooth._replace(left=left.tolist())) == [
        f"Phase {count - 3} leaves the left ventricle's curve: look at its mask."
    ]


def test_a_heart_that_moves_between_two_phases_is_named():
    label = make_cine(16)[1]
    assert jumps(label, (1.5, 1.5, 8)) == [], "it contracts in its place"
    label[..., 9:] = np.roll(label[..., 9:], (3, 4), axis=(0, 1))
    assert [note[:59] for note in jumps(label, (1.5, 1.5, 8))] == [
        "The heart moves by 8 mm between phases 9 and 10 (two breath-h"[:59]
    ]
    assert jumps(label, None) == []


def test_a_loop_shows_every_phase_with_its_contours(tmp_path):
    image, label = make_cine()
    save_loop(tmp_path / "loop.gif", image, label, np.diag([1.5, 1.5, 8, 1]), 0.1, {0: "ED"})
    with Image.open(tmp_path / "loop.gif") as loop:
        assert loop.n_frames == 8 and loop.info["duration"] == 100
        pixels = []
        for phase in range(8):
            loop.seek(phase)
            shown = np.asarray(loop.convert("RGB")).astype(int)
            pixels.append(int(((shown[..., 1] > 200) & (shown[..., 0] < 90)).sum()))  # the green contour
    assert pixels[3] < 0.8 * pixels[0] and min(pixels) > 50


def test_a_loop_is_bounded(tmp_path):
    random = np.random.default_rng(0)
    noise = random.integers(0, 1000, (160, 160, 6, 50)).astype(np.int16)
    label = np.zeros(noise.shape, np.uint8)
    label[20:140, 20:140] = 1
    path = save_loop(tmp_path / "loop.gif", noise, label, np.diag([1.5, 1.5, 8, 1]))
    assert path.stat().st_size <= MOST_BYTES
    with Image.open(path) as loop:
        assert loop.n_frames == MOST_FRAMES and max(loop.size) <= 3 * 240
    assert GREYS < 250


def test_an_empty_mask_still_gives_a_loop(tmp_path):
    image, label = make_cine()
    with Image.open(save_loop(tmp_path / "loop.gif", image, 0 * label, np.diag([1.5, 1.5, 8, 1]))) as loop:
        assert loop.n_frames == 8
