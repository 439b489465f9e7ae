"""What a mask means, against values worked out by hand."""

import numpy as np
import pytest
from brainsegdmlf.measures import lesions
from emclip.measures import cup_to_disc, ejection_fractions, heart
from hypothesis import given, settings
from hypothesis import strategies as st
from tmca.measures import chest


def volume(*boxes, shape=(10, 10, 5)):
    """Boxes (value, x slice, y slice, z slice) in an empty label map."""
    label = np.zeros(shape, np.uint8)
    for value, x, y, z in boxes:
        label[slice(*x), slice(*y), slice(*z)] = value
    return label


def test_lesions_are_counted_and_measured():
    label = volume((1, (0, 2), (0, 2), (0, 2)), (1, (2, 3), (2, 3), (2, 3)), (2, (7, 10), (7, 10), (0, 2)))
    found = lesions(label, (1.0, 2.0, 5.0))  # a voxel has 10 mm3; two of the boxes touch at a corner
    assert found == {"lesion_count": 2, "lesion_volume_ml": 0.27, "lesion_volumes_ml": [0.18, 0.09]}


def test_without_spacing_the_keys_say_voxels():
    found = lesions(volume((1, (0, 2), (0, 2), (0, 2))), None)
    assert found == {"lesion_count": 1, "lesion_volume_voxels": 8, "lesion_volumes_voxels": [8]}
    found = heart(volume((1, (0, 2), (0, 1), (0, 1)), (2, (3, 6), (0, 1), (0, 1))), None)
    assert found == {"lv_volume_voxels": 2, "rv_volume_voxels": 0, "myocardial_volume_voxels": 3}


def test_an_empty_mask_has_no_lesion():
    assert lesions(volume(), (1, 1, 1)) == {"lesion_count": 0, "lesion_volume_ml": 0, "lesion_volumes_ml": []}


def test_cup_to_disc_is_of_heights():
    label = np.zeros((1, 20, 30), np.uint8)
    label[0, 4:14, 5:25] = 1
    label[0, 6:10, 8:20] = 2
    found = cup_to_disc(label)
    assert found == {"vertical_cup_to_disc_ratio": 0.4, "disc_height_px": 10, "cup_height_px": 4}


def test_a_cup_that_reaches_the_edge_of_its_disc_counts_for_both():
    label = np.zeros((20, 30), np.uint8)
    label[4:10, 5:25] = 1
    label[2:8, 8:20] = 2
    assert cup_to_disc(label)["vertical_cup_to_disc_ratio"] == 0.75


def test_no_disc_no_ratio():
    assert cup_to_disc(np.zeros((5, 5)))["vertical_cup_to_disc_ratio"] is None


def test_the_hearts_volumes_and_mass():
    boxes = (1, (0, 4), (0, 5), (0, 5)), (2, (4, 5), (0, 10), (0, 5)), (3, (6, 8), (0, 5), (0, 5))
    found = heart(volume(*boxes)[None], (2.0, 2.0, 10.0))  # a voxel has 0.04 mL
    assert found == {"lv_volume_ml": 4.0, "rv_volume_ml": 2.0, "myocardial_mass_g": 2.1}


def test_ejection_fraction_needs_both_ends_of_one_patient():
    cases = [
        {"patient": "a", "phase": "ED", "lv_volume_ml": 120.0, "rv_volume_ml": 100.0},
        {"patient": "a", "phase": "es", "lv_volume_ml": 48.0, "rv_volume_ml": 60.0},
        {"patient": "b", "phase": "ED", "lv_volume_ml": 120.0, "rv_volume_ml": 100.0},
        {"patient": "c", "phase": "ED", "lv_volume_ml": 0.0, "rv_volume_ml": 10.0},
        {"patient": "c", "phase": "ES", "lv_volume_ml": 0.0, "rv_volume_ml": 10.0},
        {"lv_volume_ml": 1.0, "rv_volume_ml": 1.0},
    ]
    assert ejection_fractions(cases) == {
        "a": {"lv_ejection_fraction": 60.0, "rv_ejection_fraction": 40.0},
        "c": {"lv_ejection_fraction": None, "rv_ejection_fraction": 0.0},
    }


@pytest.mark.parametrize(("columns", "side"), [((0, 3), "left"), ((5, 9), "right"), ((3, 6), "both"), ((0, 0), "none")])
def test_a_chests_side_and_area(columns, side):
    label = np.zeros((10, 9), np.uint8)
    label[2:4, slice(*columns)] = 1
    found = chest(label)
    area = 2 * (columns[1] - columns[0])
    assert found["affected_side_of_picture"] == side and found["affected_area_px"] == area
    assert found["affected_share_of_picture"] == pytest.approx(area / 90, rel=1e-3)
    assert chest(label, (5.0, 2.0))["affected_area_cm2"] == pytest.approx(area * 0.1)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.permutations(range(3)))
def test_turning_a_volume_changes_no_lesion(seed, axes):
    label = (np.random.default_rng(seed).random((6, 7, 8)) > 0.8).astype(np.uint8)
    spacing = np.array([0.5, 1.0, 3.0])
    turned = np.flip(label.transpose(axes), axis=0)
    assert lesions(label, spacing) == lesions(turned, spacing[list(axes)])
