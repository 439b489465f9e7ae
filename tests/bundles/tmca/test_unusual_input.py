"""What is unusual and accepted, and a network that needs its own file."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from tests.bundles.bad_input import Place, make_place
from tests.bundles.running import assert_one_line, finish, input_error
from tests.bundles.tmca.facts import BUNDLE


@pytest.fixture
def place(data_dir, weights_dir, tmp_path, monkeypatch) -> Place:
    return make_place(data_dir, weights_dir, tmp_path, monkeypatch)


def test_masks_of_0_and_255(place):
    """As QaTa's own files are: said in an option, they train as masks of 0 and 1."""
    for file in place.data.glob("*/*_mask.png"):
        Image.fromarray(255 * np.asarray(Image.open(file))).save(file)
    BUNDLE.train(place.data, place.folder / "run", labels=[0, 255], **BUNDLE.quiet)
    assert pd.read_csv(place.folder / "run" / "metrics.csv")["share"].between(0.001, 0.5).all()


def test_no_sentences_are_said_once(place, capsys):
    """Training goes on by the images alone."""

    def without(lists):
        for split in ("training", "validation"):
            for item in lists[split]:
                del item["text"]

    place.lists(without)
    (place.folder / "own").mkdir()
    lists = json.loads((place.data / "dataset.json").read_text(encoding="utf-8"))
    lists = {k: [{x: str(place.data / y) for x, y in i.items()} for i in lists[k]] for k in ("training", "validation")}
    for item in [*lists["training"], *lists["validation"]]:
        del item["case_id"]
    (place.folder / "own" / "dataset.json").write_text(json.dumps(lists), encoding="utf-8")
    BUNDLE.train(place.folder / "own", place.folder / "run", **BUNDLE.quiet)
    said = [line for line in capsys.readouterr().err.splitlines() if "no sentence" in line]
    assert len(said) == 1 and '9 of 9 cases have no sentence (key "text")' in said[0]
    assert pd.read_csv(place.folder / "run" / "sentences.csv")["sentence"].unique().tolist() == ["none"]


def test_weights_of_the_image_only_twin_need_its_file(place):
    network = BUNDLE.workflow("inference", "image_only", **BUNDLE.network).parser.get_parsed_content("network_def")
    torch.save(network.state_dict(), place.weights / "model.pt")
    settings = place.inference({**BUNDLE.infer_options, "overlays": False})
    line = input_error(lambda: finish(BUNDLE.workflow("inference", **settings)))
    assert_one_line(line, ["belong to another network", "missing"])
    finish(BUNDLE.workflow("inference", "image_only", **settings))
