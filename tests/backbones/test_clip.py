"""CLIP's image tower: the numbers of open_clip at any size, strict loading of files, tuning, exports."""

import copy
import json
from typing import Any

import open_clip
import pytest
import torch
from open_clip.factory import load_checkpoint
from safetensors.torch import save_file
from torch import nn

from shared.backbones.clip import ClipImageEncoder, build_clip_image_encoder, resize_positions
from shared.backbones.clip_config import image_statistics
from shared.backbones.clip_models import create_clip
from shared.core.errors import InputError

TEXT = {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 2}
VIT = {"image_size": 64, "patch_size": 16, "width": 32, "head_width": 16, "layers": 8}
CONFIGS = {
    "test-vit": {"embed_dim": 24, "vision_cfg": VIT, "text_cfg": TEXT},
    "test-vit-quick": {"embed_dim": 24, "quick_gelu": True, "vision_cfg": VIT, "text_cfg": TEXT},
    "test-vit-wide": {"embed_dim": 24, "vision_cfg": VIT | {"width": 48}, "text_cfg": TEXT},
    "test-siglip": {
        "embed_dim": 24,
        "init_logit_bias": -10,
        "custom_text": True,
        "vision_cfg": VIT,
        "text_cfg": TEXT | {"context_length": 20, "no_causal_mask": True, "pool_type": "last", "proj_bias": True},
    },
    "test-resnet": {
        "embed_dim": 24,
        "vision_cfg": {"image_size": 64, "layers": [1, 1, 2, 1], "width": 8, "head_width": 16, "patch_size": None},
        "text_cfg": TEXT,
    },
    "test-timm-vit": {
        "embed_dim": 24,
        "vision_cfg": {"timm_model_name": "vit_tiny_patch16_224", "timm_pool": "token", "image_size": 224},
        "text_cfg": TEXT,
    },
    "test-convnext": {
        "embed_dim": 24,
        "vision_cfg": {"timm_model_name": "convnext_atto", "timm_pool": "avg", "image_size": 224},
        "text_cfg": TEXT,
    },
    "test-eva": {
        "embed_dim": 24,
        "vision_cfg": {"timm_model_name": "eva02_tiny_patch14_224", "timm_pool": "token", "image_size": 224},
        "text_cfg": TEXT,
    },
}


pytestmark = pytest.mark.usefixtures("configs", "seed")


@pytest.fixture(scope="module")
def peer(configs):
    """open_clip's own model with random weights; state names as in its published files."""
    torch.manual_seed(3)
    return open_clip.create_model("test-vit").eval()


def saved(peer: nn.Module, folder, wrapping: str = "plain"):
    path = folder / ("clip.safetensors" if wrapping == "safetensors" else "clip.pt")
    state = {key: value.contiguous() for key, value in peer.state_dict().items()}
    if wrapping == "safetensors":
        save_file(state, path)
    elif wrapping == "trainer":
        torch.save({"epoch": 3, "state_dict": {f"module.{key}": value for key, value in state.items()}}, path)
    elif wrapping == "custom text":
        torch.save(open_clip.model.convert_to_custom_text_state_dict(state), path)
    else:
        torch.save(state, path)
    return path


def dense(visual: Any, image: torch.Tensor, indices: list[int]) -> list[torch.Tensor]:
    return visual.forward_intermediates(image, indices=indices, intermediates_only=True)["image_intermediates"]


# Numbers


@pytest.mark.parametrize("wrapping", ["plain", "trainer", "custom text", "safetensors"])
def test_a_file_of_open_clip_gives_open_clips_features(peer, tmp_path, wrapping):
    path = saved(peer, tmp_path, wrapping)
    encoder = build_clip_image_encoder("test-vit", checkpoint=path, projection=True).eval()
    image = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        features, expected = encoder(image), dense(peer.visual, image, [1, 3, 5, 7])
        for feature, wanted in zip(features, expected, strict=True):
            assert torch.allclose(feature, wanted, atol=1e-5)
        tokens = peer.visual.ln_post(expected[3].permute(0, 2, 3, 1)) @ peer.visual.proj
        assert torch.allclose(encoder.project(features[3]), tokens.permute(0, 3, 1, 2), atol=1e-5)
        model = create_clip("test-vit", checkpoint=path).eval()
        assert torch.allclose(model.encode_image(image), peer.encode_image(image), atol=1e-5)
        ids = open_clip.tokenize(["a bright disc", "the cup"])
        assert torch.allclose(model.encode_text(ids), peer.encode_text(ids), atol=1e-5)


def test_openais_archive_loads_with_quick_gelu_and_without_its_code(tmp_path, monkeypatch):
    peer = open_clip.create_model("test-vit-quick").eval()

    class Archive(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            for name, child in peer.named_children():
                setattr(self, name, child)
            for name, parameter in peer.named_parameters(recurse=False):
                setattr(self, name, parameter)
            for name, value in (("input_resolution", 64), ("context_length", 77), ("vocab_size", 49408)):
                self.register_buffer(name, torch.tensor(value))

        def forward(self, image):
            return self.get_submodule("visual")(image)

    torch.jit.save(torch.jit.trace(Archive(), torch.zeros(1, 3, 64, 64), check_trace=False), tmp_path / "ViT.pt")
    monkeypatch.setattr(torch.jit, "load", None)
    image = torch.randn(1, 3, 64, 64)
    encoder = build_clip_image_encoder("test-vit", checkpoint=tmp_path / "ViT.pt").eval()
    with torch.no_grad():
        assert torch.allclose(encoder(image)[3], dense(peer.visual, image, [7])[0], atol=1e-5)


@pytest.mark.parametrize("shape", [(96, 96), (32, 96), (64, 16)])
def test_other_sizes_equal_open_clips_own_resizing(peer, tmp_path, shape):
    path = saved(peer, tmp_path)
    other = open_clip.create_model("test-vit", force_image_size=shape)
    load_checkpoint(other, str(path))
    encoder = build_clip_image_encoder("test-vit", checkpoint=path).eval()
    image = torch.randn(1, 3, *shape)
    with torch.no_grad():
        for feature, wanted in zip(encoder(image), dense(other.eval().visual, image, [1, 3, 5, 7]), strict=True):
            assert torch.allclose(feature, wanted, atol=1e-5)
    built = build_clip_image_encoder("test-vit", checkpoint=path, image_size=shape).eval()  # resized at loading
    assert built.visual.positional_embedding.shape == other.visual.positional_embedding.shape
    assert torch.allclose(built.visual.positional_embedding, other.visual.positional_embedding, atol=1e-6)


def test_another_grid_of_as_many_tokens_is_resized_too(peer, tmp_path):
    encoder = build_clip_image_encoder("test-vit", checkpoint=saved(peer, tmp_path)).eval()
    image = torch.randn(1, 3, 32, 128)  # 2 x 8 tokens, natively 4 x 4
    other = copy.deepcopy(peer.visual)
    other.positional_embedding.data = resize_positions(other.positional_embedding, (4, 4), (2, 8)).detach()
    with torch.no_grad():
        assert torch.allclose(encoder(image)[3], dense(other, image, [7])[0], atol=1e-5)
        assert not torch.allclose(encoder(image)[3], dense(peer.visual, image, [7])[0], atol=1e-2)


def test_resized_positions_keep_the_first_rows_and_the_size():
    table = torch.randn(2 + 6, 5)
    assert torch.allclose(resize_positions(table, (2, 3), (2, 3)), table, atol=1e-6)
    larger = resize_positions(table, (2, 3), (4, 5))
    assert larger.shape == (22, 5) and torch.equal(larger[:2], table[:2])
    ramp = torch.arange(4.0).repeat(4, 1).reshape(16, 1)  # grows along the columns only
    grown = resize_positions(ramp, (4, 4), (4, 8)).view(4, 8)
    assert (grown.diff(dim=1) > 0).all() and torch.allclose(grown.diff(dim=0), torch.zeros(3, 8), atol=1e-5)


@pytest.mark.parametrize(
    ("name", "channels", "strides", "shape"),
    [
        ("clip_tiny", [128] * 4, [16] * 4, (96, 128)),
        ("test-vit", [32] * 4, [16] * 4, (48, 80)),
        ("test-resnet", [32, 64, 128, 256], [4, 8, 16, 32], (96, 64)),
        ("test-timm-vit", [192] * 4, [16] * 4, (48, 80)),
        ("test-convnext", [40, 80, 160, 320], [4, 8, 16, 32], (96, 64)),
    ],
)
def test_channels_and_strides_are_as_declared_and_all_learn(name, channels, strides, shape):
    encoder = build_clip_image_encoder(name)
    assert (encoder.channels, encoder.strides) == (channels, strides)
    for parameter in encoder.parameters():
        if not parameter.any():  # ResNets begin with dead branches
            nn.init.normal_(parameter)
    image = torch.randn(2, 3, *shape)
    features = encoder(image)
    for feature, channel, stride in zip(features, channels, strides, strict=True):
        assert feature.shape == (2, channel, shape[0] // stride, shape[1] // stride)
    sum((feature * torch.randn_like(feature)).sum() for feature in features).backward()
    for key, parameter in encoder.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, key


@pytest.mark.parametrize("name", ["test-resnet", "test-timm-vit", "test-convnext", "test-eva"])
def test_other_towers_equal_open_clips_at_their_native_size(name, tmp_path):
    peer = open_clip.create_model(name).eval()
    encoder = build_clip_image_encoder(name, checkpoint=saved(peer, tmp_path)).eval()
    image = torch.randn(1, 3, *encoder.image_size)
    with torch.no_grad():
        expected = dense(peer.visual, image, encoder.indices)
        for feature, wanted in zip(encoder(image), expected, strict=True):
            assert torch.allclose(feature, wanted, atol=1e-5)


def test_clip_tiny_is_small_and_learns():
    model = create_clip()
    assert 1e6 < sum(p.numel() for p in model.visual.parameters()) < 2e6
    assert sum(p.numel() for p in model.text.parameters()) < 1e6
    encoder = build_clip_image_encoder(layers=4, width=32, head_width=16, image_size=32, patch_size=8)
    image, target = torch.randn(8, 3, 32, 32), torch.randn(8, 1)
    optimizer = torch.optim.AdamW(encoder.parameters(), 1e-3)
    losses = []
    for _ in range(30):
        loss = (encoder(image)[3].mean(dim=(1, 2, 3)).unsqueeze(1) - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize(("name", "shape"), [("test-vit", (72, 64)), ("test-resnet", (64, 48))])
def test_a_size_that_is_no_multiple_is_named(name, shape):
    encoder = build_clip_image_encoder(name)
    with pytest.raises(ValueError, match=rf"{shape[0]} x {shape[1]}.*multiples of {encoder.multiple}"):
        encoder(torch.zeros(1, 3, *shape))


def test_a_tower_of_fixed_size_says_so():
    with pytest.raises(ValueError, match="28 x 28 pixels: this tower takes 224 x 224 only; build it with image_size"):
        build_clip_image_encoder("test-eva")(torch.zeros(1, 3, 28, 28))
    features = build_clip_image_encoder("test-eva", image_size=28)(torch.zeros(1, 3, 28, 28))
    assert features[3].shape == (1, 192, 2, 2)


def test_project_without_projection_says_so(peer):
    with pytest.raises(ValueError, match="projection=True"):
        build_clip_image_encoder("test-vit").project(torch.zeros(1, 32, 2, 2))


def test_statistics_are_those_of_the_weights():
    assert image_statistics("ViT-B-16", "openai") == (open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD)
    assert image_statistics("ViT-B-16-SigLIP") == ((0.5,) * 3, (0.5,) * 3)
    assert build_clip_image_encoder("clip_tiny").mean == open_clip.OPENAI_DATASET_MEAN


# Bad input


def make_wrong_file(kind: str, folder, peer: nn.Module):
    path = folder / ("given.safetensors" if kind == "safetensors" else "given.pt")
    state = peer.state_dict()
    if kind == "wide":
        state = open_clip.create_model("test-vit-wide").state_dict()
    elif kind == "resnet":
        state = open_clip.create_model("test-resnet").state_dict()
    elif kind == "text alone":
        state = {key: value for key, value in state.items() if not key.startswith("visual.")}
    elif kind == "lacks":
        state = {key: value for key, value in state.items() if "ln_1" not in key}
    elif kind == "extra":
        state = state | {"visual.adapter.weight": torch.zeros(2)}
    elif kind == "shape":
        state = state | {"positional_embedding": torch.zeros(20, 16)}
    if kind in ("html", "safetensors"):
        path.write_text("<!DOCTYPE html>" if kind == "html" else "no header", encoding="utf-8")
    elif kind != "missing":
        torch.save(state, path)
    return path


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("missing", "no such file"),
        ("html", "an HTML page"),
        ("safetensors", "not a safetensors file, or cut short"),
        ("wide", r"vision 48 wide, 8 deep, patch 16, .* given for test-vit with vision 32 wide.*: use test-vit-wide$"),
        ("resnet", "holds another kind of image tower, which CLIP test-vit does not have"),
        ("text alone", "not an open_clip model: it holds 30 tensors such as 'positional_embedding'"),
        ("lacks", r"does not fit CLIP test-vit: 20 missing, e.g. "),
        ("extra", "does not fit CLIP test-vit: 1 unknown, e.g. visual.adapter.weight"),
        ("shape", r"e.g. text.positional_embedding: \(20, 16\) in place of \(77, 16\)"),
    ],
)
def test_wrong_files_are_refused_in_one_line(peer, tmp_path, kind, said):
    path = make_wrong_file(kind, tmp_path, peer)
    with pytest.raises(InputError, match=said) as caught:
        build_clip_image_encoder("test-vit", checkpoint=path)
    assert "\n" not in str(caught.value) and path.name in str(caught.value)


@pytest.mark.parametrize(
    ("kwargs", "said"),
    [
        ({"name": "ViT-B16"}, "unknown CLIP model 'ViT-B16': did you mean ViT-B-16"),
        ({"name": "vit_b_32"}, "did you mean .*ViT-B-32"),
        ({"name": "clip-tiny"}, "did you mean clip_tiny"),
        ({"name": "xyzzy"}, "choose one of clip_tiny, .*, ...$"),
        ({"name": "local-dir:/nowhere"}, "local-dir:/nowhere: cannot read its open_clip_config.json"),
        (
            {"name": "ViT-B-16", "pretrained": "openay"},
            "unknown weights 'openay' of CLIP ViT-B-16: did you mean openai",
        ),
        ({"name": "clip_tiny", "pretrained": "openai"}, "clip_tiny has no pretrained weights by tag: give checkpoint"),
        ({"name": "ViT-B-16", "pretrained": "openai", "checkpoint": "a.pt"}, "not both"),
        ({"name": "clip_tiny", "patch_sise": 8}, "unknown option 'patch_sise' .*did you mean patch_size"),
        ({"name": "clip_tiny", "text_layer": 8}, "unknown option 'text_layer' .*did you mean text_layers"),
        ({"name": "clip_tiny", "layers": 3}, "has 3 depths of features, not 4"),
        ({"name": "clip_tiny", "width": 100}, "clip_tiny cannot be built .*: check the options"),
        ({"name": "clip_tiny", "tuning": "some"}, "full, frozen, lora"),
        ({"name": "clip_tiny", "tuning": "lora", "lora_rank": 0}, "lora_rank"),
        ({"name": "test-resnet", "tuning": "lora"}, "no attention that LoRA knows; choose frozen or full"),
        ({"name": "test-resnet", "projection": True}, "only open_clip's ViTs project"),
    ],
)
def test_wrong_options_are_refused_in_one_line(kwargs, said):
    with pytest.raises(InputError, match=said) as caught:
        build_clip_image_encoder(**kwargs)
    assert "\n" not in str(caught.value)


def test_weights_that_cannot_be_fetched_are_named(monkeypatch):
    def offline(*_, **__):
        raise OSError("no route\nto host")

    monkeypatch.setattr(open_clip, "download_pretrained", offline)
    with pytest.raises(
        InputError, match=r"'openai' of CLIP ViT-B-16 cannot be fetched \(no route\): .*checkpoint=<file>"
    ):
        create_clip("ViT-B-16", pretrained="openai")


def test_a_tower_without_intermediates_is_refused():
    with pytest.raises(InputError, match="Linear has no forward_intermediates"):
        ClipImageEncoder(nn.Linear(2, 2))


def test_a_folder_is_refused_as_checkpoint(tmp_path):
    with pytest.raises(InputError, match="a folder, not a file; .*name=local-dir:"):
        create_clip("clip_tiny", checkpoint=tmp_path)


def test_a_folder_of_open_clips_loads_its_configuration(tmp_path):
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": CONFIGS["test-vit"]}), encoding="utf-8")
    encoder = build_clip_image_encoder(f"local-dir:{tmp_path}")
    assert encoder.channels == [32] * 4


# Tuning


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


@pytest.mark.parametrize("name", ["test-vit", "test-convnext", "test-resnet"])
def test_frozen_stays_in_evaluation_mode_and_does_not_change(name):
    encoder = build_clip_image_encoder(name, tuning="frozen").train()
    assert count(encoder) == 0 and not any(module.training for module in encoder.modules())
    before = {key: value.clone() for key, value in encoder.state_dict().items()}
    image = torch.randn(2, 3, 64, 64, requires_grad=True)
    encoder(image)[3].square().sum().backward()
    assert image.grad is not None and image.grad.abs().sum() > 0
    assert all(torch.equal(value, before[key]) for key, value in encoder.state_dict().items())
    assert all(module.training for module in build_clip_image_encoder(name).train().modules())


def test_lora_starts_as_identity_and_learns(peer, tmp_path):
    path = saved(peer, tmp_path)
    plain = build_clip_image_encoder("test-vit", checkpoint=path).eval()
    encoder = build_clip_image_encoder("test-vit", checkpoint=path, tuning="lora", lora_rank=3)
    assert count(encoder) == 8 * 3 * (32 + 96)  # blocks x rank x (in + out)
    image = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        assert torch.allclose(encoder(image)[3], plain(image)[3], atol=1e-5)
    encoder(image)[3].square().mean().backward()
    learning = [parameter for parameter in encoder.parameters() if parameter.requires_grad]
    assert any(parameter.grad is not None and parameter.grad.any() for parameter in learning)
    with torch.no_grad():
        for parameter in learning:
            parameter.add_(torch.randn_like(parameter) * 0.3)
        assert not torch.allclose(encoder.eval()(image)[3], plain(image)[3], atol=1e-2)


def test_lora_of_a_timm_tower():
    encoder = build_clip_image_encoder("test-timm-vit", tuning="lora", lora_rank=2)
    assert count(encoder) == 12 * 2 * (192 + 576)


# Exports


def test_onnx_equals_pytorch_at_another_size(tmp_path):
    import onnxruntime
    from monai.networks.utils import convert_to_onnx

    encoder = build_clip_image_encoder("test-vit", layers=4).eval()
    image = torch.randn(1, 3, 48, 80)
    convert_to_onnx(encoder, [image], input_names=["image"], filename=str(tmp_path / "clip.onnx"), use_trace=False)
    session = onnxruntime.InferenceSession(tmp_path / "clip.onnx", providers=["CPUExecutionProvider"])
    image = torch.randn_like(image)
    with torch.no_grad():
        for ours, plain in zip(session.run(None, {"image": image.numpy()}), encoder(image), strict=True):
            assert torch.allclose(torch.from_numpy(ours), plain, atol=1e-4)
