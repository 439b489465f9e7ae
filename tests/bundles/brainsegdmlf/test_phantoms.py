"""Brain phantoms: the same from the same seed, with plausible anatomy and contrast, on disk as a data set."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from brainsegdmlf.phantoms import dataset as brain
from brainsegdmlf.phantoms.contrast import SEQUENCES
from brainsegdmlf.phantoms.dataset import make_brain_case, make_brain_phantoms
from scipy import ndimage

from shared.core.errors import InputError

THICK = (1.5, 1.5, 4.0)  # mm, coarse to save time


@pytest.fixture(scope="module")
def case():
    return make_brain_case(3, spacing=THICK)


@pytest.fixture(scope="module")
def healthy():
    return make_brain_case(3, spacing=THICK, lesions=False)


@pytest.fixture
def quick(monkeypatch):
    """Make the cases of a data set coarse ones."""

    def coarse(seed, *, sequences=SEQUENCES, hard=False):
        return make_brain_case(seed % 2, spacing=(3.0, 3.0, 6.0), sequences=sequences)

    monkeypatch.setattr(brain, "make_brain_case", coarse)


def tissue(case) -> dict[str, np.ndarray]:
    """Return masks of white matter, grey matter and fluid, from thresholds in T1 and T2 away from lesions."""
    brain_mask = ndimage.binary_erosion(case.images["t1"] > 0, iterations=1)
    healthy = brain_mask & ~ndimage.binary_dilation(case.label > 0, iterations=2)
    t1, t2 = (case.images[name].astype(float) for name in ("t1", "t2"))
    low, high = np.percentile(t1[healthy], [12, 60])
    return {
        "white": healthy & (t1 > high),
        "grey": healthy & (t1 > np.percentile(t1[healthy], 25)) & (t1 < np.percentile(t1[healthy], 45)),
        "fluid": healthy & (t1 < low) & (t2 > np.percentile(t2[healthy], 88)),
    }


def test_a_seed_gives_one_case_and_another_seed_another(case):
    again, other = make_brain_case(3, spacing=THICK), make_brain_case(4, spacing=THICK)
    assert all(np.array_equal(case.images[name], again.images[name]) for name in SEQUENCES)
    assert np.array_equal(case.label, again.label) and np.array_equal(case.affine, again.affine)
    assert other.label.shape != case.label.shape or not np.array_equal(other.label, case.label)


def test_leaving_out_a_sequence_keeps_the_others(case):
    few = make_brain_case(3, spacing=THICK, sequences=("flair", "t2"))
    assert list(few.images) == ["flair", "t2"]
    bright = few.images["flair"] > 0
    ratio = few.images["flair"][bright] / case.images["flair"][bright].astype(float)
    assert ratio.std() < 0.01  # the same image but for its scale


def test_arrays_have_their_types_one_shape_and_one_background(case):
    shapes = {array.shape for array in (*case.images.values(), case.label)}
    assert len(shapes) == 1 and case.label.dtype == np.uint8 and set(np.unique(case.label)) == {0, 1}
    backgrounds = [array == 0 for array in case.images.values()]
    assert all(array.dtype == np.int16 for array in case.images.values())
    assert all(np.array_equal(backgrounds[0], other) for other in backgrounds)  # one brain mask per case
    assert 0.2 < backgrounds[0].mean() < 0.8


def test_voxels_and_volume_are_those_of_a_head(case):
    voxel = abs(np.linalg.det(case.affine[:3, :3]))
    assert voxel == pytest.approx(np.prod(THICK), rel=1e-6)
    assert np.allclose(np.linalg.inv(case.affine) @ case.affine, np.eye(4))
    assert 0.9e6 < (case.images["t1"] > 0).sum() * voxel < 2.1e6  # mm3


def test_lesions_lie_in_the_brain_and_are_bright_in_flair(case):
    lesion, flair = case.label > 0, case.images["flair"].astype(float)
    around = ndimage.binary_dilation(lesion, iterations=4) & ~ndimage.binary_dilation(lesion, iterations=2)
    white = around & tissue(case)["white"]
    assert lesion.any() and (flair[lesion] > 0).all()
    assert np.median(flair[lesion]) > np.median(flair[white]) + flair[white].std()


def test_a_head_without_lesions_has_the_same_geometry(healthy, case):
    assert not healthy.label.any()
    assert healthy.label.shape == case.label.shape and np.array_equal(healthy.affine, case.affine)


@pytest.mark.parametrize(
    ("sequence", "order"),
    [
        ("flair", ("fluid", "white", "grey")),
        ("t1", ("fluid", "grey", "white")),
        ("t1ce", ("fluid", "grey", "white")),
        ("t2", ("white", "grey", "fluid")),
    ],
)
def test_tissues_have_the_physical_order_of_the_sequence(healthy, sequence, order):
    image = healthy.images[sequence].astype(float)
    score = (image - image[image > 0].mean()) / image[image > 0].std()
    masks = tissue(healthy)
    medians = [np.median(score[masks[name]]) for name in order]
    assert medians == sorted(medians)


@pytest.mark.parametrize("bad", [{"sequences": ("flair", "dwi")}, {"spacing": (1, 1)}, {"spacing": (1, 1, 0)}])
def test_bad_arguments_raise_one_line(bad):
    with pytest.raises(InputError) as caught:
        make_brain_case(0, **bad)
    assert "\n" not in str(caught.value)


def test_data_set_on_disk(tmp_path, quick):
    from monai.data import load_decathlon_datalist  # slow to import, and worker processes import this file

    path = make_brain_phantoms(tmp_path / "set", 1, 1, 2, workers=1, progress=False)
    content = json.loads(path.read_text(encoding="utf-8"))
    assert "synthetic, not clinical data" in content["description"]
    assert [len(content[part]) for part in ("training", "validation", "testing")] == [1, 1, 2]
    items = load_decathlon_datalist(path, True, "training") + load_decathlon_datalist(path, True, "validation")
    for item in items:
        images: list[Any] = [nib.load(name) for name in [*item["image"], item["label"]]]
        assert len(images) == 5
        assert all(np.allclose(image.affine, images[0].affine, atol=1e-4) for image in images)
        assert all(image.shape == images[0].shape for image in images)
    incomplete = content["testing"][1]
    assert incomplete["image"][0] is not None and incomplete["image"].count(None) == 1
    present = [name for name in incomplete["image"] if name]
    assert all((path.parent / name).is_file() for name in present)
    assert not (path.parent / incomplete["case_id"] / "t1.nii.gz").exists()
    every = [*content["training"], *content["validation"], *content["testing"]]
    assert not [key for item in every for key in item if key.startswith(("image_", "label_"))]


def test_worker_processes_write_every_case(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(brain, "_write_case", _write_marker)
    path = make_brain_phantoms(tmp_path, 2, 0, 0, workers=2, progress=False)
    assert [(path.parent / name / "seed").exists() for name in ("phantom_000", "phantom_001")] == [True, True]


def _write_marker(folder: Path, seed: int, sequences, hard) -> None:
    """Replace `_write_case`; at module level so that spawned processes find it."""
    folder.mkdir(parents=True)
    (folder / "seed").write_text(str(seed), encoding="utf-8")


def test_hard_cases_have_a_label_without_spots_that_readers_overlook():
    usual, hard = (make_brain_case(3, spacing=THICK, hard=value) for value in (False, True))
    assert not np.array_equal(usual.images["flair"], hard.images["flair"])
    assert not (hard.label > usual.label).any() and hard.label.sum() < usual.label.sum()
    spots, count = ndimage.label(hard.label, np.ones((3, 3, 3)))
    assert count and np.bincount(spots.ravel())[1:].min() * np.prod(THICK) >= brain.SMALLEST_LESION
