"""The other task of the bundle: hearts, slice by slice, in volumes; one vendor to train on, others unseen."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import torch

from tests.bundles.emclip.facts import BUNDLE
from tests.bundles.running import input_error, predictions
from tests.making import HEART_SHAPE, HEART_SPACING, make_heart, write_hearts

CARDIAC = BUNDLE.config("cardiac")


@pytest.fixture(scope="module")
def hearts(tmp_path_factory):
    return write_hearts(tmp_path_factory.mktemp("hearts"))


@pytest.fixture(scope="module")
def run(hearts, tmp_path_factory):
    output = tmp_path_factory.mktemp("cardiac")
    BUNDLE.train(hearts, output, "cardiac", overlays=0)
    return output


def test_training_reports_three_structures_of_unseen_vendors(run):
    table = pd.read_csv(run / "domains.csv")
    assert table["domain"].unique().tolist() == ["A", "B", "C"]
    assert table["class"].unique().tolist() == list(CARDIAC["structures"])
    assert "HD95 mm" in (run / "domains.md").read_text(encoding="utf-8")
    assert sorted(p.name.split("_")[0] for p in (run / "clusters").iterdir()) == ["A", "B", "C"]


def test_a_volume_gets_a_mask_in_its_own_grid(run, hearts, tmp_path):
    """Also one that is stored along other axes and in other pixels than the network sees."""
    image, _ = make_heart(9)
    straight = nib.Nifti1Image(image, np.diag([*HEART_SPACING, 1]))
    for name, volume in {
        "straight": straight,
        "turned": straight.as_reoriented(np.array([[1, -1], [0, 1], [2, -1]])),
        "coarse": nib.Nifti1Image(image[::2, ::2], np.diag([3.0, 3.0, 8.0, 1])),
    }.items():
        nib.save(volume, tmp_path / f"{name}.nii.gz")
        BUNDLE.infer(tmp_path / name, run / "models", "cardiac", input=str(tmp_path / f"{name}.nii.gz"))
        (entry,) = predictions(tmp_path / name)
        mask = nib.load(tmp_path / name / entry["prediction"])
        assert mask.shape == volume.shape and np.allclose(mask.affine, volume.affine)
        assert set(np.unique(mask.dataobj)) <= {0, 1, 2, 3}
        assert (tmp_path / name / entry["overlay"]).is_file()


def test_unseen_vendors_of_a_folder(run, hearts, tmp_path):
    BUNDLE.infer(tmp_path, run / "models", "cardiac", dataset_dir=str(hearts), overlays=False)
    index = predictions(tmp_path)
    assert [entry["case_id"] for entry in index] == ["p4", "p5"]
    assert nib.load(tmp_path / index[0]["prediction"]).shape == HEART_SHAPE


@pytest.mark.parametrize("order", [["train", "evaluate", "cardiac"], ["train", "cardiac", "evaluate"]])
def test_the_shipped_weights_are_those_of_the_heart(order):
    """In whatever order the files are named; weights of one's own are always model.pt."""
    parser = BUNDLE.workflow(*order).parser
    assert parser.get_parsed_content("load_weights#path").endswith("/models/model_cardiac.pt")
    assert parser.get_parsed_content("report#weights").endswith("/models/model_cardiac.pt"), "what it says it measured"
    parser = BUNDLE.workflow(*order, ckpt_dir="/mine").parser
    assert parser.get_parsed_content("load_weights#path") == "/mine/model.pt"
    assert parser.get_parsed_content("report#weights") == "/mine/model.pt"


def test_weights_of_the_fundus_are_refused(weights_dir, hearts, tmp_path):
    line = input_error(BUNDLE.infer, tmp_path, weights_dir, "cardiac", dataset_dir=str(hearts))
    assert CARDIAC["sentences"][0] in line and "\n" not in line


def test_patches_hold_every_structure(hearts, tmp_path):
    """Cropped about each class in turn, as the ratios say."""
    places = {"dataset_dir": str(hearts), "output_dir": str(tmp_path), "image_size": [24, 24]}
    parser = BUNDLE.workflow("train", "cardiac", **places, patches_per_volume=8).parser
    parser.get_parsed_content("code")
    dataset = parser.get_parsed_content("train#dataset")
    labels = torch.stack([patch["label"] for i in range(3) for patch in dataset[i]])
    assert labels.shape[1:] == (3, 24, 24) and labels.flatten(2).any(2).any(0).all()
    assert all(patch["image"].shape == (1, 24, 24) for patch in dataset[0])
