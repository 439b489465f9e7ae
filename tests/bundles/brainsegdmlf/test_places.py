"""The bundle works wherever it and its user stand."""

from __future__ import annotations

import json

import pytest

from tests.bundles.brainsegdmlf.helpers import BUNDLE, CONFIGS, INFER
from tests.bundles.running import PLAIN, copy_bundle, options, run_bundle
from tests.making import SEQUENCES


@pytest.mark.slow
@pytest.mark.parametrize("packaged", [False, True], ids=["checkout", "packaged"])
def test_command_line_from_an_unrelated_folder(packaged, data_dir, weights_dir, tmp_path):
    """Python has never seen the bundle here: its config alone makes its code importable."""
    configs = CONFIGS
    if packaged:
        copy_bundle(BUNDLE, tmp_path / "unpacked" / "brainsegdmlf")
        configs = tmp_path / "unpacked" / "brainsegdmlf" / "configs"
    (tmp_path / "here").mkdir()
    paths = [data_dir / f"test_a_{name}.nii.gz" for name in SEQUENCES]
    text = f"['{paths[0]}',None,'{paths[2]}','{paths[3]}']"
    settings = {"input": text, "ckpt_dir": weights_dir, "output_dir": "out", **INFER, **PLAIN}
    done = run_bundle("--config_file", str(configs / "inference.json"), *options(settings), cwd=tmp_path / "here")
    assert done.stdout.strip().splitlines()[0] == "segmented 1 case", "nothing before the bundle's own words"
    assert "Traceback" not in done.stderr
    (entry,) = json.loads((tmp_path / "here" / "out" / "predictions.json").read_text(encoding="utf-8"))
    assert entry["missing"] == ["t1"]
