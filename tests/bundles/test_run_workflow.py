"""The verb `run_workflow` of MONAI's bundle runner, with the shipped weights."""

from __future__ import annotations

import json

import pytest
from monai.bundle import run_workflow

from tests.bundles.facts import NAMES
from tests.bundles.running import PLAIN, ROOT
from tests.making import WRITE_DATA


@pytest.mark.parametrize("name", NAMES)
def test_run_workflow(name, tmp_path):
    WRITE_DATA[name](tmp_path / "data")
    config = str(ROOT / "bundles" / name / "configs" / "inference.json")
    places = {"dataset_dir": str(tmp_path / "data"), "output_dir": str(tmp_path / "masks")}
    run_workflow("ConfigWorkflow", config_file=config, workflow_type="infer", **places, **PLAIN)
    cases = json.loads((tmp_path / "masks" / "predictions.json").read_text(encoding="utf-8"))
    assert cases and len(list((tmp_path / "masks").glob("*/*_seg.*"))) >= 1
