"""Inference: every kind of input, and masks that lie on the input whatever the order of its axes."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from highdicom.seg import segread

from tests.bundles.brainsegdmlf.helpers import INFER, in_ras, infer, overlap, workflow
from tests.making import (
    BRAIN_SHAPE,
    SEQUENCES,
    brain_affine,
    brain_image,
    make_brain,
    save_frames,
    save_series,
    write_brain,
)


def result(output: Path, case_id: str) -> Path:
    return output / case_id / f"{case_id}_seg.nii.gz"


def assert_same_grid(prediction: Path, image: Path) -> None:
    pred, source = nib.load(prediction), nib.load(image)
    assert pred.shape == source.shape[:3]
    assert np.allclose(pred.affine, source.affine, atol=1e-4)
    assert nib.aff2axcodes(pred.affine) == nib.aff2axcodes(source.affine)
    assert pred.get_data_dtype() == np.uint8
    assert set(np.unique(np.asanyarray(pred.dataobj))) <= {0, 1}


@pytest.fixture(scope="module")
def reference(tmp_path_factory, weights_dir) -> np.ndarray:
    """The mask of a case that is stored as RAS, in RAS."""
    folder = tmp_path_factory.mktemp("reference")
    item = write_brain(folder, "c", 20)
    infer(folder / "out", weights_dir, input=[str(folder / name) for name in item["image"]], overlays=False)
    mask = in_ras(result(folder / "out", "c"))
    assert 0.01 < mask.mean() < 0.9, "a mask that can be compared"
    return mask


def test_split_of_a_data_set(data_dir, weights_dir, tmp_path, capsys):
    flow = workflow(
        "infer",
        "inference",
        dataset_dir=str(data_dir),
        output_dir=str(tmp_path),
        ckpt_dir=str(weights_dir),
        **INFER,
    )
    flow.initialize()
    assert not flow.check_properties()
    flow.run()
    index = json.loads((tmp_path / "predictions.json").read_text(encoding="utf-8"))
    assert [entry["case_id"] for entry in index] == ["test_a", "test_b"]
    assert [entry["missing"] for entry in index] == [[], ["t1"]]
    for entry in index:
        assert entry["image"][0] == str(data_dir / f"{entry['case_id']}_flair.nii.gz")
        assert_same_grid(tmp_path / entry["prediction"], Path(entry["image"][0]))
        assert (tmp_path / entry["overlay"]).stat().st_size > 1000
    text = capsys.readouterr().out
    assert "segmented 2 cases" in text and "(without t1)" in text


@pytest.mark.parametrize(
    "codes, angle",
    [("LPS", 0), ("RAI", 0), ("PSR", 0), ("SLA", 0), ("LAS", 16), ("IPR", 11)],
    ids=lambda value: str(value),
)
def test_order_of_the_axes_does_not_matter(tmp_path, weights_dir, reference, codes, angle):
    item = write_brain(tmp_path, "c", 20, codes, angle)
    paths = [tmp_path / name for name in item["image"]]
    infer(tmp_path / "out", weights_dir, input=list(map(str, paths)), overlays=False)
    assert_same_grid(result(tmp_path / "out", "c"), paths[0])
    assert overlap(in_ras(result(tmp_path / "out", "c")), reference) > 0.999


def test_input_as_text_with_a_missing_sequence(data_dir, weights_dir, tmp_path, monkeypatch):
    """As the command line gives it: one text, relative paths."""
    monkeypatch.chdir(data_dir)
    text = "['val_b_flair.nii.gz',None,'val_b_t1ce.nii.gz','val_b_t2.nii.gz']"
    infer(tmp_path, weights_dir, input=text)
    (entry,) = json.loads((tmp_path / "predictions.json").read_text(encoding="utf-8"))
    assert entry["case_id"] == "val_b" and entry["missing"] == ["t1"]
    assert entry["image"] == [
        str(data_dir / "val_b_flair.nii.gz"),
        None,
        *(str(data_dir / f"val_b_{name}.nii.gz") for name in ("t1ce", "t2")),
    ]
    assert_same_grid(tmp_path / entry["prediction"], data_dir / "val_b_flair.nii.gz")


def test_four_dimensional_file(tmp_path, weights_dir, reference):
    images, _ = make_brain(20)
    volumes = [brain_image(images[name], "LPS") for name in SEQUENCES]
    data = np.stack([np.asanyarray(volume.dataobj) for volume in volumes], axis=-1)
    nib.save(nib.Nifti1Image(data, volumes[0].affine), tmp_path / "all.nii.gz")
    infer(tmp_path / "out", weights_dir, input=str(tmp_path / "all.nii.gz"))
    assert_same_grid(result(tmp_path / "out", "all"), tmp_path / "all.nii.gz")
    assert overlap(in_ras(result(tmp_path / "out", "all")), reference) > 0.999
    assert (tmp_path / "out" / "all" / "all_overlay.png").is_file()


@pytest.mark.parametrize("kind", ["folders", "files"])
def test_dicom(tmp_path, weights_dir, reference, kind):
    images, _ = make_brain(20)
    save, end = (save_series, "") if kind == "folders" else (save_frames, ".dcm")
    paths = [save(tmp_path / "p01" / f"{name}{end}", images[name], brain_affine()) for name in SEQUENCES]
    infer(tmp_path / "out", weights_dir, input=paths)
    (entry,) = json.loads((tmp_path / "out" / "predictions.json").read_text(encoding="utf-8"))
    assert entry["image"] == paths and entry["case_id"] == "p01"
    mask = np.asarray(nib.load(tmp_path / "out" / entry["prediction"]).dataobj)
    assert overlap(in_ras(tmp_path / "out" / entry["prediction"]), reference) > 0.999
    segmentation = segread(tmp_path / "out" / entry["dicom_seg"])
    assert segmentation.pixel_array.sum() == mask.sum() and len(segmentation.segment_numbers) == 1
    assert entry["measures"]["lesion_count"] > 0 and "lesion_volume_ml" in entry["measures"]


def test_resampling_ends_in_the_input_grid(tmp_path, weights_dir, reference):
    """Voxels of another size than `pixdim`: coarser in the plane, the mask still has the input's grid and place."""
    item = write_brain(tmp_path, "c", 20, "LPS", 10)
    paths = [tmp_path / name for name in item["image"]]
    infer(tmp_path / "out", weights_dir, input=list(map(str, paths)), pixdim=[1.3, 1.3, -1.0], overlays=False)
    assert_same_grid(result(tmp_path / "out", "c"), paths[0])
    assert overlap(in_ras(result(tmp_path / "out", "c")), reference) > 0.3


def test_a_slice(tmp_path, weights_dir):
    images, _ = make_brain(3)
    for name in SEQUENCES:
        nib.save(nib.Nifti1Image(images[name][:, :, 2:3], brain_affine()), tmp_path / f"s_{name}.nii.gz")
    infer(tmp_path / "out", weights_dir, input=[str(tmp_path / f"s_{name}.nii.gz") for name in SEQUENCES])
    assert nib.load(result(tmp_path / "out", "s")).shape == (*BRAIN_SHAPE[:2], 1)
