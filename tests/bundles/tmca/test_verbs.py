"""MONAI's own checks and exports of a bundle, through its Python functions."""

from __future__ import annotations

import json
from pathlib import Path

import onnxruntime
import pytest
import torch
from monai.bundle import ckpt_export, onnx_export

from tests.bundles.tmca.helpers import BUNDLE, CONFIG, CONFIGS, NETWORK, workflow

META = str(CONFIGS / "metadata.json")
FILES = {"meta_file": META, "config_file": str(CONFIGS / "inference.json")}
SIZE = (64, 96)


@pytest.fixture
def network(weights_dir):
    network = workflow("infer", "inference", **NETWORK).parser.get_parsed_content("network_def")
    network.load_state_dict(torch.load(weights_dir / "model.pt", weights_only=True))
    return network.eval()


def test_metadata_describes_the_config():
    """Of the shipped weights, which inference takes as they are."""
    form = json.loads(Path(META).read_text(encoding="utf-8"))["network_data_format"]
    image, pred = form["inputs"]["image"], form["outputs"]["pred"]
    parser = workflow("infer", "inference").parser
    assert image["num_channels"] == pred["num_channels"] == 1 and isinstance(form["inputs"]["text"], str)
    assert image["spatial_shape"] == pred["spatial_shape"] == parser.get_parsed_content("size")
    assert list(pred["channel_def"].values()) == ["background", CONFIG["target"]]


def test_inference_has_the_options_of_training():
    """Weights fit without a word on the command line."""
    config = json.loads((CONFIGS / "inference.json").read_text(encoding="utf-8"))
    own = ("dataset_dir", "output_dir", "ckpt_dir", "overlays", "num_workers", "image_size", "fitting")
    shared = [key for key in config if key in CONFIG and key not in own and not isinstance(CONFIG[key], dict)]
    assert {"backbone", "text_encoder", "enhancement", "alignment", "channels", "overlap"} <= set(shared)
    differ = [key for key in shared if key not in ("initialize", "run") and config[key] != CONFIG[key]]
    assert differ == []
    ours, theirs = config["network_def"], CONFIG["network_def"]
    assert [key for key in ours if ours[key] != theirs[key]] == []
    weights = {"pretrained", "checkpoint", "text_pretrained", "text_checkpoint"}
    assert theirs.keys() - ours.keys() == weights | {"null_share", "deep_supervision", "dropout"}


def test_what_uses_the_shipped_weights_sees_images_of_their_size():
    """In whatever order the files are named."""
    for names in (
        ["inference"],
        ["inference", "qata"],
        ["train", "evaluate"],
        ["train", "evaluate", "qata"],
        ["train", "qata", "evaluate"],
        ["train", "monailabel"],
    ):
        assert workflow("train", names).parser.get_parsed_content("image_size") == 224


def export(verb, file, weights_dir, **more):
    """A sentence is text, which no graph takes: both graphs hold the network without one."""
    weights = str(weights_dir / "model.pt")
    verb("network_def", filepath=str(file), ckpt_file=weights, **FILES, bundle_root=str(BUNDLE), **NETWORK, **more)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_ckpt_export(tmp_path, weights_dir, network):
    """A trace takes images of the size that it was traced with, of any number."""
    export(ckpt_export, tmp_path / "model.ts", weights_dir, use_trace=True, input_shape=[1, 1, *SIZE])
    traced = torch.jit.load(tmp_path / "model.ts").eval()
    with torch.no_grad():
        for batch in (1, 3):
            image = torch.rand(batch, 1, *SIZE)
            assert torch.allclose(traced(image), network(image), atol=1e-5)


@pytest.mark.slow
def test_onnx_export(tmp_path, weights_dir, network):
    export(onnx_export, tmp_path / "model.onnx", weights_dir, input_shape=[1, 1, *SIZE])
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"])
    image = torch.rand(1, 1, *SIZE)
    (found,) = session.run(None, {session.get_inputs()[0].name: image.numpy()})
    with torch.no_grad():
        assert torch.allclose(torch.from_numpy(found), network(image), atol=1e-4)
