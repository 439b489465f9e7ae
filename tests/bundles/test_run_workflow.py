"""The verb `run_workflow` of MONAI's bundle runner, with the shipped weights."""

from __future__ import annotations

from monai.bundle import run_workflow

from tests.bundles.running import PLAIN, predictions


def test_run_workflow(bundle, tmp_path):
    bundle.write_cases(tmp_path / "data")
    config = str(bundle.configs / "inference.json")
    places = {"dataset_dir": str(tmp_path / "data"), "output_dir": str(tmp_path / "masks")}
    run_workflow("ConfigWorkflow", config_file=config, workflow_type="infer", **places, **PLAIN)
    assert predictions(tmp_path / "masks") and len(list((tmp_path / "masks").glob("*/*_seg.*"))) >= 1
