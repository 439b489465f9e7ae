"""Phantoms from head label maps and from lesion masks of patients, and rough cases: tiny label maps made here."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from brainsegdmlf.phantoms import artefacts, label_map, real_lesions
from brainsegdmlf.phantoms.anatomy import make_anatomy
from brainsegdmlf.phantoms.contrast import SEQUENCES
from brainsegdmlf.phantoms.dataset import make_brain_case
from brainsegdmlf.phantoms.lesions import Lesions
from brainsegdmlf.phantoms.random_case import random_case

from shared.core.errors import InputError

REAL = os.environ.get("BUNDLES_REAL_DATA")
COARSE = (4.0, 4.0, 6.0)  # mm
SHAPE, SPACING = (38, 46, 40), (4.0, 4.0, 4.0)
CLASSES = [  # name, FreeSurfer number
    ("background", 0), ("left cerebral white matter", 2), ("left cerebral cortex", 3), ("left lateral ventricle", 4),
    ("right lateral ventricle", 43), ("left thalamus", 10), ("CSF", 24), ("bone, class 515", 515),
]  # fmt: skip


def ellipsoid(shape, centre, radii) -> np.ndarray:
    index = np.indices(shape, np.float32)
    return sum(((index[axis] - centre[axis]) / radii[axis]) ** 2 for axis in range(3)) < 1


def write(path: Path, array: np.ndarray, affine: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(nib.Nifti1Image(array.astype(np.uint8), affine).to_bytes(), 1, mtime=0))


@pytest.fixture(scope="module")
def heads_dir(tmp_path_factory) -> Path:
    """One head of nested ellipsoids: bone, fluid, cortex, white matter, ventricles, thalamus."""
    folder, shape, middle = (
        tmp_path_factory.mktemp("heads"),
        (86, 102, 86),
        (43, 51, 43),
    )  # half of a head, to save time
    labels = np.zeros(shape, np.uint8)
    for index, radii in ((7, (42, 50, 42)), (6, (35, 43, 35)), (2, (34, 41, 34)), (1, (31, 38, 31))):
        labels[ellipsoid(shape, middle, radii)] = index
    for index, offset, height, radii in ((3, -6, 50, (3, 15, 5)), (4, 6, 50, (3, 15, 5)), (5, -6, 40, (3, 5, 3))):
        labels[ellipsoid(shape, (43 + offset, 51, height), radii)] = index
    write(folder / "head_01.nii.gz", labels, np.diag([1.0, 1, 1, 1]))
    names = {str(index): {"name": name, "freesurfer": number} for index, (name, number) in enumerate(CLASSES)}
    (folder / "labels.json").write_text(json.dumps(names), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def lesion_dir(tmp_path_factory) -> Path:
    """Masks in MNI space, stored towards left as those of the public sets are: small for MS, large for strokes."""
    folder = tmp_path_factory.mktemp("lesions")
    affine = np.array([[-1.0, 0, 0, 78], [0, 1, 0, -112], [0, 0, 1, -50], [0, 0, 0, 1]])
    for kind, names, radius in (("ms", ("patient01", "patient02"), 8), ("stroke", ("11", "12"), 22)):
        for number, name in enumerate(names):
            mask = ellipsoid((157, 189, 136), (78 - 30, 112 - 10 - 20 * number, 80), (radius,) * 3)
            write(folder / kind / f"{name}.nii.gz", mask, affine)
    return folder


@pytest.fixture(scope="module")
def head(heads_dir):
    return label_map.load_head(heads_dir / "head_01.nii.gz")


@pytest.fixture(scope="module")
def anatomy(head):
    return make_anatomy(np.random.default_rng(0), SHAPE, SPACING, np.eye(3), head)


def test_tissue_fractions_sum_to_one(anatomy):
    total = anatomy.csf + anatomy.gm + anatomy.wm
    assert np.allclose(total, 1, atol=1e-4)
    assert min(field.min() for field in (anatomy.csf, anatomy.gm, anatomy.wm)) > -1e-6


def test_labels_become_their_tissues(anatomy):
    brain, middle = anatomy.depth > 0, anatomy.depth > 10
    assert anatomy.ventricle[brain].max() > 0.9 and anatomy.ventricle[~brain].max() < 0.1
    assert (anatomy.ventricle <= anatomy.csf + 1e-4).all()
    assert anatomy.wm[middle & (anatomy.ventricle_distance > 8)].mean() > 0.8
    rim = (anatomy.depth > 0.7) & (anatomy.depth < 2.5)
    assert anatomy.gm[rim].mean() > anatomy.wm[rim].mean()
    assert anatomy.csf[~brain].mean() > 0.95
    assert ((anatomy.gm > 0.1) & (anatomy.wm > 0.1)).sum() > 100  # partial volume


def test_head_lies_in_standard_space(head):
    assert head.volumes.dtype.itemsize == 1  # int8: a head stays in memory
    to_mni = np.linalg.inv(head.matrix)
    middle = to_mni @ ((np.array(head.volumes.shape[2:]) - 1) / 2) + head.origin
    assert np.abs(middle - (0, -18, 10)).max() < 12  # mm; the middle of the template's brain
    assert 1.8 < np.linalg.det(to_mni) ** (1 / 3) < 2.4 and np.abs(to_mni - np.diag(np.diag(to_mni))).max() < 0.2


def test_lesions_lie_in_tissue_near_their_place_in_standard_space(anatomy, lesion_dir):
    shapes = real_lesions.find_shapes(lesion_dir)
    for kind in ("ms", "stroke"):
        changed, found = real_lesions.mix_lesions(np.random.default_rng(1), anatomy, SPACING, shapes, kind)
        assert found.volume.max() > 0.5 and found.volume.max() <= 1 and found.bright.max() > 0
        assert changed.csf[found.volume > 0.6].max() < 0.6
        assert anatomy.ventricle[found.volume > 0.6].max() < 0.5
        places = np.average(anatomy.mni.reshape(3, -1), axis=1, weights=found.volume.ravel())
        assert abs(abs(places[0]) - 30) < 12 and abs(places[2] - 30) < 12


def test_mirrored_masks_lie_on_both_sides(anatomy, lesion_dir):
    file = lesion_dir / "stroke" / "11.nii.gz"
    masks = [real_lesions.place_mask(np.random.default_rng(seed), file, anatomy, SPACING) for seed in range(8)]
    sides = {float(np.sign((anatomy.mni[0] * mask).sum())) for mask in masks}
    assert sides == {-1.0, 1.0}


def test_chronic_stroke_has_a_cavity_and_acute_has_none(anatomy, lesion_dir, monkeypatch):
    shapes = real_lesions.find_shapes(lesion_dir)
    holes = {}
    for share in (0.0, 1.0):
        monkeypatch.setattr(real_lesions, "CHRONIC", share)
        out = Lesions.none(SHAPE)
        changed = real_lesions.add_stroke(np.random.default_rng(2), out, anatomy, SPACING, shapes)
        holes[share] = out.fluid.max()
        assert np.allclose(changed.csf + changed.gm + changed.wm, 1, atol=1e-4)
    assert holes[0.0] == 0 and holes[1.0] > 0.6


def test_excluded_patients_are_never_used(anatomy, lesion_dir, monkeypatch):
    shapes = real_lesions.find_shapes(lesion_dir, strokes=["12"], exclude=["patient02"])
    used = []
    monkeypatch.setattr(
        real_lesions, "place_mask", lambda rng, file, *_: used.append(file.name) or np.zeros(SHAPE, np.float32)
    )
    for seed in range(8):
        real_lesions.mix_lesions(np.random.default_rng(seed), anatomy, SPACING, shapes, ("ms", "stroke")[seed % 2])
    assert set(used) == {"12.nii.gz", "patient01.nii.gz"}


def test_a_kind_without_masks_is_drawn_instead(anatomy, lesion_dir):
    shapes = real_lesions.find_shapes(lesion_dir, exclude=["patient01", "patient02"])
    _, found = real_lesions.mix_lesions(np.random.default_rng(1), anatomy, SPACING, shapes, "ms")
    assert not shapes.ms and found.volume.max() > 0.5


@pytest.mark.parametrize("options", [{"strokes": ["99"]}, {"strokes": [], "exclude": ["patient01", "patient02"]}])
def test_masks_that_are_missing_raise_one_line(lesion_dir, options):
    with pytest.raises(InputError) as caught:
        real_lesions.find_shapes(lesion_dir, **options)
    assert str(lesion_dir) in str(caught.value) and "\n" not in str(caught.value)


def test_folder_without_label_maps_raises_one_line(tmp_path):
    with pytest.raises(InputError, match="no label maps"):
        make_brain_case(0, spacing=COARSE, heads_dir=tmp_path)


def test_same_seed_same_case_and_no_lesion_gives_an_empty_label(heads_dir, lesion_dir):
    options = {"spacing": COARSE, "head_share": 1.0, "rough": True}
    first, again = (random_case(5, heads_dir, lesion_dir, lesion_kind="stroke", **options) for _ in range(2))
    assert all(np.array_equal(first.images[name], again.images[name]) for name in SEQUENCES)
    assert np.array_equal(first.label, again.label) and first.label.any()
    assert (first.images["flair"][first.label > 0] > 0).all()
    assert not random_case(5, heads_dir, lesion_dir, lesion_kind="none", **options).label.any()


def test_mix_of_lesions_has_heads_without_any(anatomy, lesion_dir, monkeypatch):
    for name in ("make_lesions", "add_white_matter_lesions", "add_stroke"):
        monkeypatch.setattr(real_lesions, name, lambda *args: pytest.fail("a lesion was painted"))
    shapes = real_lesions.find_shapes(lesion_dir)
    monkeypatch.setattr(real_lesions, "MIX", {"none": 1.0})
    _, found = real_lesions.mix_lesions(np.random.default_rng(0), anatomy, SPACING, shapes)
    assert not found.volume.any()
    assert sum(real_lesions.MIX.values()) == pytest.approx(1)


def test_rough_case_may_show_remnants_outside_the_brain_and_labels_none_of_them(monkeypatch):
    monkeypatch.setattr("brainsegdmlf.phantoms.artefacts.STRIPPING_SHARE", 1.0)
    smooth, rough = (make_brain_case(4, spacing=COARSE, sequences=("flair",), rough=value) for value in (False, True))
    assert (smooth.images["flair"] > 0).sum() != (rough.images["flair"] > 0).sum()
    assert (rough.images["flair"][rough.label > 0] > 0).all()


def test_cases_of_earlier_versions_are_made_again():
    """Values of a small case before heads, masks and rough cases came; RECIPE_VERSION vouches for them."""
    case = make_brain_case(3, spacing=(3.0, 3.0, 6.0), sequences=("flair",), hard=True)
    assert case.label.shape == (51, 62, 27) and case.label.sum() == 75
    found = case.images["flair"][10:45:7, 31, 13].astype(int)
    assert np.allclose(found, BEFORE, atol=3), found.tolist()


BEFORE = [1410, 1277, 260, 1580, 820]


@pytest.mark.skipif(not REAL, reason="set BUNDLES_REAL_DATA to the folder of real images")
def test_real_head_and_real_stroke_make_a_plausible_case():
    data = Path(str(REAL))
    case = random_case(
        1, data / "brain_heads", data / "brain_lesion_shapes", spacing=(2, 2, 4), lesion_kind="stroke", head_share=1.0
    )
    brain = case.images["t1"] > 0
    assert 0.8e6 < brain.sum() * 16 < 2.1e6  # mm3
    assert 0 < case.label.sum() < 0.4 * brain.sum()


@pytest.mark.parametrize("lower", [True, False])
def test_one_end_of_the_slab_is_brighter_or_darker_and_the_rest_is_as_it_was(lower, monkeypatch):
    monkeypatch.setattr(artefacts, "LOWER_END", float(lower))
    image = np.zeros((5, 6, 60), np.float32)
    image[1:4, 1:5, 8:52] = 1  # 132 mm of tissue
    gain = artefacts.slab_end(np.random.default_rng(0), image, (1, 1, 3))[0, 0, 8:52]
    away = np.abs(gain if lower else gain[::-1]) - 1
    assert 0.01 < abs(away[0]) <= 0.8 and abs(away[-1]) < 0.01
    assert (np.diff(np.abs(away)) <= 0).all()
    assert artefacts.slab_end(np.random.default_rng(0), 0 * image, (1, 1, 3)).shape == (1, 1, 60)
