"""Evaluation of weights on a split: one row per case, of the masks that inference writes."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from tests.bundles.brainsegdmlf.facts import BUNDLE

COLUMNS = {"dice", "hd95_mm", "surface_dice", "lesion_recall", "lesion_precision", "lesion_f1"}


def evaluate(data, output, weights, **override):
    BUNDLE.evaluate(data, output, weights, **override)
    return pd.read_csv(output / "metrics.csv").set_index("case_id")


def test_one_row_per_case(data_dir, weights_dir, tmp_path):
    table = evaluate(data_dir, tmp_path, weights_dir)
    assert table.index.tolist() == ["val_a", "val_b"] and set(table.columns) >= COLUMNS
    assert table["dice"].between(0, 1).all() and (table["lesions"] == 2).all()
    assert sorted(p.name for p in (tmp_path / "overlays").iterdir()) == ["val_a.png", "val_b.png"]


def test_another_split_with_a_missing_sequence(data_dir, weights_dir, tmp_path):
    table = evaluate(data_dir, tmp_path, weights_dir, split="testing")
    assert table.index.tolist() == ["test_a", "test_b"]


@pytest.mark.parametrize("split", ["validation", "training"])
def test_metrics_are_those_of_the_files(data_dir, weights_dir, tmp_path, split):
    """Evaluation measures in the case's own grid, where inference writes: both give the same volume."""
    table = evaluate(data_dir, tmp_path / "e", weights_dir, split=split)
    BUNDLE.infer(tmp_path / "i", weights_dir, dataset_dir=str(data_dir), split=split, overlays=False)
    for case_id, row in table.iterrows():
        image = nib.load(tmp_path / "i" / str(case_id) / f"{case_id}_seg.nii.gz")
        volume = np.asanyarray(image.dataobj).sum() * abs(np.linalg.det(image.affine[:3, :3])) / 1000
        assert row["volume_pred_ml"] == pytest.approx(volume, rel=1e-3)
