"""The bundle works wherever it and its user stand."""

from __future__ import annotations

import json

import pytest

from tests.bundles.emclip.helpers import BUNDLE, INFER
from tests.bundles.running import PLAIN, copy_bundle, options, run_bundle


@pytest.mark.slow
def test_command_line_from_an_unrelated_folder(data_dir, weights_dir, tmp_path):
    """Python has never seen the unpacked bundle here: its config alone makes its code importable."""
    copy_bundle(BUNDLE, tmp_path / "unpacked" / "emclip")
    configs = tmp_path / "unpacked" / "emclip" / "configs"
    (tmp_path / "here").mkdir()
    picture = data_dir / "camera_c" / "eye_006.png"
    settings = {"input": picture, "ckpt_dir": weights_dir, "output_dir": "out", **INFER, **PLAIN}
    done = run_bundle("--config_file", str(configs / "inference.json"), *options(settings), cwd=tmp_path / "here")
    assert done.stdout.strip().splitlines()[0] == "segmented 1 case", "nothing before the bundle's own words"
    assert "Traceback" not in done.stderr
    (entry,) = json.loads((tmp_path / "here" / "out" / "predictions.json").read_text(encoding="utf-8"))
    assert entry["image"] == [str(picture)]
