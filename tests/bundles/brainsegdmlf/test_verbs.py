"""MONAI's own checks and exports of a bundle, through its Python functions."""

from __future__ import annotations

import json
from pathlib import Path

import onnxruntime
import pytest
import torch
from monai.bundle import ckpt_export, onnx_export, verify_net_in_out

from tests.bundles.brainsegdmlf.helpers import BUNDLE, CONFIGS, workflow

META = str(CONFIGS / "metadata.json")
FILES = {"meta_file": META, "config_file": str(CONFIGS / "inference.json")}


@pytest.fixture
def network(weights_dir):
    network = workflow("infer", "inference").parser.get_parsed_content("network_def")
    network.load_state_dict(torch.load(weights_dir / "model.pt", weights_only=True))
    return network.eval()


def test_metadata_describes_the_config():
    meta = json.loads(Path(META).read_text(encoding="utf-8"))
    config = json.loads((CONFIGS / "inference.json").read_text(encoding="utf-8"))
    image = meta["network_data_format"]["inputs"]["image"]
    pred = meta["network_data_format"]["outputs"]["pred"]
    assert image["num_channels"] == len(config["channels"]) == len(image["channel_def"])
    assert [name.lower() for name in image["channel_def"].values()] == config["channels"]
    assert image["spatial_shape"] == pred["spatial_shape"] == config["patch_size"]
    assert pred["num_channels"] == len(config["regions"])
    assert list(pred["channel_def"].values()) == ["background", *config["regions"]]


def test_verify_net_in_out_from_elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    verify_net_in_out("network_def", **FILES, device="cpu", bundle_root=str(BUNDLE))


@pytest.mark.slow
def test_ckpt_export(tmp_path, weights_dir, network):
    file = tmp_path / "model.ts"
    ckpt_export(
        "network_def",
        filepath=str(file),
        ckpt_file=str(weights_dir / "model.pt"),
        **FILES,
        bundle_root=str(BUNDLE),
    )
    script = torch.jit.load(file).eval()
    with torch.no_grad():
        for shape in ((1, 4, 128, 128), (2, 4, 72, 51)):
            image = torch.randn(shape)
            assert torch.allclose(script(image), network(image), atol=1e-4)


@pytest.mark.slow
def test_onnx_export(tmp_path, weights_dir, network):
    file = tmp_path / "model.onnx"
    onnx_export(
        "network_def",
        filepath=str(file),
        ckpt_file=str(weights_dir / "model.pt"),
        input_shape=[1, 4, 64, 64],
        **FILES,
        bundle_root=str(BUNDLE),
    )
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    for missing in ((), (1,), (0, 2, 3)):
        image = torch.randn(1, 4, 64, 64)
        image[:, list(missing)] = 0
        (found,) = session.run(None, {session.get_inputs()[0].name: image.numpy()})
        with torch.no_grad():
            assert torch.allclose(torch.from_numpy(found), network(image), atol=1e-4)
