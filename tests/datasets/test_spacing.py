"""Voxel sizes that may be believed, and those that may not."""

import nibabel as nib
import numpy as np
import pytest

from shared.datasets.spacing import spacing_is_known


def volume(path, unit="unknown", qform=0, sform=2):
    image = nib.Nifti1Image(np.zeros((2, 2, 2), np.int16), np.eye(4))
    image.header.set_xyzt_units(unit)
    image.set_qform(np.eye(4), qform)
    image.set_sform(np.eye(4), sform)
    nib.save(image, path)
    return str(path)


@pytest.mark.parametrize(
    ("options", "known"),
    [({}, False), ({"unit": "mm"}, True), ({"qform": 1}, True), ({"sform": 1}, True)],
)
def test_a_nifti_must_name_its_unit_or_its_scanner(tmp_path, options, known):
    path = volume(tmp_path / "a.nii.gz", **options)
    assert spacing_is_known({"image": path}) == known
    assert spacing_is_known({"image": [None, path]}) == known


def test_an_undefined_unit_is_unknown(tmp_path):
    path = volume(tmp_path / "a.nii")
    image = nib.load(path)
    image.header["xyzt_units"] = 7
    nib.save(image, tmp_path / "b.nii")
    assert not spacing_is_known({"image": str(tmp_path / "b.nii")})


def test_all_sequences_must_be_known(tmp_path):
    paths = [volume(tmp_path / "a.nii.gz", unit="mm"), volume(tmp_path / "b.nii.gz")]
    assert not spacing_is_known({"image": paths})


@pytest.mark.parametrize(("word", "known"), [("mm", True), ("nominal", False)])
def test_the_data_list_has_the_last_word(tmp_path, word, known):
    path = volume(tmp_path / "a.nii.gz", unit="unknown" if known else "mm")
    assert spacing_is_known({"image": path, "spacing": word}) == known


def test_dicom_nrrd_and_meta_image_are_believed_and_pictures_are_not(tmp_path):
    assert spacing_is_known({"image": str(tmp_path)})
    assert spacing_is_known({"image": [str(tmp_path / "a.nrrd"), str(tmp_path / "a.mha")]})
    assert not spacing_is_known({"image": str(tmp_path / "eye.png")})
