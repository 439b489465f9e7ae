"""Synthetic whole photographs: a known disc in a round field, of either eye; pasted discs; other pictures."""

from __future__ import annotations

import numpy as np
import pytest
from emclip.phantoms.dataset import make_fundus_case
from emclip.phantoms.other_pictures import make_other_picture
from emclip.phantoms.pasted_disc import DiscCrop, paste_disc
from emclip.phantoms.whole_fundus import make_whole_fundus
from scipy import ndimage

SEEDS = range(8)


@pytest.fixture(scope="module")
def photographs():
    return [make_whole_fundus(seed, 160) for seed in SEEDS]


def test_one_seed_makes_one_photograph(photographs):
    again = make_whole_fundus(3, 160)
    assert np.array_equal(again.image, photographs[3].image)
    assert not np.array_equal(photographs[2].image[:, :160], photographs[3].image[:, :160])


def test_the_disc_lies_in_the_field_at_its_centre(photographs):
    for made in photographs:
        assert made.image.shape == (*made.disc.shape, 3)
        assert made.disc.any()
        assert not (made.disc & ~made.field).any()
        complete = 0.8 < made.disc.sum() / (np.pi * made.radius**2) < 1.2
        away = np.hypot(*np.subtract(ndimage.center_of_mass(made.disc), made.centre))
        assert away < (0.3 if complete else 1) * made.radius
        assert 3 < made.field.sum(0).max() / made.radius / 2 < 15  # disc diameters across the field


def test_it_is_dark_outside_the_field(photographs):
    for made in photographs:
        dark = np.median(made.image[~made.field], axis=0).max() if (~made.field).any() else 0
        assert dark < 15
        assert made.image[made.field].mean() > dark + 10


def test_left_and_right_eyes_occur():
    """The disc lies on the nasal side of pictures that are centred on the macula."""
    places = [made.centre[1] / made.disc.shape[1] for made in (make_whole_fundus(seed, 64) for seed in range(30))]
    assert min(places) < 0.35
    assert max(places) > 0.65


def test_a_camera_that_points_elsewhere_shows_no_disc():
    for seed in SEEDS:
        made = make_whole_fundus(seed, 96, with_disc=False)
        assert not made.disc.any()
        assert made.image[made.field].std() > 1


def test_a_pasted_disc_takes_the_place_and_size_of_the_synthetic_one(photographs):
    case = make_fundus_case(1, "camera_a")
    crop = DiscCrop(case.image, case.label > 0)
    changed = 0
    for made in photographs:
        pasted = paste_disc(made, crop, np.random.default_rng(0))
        far = np.hypot(*(np.indices(made.disc.shape) - np.reshape(made.centre, (2, 1, 1)))) > 8 * made.radius
        assert np.array_equal(pasted.image[far], made.image[far])
        assert not (pasted.disc & ~made.field).any()
        changed += not np.array_equal(pasted.image, made.image)
        assert 2 * (pasted.disc & made.disc).sum() / (pasted.disc.sum() + made.disc.sum()) > 0.75
    assert changed > len(SEEDS) // 2


def test_other_pictures_differ_and_are_repeatable():
    assert np.array_equal(make_other_picture(1, 64), make_other_picture(1, 64))
    assert len({make_other_picture(seed, 64).tobytes() for seed in range(10)}) == 10
