"""Evaluation of weights by domain: the numbers that training ended with, and data that have no source."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tests.bundles.emclip.facts import BUNDLE, STRUCTURES, UNSEEN


def test_evaluation_reports_every_domain_and_needs_no_text_tower(data_dir, trained, tmp_path):
    flow = BUNDLE.evaluate(data_dir, tmp_path, trained.output / "models")
    assert flow.parser.get_parsed_content("network_def").texts._encoder == [None], "no text tower"
    assert sorted(path.name for path in (tmp_path / "overlays").iterdir()) == ["camera_a", *UNSEEN]


def test_unseen_cases_alone(data_dir, weights_dir, tmp_path):
    """A hospital's own data: no training list, no source, a domain of its own."""
    item = json.loads((data_dir / "dataset.json").read_text(encoding="utf-8"))["testing"][0]
    item |= {"image": str(data_dir / item["image"]), "label": str(data_dir / item["label"]), "domain": "clinic"}
    (tmp_path / "dataset.json").write_text(json.dumps({"testing": [item]}), encoding="utf-8")
    BUNDLE.evaluate(tmp_path, tmp_path / "out", weights_dir, **BUNDLE.quiet)
    table = pd.read_csv(tmp_path / "out" / "domains.csv")
    assert table["domain"].unique().tolist() == ["clinic"] and table["role"].unique().tolist() == ["unseen"]


@pytest.mark.parametrize("domains", [None, ["camera_d"]])
def test_a_further_data_set_beside(data_dir, weights_dir, tmp_path, domains):
    item = json.loads((data_dir / "dataset.json").read_text(encoding="utf-8"))["testing"][0]
    item |= {"image": str(data_dir / item["image"]), "label": str(data_dir / item["label"]), "domain": "camera_d"}
    (tmp_path / "dataset.json").write_text(json.dumps({"testing": [item]}), encoding="utf-8")
    further = {"test_dirs": [str(tmp_path)], "domains": domains}
    BUNDLE.evaluate(data_dir, tmp_path / "out", weights_dir, **further, **BUNDLE.quiet)
    counts = pd.read_csv(tmp_path / "out" / "domains.csv").groupby("domain")["n"].max().to_dict()
    assert counts == {"camera_a": 2, "camera_d": 2, **({} if domains else {"camera_b": 1, "camera_c": 1})}


def test_metrics_are_those_of_the_files(data_dir, weights_dir, tmp_path):
    """Evaluation measures in the picture's own size, where inference writes: both give the same masks."""
    BUNDLE.evaluate(data_dir, tmp_path / "e", weights_dir, **BUNDLE.quiet)
    table = pd.read_csv(tmp_path / "e" / "metrics.csv").set_index("case_id")
    BUNDLE.infer(tmp_path / "i", weights_dir, dataset_dir=str(data_dir), overlays=False)
    for item in json.loads((data_dir / "dataset.json").read_text(encoding="utf-8"))["testing"]:
        case_id = item["case_id"]
        label = np.asarray(Image.open(data_dir / item["label"]))
        found = np.asarray(Image.open(tmp_path / "i" / case_id / f"{case_id}_seg.png"))
        truth, cup = label == 200, found == 2
        dice = 2 * (truth & cup).sum() / (truth.sum() + cup.sum())
        assert table.loc[case_id, f"dice_{STRUCTURES[1]}"] == pytest.approx(dice, abs=1e-4)
