"""A volume in one DICOM file lies where its series lies; a file that is not a volume is refused."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pydicom
import pytest
import torch
from monai.data import CacheDataset

from shared.core.errors import InputError
from shared.datasets.spacing import spacing_is_known
from shared.io.dicom_frames import NO_STACK
from shared.io.volumes import LoadSequencesd
from tests.io.loading import load_dicom
from tests.making import AFFINE, oblique, save, save_frames, save_series, volume

FILES = Path(pydicom.__file__).parent / "data" / "test_files"
ORDERS = {"axial": AFFINE, "oblique": oblique(), "downwards": AFFINE @ np.diag([1.0, 1, -1, 1])}


@pytest.mark.parametrize("affine", ORDERS.values(), ids=ORDERS)
@pytest.mark.parametrize("alone", [False, True], ids=["file", "folder"])
def test_a_file_lies_where_its_series_lies(tmp_path, affine, alone):
    (tmp_path / "a").mkdir()
    file = save_frames(tmp_path / "scan.dcm", volume(3), affine)
    moved = Path(file).rename(tmp_path / "a" / "IM0001")
    frames = load_dicom(str(tmp_path / "a" if alone else moved))
    series = load_dicom(str(tmp_path / "scan_slices"))
    assert torch.equal(frames.as_tensor(), series.as_tensor()) and frames.dtype == torch.float32
    assert torch.allclose(frames.affine, series.affine, atol=1e-5)
    assert spacing_is_known({"image": str(moved)})


def test_intensities_are_rescaled(tmp_path):
    file = save_frames(tmp_path / "a.dcm", volume(3), AFFINE, RescaleSlope="2", RescaleIntercept="-5", RescaleType="US")
    frames = load_dicom(file)
    assert np.array_equal(np.unique(frames), np.unique(volume(3) * 2 - 5))
    assert torch.equal(frames.as_tensor(), load_dicom(str(tmp_path / "a_slices")).as_tensor())


def test_a_map_to_other_units_leaves_the_rescaled_intensities(tmp_path):
    """As Philips writes it; a series of slices is not mapped either."""
    file = save_frames(tmp_path / "a.dcm", volume(3), AFFINE, RescaleSlope="2", RescaleIntercept="-5", RescaleType="US")
    image = pydicom.dcmread(file)
    mapping = pydicom.Dataset()
    mapping.RealWorldValueFirstValueMapped, mapping.RealWorldValueLastValueMapped = 0, 65535
    mapping.RealWorldValueSlope, mapping.RealWorldValueIntercept = 0.5, 7.0
    mapping.MeasurementUnitsCodeSequence = [pydicom.Dataset()]
    image.SharedFunctionalGroupsSequence[0].RealWorldValueMappingSequence = [mapping]
    image.save_as(file)
    assert torch.equal(load_dicom(file).as_tensor(), load_dicom(str(tmp_path / "a_slices")).as_tensor())


def test_beside_nifti(tmp_path):
    frames = save_frames(tmp_path / "flair.dcm", volume(0), oblique())
    nifti = save(tmp_path / "t1.nii.gz", volume(1), oblique())
    image = LoadSequencesd("image", ["flair", "t1"])({"image": [frames, nifti]})["image"]
    assert np.array_equal(image[1].as_tensor().numpy(), volume(1))


def twice_the_same_place(folder: Path) -> str:
    return save_frames(folder / "a.dcm", volume(0), AFFINE @ np.diag([1, 1, 0, 1]))


@pytest.mark.parametrize(
    "make, part",
    [
        (twice_the_same_place, NO_STACK),
        (lambda _: FILES / "examples_ybr_color.dcm", NO_STACK),
        (lambda _: FILES / "SC_rgb_rle_2frame.dcm", NO_STACK),
        (lambda _: FILES / "MR_small.dcm", "a single DICOM file with one slice"),
        (lambda _: FILES / "badVR.dcm", "cannot be read"),
    ],
    ids=["several times", "film", "colours", "one slice", "broken"],
)
def test_a_file_that_is_not_a_volume_is_refused(tmp_path, make, part):
    with pytest.raises(InputError) as caught:
        load_dicom(str(make(tmp_path)))
    assert part in str(caught.value) and "a volume in one DICOM file" in str(caught.value)


def test_threads_leave_pydicom_as_it_was(tmp_path, monkeypatch):
    """Loading in threads leaves pydicom's validation mode unchanged; MONAI's reader could leave it strict."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        items = [{"image": [save_series(tmp_path / f"s{i}", volume(i), AFFINE)]} for i in range(24)]
        CacheDataset(items, LoadSequencesd("image", ["flair"]), num_workers=6, progress=False)
    finally:
        sys.setswitchinterval(interval)
    mode = pydicom.config.settings.reading_validation_mode
    monkeypatch.setattr(pydicom.config.settings, "_reading_validation_mode", None)
    assert mode == pydicom.config.settings.reading_validation_mode


def test_numbers_longer_than_dicom_allows(tmp_path, monkeypatch):
    """Some scanners write numbers of more than 16 characters; they are read all the same."""
    folder = Path(save_series(tmp_path / "a", volume(0), oblique()))
    expected = load_dicom(str(folder))
    monkeypatch.setattr(pydicom.config.settings, "_reading_validation_mode", pydicom.config.IGNORE)
    monkeypatch.setattr(pydicom.config.settings, "_writing_validation_mode", pydicom.config.IGNORE)
    for file in folder.iterdir():
        piece = pydicom.dcmread(file)
        for word in ("PixelSpacing", "ImagePositionPatient", "ImageOrientationPatient"):
            setattr(piece, word, [f"{float(value):.20f}" for value in piece[word].value])
        piece.save_as(file)
    monkeypatch.undo()
    found = load_dicom(str(folder))
    assert torch.equal(found.as_tensor(), expected.as_tensor()) and torch.allclose(found.affine, expected.affine)
