"""The bundle works wherever it and its user stand."""

from __future__ import annotations

import json
import shutil

import pytest

from tests.bundles.running import PLAIN, copy_bundle, options, run_bundle
from tests.bundles.tmca.helpers import BUNDLE, INFER, NETWORK, SENTENCE, workflow


@pytest.mark.slow
def test_command_line_from_an_unrelated_folder(data_dir, weights_dir, tmp_path):
    """Python has never seen the unpacked bundle here: its config alone makes its code importable."""
    copy_bundle(BUNDLE, tmp_path / "unpacked" / "tmca")
    configs = tmp_path / "unpacked" / "tmca" / "configs"
    (tmp_path / "here").mkdir()
    picture = next((data_dir / "testing").glob("chest_???.png"))
    settings = {"input": picture, "ckpt_dir": weights_dir, "output_dir": "out", **INFER, **PLAIN}
    words = ["--text", SENTENCE]
    done = run_bundle(
        "--config_file", str(configs / "inference.json"), *options(settings), *words, cwd=tmp_path / "here"
    )
    assert done.stdout.strip().splitlines()[0] == "segmented 1 case", "nothing before the bundle's own words"
    assert "Traceback" not in done.stderr
    (entry,) = json.loads((tmp_path / "here" / "out" / "predictions.json").read_text(encoding="utf-8"))
    assert entry["image"] == [str(picture)] and entry["text"] == SENTENCE


def test_shipped_weights_are_found_by_their_name(data_dir, weights_dir, tmp_path):
    copy_bundle(BUNDLE, tmp_path / "tmca")
    (tmp_path / "tmca" / "models").mkdir()
    shutil.copy(weights_dir / "model.pt", tmp_path / "tmca" / "models" / "model_b.pt")
    settings = {"dataset_dir": str(data_dir), "output_dir": str(tmp_path / "out"), "shipped_weights": "model_b.pt"}
    flow = workflow("infer", "inference", tmp_path / "tmca" / "configs", **settings, **NETWORK, overlays=False)
    flow.initialize()
