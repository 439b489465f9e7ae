"""Which inputs are cines, and their phases: the same from a 4-D file, from DICOM and from one file per phase."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.io.masks import SPACE, save_phases
from shared.preparation.cine import find_cine
from shared.preparation.cine_load import PHASE, LoadPhased, load_cine
from tests.bundles.running import input_error
from tests.making import make_cine, oblique, random_affine, save_cine

CHANNELS = ["cine MR"]
IMAGE = make_cine()[0]
EDITS = {
    "plain": None,
    "no trigger times": lambda piece, index, phase: delattr(piece, "TriggerTime"),
    "temporal positions": lambda piece, index, phase: (
        delattr(piece, "TriggerTime"),
        setattr(piece, "InstanceNumber", 1),
        setattr(piece, "TemporalPositionIdentifier", phase + 1),
    ),
    "numbers of the slices first": lambda piece, index, phase: setattr(piece, "InstanceNumber", phase * 4 + index),
}


def save_4d(path: Path, array: np.ndarray = IMAGE, unit: str | None = "sec", step: float = 0.05, **fields) -> Path:
    image = nib.Nifti1Image(array, oblique())
    image.header.set_xyzt_units("mm", unit)
    image.header["pixdim"][4] = step
    for word, value in fields.items():
        image.header[word] = value
    nib.save(image, path)
    return path


def save_phase_files(folder: Path, names: list[str]) -> list[str]:
    folder.mkdir(exist_ok=True)
    for phase, name in enumerate(names):
        nib.save(nib.Nifti1Image(IMAGE[..., phase], oblique()), folder / name)
    return [str(folder / name) for name in names]


def cine_of(image):
    return load_cine(image, "case p1")


@pytest.mark.parametrize("unit", ["sec", "msec", None])
def test_a_4d_file_with_a_unit_of_time_or_none_is_a_cine(tmp_path, unit):
    cine = cine_of(str(save_4d(tmp_path / "cine.nii.gz", unit=unit, step=50 if unit == "msec" else 0.05)))
    assert np.array_equal(cine.voxels, IMAGE) and np.allclose(cine.affine, oblique(), atol=1e-5)
    assert cine.step_s is None if unit is None else cine.step_s == pytest.approx(0.05)


@pytest.mark.parametrize("per_slice", [False, True])
@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)
def test_a_folder_of_all_slices_and_phases_is_sorted(tmp_path, per_slice, edit):
    cine = cine_of(save_cine(tmp_path / "dicom", IMAGE, oblique(), per_slice, edit))
    assert cine.voxels.shape == IMAGE.shape and np.allclose(cine.affine, oblique(), atol=1e-5)
    assert np.array_equal(cine.voxels, IMAGE)
    timed = edit is None or edit is EDITS["numbers of the slices first"]
    assert cine.step_s == (pytest.approx(0.04) if timed else None)


def test_a_file_that_was_written_again_is_read_again(tmp_path):
    cine_of(str(save_4d(tmp_path / "cine.nii.gz")))
    assert np.array_equal(cine_of(str(save_4d(tmp_path / "cine.nii.gz", IMAGE[..., ::-1]))).voxels, IMAGE[..., ::-1])


def test_files_per_phase_in_the_order_of_their_numbers_or_of_the_list(tmp_path):
    names = [f"patient7_frame{phase}.nii.gz" for phase in range(5, 13)]  # "10" sorts before "9" as text
    files = save_phase_files(tmp_path / "frames", names)
    for image in (str(tmp_path / "frames"), files):
        cine = cine_of(image)
        assert np.array_equal(cine.voxels, IMAGE) and cine.source == files[0] and cine.step_s is None
    assert np.array_equal(cine_of(files[::-1]).voxels, IMAGE[..., ::-1]), "a list keeps its order"


def test_single_frames_are_no_cines(tmp_path):
    nib.save(nib.Nifti1Image(IMAGE[..., 0], oblique()), tmp_path / "frame.nii.gz")
    nib.save(nib.Nifti1Image(IMAGE[..., :1], oblique()), tmp_path / "one.nii.gz")
    save_cine(tmp_path / "series", IMAGE[..., :1], oblique())
    save_cine(tmp_path / "echoes", IMAGE[..., :2], oblique())
    for name in ("frame.nii.gz", "one.nii.gz", "series", "echoes", "absent.nii.gz"):
        assert find_cine(str(tmp_path / name), "case p1") is None, name


def test_a_phase_is_loaded_as_a_volume_and_a_frame_as_before(tmp_path):
    load, path = LoadPhased("image", CHANNELS), str(save_4d(tmp_path / "cine.nii.gz"))
    image = load({"image": path, "case_id": "p1", PHASE: 3})["image"]
    assert torch.equal(image.as_tensor(), torch.from_numpy(IMAGE[None, ..., 3]).float())
    nib.save(nib.Nifti1Image(IMAGE[..., 3], oblique()), tmp_path / "frame.nii.gz")
    frame = load({"image": str(tmp_path / "frame.nii.gz")})["image"]
    assert torch.equal(frame.as_tensor(), image.as_tensor()) and torch.equal(frame.affine, image.affine)
    line = input_error(load, {"image": path, "case_id": "p1"})
    assert line.startswith("case p1: a cine of 8 phases") and "\n" not in line


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 10**6),
    unit=st.sampled_from(["unknown", "mm", "meter", "micron"]),
    time=st.sampled_from(["unknown", "sec", "msec", "usec"]),
    codes=st.tuples(st.integers(0, 4), st.integers(0, 4)),
    kind=st.sampled_from([nib.Nifti1Image, nib.Nifti2Image]),
)
def test_a_4d_mask_has_the_transforms_of_its_cine(tmp_path, seed, unit, time, codes, kind):
    random, header = np.random.default_rng(seed), kind.header_class()
    still = random.integers(1, 1000, (7, 6, 3, 1))
    array = (still + random.integers(-80, 80, (7, 6, 3, 9)).clip(1 - still)).astype(np.int16)
    header.set_data_dtype(np.int16)
    header.set_data_shape(array.shape)
    header.set_zooms(10 ** random.uniform(-3, 3, 4))
    header.set_xyzt_units(unit, time)
    header.set_qform(random_affine(random), codes[0])
    header.set_sform(random_affine(random, shear=0.5), codes[1])
    path = tmp_path / "scan.nii.gz"
    nib.save(kind(array, None, header), path)
    cine = cine_of(str(path))
    load = LoadPhased("image", CHANNELS)
    phases = [load({"image": str(path), "case_id": "p1", PHASE: phase})["image"] for phase in range(9)]
    labels = np.stack([(phase > 500).numpy()[0].astype(np.uint8) for phase in phases], axis=-1)
    mask = nib.load(save_phases(labels, cine.affine, cine.source, cine.step_s, tmp_path, "p1"))
    scan = nib.load(path)
    assert np.array_equal(np.asarray(mask.dataobj), array > 500) and np.array_equal(mask.affine, scan.affine)
    for field in SPACE:
        assert np.array_equal(scan.header[field], mask.header[field]), field
    assert np.array_equal(scan.header["pixdim"][:5], mask.header["pixdim"][:5])


def test_a_mask_of_dicom_has_its_affine_and_time_step(tmp_path):
    cine = cine_of(save_cine(tmp_path / "dicom", IMAGE, oblique()))
    labels = (cine.voxels > 500).astype(np.uint8)
    mask = nib.load(save_phases(labels, cine.affine, cine.source, cine.step_s, tmp_path, "p1"))
    assert np.array_equal(np.asarray(mask.dataobj), IMAGE > 500) and np.allclose(mask.affine, oblique(), atol=1e-5)
    assert mask.header.get_zooms()[3] == pytest.approx(0.04) and mask.header.get_xyzt_units() == ("mm", "sec")
