"""The bundle works wherever it and its user stand."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from monai.bundle import load

from tests.bundles.running import PLAIN, ROOT, copy_bundle, finish, options, run_bundle
from tests.bundles.tmca.helpers import BUNDLE, INFER, NETWORK, SENTENCE, workflow


@pytest.mark.parametrize("place", ["root", "bundle", "elsewhere"])
def test_config_finds_its_bundle(place, data_dir, weights_dir, tmp_path, monkeypatch):
    (tmp_path / "link").symlink_to(BUNDLE)
    folder, configs = {
        "root": (ROOT, Path("bundles/tmca/configs")),
        "bundle": (BUNDLE, Path("configs")),
        "elsewhere": (tmp_path, Path("link/configs")),
    }[place]
    monkeypatch.chdir(folder)
    places = {"dataset_dir": str(data_dir), "ckpt_dir": str(weights_dir), "output_dir": str(tmp_path / "out")}
    flow = finish(workflow("infer", "inference", configs, **places, **INFER, overlays=False))
    assert Path(flow.bundle_root).resolve() == BUNDLE
    assert len(json.loads((tmp_path / "out" / "predictions.json").read_text())) == 2


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
    (entry,) = json.loads((tmp_path / "here" / "out" / "predictions.json").read_text())
    assert entry["image"] == [str(picture)] and entry["text"] == SENTENCE


def test_monai_load(tmp_path, monkeypatch):
    """`monai.bundle.load` of a folder that holds an unpacked bundle gives the network with its weights."""
    copy_bundle(BUNDLE, tmp_path / "tmca")
    (tmp_path / "tmca" / "models").mkdir()
    network = workflow("infer", "inference").parser.get_parsed_content("network_def")
    torch.save(network.state_dict(), tmp_path / "tmca" / "models" / "model.pt")
    monkeypatch.chdir("/")
    loaded = load("tmca", bundle_dir=str(tmp_path), source="github", repo="a/b/c")
    wanted = network.state_dict()
    assert all(torch.equal(value, wanted[key]) for key, value in loaded.state_dict().items())
    assert loaded.eval()(torch.rand(1, 1, 32, 32), SENTENCE).shape == (1, 1, 32, 32)


def test_shipped_weights_are_found_by_their_name(data_dir, weights_dir, tmp_path):
    copy_bundle(BUNDLE, tmp_path / "tmca")
    (tmp_path / "tmca" / "models").mkdir()
    shutil.copy(weights_dir / "model.pt", tmp_path / "tmca" / "models" / "model_b.pt")
    settings = {"dataset_dir": str(data_dir), "output_dir": str(tmp_path / "out"), "shipped_weights": "model_b.pt"}
    flow = workflow("infer", "inference", tmp_path / "tmca" / "configs", **settings, **NETWORK, overlays=False)
    flow.initialize()
