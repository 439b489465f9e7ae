"""Inference of every bundle: the cases of a list, one case by its paths, masks that lie on their images."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.bundles.running import assert_same_grid, mask_of, predictions


@pytest.fixture(scope="module")
def one(bundle, data_dir, weights_dir, tmp_path_factory) -> Path:
    """The results of one case, given by absolute paths."""
    folder = tmp_path_factory.mktemp("one")
    bundle.infer(folder, weights_dir, **bundle.one_case(data_dir), overlays=False)
    mask = mask_of(folder)
    assert all(0.01 < (mask == value).mean() < 0.95 for value in (0, mask.max())), "a mask that can be compared"
    return folder


def test_cases_of_a_list(bundle, data_dir, segmented):
    assert not segmented.missing
    items = json.loads((data_dir / "dataset.json").read_text(encoding="utf-8"))["testing"]
    assert [entry["case_id"] for entry in segmented.index] == [item["case_id"] for item in items]
    assert len(items) == bundle.predictions
    classes = bundle.config("metadata")["network_data_format"]["outputs"]["pred"]["num_channels"]
    for entry in segmented.index:
        assert_same_grid(segmented.output / entry["prediction"], Path(entry["image"][0]), classes)
        assert (segmented.output / entry["overlay"]).stat().st_size > 1000
    assert f"segmented {bundle.predictions} cases" in segmented.text


def test_one_case_by_relative_paths(bundle, data_dir, weights_dir, one, tmp_path, monkeypatch):
    monkeypatch.chdir(data_dir)
    case = bundle.one_case(Path())
    bundle.infer(tmp_path, weights_dir, **case)
    (entry,) = predictions(tmp_path)
    paths = [Path(path) for path in entry["image"] if path]
    assert entry["image"].count(None) == len(entry.get("missing", [])) == bundle.missing
    assert all(path.is_file() and path.is_absolute() for path in paths)
    assert all(path.name.startswith(entry["case_id"]) for path in paths)
    assert all(str(path.relative_to(data_dir)) in case["input"] for path in paths)
    assert entry.get("text") == case.get("text")
    assert_same_grid(tmp_path / entry["prediction"], paths[0], mask_of(one).max())
    assert np.array_equal(mask_of(tmp_path), mask_of(one))
