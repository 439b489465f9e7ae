"""Inference: a folder, one picture with a sentence or without, files of other kinds and sizes, windows."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from tests.bundles.tmca.helpers import INFER, SENTENCE, infer, workflow


def mask_of(output):
    (entry,) = json.loads((output / "predictions.json").read_text(encoding="utf-8"))
    return np.asarray(Image.open(output / entry["prediction"]))


@pytest.fixture(scope="module")
def picture(data_dir):
    return sorted((data_dir / "testing").glob("chest_???.png"))[0]


@pytest.fixture(scope="module")
def reference(tmp_path_factory, picture, weights_dir):
    """The mask of one picture with its sentence."""
    folder = tmp_path_factory.mktemp("reference")
    infer(folder, weights_dir, input=str(picture), text=SENTENCE, overlays=False)
    mask = mask_of(folder)
    assert 0.01 < mask.mean() < 0.95, "a mask that can be compared"
    return mask


def test_a_folder(data_dir, weights_dir, tmp_path, capsys):
    flow = workflow(
        "infer", "inference", dataset_dir=str(data_dir), output_dir=str(tmp_path), ckpt_dir=str(weights_dir), **INFER
    )
    flow.initialize()
    assert not flow.check_properties()
    flow.run()
    index = json.loads((tmp_path / "predictions.json").read_text(encoding="utf-8"))
    items = json.loads((data_dir / "dataset.json").read_text(encoding="utf-8"))["testing"]
    assert [entry["case_id"] for entry in index] == [item["case_id"] for item in items]
    assert [entry["text"] for entry in index] == [item["text"] for item in items]
    for entry in index:
        mask = Image.open(tmp_path / entry["prediction"])
        assert mask.size == Image.open(entry["image"][0]).size and mask.mode == "L"
        assert set(np.unique(mask)) <= {0, 1}
        assert (tmp_path / entry["overlay"]).stat().st_size > 1000
    captured = capsys.readouterr()
    assert "segmented 2 cases" in captured.out and "grey picture" not in captured.err


def test_one_picture_by_a_relative_path(picture, weights_dir, reference, tmp_path, monkeypatch):
    monkeypatch.chdir(picture.parent)
    infer(tmp_path, weights_dir, input=picture.name, text=SENTENCE)
    (entry,) = json.loads((tmp_path / "predictions.json").read_text(encoding="utf-8"))
    assert entry["case_id"] == picture.stem and entry["image"] == [str(picture)] and entry["text"] == SENTENCE
    assert np.array_equal(mask_of(tmp_path), reference)


def test_no_sentence_is_said_once(picture, weights_dir, reference, tmp_path, capsys):
    infer(tmp_path, weights_dir, input=str(picture), overlays=False)
    assert not np.array_equal(mask_of(tmp_path), reference)
    assert capsys.readouterr().err.count("1 of 1 cases have no sentence") == 1


@pytest.mark.parametrize("kind", ["bmp", "tif", "rgb.png"])
def test_other_files_of_the_same_picture(picture, weights_dir, reference, tmp_path, kind):
    image = Image.open(picture)
    (image.convert("RGB") if kind.startswith("rgb") else image).save(tmp_path / f"p.{kind}")
    infer(tmp_path / "out", weights_dir, input=str(tmp_path / f"p.{kind}"), text=SENTENCE, overlays=False)
    assert np.array_equal(mask_of(tmp_path / "out"), reference)


@pytest.mark.parametrize("resize", [True, False])
def test_a_wide_picture_keeps_its_size(picture, weights_dir, tmp_path, resize):
    """Resized to the network's size, or in windows that share the sentence."""
    Image.open(picture).resize((150, 61)).save(tmp_path / "wide.jpg")
    infer(tmp_path / "out", weights_dir, input=str(tmp_path / "wide.jpg"), text=SENTENCE, resize=resize)
    assert mask_of(tmp_path / "out").shape == (61, 150)


def test_a_long_sentence_is_cut_and_shown(picture, weights_dir, tmp_path):
    with pytest.warns(UserWarning, match="takes 77 tokens: cut '.*omega") as warned:
        infer(tmp_path, weights_dir, input=str(picture), text="infected area, " * 30 + "omega", overlays=False)
    assert len([w for w in warned if "omega" in str(w.message)]) == 1
    assert mask_of(tmp_path).shape == Image.open(picture).size[::-1]
