"""Evaluation of every bundle: the numbers that training ended with, and weights that stay."""

from __future__ import annotations

import shutil

import pandas as pd


def test_same_numbers_as_training(bundle, data_dir, trained, tmp_path, capsys):
    bundle.evaluate(data_dir, tmp_path, trained.output / "models")
    tables = [pd.read_csv(folder / "metrics.csv").set_index("case_id") for folder in (tmp_path, trained.output)]
    pd.testing.assert_frame_equal(*tables, atol=1e-4)
    text = capsys.readouterr().out
    assert bundle.evaluated in text and "next" not in text
    assert not (tmp_path / "models").exists(), "evaluation is no training run"


def test_properties_can_be_read_and_the_weights_stay(bundle, data_dir, weights_dir, tmp_path):
    shutil.copytree(weights_dir, tmp_path / "models")
    flow = bundle.evaluation(data_dir, tmp_path / "out", tmp_path / "models")
    flow.initialize()
    assert not flow.check_properties()
    assert (tmp_path / "models" / "model.pt").is_file()
