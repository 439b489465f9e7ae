from __future__ import annotations

import math
import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from monai.metrics import compute_dice
from scipy import ndimage
from scipy.spatial.distance import cdist

from shared.results.metrics import case_metrics, dice, lesion_wise, surface_metrics

REAL = os.environ.get("BUNDLES_REAL_DATA")
SHAPE = (7, 6, 5)
masks = arrays(bool, SHAPE, elements=st.booleans(), fill=st.just(False))
spacings = st.tuples(*[st.sampled_from([0.5, 1.0, 1.2, 3.0])] * 3)


def box(*where: slice) -> np.ndarray:
    mask = np.zeros((20, 20, 20), bool)
    mask[where] = True
    return mask


def test_lesion_wise_counts():
    label = box(slice(2, 4), slice(2, 4), slice(2, 4)) | box(slice(10, 12), slice(10, 12), slice(10, 12))
    label |= box(slice(4, 5), slice(4, 5), slice(4, 5))  # touches the first by a corner: the same lesion
    pred = box(slice(3, 4), slice(3, 4), slice(3, 4)) | box(slice(16, 18), slice(0, 2), slice(0, 2))
    pred |= box(slice(2, 3), slice(8, 9), slice(0, 1))
    assert lesion_wise(pred, label) == {
        "lesion_recall": 1 / 2,
        "lesion_precision": pytest.approx(1 / 3),
        "lesion_f1": pytest.approx(2 * (1 / 2) * (1 / 3) / (1 / 2 + 1 / 3)),
        "lesions": 2,
        "lesions_pred": 3,
        "lesions_found": 1,
    }


def test_one_prediction_may_find_two_lesions():
    label = box(slice(2, 4), slice(2, 4), slice(2, 4)) | box(slice(6, 8), slice(2, 4), slice(2, 4))
    result = lesion_wise(box(slice(2, 8), slice(2, 4), slice(2, 4)), label)
    assert (result["lesion_recall"], result["lesion_precision"], result["lesions_found"]) == (1, 1, 2)


@pytest.mark.parametrize(
    "pred, label, expected",
    [
        (0, 0, {"dice": 1, "hd95_mm": 0, "surface_dice": 1, "lesion_recall": 1, "lesion_precision": 1, "lesion_f1": 1}),
        (1, 0, {"dice": 0, "surface_dice": 0, "lesion_recall": 1, "lesion_precision": 0, "lesion_f1": 0}),
        (0, 1, {"dice": 0, "surface_dice": 0, "lesion_recall": 0, "lesion_precision": 1, "lesion_f1": 0}),
    ],
    ids=["both empty", "false alarm", "missed"],
)
def test_empty_masks(pred, label, expected):
    cube = box(slice(2, 4), slice(2, 4), slice(2, 4))
    found = case_metrics(cube * pred, cube * label, (1, 2, 3), ["lesion"])["lesion"]
    assert {key: found[key] for key in expected} == expected
    if pred != label:
        assert found["hd95_mm"] == pytest.approx(math.hypot(20, 40, 60))


def test_values_and_units():
    label = box(slice(0, 10), slice(0, 10), slice(0, 10)).astype(np.uint8) * 2
    pred = np.roll(label, 1, axis=2)
    found = case_metrics(pred[None], label[None], (1, 1, 3), {1: "core", 2: "oedema"})
    assert list(found) == ["core", "oedema"]
    assert found["core"]["dice"] == 1 and found["core"]["lesions"] == 0
    assert found["oedema"]["dice"] == pytest.approx(0.9)
    assert found["oedema"]["hd95_mm"] == pytest.approx(3)
    assert found["oedema"]["volume_ml"] == pytest.approx(3.0)


@pytest.mark.parametrize("background", [0, 1])
def test_channel_wise_regions_may_overlap(background):
    whole = box(slice(0, 10), slice(0, 10), slice(0, 10))
    core = box(slice(0, 5), slice(0, 5), slice(0, 5))
    label = np.stack([~whole] * background + [whole, core])
    pred = np.stack([~core] * background + [core, core])
    found = case_metrics(pred, label, (1, 1, 1), ["WT", "TC"], channel_wise=True)
    assert found["WT"]["dice"] == pytest.approx(2 * 125 / 1125) and found["TC"]["dice"] == 1


def test_a_class_that_was_not_annotated_has_no_metrics():
    whole = box(slice(0, 10), slice(0, 10), slice(0, 10)).astype(np.float32)
    pred, label = np.stack([whole, whole]), np.stack([np.roll(whole, 1, 0), np.full_like(whole, -1)])
    found = case_metrics(pred, label, (1, 1, 1), ["disc", "cup"], channel_wise=True)
    assert found["cup"].keys() == found["disc"].keys() and all(math.isnan(value) for value in found["cup"].values())
    assert found["disc"] == case_metrics(pred[:1], label[:1], (1, 1, 1), ["disc"], channel_wise=True)["disc"]
    assert found["disc"]["dice"] == pytest.approx(0.9) and found["disc"]["volume_ml"] == pytest.approx(1)


def test_pictures_without_a_known_size_are_measured_in_pixels():
    label = np.zeros((1, 20, 30), np.uint8)
    label[0, 5:15, 5:25] = 1
    found = case_metrics(np.roll(label, 2, axis=1), label, None, ["disc"])["disc"]
    assert (found["hd95_px"], found["area_px"], found["area_pred_px"]) == (2, 200, 200)
    assert not [key for key in found if "_mm" in key or "_ml" in key]


def test_pictures_of_known_size_are_measured_in_millimetres():
    label = np.zeros((20, 30), np.uint8)
    label[5:15, 5:25] = 1
    found = case_metrics(np.roll(label, 2, axis=0), label, (0.5, 0.2), ["disc"])["disc"]
    assert (found["hd95_mm"], found["area_mm2"], found["area_pred_mm2"]) == pytest.approx((1, 20, 20))


def test_volumes_without_a_known_size_are_measured_in_voxels():
    cube = box(slice(2, 4), slice(2, 4), slice(2, 4))
    found = case_metrics(np.stack([cube]), np.stack([cube]), None, ["lesion"], channel_wise=True)["lesion"]
    assert (found["hd95_px"], found["volume_voxels"], found["volume_pred_voxels"]) == (0, 8, 8)


@given(pred=masks, label=masks)
def test_dice_is_that_of_monai(pred, label):
    pair = (torch.from_numpy(mask)[None, None] for mask in (pred, label))
    assert dice(pred, label) == pytest.approx(compute_dice(*pair, ignore_empty=False).item(), abs=1e-6)


def test_two_dimensional():
    label = np.zeros((1, 8, 8), np.uint8)
    label[0, 2:4, 2:4] = 1
    assert case_metrics(label, label, (1, 1), ["disc"])["disc"]["dice"] == 1


@pytest.mark.parametrize(
    "pred, label, spacing, names, channel_wise, part",
    [
        (np.zeros((4, 4, 4)), np.zeros((4, 4, 5)), (1, 1, 1), ["a"], False, "shape"),
        (np.zeros((4, 4, 4)), np.zeros((4, 4, 4)), (1,), ["a"], False, "spacings"),
        (np.zeros((3, 4, 4, 4)), np.zeros((3, 4, 4, 4)), (1, 1, 1), ["a"], True, "1 class names for 3 channels"),
    ],
)
def test_what_does_not_fit(pred, label, spacing, names, channel_wise, part):
    with pytest.raises(ValueError, match=part):
        case_metrics(pred, label, spacing, names, channel_wise)


@settings(max_examples=60, deadline=None)
@given(pred=masks, label=masks, spacing=spacings)
def test_properties(pred, label, spacing):
    hd95, surface_dice = surface_metrics(pred, label, spacing)
    assert surface_metrics(pred, label, spacing, crop=False) == pytest.approx((hd95, surface_dice), abs=1e-5)
    assert surface_metrics(label, pred, spacing) == pytest.approx((hd95, surface_dice), abs=1e-5)
    assert dice(pred, label) == dice(label, pred)
    assert 0 <= dice(pred, label) <= 1 and 0 <= surface_dice <= 1
    assert 0 <= hd95 <= math.hypot(*(n * size for n, size in zip(SHAPE, spacing))) + 1e-4
    assert lesion_wise(pred, label)["lesion_recall"] == lesion_wise(label, pred)["lesion_precision"]
    assert surface_metrics(label, label, spacing) == pytest.approx((0, 1)) and dice(label, label) == 1


@settings(max_examples=40, deadline=None)
@given(pred=masks.filter(np.any), label=masks.filter(np.any), spacing=spacings)
def test_hd95_by_hand(pred, label, spacing):
    points = [np.argwhere(mask & ~ndimage.binary_erosion(mask)) * spacing for mask in (pred, label)]
    distances = cdist(*points)
    by_hand = max(np.percentile(distances.min(1), 95), np.percentile(distances.min(0), 95))
    assert surface_metrics(pred, label, spacing)[0] == pytest.approx(by_hand, abs=1e-4)


@pytest.mark.skipif(not REAL, reason="BUNDLES_REAL_DATA is not set")
def test_cropping_changes_nothing_on_a_whole_head():
    image: nib.Nifti1Image = nib.load(Path(REAL) / "brain_ms" / "patient26" / "lesion.nii.gz")
    label = np.asarray(image.dataobj) > 0
    pred = ndimage.binary_dilation(label)
    found = case_metrics(pred, label, (1, 1, 1), ["lesion"])["lesion"]
    whole = surface_metrics(pred, label, (1, 1, 1), crop=False)
    assert (found["hd95_mm"], found["surface_dice"]) == pytest.approx(whole)
