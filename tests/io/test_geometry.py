"""A thresholded scan, saved as a mask, lies where the scan lies: whatever the affine, the header and the slices are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import highdicom
import nibabel as nib
import numpy as np
import pydicom
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from monai.data import MetaTensor
from monai.transforms import Compose, Invertd, Orientationd
from scipy.spatial import cKDTree

from shared.io.dicom_labels import load_dicom_seg
from shared.io.dicom_seg import save_dicom_seg
from shared.io.masks import save_prediction
from shared.io.sources import read_header
from shared.io.volumes import LoadSequencesd
from tests.making import SHAPE, random_affine, save_frames, save_series, volume

THRESHOLD = 500
FORMS = ("qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z")
FIELDS = (*FORMS, "srow_x", "srow_y", "srow_z", "xyzt_units", "pixdim")
UNITS = {"unknown": 1.0, "mm": 1.0, "meter": 1000.0, "micron": 0.001}
CODE = [["52988006", "SCT", "Lesion"]]


def save_nifti(path: Path, random: np.random.Generator, unit: str, codes: tuple[int, int], kind: Any) -> np.ndarray:
    """Write a scan whose two forms and voxel sizes have nothing to do with each other; return its voxels."""
    header = kind.header_class()
    array = volume(int(random.integers(1000)))
    header.set_data_dtype(np.int16)
    header.set_data_shape(array.shape)
    header.set_zooms(10 ** random.uniform(-3, 3, 3))
    header.set_xyzt_units(unit)
    header.set_qform(random_affine(random), codes[0])
    header.set_sform(random_affine(random, shear=0.5), codes[1])
    nib.save(kind(array, None, header), path)
    return array


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 10**6),
    unit=st.sampled_from(list(UNITS)),
    codes=st.tuples(st.integers(0, 4), st.integers(0, 4)),
    kind=st.sampled_from([nib.Nifti1Image, nib.Nifti2Image]),
    turned=st.booleans(),
)
def test_a_mask_has_the_transforms_of_its_nifti(tmp_path, seed, unit, codes, kind, turned):
    path = tmp_path / "scan.nii.gz"
    array = save_nifti(path, np.random.default_rng(seed), unit, codes, kind)
    load = Compose([LoadSequencesd("image", ["flair"]), *([Orientationd("image", "RAS", labels=None)] * turned)])
    item = load({"image": [str(path)]})
    item["pred"] = (item["image"] > THRESHOLD).float()
    pred = Invertd("pred", load, orig_keys="image")(item)["pred"] if turned else item["pred"]
    scan, mask = nib.load(path), nib.load(save_prediction(pred, tmp_path, "p1"))
    assert np.array_equal(np.asarray(mask.dataobj), array > THRESHOLD)
    assert np.array_equal(scan.affine, mask.affine)
    for field in FIELDS:
        assert np.array_equal(scan.header[field], mask.header[field]), field
    in_mm = np.diag([UNITS[unit]] * 3 + [1]) @ scan.affine
    np.testing.assert_allclose(read_header(path, "case a").affine, in_mm, rtol=1e-12)


def save_stack(folder: Path, random: np.random.Generator, kind: str) -> tuple[Path, np.ndarray]:
    """Write a stack of slices whose step may be oblique to them, numbered in any order; return path and voxels."""
    affine, array = random_affine(random), volume(int(random.integers(1000)))
    affine[:3, 2] += affine[:3, :2] @ random.uniform(-2, 2, 2) * random.integers(2)
    if kind == "frames":
        return Path(save_frames(folder / "scan.dcm", array, affine)), array
    return Path(save_series(folder / "series", array, affine, random.permutation(SHAPE[2]).tolist())), array


def bright_pixels(slices: list[pydicom.Dataset]) -> np.ndarray:
    """Where the bright pixels lie (N, 3), in DICOM's axes, from the headers of the slices alone."""
    places = []
    for piece in slices:
        right, down = np.reshape(np.array(piece.ImageOrientationPatient, float), (2, 3))
        rows, columns = np.nonzero(piece.pixel_array > THRESHOLD)
        down_mm, right_mm = (float(step) for step in piece.PixelSpacing)
        origin = np.array(piece.ImagePositionPatient, float)
        places.append(origin + columns[:, None] * right_mm * right + rows[:, None] * down_mm * down)
    return np.concatenate(places)


def assert_same_places(found: np.ndarray, expected: np.ndarray, size: float) -> None:
    """Every place has its partner within a hundredth of `size`."""
    assert len(found) == len(expected)
    distance, partner = cKDTree(expected).query(found)
    assert distance.max() < size / 100 and len(set(partner)) == len(expected)


def mask_in_world(mask: Any) -> np.ndarray:
    """Where the mask's voxels lie, in DICOM's axes."""
    index = np.argwhere(np.asarray(mask.dataobj))
    return (index @ mask.affine[:3, :3].T + mask.affine[:3, 3]) * [-1, -1, 1]


def segmented_pixels(file: Path) -> np.ndarray:
    """Where the pixels of a DICOM SEG lie, from its own functional groups."""
    seg = highdicom.seg.segread(file)
    shared, places = seg.SharedFunctionalGroupsSequence[0], []
    right, down = np.reshape(np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, float), (2, 3))
    down_mm, right_mm = (float(step) for step in shared.PixelMeasuresSequence[0].PixelSpacing)
    for frame, groups in zip(seg.pixel_array.reshape(-1, seg.Rows, seg.Columns), seg.PerFrameFunctionalGroupsSequence):
        rows, columns = np.nonzero(frame)
        origin = np.array(groups.PlanePositionSequence[0].ImagePositionPatient, float)
        places.append(origin + columns[:, None] * right_mm * right + rows[:, None] * down_mm * down)
    return np.concatenate(places)


@pytest.mark.parametrize("kind", ["series", "frames"])
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_a_mask_lies_on_its_dicom(tmp_path_factory, kind, seed):
    folder = tmp_path_factory.mktemp("stack")
    path, _ = save_stack(folder, np.random.default_rng(seed), kind)
    image = LoadSequencesd("image", ["flair"])({"image": [str(path)]})["image"]
    pred = MetaTensor((image > THRESHOLD).float(), meta=image.meta)
    slices = [
        pydicom.dcmread(file) for file in sorted((folder / "scan_slices" if kind == "frames" else path).iterdir())
    ]
    expected, size = bright_pixels(slices), float(min(slices[0].PixelSpacing))
    mask = nib.load(save_prediction(pred, folder / "out", "p1"))
    assert_same_places(mask_in_world(mask), expected, size)
    seg = save_dicom_seg(pred, path, folder / "p1_seg.dcm", ["lesion"], CODE)
    assert_same_places(segmented_pixels(seg), expected, size)
    back = load_dicom_seg(seg, image, "case p1")
    assert torch.equal(back.as_tensor(), pred.as_tensor()) and torch.equal(back.affine, image.affine)
