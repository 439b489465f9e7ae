"""MONAI's own check of a network, and its exports, through its Python functions."""

from __future__ import annotations

from typing import Any

import onnxruntime
import pytest
import torch
from monai.bundle import ckpt_export, onnx_export, verify_net_in_out

from tests.bundles.running import Bundle


def files(bundle: Bundle) -> dict[str, Any]:
    configs = {name: str(bundle.configs / f"{name}.json") for name in ("metadata", "inference")}
    return {"meta_file": configs["metadata"], "config_file": configs["inference"], "bundle_root": str(bundle.folder)}


@pytest.fixture
def network(bundle, weights_dir) -> torch.nn.Module:
    network = bundle.workflow("inference", **bundle.network).parser.get_parsed_content("network_def")
    network.load_state_dict(torch.load(weights_dir / "model.pt", weights_only=True))
    return network.eval()


@pytest.fixture
def export(bundle, weights_dir, tmp_path):
    """Run a verb that exports, without a sentence, which no graph takes; the file's path."""

    def run(verb, name: str, **more: Any) -> str:
        places = {"filepath": str(tmp_path / name), "ckpt_file": str(weights_dir / "model.pt")}
        verb("network_def", **places, **files(bundle), **bundle.network, **more)
        return str(tmp_path / name)

    return run


def test_verify_net_in_out_from_elsewhere(bundle, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    verify_net_in_out("network_def", **files(bundle), device="cpu")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_torchscript_gives_the_same(bundle, network, export):
    """A trace takes any number of images of the size that it was traced with; a script takes any size."""
    script = torch.jit.load(export(ckpt_export, "model.ts", **bundle.script)).eval()
    with torch.no_grad():
        for batch, *size in bundle.script_sizes:
            image = torch.rand(batch, bundle.channels, *size)
            assert torch.allclose(script(image), network(image), atol=1e-5 if bundle.script else 1e-4)


@pytest.mark.slow
def test_onnx_gives_the_same(bundle, network, export):
    """Of channels that are empty, too: a missing sequence is one."""
    shape = [1, bundle.channels, 64, 96]
    file = export(onnx_export, "model.onnx", input_shape=shape)
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    for empty in ([], [0], list(range(1, bundle.channels))):
        image = torch.rand(shape)
        image[:, empty] = 0
        (found,) = session.run(None, {session.get_inputs()[0].name: image.numpy()})
        with torch.no_grad():
            assert torch.allclose(torch.from_numpy(found), network(image), atol=1e-4)
