"""The bundle works wherever it and its user stand."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from monai.bundle import load

from tests.bundles.brainsegdmlf.helpers import BUNDLE, CONFIGS, INFER, workflow
from tests.bundles.running import PLAIN, ROOT, copy_bundle, finish, options, run_bundle
from tests.making import SEQUENCES


@pytest.mark.parametrize("place", ["root", "bundle", "elsewhere", "absolute"])
def test_config_finds_its_bundle(place, data_dir, weights_dir, tmp_path, monkeypatch):
    folder, configs = {
        "root": (ROOT, "bundles/brainsegdmlf/configs"),
        "bundle": (BUNDLE, "configs"),
        "elsewhere": (tmp_path, None),
        "absolute": (tmp_path, CONFIGS),
    }[place]
    if configs is None:
        (tmp_path / "link").symlink_to(BUNDLE)
        configs = "link/configs"
    monkeypatch.chdir(folder)
    places = {"dataset_dir": str(data_dir), "ckpt_dir": str(weights_dir), "output_dir": str(tmp_path / "out")}
    flow = workflow("infer", "inference", type(CONFIGS)(configs), **places, **INFER, overlays=False)
    finish(flow)
    assert (type(CONFIGS)(flow.bundle_root).resolve()) == BUNDLE
    assert len(json.loads((tmp_path / "out" / "predictions.json").read_text())) == 2


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
    (entry,) = json.loads((tmp_path / "here" / "out" / "predictions.json").read_text())
    assert entry["missing"] == ["t1"]


def test_monai_load(weights_dir, tmp_path, monkeypatch):
    """`monai.bundle.load` of a folder that holds an unpacked bundle gives the network with its weights."""
    copy_bundle(BUNDLE, tmp_path / "brainsegdmlf")
    (tmp_path / "brainsegdmlf" / "models").mkdir()
    shutil.copy(weights_dir / "model.pt", tmp_path / "brainsegdmlf" / "models")
    monkeypatch.chdir("/")
    network = load("brainsegdmlf", bundle_dir=str(tmp_path), source="github", repo="a/b/c")
    wanted = torch.load(weights_dir / "model.pt", weights_only=True)
    assert all(torch.equal(value, wanted[key]) for key, value in network.state_dict().items())
