"""Inference: a folder, one picture of any kind, masks in the input's own size; new words with the text tower."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from tests.bundles.emclip.helpers import INFER, SENTENCES, UNSEEN, infer, workflow

PHOTOGRAPH = "camera_b/eye_006.png"


def mask_of(output):
    (entry,) = json.loads((output / "predictions.json").read_text(encoding="utf-8"))
    return np.asarray(Image.open(output / entry["prediction"]))


@pytest.fixture(scope="module")
def picture(data_dir):
    return data_dir / PHOTOGRAPH


@pytest.fixture(scope="module")
def reference(tmp_path_factory, picture, weights_dir):
    """The mask of one picture."""
    folder = tmp_path_factory.mktemp("reference")
    infer(folder, weights_dir, input=str(picture), overlays=False)
    mask = mask_of(folder)
    assert all(0.01 < (mask == value).mean() < 0.95 for value in (0, 2)), "a mask that can be compared"
    return mask


def test_unseen_cameras_of_a_folder(data_dir, weights_dir, tmp_path, capsys):
    flow = workflow(
        "infer", "inference", dataset_dir=str(data_dir), output_dir=str(tmp_path), ckpt_dir=str(weights_dir), **INFER
    )
    flow.initialize()
    assert not flow.check_properties()
    assert flow.parser.get_parsed_content("network_def").texts._encoder == [None], "no text tower"
    flow.run()
    index = json.loads((tmp_path / "predictions.json").read_text(encoding="utf-8"))
    assert [entry["case_id"] for entry in index] == [f"eye_006_{camera}" for camera in UNSEEN]
    for entry in index:
        mask = Image.open(tmp_path / entry["prediction"])
        assert mask.size == Image.open(entry["image"][0]).size and mask.mode == "L"
        assert set(np.unique(mask)) <= {0, 1, 2}
        assert (tmp_path / entry["overlay"]).stat().st_size > 1000
    assert "segmented 3 cases" in capsys.readouterr().out


def test_one_picture_by_a_relative_path(picture, weights_dir, reference, tmp_path, monkeypatch):
    monkeypatch.chdir(picture.parent)
    infer(tmp_path, weights_dir, input=picture.name)
    (entry,) = json.loads((tmp_path / "predictions.json").read_text(encoding="utf-8"))
    assert entry["case_id"] == picture.stem and entry["image"] == [str(picture)]
    assert np.array_equal(mask_of(tmp_path), reference)


@pytest.mark.parametrize("kind", ["bmp", "tif", "rgba.png"])
def test_other_files_of_the_same_picture(picture, weights_dir, reference, tmp_path, kind):
    image = Image.open(picture)
    (image.convert("RGBA") if kind.startswith("rgba") else image).save(tmp_path / f"p.{kind}")
    infer(tmp_path / "out", weights_dir, input=str(tmp_path / f"p.{kind}"), overlays=False)
    assert np.array_equal(mask_of(tmp_path / "out"), reference)


def test_a_wide_picture_keeps_its_size(picture, weights_dir, tmp_path):
    Image.open(picture).resize((150, 61)).save(tmp_path / "wide.jpg")
    infer(tmp_path / "out", weights_dir, input=str(tmp_path / "wide.jpg"))
    assert mask_of(tmp_path / "out").shape == (61, 150)


def test_the_classes_trained_with_a_tower_give_the_same(picture, weights_dir, reference, tmp_path):
    infer(tmp_path, weights_dir, input=str(picture), overlays=False, text_tower=True)
    assert np.array_equal(mask_of(tmp_path), reference)


def test_new_words_and_a_new_class_with_the_text_tower(picture, weights_dir, tmp_path):
    """A structure more is a sentence more; the weights stay as they are."""
    more = {
        "sentences": [*SENTENCES, "a vessel, a dark red line"],
        "structures": {"optic disc": [100, 200], "optic cup": [200], "vessel": [50]},
        "structure_values": [1, 2, 3],
    }
    infer(tmp_path, weights_dir, input=str(picture), text_tower=True, **more)
    assert set(np.unique(mask_of(tmp_path))) <= {0, 1, 2, 3}
