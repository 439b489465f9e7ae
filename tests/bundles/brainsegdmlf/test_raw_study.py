"""Raw studies: the same from the same seed, a known truth, and NIfTI and DICOM that read back exactly."""

from __future__ import annotations

import json

import nibabel as nib
import numpy as np
import pydicom
import pytest
from brainsegdmlf.phantoms.contrast import SEQUENCES
from brainsegdmlf.phantoms.raw_study import make_raw_study, write_dicom, write_nifti, write_truth
from scipy import ndimage

from shared.core.errors import InputError
from shared.io.sources import load_volume
from shared.preparation.sequences import find_studies


@pytest.fixture(scope="module")
def study():
    return make_raw_study(2, coarse=True)


@pytest.fixture(scope="module")
def exported(study, tmp_path_factory):
    return write_dicom(study, tmp_path_factory.mktemp("dicom"))


def upright(voxels, affine) -> tuple[np.ndarray, np.ndarray]:
    image = nib.as_closest_canonical(nib.Nifti1Image(np.asarray(voxels, np.float32), affine))
    return np.asarray(image.dataobj), image.affine


def assert_same_volume(loaded, volume):
    voxels, affine = upright(loaded.numpy()[0], loaded.affine.numpy())
    wanted, place = upright(volume.voxels, volume.affine)
    assert np.array_equal(voxels, wanted)
    assert np.allclose(affine, place, atol=1e-4)


def test_a_seed_gives_one_study_whichever_sequences_are_made(study):
    again = make_raw_study(2, sequences=("t2",), coarse=True)
    assert list(again.images) == ["t2"] and list(study.images) == list(SEQUENCES)
    assert np.array_equal(again.images["t2"].voxels, study.images["t2"].voxels)
    assert np.array_equal(again.images["t2"].affine, study.images["t2"].affine)
    assert np.array_equal(again.lesion, study.lesion) and np.array_equal(again.adc.voxels, study.adc.voxels)


def test_another_seed_gives_another_head(study):
    other = make_raw_study(3, sequences=("flair",), coarse=True)
    assert not np.array_equal(other.brains["flair"], study.brains["flair"])


def test_lesions_lie_in_the_brain(study):
    assert study.lesion.any() and not (study.lesion > study.brains["flair"]).any()


def test_sequences_have_their_own_grids_and_the_skull(study):
    codes = {name: "".join(nib.aff2axcodes(volume.affine)) for name, volume in study.images.items()}
    assert codes == {"flair": "LAS", "t1": "PSR", "t1ce": "LAS", "t2": "LAS"}
    for name, volume in study.images.items():
        outside = study.brains[name] == 0
        assert volume.voxels.dtype == np.int16 and (volume.voxels[outside] > 0.4 * volume.voxels.max()).sum() > 500


@pytest.mark.parametrize("name", ["t1", "t1ce", "t2"])
def test_true_transforms_align_the_sequences(study, name):
    matrix = study.transforms[name]
    assert np.allclose(matrix[:3, :3] @ matrix[:3, :3].T, np.eye(3)) and not np.allclose(matrix, np.eye(4), atol=0.1)
    fixed, moving = study.brains["flair"] > 0, study.brains[name].astype(np.float32)

    def overlap(transform) -> float:
        to_index = np.linalg.inv(study.images[name].affine) @ transform @ study.flair_affine
        mapped = ndimage.affine_transform(moving, to_index[:3], output_shape=fixed.shape, order=1) > 0.5
        return 2 * (mapped & fixed).sum() / (mapped.sum() + fixed.sum())

    assert overlap(matrix) > 0.95
    assert overlap(matrix) > overlap(np.linalg.inv(matrix))


def test_nifti_reads_back_with_its_side_cars(study, tmp_path):
    files = write_nifti(study, tmp_path)
    volumes = sorted([*study.images.values(), study.adc], key=lambda one: one.protocol.number)
    for file, volume in zip(files, volumes, strict=True):
        assert_same_volume(load_volume(file, "case"), volume)
        sidecar = json.loads(file.with_name(file.name.replace(".nii.gz", ".json")).read_text(encoding="utf-8"))
        assert sidecar["SeriesDescription"] == volume.protocol.description
        assert sidecar["EchoTime"] == pytest.approx(volume.protocol.te / 1000)
        assert sidecar["RepetitionTime"] == pytest.approx(volume.protocol.tr / 1000)
        assert ("InversionTime" in sidecar) == (volume.protocol.ti is not None)


def test_dicom_reads_back_from_a_folder_per_series(study, exported):
    for volume in [*study.images.values(), study.adc]:
        folder = exported / f"{volume.protocol.number:03d}_{volume.protocol.description}"
        assert len(list(folder.iterdir())) == volume.voxels.shape[2]
        assert_same_volume(load_volume(folder, "case"), volume)


def test_dicom_is_the_same_when_written_again(study, exported, tmp_path):
    again = write_dicom(study, tmp_path)
    file = "003_t2_tirm_tra_dark-fluid/IM0001"
    assert (again / file).read_bytes() == (exported / file).read_bytes()


def test_dicom_headers_tell_the_acquisition(exported):
    heads = [pydicom.dcmread(next(folder.iterdir())) for folder in sorted(exported.iterdir())]
    assert len({head.StudyInstanceUID for head in heads}) == len({head.FrameOfReferenceUID for head in heads}) == 1
    assert len({head.SeriesInstanceUID for head in heads}) == len(heads) == 6
    assert {str(head.PatientName) for head in heads} == {"Synthetic^Head"}
    assert [head.SeriesNumber for head in heads if "ContrastBolusAgent" in head] == [7]
    assert [head.SeriesNumber for head in heads if head.MRAcquisitionType == "3D"] == [2]


@pytest.mark.parametrize("kind", ["folders", "flat", "nifti"])
def test_the_preparation_finds_every_sequence(study, exported, tmp_path, kind):
    folder = exported if kind == "folders" else tmp_path
    if kind == "flat":
        write_dicom(study, tmp_path, flat=True)
    elif kind == "nifti":
        write_nifti(study, tmp_path)
    (found,) = find_studies(folder, list(SEQUENCES)).values()
    numbers = {name: one and one.number for name, one in found.series.items()}
    assert numbers == {"flair": 3, "t1": 2, "t1ce": 7, "t2": 4}


def test_the_truth_lies_on_the_grid_of_flair(study, tmp_path):
    write_truth(study, tmp_path)
    for name, truth in (("lesion", study.lesion), ("brain", study.brains["flair"])):
        loaded = load_volume(tmp_path / f"{name}.nii.gz", "case")
        assert np.array_equal(loaded.numpy()[0], truth)
        assert np.allclose(loaded.affine.numpy(), study.flair_affine, atol=1e-4)
    matrices = json.loads((tmp_path / "transforms.json").read_text(encoding="utf-8"))
    assert np.allclose(matrices["flair_to_t1"], study.transforms["t1"])


@pytest.mark.parametrize("sequences", [("flair", "swi"), ()])
def test_wrong_sequences_are_refused(sequences):
    with pytest.raises(InputError, match="choose from flair"):
        make_raw_study(1, sequences=sequences)
