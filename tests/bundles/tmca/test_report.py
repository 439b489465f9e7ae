"""The report's numbers: means over images beside those over all pixels, by sentence and by size of the target."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from tmca.report import SentenceReport, mask_metrics


def square(side, offset=0):
    mask = np.zeros((40, 40))
    mask[offset : offset + side, offset : offset + side] = 1
    return mask


def report(variants=("right", "none")):
    """Two images: a large target found whole with the sentence, half without; a small one, missed by both."""
    made = SentenceReport(variants)
    large, small = square(20), square(4, 30)
    half = large.copy()
    half[:10] = 0
    for name, label, preds in (("a", large, (large, half)), ("b", small, (square(4), square(0)))):
        found = {v: mask_metrics(pred, label, v == "right") for v, pred in zip(variants, preds)}
        made.add(name, found, label_px=int(label.sum()), share=float(label.mean()))
    return made


def test_masks():
    found = mask_metrics(square(20), square(10))
    assert found["dice"] == pytest.approx(200 / 500) and found["iou"] == pytest.approx(0.25)
    assert (found["pred_px"], found["common_px"]) == (400, 100) and found["hd95_px"] > 9
    empty = mask_metrics(square(0), square(0))
    assert (empty["dice"], empty["iou"], empty["hd95_px"]) == (1, 1, 0)
    assert np.isnan(mask_metrics(square(20), square(10), hd95=False)["hd95_px"])


def test_macro_beside_micro():
    table = report().sentence_table().set_index(["sentence", "target"])
    right, null = table.loc[("right", "all")], table.loc[("none", "all")]
    assert right["n"] == 2 and right["dice"] == pytest.approx(0.5)
    assert right["micro_dice"] == pytest.approx(800 / 832) and right["micro_iou"] == pytest.approx(400 / 432)
    assert null["dice"] == pytest.approx((2 / 3) / 2) and null["iou"] == pytest.approx(0.25)
    assert np.isnan(null["hd95_px"]) and right["hd95_px"] > 0


def test_by_size_of_the_target():
    table = report().sentence_table().set_index(["sentence", "target"])
    assert table.loc[("right", "over 15 %"), "dice"] == 1 and table.loc[("right", "under 5 %"), "dice"] == 0
    assert ("right", "5 to 15 %") not in table.index


def test_files(tmp_path):
    paths = report().write(tmp_path, seed=3)
    assert [path.name for path in paths] == ["sentences.csv", "sentences.md", "metrics.csv", "metrics.json"]
    assert len(pd.read_csv(paths[0])) == 6
    content = json.loads(paths[3].read_text(encoding="utf-8"))
    assert len(content["sentences"]) == 6 and content["sentences"][3]["hd95_px"] is None
    page = paths[1].read_text(encoding="utf-8")
    assert "| right | 2 | 0.500 | 0.962 |" in page and "| over 15 % of the image | 1 | 1.000 | 0.667 |" in page


def test_text():
    lines = report().text("validation").splitlines()
    assert lines[0].split() == [
        "validation",
        "Dice",
        "right",
        "Dice",
        "none",
        "HD95",
        "px",
        "right",
        "HD95",
        "px",
        "none",
    ]
    assert any(line.split()[:3] == ["right", "2", "0.500"] for line in lines)
    assert all(len(line) <= 100 for line in lines)
    assert "Dice" in report(("none",)).text().splitlines()[0]
