"""A beating heart of known volumes goes through the whole inference, whatever form it comes in."""

from __future__ import annotations

import json

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from shared.options.check import check
from tests.bundles.emclip.facts import BUNDLE
from tests.bundles.running import finish, input_error, predictions
from tests.making import HEART_SPACING, make_cine, save_cine

IMAGE, LABEL = make_cine()
AFFINE = np.diag([-HEART_SPACING[0], -HEART_SPACING[1], HEART_SPACING[2], 1])
VOXEL_ML = np.prod(HEART_SPACING) / 1000
VOLUMES = {value: (value == LABEL).sum((0, 1, 2)) * VOXEL_ML for value in (1, 2, 3)}


def write_4d(folder):
    image = nib.Nifti1Image(IMAGE, AFFINE)
    image.header.set_xyzt_units("mm", "msec")
    image.header["pixdim"][4] = 100
    nib.save(image, folder / "heart.nii.gz")
    return str(folder / "heart.nii.gz")


def write_files(folder):
    (folder / "heart").mkdir()
    for phase in range(8):
        nib.save(nib.Nifti1Image(IMAGE[..., phase], AFFINE), folder / "heart" / f"frame{phase + 1}.nii.gz")
    return str(folder / "heart")


FORMS = {
    "4d": write_4d,
    "dicom": lambda folder: save_cine(folder / "heart", IMAGE, AFFINE),
    "dicom of a series per slice": lambda folder: save_cine(folder / "heart", IMAGE, AFFINE, per_slice=True),
    "files": write_files,
}


def segment(tmp_path, **options):
    """Run the inference of hearts with a stand-in for the network."""
    extra = tmp_path / "stand_in.json"
    stand_in = {"_target_": "tests.bundles.emclip.beating.GreyValues"}
    extra.write_text(json.dumps({"network_def": stand_in, "initialize": ["$@start()"]}), encoding="utf-8")
    places = {"output_dir": str(tmp_path / "out"), "image_size": [32, 32]}
    finish(BUNDLE.workflow("inference", "cardiac", str(extra.with_suffix("")), **{**places, **options}))
    return predictions(tmp_path / "out")


@pytest.fixture(scope="module")
def entry(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cine")
    (found,) = segment(folder, input=write_4d(folder))
    return folder / "out", found


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_a_cine_gives_the_same_mask_and_measures(tmp_path, form, entry):
    found = entry[1]
    if form != "4d":
        (found,) = segment(tmp_path, input=FORMS[form](tmp_path), overlays=False)
    folder = entry[0] if form == "4d" else tmp_path / "out"
    mask = nib.load(folder / found["prediction"])
    assert np.array_equal(np.asarray(mask.dataobj), LABEL) and np.allclose(mask.affine, AFFINE)
    assert found["measures"] == entry[1]["measures"]
    assert [name for name in found.get("warnings", []) if "DICOM SEG" in name] == (
        ["No DICOM SEG: of a cine only the NIfTI mask is written."] if form.startswith("dicom") else []
    )


def test_the_heartbeat_is_measured_as_it_was_made(entry):
    measures = entry[1]["measures"]
    assert (measures["phases"], measures["end_diastolic_phase"], measures["end_systolic_phase"]) == (8, 1, 4)
    for name, value in (("lv", 1), ("rv", 3)):
        start, end = VOLUMES[value][0], VOLUMES[value][3]
        assert measures[f"{name}_end_diastolic_volume_ml"] == pytest.approx(start, rel=1e-3)
        assert measures[f"{name}_end_systolic_volume_ml"] == pytest.approx(end, rel=1e-3)
        assert measures[f"{name}_stroke_volume_ml"] == pytest.approx(start - end, rel=2e-3)
        assert measures[f"{name}_ejection_fraction"] == pytest.approx(100 * (1 - end / start), abs=0.1)
        assert measures[f"{name}_volumes_ml"] == pytest.approx(VOLUMES[value].tolist(), rel=1e-3)
    assert measures["myocardial_mass_g"] == pytest.approx(1.05 * VOLUMES[2][0], rel=1e-3)
    assert measures["papillary_muscles"] == "in the cavity"


def test_curve_loop_and_page(entry):
    folder, found = entry
    mask = nib.load(folder / found["prediction"])
    assert mask.header.get_zooms()[3] == 100 and mask.header.get_xyzt_units() == ("mm", "msec")
    with Image.open(folder / found["loop"]) as loop:
        assert loop.is_animated and loop.n_frames == 8 and loop.info["duration"] == 100 and loop.info["loop"] == 0
    for kind in ("curve", "overlay", "overlay_es"):
        assert Image.open(folder / found[kind]).format == "PNG"
    page = (folder / "report.html").read_text(encoding="utf-8")
    for text in ("LV ejection fraction", "Curve of case heart", "loop (GIF)", "overlay of end systole"):
        assert text in page
    table = pd.read_csv(folder / "predictions.csv")
    assert table["lv_ejection_fraction"].item() == found["measures"]["lv_ejection_fraction"]


def test_cines_frames_and_faulty_cines_in_one_list(tmp_path):
    """A frame gives what it gives alone; a cine that cannot be used is left out, by check and run in the same words."""
    write_4d(tmp_path)
    nib.save(nib.Nifti1Image(IMAGE[..., 2], AFFINE), tmp_path / "frame.nii.gz")
    jumping = IMAGE.copy()
    jumping[:, :, 1, 5:] = np.roll(jumping[:, :, 1, 5:], 4, axis=0)
    nib.save(nib.Nifti1Image(jumping, AFFINE), tmp_path / "jumps.nii.gz")
    nib.save(nib.Nifti1Image(IMAGE[..., :2], AFFINE), tmp_path / "channels.nii.gz")
    names = ("jumps", "heart", "channels", "frame")
    listed = [{"image": f"{name}.nii.gz", "case_id": name} for name in names]
    (tmp_path / "dataset.json").write_text(json.dumps({"testing": listed}), encoding="utf-8")
    line = input_error(segment, tmp_path, dataset_dir=str(tmp_path), overlays=False)
    assert "2 of 4 cases failed" in line and "slice 2 jumps" in line and "as channels are" in line
    entries = {entry["case_id"]: entry for entry in predictions(tmp_path / "out")}
    assert list(entries) == ["heart", "frame"]
    frame = nib.load(tmp_path / "out" / entries["frame"]["prediction"])
    assert frame.shape == LABEL.shape[:3] and np.array_equal(np.asarray(frame.dataobj), LABEL[..., 2])
    assert entries["frame"]["measures"]["lv_volume_ml"] == pytest.approx(VOLUMES[1][2], rel=1e-3)
    files = [str(BUNDLE.configs / f"{name}.json") for name in ("inference", "cardiac")]
    problems = check(str(BUNDLE.folder), files, dataset_dir=str(tmp_path), output_dir=str(tmp_path / "out2"))
    assert len(problems) == 2 and all(problem.removeprefix(f"case {name}: ") in line for name, problem in
                                      zip(("jumps", "channels"), problems))  # fmt: skip


def test_without_measures_or_pictures_a_cine_gets_its_mask(tmp_path):
    (found,) = segment(tmp_path, input=write_4d(tmp_path), measures=False, overlays=False)
    assert np.array_equal(np.asarray(nib.load(tmp_path / "out" / found["prediction"]).dataobj), LABEL)
    assert not {"measures", "curve", "loop", "overlay_es"} & found.keys()


def test_without_a_voxel_size_volumes_are_in_voxels(tmp_path):
    write_4d(tmp_path)
    listed = {"testing": [{"image": "heart.nii.gz", "spacing": "nominal"}]}
    (tmp_path / "dataset.json").write_text(json.dumps(listed), encoding="utf-8")
    (found,) = segment(tmp_path, dataset_dir=str(tmp_path), overlays=False)
    assert found["measures"]["lv_volumes_voxels"] == (LABEL == 1).sum((0, 1, 2)).tolist()
    assert "myocardial_mass_g" not in found["measures"]
    assert found["measures"]["lv_ejection_fraction"] == pytest.approx(
        100 * (1 - VOLUMES[1][3] / VOLUMES[1][0]), abs=0.1
    )
