"""Evaluation of every bundle: the numbers that training ended with, and weights that stay."""

from __future__ import annotations

import shutil

import pandas as pd

from tests.bundles.running import finish


def evaluate(bundle, data, output, weights):
    """Set up an evaluation with the options of the trained run."""
    places = {"dataset_dir": str(data), "output_dir": str(output), "ckpt_dir": str(weights)}
    settings = {key: value for key, value in bundle.helpers.TRAIN.items() if key != "epochs"}
    return bundle.helpers.workflow("train", ["train", "evaluate"], **places, **settings)


def test_same_numbers_as_training(bundle, data_dir, trained, tmp_path):
    finish(evaluate(bundle, data_dir, tmp_path, trained.output / "models"))
    tables = [pd.read_csv(folder / "metrics.csv").set_index("case_id") for folder in (tmp_path, trained.output)]
    pd.testing.assert_frame_equal(*tables, atol=1e-4)


def test_properties_can_be_read_and_the_weights_stay(bundle, data_dir, weights_dir, tmp_path):
    shutil.copytree(weights_dir, tmp_path / "models")
    flow = evaluate(bundle, data_dir, tmp_path / "out", tmp_path / "models")
    flow.initialize()
    assert not flow.check_properties()
    assert (tmp_path / "models" / "model.pt").is_file()
