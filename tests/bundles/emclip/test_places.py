"""The bundle works wherever it and its user stand."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from monai.bundle import load

from tests.bundles.emclip.helpers import BUNDLE, INFER, workflow
from tests.bundles.running import PLAIN, ROOT, copy_bundle, finish, options, run_bundle


@pytest.mark.parametrize("place", ["root", "bundle", "elsewhere"])
def test_config_finds_its_bundle(place, data_dir, weights_dir, tmp_path, monkeypatch):
    (tmp_path / "link").symlink_to(BUNDLE)
    folder, configs = {
        "root": (ROOT, Path("bundles/emclip/configs")),
        "bundle": (BUNDLE, Path("configs")),
        "elsewhere": (tmp_path, Path("link/configs")),
    }[place]
    monkeypatch.chdir(folder)
    places = {"dataset_dir": str(data_dir), "ckpt_dir": str(weights_dir), "output_dir": str(tmp_path / "out")}
    flow = finish(workflow("infer", "inference", configs, **places, **INFER, overlays=False))
    assert Path(flow.bundle_root).resolve() == BUNDLE
    assert len(json.loads((tmp_path / "out" / "predictions.json").read_text())) == 3


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
    (entry,) = json.loads((tmp_path / "here" / "out" / "predictions.json").read_text())
    assert entry["image"] == [str(picture)]


def test_monai_load(weights_dir, tmp_path, monkeypatch):
    """`monai.bundle.load` of a folder that holds an unpacked bundle gives the network with its weights."""
    copy_bundle(BUNDLE, tmp_path / "emclip")
    (tmp_path / "emclip" / "models").mkdir()
    shutil.copy(weights_dir / "model.pt", tmp_path / "emclip" / "models")
    monkeypatch.chdir("/")
    network = load("emclip", bundle_dir=str(tmp_path), source="github", repo="a/b/c")
    wanted = torch.load(weights_dir / "model.pt", weights_only=True)
    assert all(torch.equal(value, wanted[key]) for key, value in network.state_dict().items())
    assert network.eval()(torch.rand(1, 3, 32, 32)).shape == (1, 2, 32, 32)
