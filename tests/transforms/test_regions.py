"""Regions and label values: there and back without loss, on the same grid."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data import MetaTensor

from shared.core.errors import InputError
from shared.transforms.regions import LabelToRegionsd, RegionsToLabeld

BRATS = ({"WT": [1, 2, 4], "TC": [1, 4], "ET": [4]}, [2, 1, 4])
BINARY = ({"lesion": [1]}, [1])
AFFINE = torch.tensor([[0.0, -2, 0, 5], [1, 0, 0, -7], [0, 0, 3, 2], [0, 0, 0, 1]])


def there_and_back(label, regions, values):
    masks = LabelToRegionsd("label", regions)({"label": label})
    return masks["label"], RegionsToLabeld("label", values)(masks)["label"]


@settings(max_examples=25, deadline=1000)
@given(
    st.sampled_from([(BRATS, [0, 1, 2, 4]), (BINARY, [0, 1])]),
    st.sampled_from([torch.uint8, torch.int16, torch.int64, torch.float32]),
    st.integers(2, 3),
    st.integers(0, 10**6),
)
def test_round_trip(protocol, dtype, dims, seed):
    (regions, values), classes = protocol
    generator = torch.Generator().manual_seed(seed)
    label = torch.tensor(classes)[torch.randint(len(classes), (1, *[5] * dims), generator=generator)].to(dtype)
    masks, back = there_and_back(label, regions, values)
    assert masks.shape == (len(regions), *label.shape[1:]) and masks.dtype == torch.float32
    assert back.shape == label.shape and back.dtype == torch.uint8
    assert torch.equal(back, label.to(torch.uint8))
    assert set(masks.unique().tolist()) <= {0.0, 1.0}


def test_brats_regions_lie_inside_each_other():
    label = torch.tensor([[[0, 1, 2, 4]]])
    masks, _ = there_and_back(label, *BRATS)
    assert masks[:, 0].tolist() == [[0, 1, 1, 1], [0, 1, 0, 1], [0, 0, 0, 1]]


def test_predictions_that_are_not_nested_still_give_one_value_per_voxel():
    """A network may call a voxel ET but not TC: the innermost region that claims it decides."""
    masks = torch.tensor([[[0.0, 1, 0, 0.6]], [[0, 0, 1, 0.4]], [[0, 0, 1, 0.9]]])
    assert RegionsToLabeld("pred", [2, 1, 4])({"pred": masks})["pred"].tolist() == [[[0, 2, 4, 4]]]


def test_affine_and_other_entries_are_kept():
    label = MetaTensor(torch.randint(0, 2, (1, 4, 4, 3)), affine=AFFINE.double(), meta={"filename_or_obj": "a.nii.gz"})
    data = {"label": label, "case_id": "p1"}
    masks = LabelToRegionsd("label", BINARY[0])(data)
    back = RegionsToLabeld("label", [1])(masks)
    for result in (masks, back):
        assert isinstance(result["label"], MetaTensor) and result["case_id"] == "p1"
        assert torch.equal(result["label"].affine, AFFINE.double())
        assert result["label"].meta["filename_or_obj"] == "a.nii.gz"
    assert data["label"] is label  # the input is left as it is


def test_missing_keys():
    with pytest.raises(KeyError):
        LabelToRegionsd("label", BINARY[0])({"image": 1})
    assert LabelToRegionsd("label", BINARY[0], allow_missing_keys=True)({"image": 1}) == {"image": 1}
    assert RegionsToLabeld("pred", [1], allow_missing_keys=True)({"image": 1}) == {"image": 1}


FUNDUS = {"optic disc": [100, 200], "optic cup": [200]}


@pytest.mark.parametrize(
    "labelled, unknown",
    [
        ({}, []),
        ({"labelled": None}, []),
        ({"labelled": ["optic cup", "optic disc"]}, []),
        ({"labelled": ["optic disc"]}, [1]),
        ({"labelled": "optic cup"}, [0]),
        ({"labelled": []}, [0, 1]),
    ],
)
def test_a_region_without_annotation_is_minus_one_everywhere(labelled, unknown):
    label = MetaTensor(torch.tensor([[[0, 100, 200], [0, 0, 100]]], dtype=torch.uint8))
    plain = LabelToRegionsd("label", FUNDUS)({"label": label, **labelled})["label"]
    masks = LabelToRegionsd("label", FUNDUS, labelled_key="labelled")({"label": label, **labelled})["label"]
    assert set(plain.unique().tolist()) == {0, 1} and masks.dtype == torch.float32
    for channel, (mask, all_known) in enumerate(zip(masks, plain)):
        assert (mask == -1).all() if channel in unknown else torch.equal(mask, all_known)


def test_an_unknown_labelled_name_is_refused():
    transform = LabelToRegionsd("label", FUNDUS, labelled_key="labelled")
    item = {"label": torch.zeros(1, 2, 2), "labelled": ["optic disc", "cup"], "case_id": "p1"}
    with pytest.raises(
        InputError, match="^case p1: labelled names 'cup', which is not a region: choose from optic disc,"
    ):
        transform(item)
