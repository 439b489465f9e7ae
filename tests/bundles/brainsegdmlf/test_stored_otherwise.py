"""One scan whose files differ in axes, origin and format gives one mask, voxel by voxel, also where it is resampled."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from brainsegdmlf.background import TissueSpacingd
from monai.data import MetaTensor
from monai.transforms import Compose, Invertd, Spacingd

from tests.bundles.brainsegdmlf.facts import BUNDLE
from tests.bundles.running import predictions
from tests.making import BRAIN_SHAPE, SEQUENCES, make_brain

SPACING = (0.9, 0.9, 3.3)  # mm; resampled to 1 x 1 x 3.3
COPIES = 5
FORMATS = ((nib.Nifti1Image, ".nii.gz"), (nib.Nifti2Image, ".nii"), (nib.MGHImage, ".mgz"))
Form = tuple[Any, str]


def store(folder: Path, random: np.random.Generator, form: Form, turned: bool, shifted: bool) -> list[str]:
    """Write the brain with random axes and a random origin; return the paths of its sequences."""
    affine = np.diag([*SPACING, 1.0])
    affine[:3, 3] = [-18, -25, -7] + shifted * random.uniform(-300, 300, 3)
    turn = nib.orientations.axcodes2ornt("RAS")
    if turned:
        turn = np.column_stack([random.permutation(3), random.choice([-1, 1], 3)]).astype(float)
    kind, suffix = form
    folder.mkdir()
    for name, array in make_brain(20)[0].items():
        image = nib.Nifti1Image(array, affine).as_reoriented(turn)
        nib.save(kind(np.asanyarray(image.dataobj), image.affine), folder / f"{name}{suffix}")
    return [str(folder / f"{name}{suffix}") for name in SEQUENCES]


def test_flips_permutations_shifts_and_formats_give_one_mask(tmp_path, weights_dir):
    random = np.random.default_rng(0)
    forms = [*FORMATS, *(FORMATS[random.integers(3)] for _ in range(COPIES))]
    cases = [
        {"case_id": f"c{number}", "image": store(tmp_path / f"c{number}", random, form, number > 2, number > 2)}
        for number, form in enumerate(forms)
    ]
    (tmp_path / "dataset.json").write_text(json.dumps({"testing": cases}), encoding="utf-8")
    out = tmp_path / "out"
    BUNDLE.infer(out, weights_dir, dataset_dir=str(tmp_path), overlays=False)
    files = {entry["case_id"]: out / entry["prediction"] for entry in predictions(out)}
    masks = [np.asanyarray(nib.as_closest_canonical(nib.load(files[case["case_id"]])).dataobj) for case in cases]
    assert masks[0].shape == BRAIN_SHAPE and 0.01 < masks[0].mean() < 0.9, "a mask that can be compared"
    assert [int((mask != masks[0]).sum()) for mask in masks] == [0] * len(masks)


def ball(spacing: float, background: float = 0.0) -> MetaTensor:
    """A ball of tissue (1, 60, 60, 60) of the value 1000 round the middle."""
    grid = np.stack(np.meshgrid(*[np.linspace(-1, 1, 60)] * 3, indexing="ij"))
    inside = (grid**2).sum(0) < 0.5
    image = torch.from_numpy(np.where(inside, 1000.0, background)).float()[None]
    return MetaTensor(image, affine=np.diag([spacing, spacing, spacing, 1]))


def resampled(image: MetaTensor) -> MetaTensor:
    return TissueSpacingd("image", pixdim=(1, 1, 1), mode="bilinear")({"image": image})["image"]


def test_tissue_keeps_its_volume():
    image = ball(0.9)
    found = resampled(image)
    volume = int((image != 0).sum()) * 0.9**3
    assert abs(int((found != 0).sum()) / volume - 1) < 0.02
    plain = Spacingd("image", pixdim=(1, 1, 1))({"image": image})["image"]
    assert int((plain != 0).sum()) / volume > 1.08, "without it, a shell beside the tissue counts"
    assert torch.equal(found[found != 0].as_tensor(), plain[found != 0].as_tensor())


def test_an_image_of_the_wanted_size_stays_as_it_is():
    image = ball(1.0)
    image[0, 0, 0, 0] = 1e-6
    found = resampled(image)
    assert torch.equal(found.as_tensor(), image.as_tensor()) and torch.equal(found.affine, image.affine)


def test_an_image_without_background_is_interpolated_alone():
    image = ball(0.9, 20)
    plain = Spacingd("image", pixdim=(1, 1, 1))({"image": image})["image"]
    assert torch.equal(resampled(image).as_tensor(), plain.as_tensor())


def test_it_is_inverted_as_spacingd_is():
    chains = [Compose([kind("image", pixdim=(1, 1, 1), mode="bilinear")]) for kind in (TissueSpacingd, Spacingd)]
    back = []
    for chain in chains:
        data = chain({"image": ball(0.9)})
        data["pred"] = MetaTensor((data["image"] > 900).float(), meta=data["image"].meta)
        back.append(Invertd("pred", chain, orig_keys="image", nearest_interp=False)(data)["pred"])
    assert back[0].shape == (1, 60, 60, 60) and torch.equal(back[0].affine, back[1].affine)
    assert torch.equal(back[0].as_tensor() > 0.5, back[1].as_tensor() > 0.5)
