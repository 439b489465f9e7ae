"""Enhanced files of one frame each are a stack of slices: the same voxels, place and masks as of plain files."""

from __future__ import annotations

import shutil
from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest
import torch
from monai.data import MetaTensor
from pydicom.uid import EnhancedMRImageStorage

from shared.io.dicom_seg import save_dicom_seg
from shared.io.sources import load_volume, read_header
from tests.bundles.running import input_error
from tests.making import AFFINE, make_enhanced, oblique, save_series, volume


def two_series(folder: Path, affine: np.ndarray = AFFINE) -> tuple[Path, Path]:
    """Write a plain series and the same slices as enhanced files; each slice has a slope of its own."""
    plain = Path(save_series(folder / "plain", volume(0), affine))
    for number, file in enumerate(sorted(plain.iterdir())):
        piece = pydicom.dcmread(file)
        piece.RescaleSlope, piece.RescaleIntercept, piece.EchoTime = 1 + number / 2, -3 * number, "86"
        piece.ImageType = ["ORIGINAL", "PRIMARY", "M"]
        piece.save_as(file)
    shutil.copytree(plain, folder / "enhanced")
    return plain, Path(make_enhanced(folder / "enhanced"))


@pytest.mark.parametrize("affine", [AFFINE, oblique()], ids=["straight", "oblique"])
def test_voxels_and_place_are_those_of_plain_slices(tmp_path, affine):
    plain, enhanced = two_series(tmp_path, affine)
    expected, found = load_volume(plain, "case a"), load_volume(enhanced, "case a")
    assert torch.equal(found.as_tensor(), expected.as_tensor()) and torch.equal(found.affine, expected.affine)
    header = read_header(enhanced, "case a")
    assert header.shape == (6, 5, 4) and np.array_equal(header.affine, expected.affine)


def test_the_segmentation_lies_on_the_slices_and_names_them(tmp_path):
    plain, enhanced = two_series(tmp_path, oblique())
    image = load_volume(enhanced, "case a")
    label = MetaTensor((image > image.median()).float(), image.affine)
    masks = []
    for folder in (plain, enhanced):
        path = save_dicom_seg(
            label, folder, tmp_path / f"{folder.name}.dcm", ["lesion"], [["52988006", "SCT", "Lesion"]]
        )
        uids = [pydicom.dcmread(file).SOPInstanceUID for file in sorted(folder.iterdir())]
        found = highdicom.seg.segread(path)
        masks.append(found.get_pixels_by_source_instance(uids, ignore_spatial_locations=True))
        kinds = {item.ReferencedSOPClassUID for item in found.ReferencedSeriesSequence[0].ReferencedInstanceSequence}
        sources = [
            item.ReferencedSOPClassUID
            for frame in found.PerFrameFunctionalGroupsSequence
            for item in frame.DerivationImageSequence[0].SourceImageSequence
        ]
        assert {*kinds, *sources} == {pydicom.dcmread(next(folder.iterdir())).SOPClassUID}
    assert masks[0].any() and np.array_equal(*masks)
    assert EnhancedMRImageStorage in kinds


def test_two_echoes_in_one_folder_are_refused(tmp_path):
    _, enhanced = two_series(tmp_path)
    for number, file in enumerate(sorted(enhanced.iterdir())):
        piece = pydicom.dcmread(file)
        piece.PerFrameFunctionalGroupsSequence[0].MREchoSequence[0].EffectiveEchoTime = 20.0 + 60 * (number % 2)
        piece.save_as(file)
    for read in (load_volume, read_header):
        assert "its slices have 2 values of EchoTime (20, 80)" in input_error(read, enhanced, "case a")


@pytest.mark.parametrize("word", ["PlanePositionSequence", "PixelMeasuresSequence"])
def test_a_slice_without_a_place_is_refused(tmp_path, word):
    _, enhanced = two_series(tmp_path)
    file = next(enhanced.iterdir())
    piece = pydicom.dcmread(file)
    for level in ("PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence"):
        piece[level][0].pop(word, None)
    piece.save_as(file)
    for read in (load_volume, read_header):
        assert "a slice has no " in input_error(read, enhanced, "case a")
