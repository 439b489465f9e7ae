"""Evaluation of weights: the numbers that training ended with, those of the files, other splits and overrides."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tests.bundles.tmca.facts import BUNDLE


def test_metrics_are_those_of_the_files(data_dir, weights_dir, tmp_path):
    """Evaluation measures in the picture's own size, where inference writes: both give the same masks."""
    BUNDLE.evaluate(data_dir, tmp_path / "e", weights_dir, **BUNDLE.quiet, split="testing", all_hd95=True)
    table = pd.read_csv(tmp_path / "e" / "metrics.csv").set_index("case_id")
    assert table[["hd95_px_right", "hd95_px_none"]].notna().all(axis=None)
    BUNDLE.infer(tmp_path / "i", weights_dir, dataset_dir=str(data_dir), overlays=False)
    for item in json.loads((data_dir / "dataset.json").read_text(encoding="utf-8"))["testing"]:
        case_id = item["case_id"]
        label = np.asarray(Image.open(data_dir / item["label"])) > 0
        found = np.asarray(Image.open(tmp_path / "i" / case_id / f"{case_id}_seg.png")) > 0
        dice = 2 * (label & found).sum() / (label.sum() + found.sum())
        assert table.loc[case_id, "dice_right"] == pytest.approx(dice, abs=1e-4)
        assert table.loc[case_id, "label_px"] == label.sum() and table.loc[case_id, "pred_px_right"] == found.sum()


def test_the_sentence_changes_the_mask(data_dir, weights_dir, tmp_path):
    BUNDLE.evaluate(data_dir, tmp_path, weights_dir, **BUNDLE.quiet)
    table = pd.read_csv(tmp_path / "metrics.csv")
    assert (table["pred_px_right"] != table["pred_px_none"]).any()


def test_batches_give_the_same_as_single_images(data_dir, weights_dir, tmp_path):
    for batch in (1, 2):
        BUNDLE.evaluate(data_dir, tmp_path / str(batch), weights_dir, **BUNDLE.quiet, val_batch_size=batch)
    tables = [pd.read_csv(tmp_path / str(batch) / "metrics.csv", index_col=0) for batch in (1, 2)]
    one, other = (table.select_dtypes("number").astype(float) for table in tables)  # counts of pixels may round, too
    pd.testing.assert_frame_equal(one, other, rtol=1e-3, atol=1e-3)
    assert len(one.columns) > 10 and list(tables[0].index) == list(tables[1].index)


def test_data_without_sentences(data_dir, weights_dir, tmp_path, capsys):
    """Said once; nothing to shuffle, and only the score without a sentence."""
    items = json.loads((data_dir / "dataset.json").read_text(encoding="utf-8"))["validation"]
    items = [{key: str(data_dir / item[key]) for key in ("image", "label")} for item in items]
    (tmp_path / "dataset.json").write_text(json.dumps({"validation": items}), encoding="utf-8")
    BUNDLE.evaluate(tmp_path, tmp_path / "out", weights_dir)
    assert pd.read_csv(tmp_path / "out" / "sentences.csv")["sentence"].unique().tolist() == ["none"]
    said = [line for line in capsys.readouterr().err.splitlines() if "no sentence" in line]
    assert len(said) == 1 and '3 of 3 cases have no sentence (key "text")' in said[0]
    assert not (tmp_path / "out" / "attention").exists()
