"""Inference: every kind of input, and masks that lie on the input whatever the order of its axes."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from highdicom.seg import segread

from tests.bundles.brainsegdmlf.facts import BUNDLE
from tests.bundles.running import assert_same_grid, in_ras, mask_of, predictions
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


def result(output: Path) -> Path:
    """The mask's file of a run on one case."""
    (entry,) = predictions(output)
    return output / entry["prediction"]


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Dice of two masks."""
    return 2 * float(((a > 0) & (b > 0)).sum()) / float((a > 0).sum() + (b > 0).sum())


@pytest.fixture(scope="module")
def reference(tmp_path_factory, weights_dir) -> np.ndarray:
    """The mask of a case that is stored as RAS, in RAS."""
    folder = tmp_path_factory.mktemp("reference")
    item = write_brain(folder, "c", 20)
    BUNDLE.infer(folder / "out", weights_dir, input=[str(folder / name) for name in item["image"]], overlays=False)
    mask = in_ras(result(folder / "out"))
    assert 0.01 < mask.mean() < 0.9, "a mask that can be compared"
    return mask


def test_a_missing_sequence_is_named(data_dir, segmented):
    assert [entry["missing"] for entry in segmented.index] == [[], ["t1"]] and "(without t1)" in segmented.text
    for entry in segmented.index:
        assert entry["image"][0] == str(data_dir / f"{entry['case_id']}_flair.nii.gz")


@pytest.mark.parametrize(
    "codes, angle",
    [("LPS", 0), ("RAI", 0), ("PSR", 0), ("SLA", 0), ("LAS", 16), ("IPR", 11)],
    ids=lambda value: str(value),
)
def test_order_of_the_axes_does_not_matter(tmp_path, weights_dir, reference, codes, angle):
    item = write_brain(tmp_path, "c", 20, codes, angle)
    paths = [tmp_path / name for name in item["image"]]
    BUNDLE.infer(tmp_path / "out", weights_dir, input=list(map(str, paths)), overlays=False)
    assert_same_grid(result(tmp_path / "out"), paths[0])
    assert overlap(in_ras(result(tmp_path / "out")), reference) > 0.999


def test_four_dimensional_file(tmp_path, weights_dir, reference):
    images, _ = make_brain(20)
    volumes = [brain_image(images[name], "LPS") for name in SEQUENCES]
    data = np.stack([np.asanyarray(volume.dataobj) for volume in volumes], axis=-1)
    nib.save(nib.Nifti1Image(data, volumes[0].affine), tmp_path / "all.nii.gz")
    BUNDLE.infer(tmp_path / "out", weights_dir, input=str(tmp_path / "all.nii.gz"))
    assert_same_grid(result(tmp_path / "out"), tmp_path / "all.nii.gz")
    assert overlap(in_ras(result(tmp_path / "out")), reference) > 0.999
    assert (tmp_path / "out" / "all" / "all_overlay.png").is_file()


@pytest.mark.parametrize("kind", ["folders", "files"])
def test_dicom(tmp_path, weights_dir, reference, kind):
    images, _ = make_brain(20)
    save, end = (save_series, "") if kind == "folders" else (save_frames, ".dcm")
    paths = [save(tmp_path / "p01" / f"{name}{end}", images[name], brain_affine()) for name in SEQUENCES]
    BUNDLE.infer(tmp_path / "out", weights_dir, input=paths)
    (entry,) = predictions(tmp_path / "out")
    assert entry["image"] == paths and entry["case_id"] == "p01"
    assert overlap(in_ras(result(tmp_path / "out")), reference) > 0.999
    segmentation = segread(tmp_path / "out" / entry["dicom_seg"])
    assert segmentation.pixel_array.sum() == mask_of(tmp_path / "out").sum() and len(segmentation.segment_numbers) == 1
    assert entry["measures"]["lesion_count"] > 0 and "lesion_volume_ml" in entry["measures"]


def test_resampling_ends_in_the_input_grid(tmp_path, weights_dir, reference):
    """Voxels of another size than `pixdim`: coarser in the plane, the mask still has the input's grid and place."""
    item = write_brain(tmp_path, "c", 20, "LPS", 10)
    paths = [tmp_path / name for name in item["image"]]
    BUNDLE.infer(tmp_path / "out", weights_dir, input=list(map(str, paths)), pixdim=[1.3, 1.3, -1.0], overlays=False)
    assert_same_grid(result(tmp_path / "out"), paths[0])
    assert overlap(in_ras(result(tmp_path / "out")), reference) > 0.3


def test_a_slice(tmp_path, weights_dir):
    images, _ = make_brain(3)
    for name in SEQUENCES:
        nib.save(nib.Nifti1Image(images[name][:, :, 2:3], brain_affine()), tmp_path / f"s_{name}.nii.gz")
    BUNDLE.infer(tmp_path / "out", weights_dir, input=[str(tmp_path / f"s_{name}.nii.gz") for name in SEQUENCES])
    assert nib.load(result(tmp_path / "out")).shape == (*BRAIN_SHAPE[:2], 1)
