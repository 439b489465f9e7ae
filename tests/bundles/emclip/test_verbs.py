"""MONAI's own checks and exports of a bundle, through its Python functions."""

from __future__ import annotations

import json
from pathlib import Path

import onnxruntime
import pytest
import torch
from monai.bundle import ckpt_export, onnx_export

from tests.bundles.emclip.helpers import BUNDLE, CONFIG, CONFIGS, STRUCTURES, workflow

META = str(CONFIGS / "metadata.json")
FILES = {"meta_file": META, "config_file": str(CONFIGS / "inference.json")}


@pytest.fixture
def network(weights_dir):
    network = workflow("infer", "inference").parser.get_parsed_content("network_def")
    network.load_state_dict(torch.load(weights_dir / "model.pt", weights_only=True))
    return network.eval()


@pytest.mark.parametrize("name", ["train", "inference"])
def test_metadata_describes_the_config(name):
    meta = json.loads(Path(META).read_text(encoding="utf-8"))
    config = json.loads((CONFIGS / f"{name}.json").read_text(encoding="utf-8"))
    image = meta["network_data_format"]["inputs"]["image"]
    pred = meta["network_data_format"]["outputs"]["pred"]
    assert image["num_channels"] == len(image["channel_def"]) == 3 and config["pictures"]
    assert image["spatial_shape"] == pred["spatial_shape"] == config["image_size"]
    assert pred["num_channels"] == len(STRUCTURES)
    assert list(pred["channel_def"].values()) == ["background", *config["structures"]]


def test_inference_has_the_options_of_training():
    """Weights fit without a word on the command line."""
    config = json.loads((CONFIGS / "inference.json").read_text(encoding="utf-8"))
    own = ("dataset_dir", "output_dir", "ckpt_dir", "overlays", "num_workers", "window_overlap", "fitting")
    shared = [key for key in config if key in CONFIG and key not in own and not isinstance(CONFIG[key], dict)]
    assert {"image_size", "encoder", "sentences", "num_context", "overlap"} <= set(shared)
    assert [key for key in shared if key not in ("initialize", "run") and config[key] != CONFIG[key]] == []
    both = config["network_def"].keys() & CONFIG["network_def"].keys() - {"pretrained", "checkpoint"}
    assert [key for key in both if config["network_def"][key] != CONFIG["network_def"][key]] == []
    training_only = {"deep_supervision", "token_norm"}  # the weights say what the latter was
    assert CONFIG["network_def"].keys() - config["network_def"].keys() == training_only


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_ckpt_export(tmp_path, weights_dir, network):
    """A trace: open_clip's image tower cannot be scripted. It takes pictures of the size that the metadata name."""
    file = tmp_path / "model.ts"
    weights = str(weights_dir / "model.pt")
    ckpt_export("network_def", filepath=str(file), ckpt_file=weights, use_trace=True, **FILES, bundle_root=str(BUNDLE))
    traced = torch.jit.load(file).eval()
    with torch.no_grad():
        for batch in (1, 3):
            image = torch.rand(batch, 3, *CONFIG["image_size"])
            assert torch.allclose(traced(image), network(image), atol=1e-5)


@pytest.mark.slow
def test_onnx_export(tmp_path, weights_dir, network):
    file = tmp_path / "model.onnx"
    onnx_export(
        "network_def",
        filepath=str(file),
        ckpt_file=str(weights_dir / "model.pt"),
        input_shape=[1, 3, 64, 64],
        **FILES,
        bundle_root=str(BUNDLE),
    )
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    image = torch.rand(1, 3, 64, 64)
    (found,) = session.run(None, {session.get_inputs()[0].name: image.numpy()})
    with torch.no_grad():
        assert torch.allclose(torch.from_numpy(found), network(image), atol=1e-4)
