"""Inference of TMCA: with its sentence, without one, with one too long, and in windows."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from tests.bundles.running import copy_bundle, input_error, mask_of
from tests.bundles.tmca.facts import BUNDLE, SENTENCE


def test_sentences_of_the_list_are_recorded(data_dir, segmented):
    items = json.loads((data_dir / "dataset.json").read_text(encoding="utf-8"))["testing"]
    assert [entry["text"] for entry in segmented.index] == [item["text"] for item in items]
    assert "grey picture" not in segmented.errors


def test_no_sentence_is_said_once(data_dir, weights_dir, tmp_path, capsys):
    case = BUNDLE.one_case(data_dir)
    BUNDLE.infer(tmp_path / "with", weights_dir, **case, overlays=False)
    capsys.readouterr()
    BUNDLE.infer(tmp_path / "without", weights_dir, input=case["input"], overlays=False)
    assert capsys.readouterr().err.count("1 of 1 cases have no sentence") == 1
    assert not np.array_equal(mask_of(tmp_path / "with"), mask_of(tmp_path / "without"))


def test_a_sentence_without_its_picture(weights_dir, tmp_path):
    assert "--input" in input_error(BUNDLE.infer, tmp_path, weights_dir, text=SENTENCE)


def test_windows_keep_the_size_of_a_wide_picture(data_dir, weights_dir, tmp_path):
    """They share the sentence."""
    case = BUNDLE.one_case(data_dir)
    Image.open(case["input"]).resize((150, 61)).save(tmp_path / "wide.jpg")
    BUNDLE.infer(tmp_path / "out", weights_dir, **{**case, "input": str(tmp_path / "wide.jpg")}, resize=False)
    assert mask_of(tmp_path / "out").shape == (61, 150)


def test_a_long_sentence_is_cut_and_shown(data_dir, weights_dir, tmp_path):
    picture = BUNDLE.one_case(data_dir)["input"]
    with pytest.warns(UserWarning, match="takes 77 tokens: cut '.*omega") as warned:
        BUNDLE.infer(tmp_path, weights_dir, input=picture, text="infected area, " * 30 + "omega", overlays=False)
    assert len([w for w in warned if "omega" in str(w.message)]) == 1
    assert mask_of(tmp_path).shape == Image.open(picture).size[::-1]


def test_shipped_weights_are_found_by_their_name(data_dir, weights_dir, tmp_path):
    copy_bundle(BUNDLE.folder, tmp_path / "tmca")
    (tmp_path / "tmca" / "models").mkdir()
    shutil.copy(weights_dir / "model.pt", tmp_path / "tmca" / "models" / "model_b.pt")
    places = {"dataset_dir": str(data_dir), "output_dir": str(tmp_path / "out"), "shipped_weights": "model_b.pt"}
    BUNDLE.workflow("inference", configs=tmp_path / "tmca" / "configs", **places, **BUNDLE.network).initialize()
