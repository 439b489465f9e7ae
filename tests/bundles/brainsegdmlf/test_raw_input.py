"""Raw scans from end to end: a study becomes a mask in the scanner's own grid, and training prepares a case once."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
from brainsegdmlf.phantoms.raw_study import RawStudy, make_raw_study, write_dicom

from shared.io.sources import load_volume
from shared.preparation import load
from tests.bundles.brainsegdmlf.facts import BUNDLE
from tests.bundles.running import (
    Run,
    assert_one_line,
    assert_same_grid,
    finish,
    input_error,
    mask_of,
    predictions,
    read_mask,
    recorded,
)

SHIPPED = BUNDLE.folder / "models"
QUICK = {"pixdim": [2.5, 2.5, -1.0], "patch_size": [96, 96], "planes": "axial"}
TRAINING = {**BUNDLE.training, **QUICK, "val_interval": 1, "num_workers": 0, "overlays": 0, "augmentation": 0}


@pytest.fixture(scope="module")
def study() -> RawStudy:
    return make_raw_study(1, ("flair", "t1"), coarse=True)


@pytest.fixture(scope="module")
def segmented(study, tmp_path_factory) -> Run:
    """The study as DICOM, all files in one folder, localiser and diffusion among them."""
    folder = tmp_path_factory.mktemp("raw")
    write_dicom(study, folder / "scans", flat=True)
    options = {"input": str(folder / "scans"), "output_dir": str(folder / "out"), **QUICK}
    return recorded(BUNDLE.workflow("inference", **options), folder / "out", SHIPPED / "model.pt")


def write(path: Path, voxels: np.ndarray, affine: np.ndarray) -> Path:
    """Write a volume as a scanner's: both transforms set, with codes of their own."""
    image = nib.Nifti1Image(voxels, affine)
    image.set_qform(affine, 1)
    image.set_sform(affine, 2)
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(image, path)
    return path


def forbid(monkeypatch) -> None:
    monkeypatch.setattr(load, "prepare", lambda *_: pytest.fail("prepared again"))


def test_each_step_says_one_line_with_its_case(segmented):
    lines = [line for line in segmented.text.splitlines() if line.startswith("case scans: ")]
    starts = ["brain of ", "t1 registered to flair: ", "skull removed"]
    assert [line.removeprefix("case scans: ").startswith(start) for line, start in zip(lines, starts)] == [True] * 3
    assert len(lines) == 3 and "with skull" in lines[0]


def test_the_mask_lies_on_the_grid_of_the_flair_series(segmented, study):
    (entry,) = segmented.index
    mask = nib.load(segmented.output / entry["prediction"])
    series = next((segmented.output / "prepared" / "series").glob("*tirm*"))
    flair = load_volume(series, "flair")
    assert mask.shape == flair.shape[1:] and np.allclose(mask.affine, flair.affine)
    assert read_mask(segmented.output / entry["prediction"]).sum() > 0
    assert entry["missing"] == ["t1ce", "t2"]


def test_the_dicom_seg_refers_to_the_original_images(segmented):
    (entry,) = segmented.index
    seg = pydicom.dcmread(segmented.output / entry["dicom_seg"])
    scans = Path(entry["image"][0])
    headers = [pydicom.dcmread(file, stop_before_pixels=True) for file in scans.iterdir()]
    flair = {header.SOPInstanceUID for header in headers if "tirm" in header.SeriesDescription}
    (series,) = seg.ReferencedSeriesSequence
    assert {image.ReferencedSOPInstanceUID for image in series.ReferencedInstanceSequence} <= flair
    assert seg.StudyInstanceUID == headers[0].StudyInstanceUID


def test_the_index_names_the_users_folder_and_what_was_made(segmented):
    (entry,) = segmented.index
    scans = str(segmented.output.parent / "scans")
    assert entry["image"] == [scans, scans, None, None]
    record = json.loads((segmented.output / entry["preparation"]).read_text(encoding="utf-8"))
    assert record["steps"] == ["register t1", "correct the field", "remove the skull"]
    assert entry["measures"]["brain_volume_ml"] == record["brain"]["volume_ml"]
    assert (segmented.output / entry["preparation_picture"]).stat().st_size > 10_000
    assert "scans" in (segmented.output / "report.html").read_text(encoding="utf-8")


def test_brain_and_movement_are_the_true_ones(segmented, study):
    (entry,) = segmented.index
    truth = nib.as_closest_canonical(nib.Nifti1Image(study.brains["flair"], study.flair_affine)).get_fdata() > 0
    found = nib.as_closest_canonical(nib.load(segmented.output / entry["brain"])).get_fdata() > 0
    assert 2 * (truth & found).sum() / (truth.sum() + found.sum()) > 0.9
    record = json.loads((segmented.output / entry["preparation"]).read_text(encoding="utf-8"))
    places = np.c_[np.argwhere(study.brains["flair"])[::50], np.ones(len(study.brains["flair"].nonzero()[0][::50]))]
    world = places @ study.flair_affine.T
    apart = world @ (np.array(record["registration"]["t1"]["matrix"]) - study.transforms["t1"]).T
    assert np.linalg.norm(apart[:, :3], axis=1).mean() < 2.5  # voxels of 2.5 and 5 mm
    lesions = read_mask(segmented.output / entry["prediction"]) > 0
    assert not (lesions & ~(nib.load(segmented.output / entry["brain"]).get_fdata() > 0)).any()


def test_a_second_run_reads_the_prepared_case_and_finds_the_same(segmented, tmp_path, monkeypatch):
    forbid(monkeypatch)
    scans = segmented.output.parent / "scans"
    options = {"input": str(scans), "prepared_dir": str(segmented.output / "prepared"), "num_workers": 2, **QUICK}
    BUNDLE.infer(tmp_path, SHIPPED, **{**options, "overlays": False, "report_page": False})
    assert np.array_equal(mask_of(tmp_path), mask_of(segmented.output))


def test_another_reference_gives_its_own_grid(study, tmp_path):
    files = [write(tmp_path / f"{name}.nii.gz", scan.voxels, scan.affine) for name, scan in study.images.items()]
    options = {"input": f"['{files[0]}','{files[1]}',None,None]", "reference": "t1", "prepare": "always", **QUICK}
    BUNDLE.infer(tmp_path / "out", SHIPPED, **options)
    (entry,) = predictions(tmp_path / "out")
    mask, source = nib.load(tmp_path / "out" / entry["prediction"]), nib.load(files[1])
    assert_same_grid(tmp_path / "out" / entry["prediction"], files[1])
    assert np.array_equal(mask.affine, source.affine)
    for word in ("qform_code", "sform_code", "srow_x", "srow_y", "srow_z", "quatern_b", "qoffset_x", "pixdim"):
        assert np.array_equal(mask.header[word], source.header[word]), word


def test_a_bad_study_and_a_bad_sequence_leave_the_others_alone(study, tmp_path, capsys):
    flair = study.images["flair"]
    good = write(tmp_path / "in" / "p1" / "flair.nii.gz", flair.voxels, flair.affine)
    noise = np.random.default_rng(0).integers(0, 1000, (60, 60, 40)).astype(np.int16)
    write(tmp_path / "in" / "p1" / "t2.nii.gz", noise, np.diag([3.0, 3, 3, 1]))
    (tmp_path / "in" / "p2").mkdir()
    (tmp_path / "in" / "p2" / "flair.nii.gz").write_bytes(good.read_bytes()[:500])
    flow = BUNDLE.workflow("inference", input=str(tmp_path / "in"), output_dir=str(tmp_path / "out"), **QUICK)

    error = input_error(finish, flow)

    text = capsys.readouterr().out
    before = text[text.index("1 of 2 cases cannot be used and are left out") :].splitlines()[1]
    assert before.startswith("  case p2: ") and "flair.nii.gz cannot be read" in before
    assert "case p1: warning: t2 cannot be registered to flair" in text
    assert error.startswith("1 of 2 cases failed\n  p2: ") and "flair.nii.gz cannot be read" in error
    (entry,) = predictions(tmp_path / "out")
    assert entry["case_id"] == "p1"
    (warning,) = [line for line in entry["warnings"] if line.startswith("t2 cannot be registered to flair")]
    assert "left out" in warning and warning[:30] in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")


def test_off_refuses_different_grids_and_names_the_remedy(study, tmp_path):
    for name, scan in study.images.items():
        write(tmp_path / "p1" / f"{name}.nii.gz", scan.voxels, scan.affine)
    options = {"input": str(tmp_path / "p1"), "output_dir": str(tmp_path / "out"), "prepare": "off"}
    line = input_error(finish, BUNDLE.workflow("inference", **options))
    assert_one_line(line, ["case p1: t1 (", "and flair (", "different grids: run with --prepare auto"])


def test_training_prepares_each_case_once(study, tmp_path, monkeypatch):
    flair = study.images["flair"]
    label = str(write(tmp_path / "lesion.nii.gz", study.lesion, flair.affine))
    lists = {}
    for split in ("training", "validation"):  # two files of one content are one prepared case
        image = write(tmp_path / split / "flair.nii.gz", flair.voxels, flair.affine)
        lists[split] = [{"case_id": split, "image": [str(image), None, None, None], "label": label}]
    (tmp_path / "dataset.json").write_text(json.dumps(lists), encoding="utf-8")
    done, prepare = [], load.prepare
    monkeypatch.setattr(load, "prepare", lambda *given: done.append(1) or prepare(*given))

    out = tmp_path / "out"
    BUNDLE.train(tmp_path, out, **TRAINING, epochs=2, cache_rate=0)
    assert len(done) == 1
    BUNDLE.train(tmp_path, out, **TRAINING, epochs=3, resume=True)
    shared = {"prepared_dir": str(out / "prepared")}
    BUNDLE.evaluate(tmp_path, tmp_path / "evaluated", out / "models", **{**TRAINING, **shared})
    assert len(done) == 1
