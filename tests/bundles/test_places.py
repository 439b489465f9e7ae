"""Every bundle works wherever it and its user stand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from monai.bundle import load

from tests.bundles.running import ROOT, copy_bundle, finish


@pytest.mark.parametrize("place", ["root", "bundle", "linked", "absolute"])
def test_config_finds_its_bundle(place, bundle, data_dir, weights_dir, tmp_path, monkeypatch):
    helpers = bundle.helpers
    (tmp_path / "link").symlink_to(helpers.BUNDLE)
    folder, configs = {
        "root": (ROOT, Path(f"bundles/{bundle.name}/configs")),
        "bundle": (helpers.BUNDLE, Path("configs")),
        "linked": (tmp_path, Path("link/configs")),
        "absolute": (tmp_path, helpers.CONFIGS),
    }[place]
    monkeypatch.chdir(folder)
    places = {"dataset_dir": str(data_dir), "ckpt_dir": str(weights_dir), "output_dir": str(tmp_path / "out")}
    flow = finish(helpers.workflow("infer", "inference", configs, **places, **helpers.INFER, overlays=False))
    assert Path(flow.bundle_root).resolve() == helpers.BUNDLE
    index = json.loads((tmp_path / "out" / "predictions.json").read_text(encoding="utf-8"))
    assert len(index) == bundle.predictions


def test_monai_load_gives_the_network_with_its_weights(bundle, weights_dir, tmp_path, monkeypatch):
    """`monai.bundle.load` of a folder that holds an unpacked bundle."""
    copy_bundle(bundle.helpers.BUNDLE, tmp_path / bundle.name)
    models = tmp_path / bundle.name / "models"
    models.mkdir()
    if bundle.network:  # `load` takes no options: weights of the network that the config describes
        wanted = bundle.helpers.workflow("infer", "inference").parser.get_parsed_content("network_def").state_dict()
    else:
        wanted = torch.load(weights_dir / "model.pt", weights_only=True)
    torch.save(wanted, models / "model.pt")
    monkeypatch.chdir("/")
    network = load(bundle.name, bundle_dir=str(tmp_path), source="github", repo="a/b/c")
    assert all(torch.equal(value, wanted[key]) for key, value in network.state_dict().items())
    image = torch.rand(1, bundle.channels, 32, 32)
    sentence = [bundle.helpers.SENTENCE] if "text" in bundle.inputs else []
    assert network.eval()(image, *sentence).shape == (1, bundle.masks, 32, 32)
