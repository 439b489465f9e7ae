"""Voxel sizes that may be believed, and those that may not."""

import nibabel as nib
import numpy as np
import pytest

from shared.datasets.spacing import spacing_is_known, unit_is_assumed


def volume(path, unit="unknown", qform=0, sform=2):
    image = nib.Nifti1Image(np.zeros((2, 2, 2), np.int16), np.eye(4))
    image.header.set_xyzt_units(unit)
    image.set_qform(np.eye(4), qform)
    image.set_sform(np.eye(4), sform)
    nib.save(image, path)
    return str(path)


@pytest.mark.parametrize(
    ("options", "assumed"),
    [({}, True), ({"unit": "mm"}, False), ({"qform": 1}, False), ({"sform": 1}, False)],
)
def test_a_nifti_without_a_unit_is_taken_as_mm_and_said_so(tmp_path, options, assumed):
    path = volume(tmp_path / "a.nii.gz", **options)
    for image in (path, [None, path]):
        assert spacing_is_known({"image": image}) and unit_is_assumed({"image": image}) == assumed
        assert not unit_is_assumed({"image": image, "spacing": "mm"})


def test_what_nibabel_writes_by_default_is_measured_in_mm(tmp_path):
    nib.save(nib.Nifti1Image(np.zeros((2, 2, 2), np.int16), np.eye(4)), tmp_path / "a.nii.gz")
    item = {"image": str(tmp_path / "a.nii.gz")}
    assert spacing_is_known(item) and unit_is_assumed(item)


@pytest.mark.parametrize("kind, name", [(nib.MGHImage, "a.mgz"), (nib.Nifti1Pair, "a.hdr")])
def test_other_volumes_have_a_size(tmp_path, kind, name):
    nib.save(kind(np.zeros((2, 2, 2), np.int16), np.eye(4)), tmp_path / name)
    item = {"image": str(tmp_path / name)}
    assert spacing_is_known(item) and unit_is_assumed(item) == (kind is nib.Nifti1Pair)


def test_an_undefined_unit_is_an_open_one(tmp_path):
    path = volume(tmp_path / "a.nii")
    image = nib.load(path)
    image.header["xyzt_units"] = 7
    nib.save(image, tmp_path / "b.nii")
    assert unit_is_assumed({"image": str(tmp_path / "b.nii")})


def test_one_sequence_without_a_unit_is_enough(tmp_path):
    paths = [volume(tmp_path / "a.nii.gz", unit="mm"), volume(tmp_path / "b.nii.gz")]
    assert unit_is_assumed({"image": paths})


@pytest.mark.parametrize(("word", "known"), [("mm", True), ("nominal", False)])
def test_the_data_list_has_the_last_word(tmp_path, word, known):
    path = volume(tmp_path / "a.nii.gz", unit="unknown" if known else "mm")
    assert spacing_is_known({"image": path, "spacing": word}) == known


def test_dicom_nrrd_and_meta_image_are_believed_and_pictures_are_not(tmp_path):
    assert spacing_is_known({"image": str(tmp_path)})
    assert spacing_is_known({"image": [str(tmp_path / "a.nrrd"), str(tmp_path / "a.mha")]})
    assert not spacing_is_known({"image": str(tmp_path / "eye.png")})
