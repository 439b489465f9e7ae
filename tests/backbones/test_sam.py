"""SAM's encoder: the numbers of segment_anything, strict loading of files, tuning, exports."""

import copy
import dataclasses
from functools import partial

import numpy as np
import pytest
import torch
from segment_anything.modeling import ImageEncoderViT, MaskDecoder, PromptEncoder, Sam, TwoWayTransformer
from torch import nn
from torch.nn import functional as F

from shared.backbones import sam
from shared.backbones.sam import SAM_SIZES, SamEncoder, SamSize, build_encoder, build_sam_encoder
from shared.core.errors import InputError

SMALL = SamSize(32, 8, 2, (1, 3, 5, 7), image_size=80, patch_size=8, window_size=4, out_channels=16)  # 10 x 10 tokens


def peer_of(size: SamSize) -> ImageEncoderViT:
    """segment_anything's own encoder with random weights; position tables random too, not zero."""
    peer = ImageEncoderViT(
        img_size=size.image_size,
        patch_size=size.patch_size,
        embed_dim=size.embed_dim,
        depth=size.depth,
        num_heads=size.num_heads,
        out_chans=size.out_channels,
        norm_layer=partial(nn.LayerNorm, eps=1e-6),
        use_rel_pos=True,
        window_size=size.window_size,
        global_attn_indexes=size.global_blocks,
    )
    for name, parameter in peer.named_parameters():
        if "pos" in name:
            nn.init.normal_(parameter, std=0.5)
    return peer.eval()


def ours_of(peer: ImageEncoderViT, size: SamSize) -> SamEncoder:
    encoder = SamEncoder(size, neck=True).eval()
    encoder.load_state_dict(peer.state_dict())  # strict: the names are the same
    return encoder


def peer_features(peer: ImageEncoderViT, image: torch.Tensor, every: int) -> list[torch.Tensor]:
    """The peer's tokens after every so many blocks, at any size: only its table of positions has to be resized."""
    x = peer.patch_embed(image)
    table = peer.pos_embed.permute(0, 3, 1, 2)
    x = x + F.interpolate(table, size=x.shape[1:3], mode="bicubic").permute(0, 2, 3, 1)
    features = []
    for i, block in enumerate(peer.blocks):
        x = block(x)
        if (i + 1) % every == 0:
            features.append(x.permute(0, 3, 1, 2))
    return features


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.fixture()
def pair():
    peer = peer_of(SMALL)
    return peer, ours_of(peer, SMALL)


@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize("name", ["small", "vit_tiny"])
def test_encode_equals_segment_anything(name, grad):
    size = SMALL if name == "small" else SAM_SIZES[name]
    peer = peer_of(size)
    image = torch.randn(2, 3, size.image_size, size.image_size)
    with torch.set_grad_enabled(grad):
        assert torch.allclose(ours_of(peer, size).encode(image), peer(image), atol=1e-4)


def test_vit_b_attention_at_its_real_size_equals_segment_anything():
    size = SAM_SIZES["vit_b"]
    for window, side in ((0, 32), (14, 32)):
        from segment_anything.modeling.image_encoder import Block

        norm = partial(nn.LayerNorm, eps=1e-6)
        peer = Block(size.embed_dim, size.num_heads, use_rel_pos=True, norm_layer=norm, window_size=window,
                     input_size=(64, 64))  # fmt: skip
        for parameter in (peer.attn.rel_pos_h, peer.attn.rel_pos_w):
            nn.init.normal_(parameter, std=0.5)
        ours = sam.SamBlock(size, 2 if window == 0 else 0)
        ours.load_state_dict(peer.state_dict())
        x = torch.randn(1, side, side + 3, size.embed_dim)
        with torch.no_grad():
            assert torch.allclose(ours(x), peer(x), atol=1e-4)


def test_sizes_are_those_of_segment_anything():
    from segment_anything import sam_model_registry

    for name in ("vit_b", "vit_l", "vit_h"):
        made = {}

        def note(made=made, **kwargs):
            made.update(kwargs)
            raise StopIteration

        with pytest.MonkeyPatch.context() as patch, pytest.raises(StopIteration):
            patch.setitem(sam_model_registry[name].__globals__, "ImageEncoderViT", note)
            sam_model_registry[name]()
        size = SAM_SIZES[name]
        assert (made["embed_dim"], made["depth"], made["num_heads"]) == (size.embed_dim, size.depth, size.num_heads)
        assert tuple(made["global_attn_indexes"]) == size.global_blocks
        assert (made["img_size"], made["patch_size"], made["window_size"]) == (1024, 16, 14)
        assert (size.image_size, size.patch_size, size.window_size) == (1024, 16, 14)
        assert made["out_chans"] == size.out_channels
        assert [(i + 1) * size.depth // 4 - 1 for i in range(4)] == list(size.global_blocks)  # stages end there


@pytest.mark.parametrize("shape", [(80, 80), (48, 120), (24, 8), (200, 64)])
def test_features_equal_the_peers_blocks_at_any_size(pair, shape):
    peer, encoder = pair
    image = torch.randn(2, 3, *shape)
    with torch.no_grad():
        features, expected = encoder(image), peer_features(peer, image, every=2)
    for i, (feature, wanted) in enumerate(zip(features, expected, strict=True)):
        assert feature.shape == (2, encoder.channels[i], shape[0] // 8, shape[1] // 8)
        assert torch.allclose(feature, wanted, atol=1e-4)


def test_mask_pieces_do_not_change_the_numbers(pair):
    _, encoder = pair
    image = torch.randn(3, 3, 200, 200)  # 625 tokens
    with torch.no_grad():
        whole = encoder(image)
        for block in encoder.blocks:
            block.attn.mask_elements, block.mlp_tokens = 1000, 7
        pieces = encoder(image)
    assert torch.allclose(whole[3], pieces[3], atol=1e-5)


def test_stages_and_stem_compose_to_forward_and_hold_no_parameters(pair):
    _, encoder = pair
    names = set(encoder.state_dict())
    image = torch.randn(1, 3, 80, 80)
    with torch.no_grad():
        tokens = encoder.stem(image)
        assert tokens.shape == (1, 10, 10, encoder.stem_channels)
        assert torch.equal(encoder.add_position(tokens), tokens + encoder.pos_embed)
        tokens = encoder.add_position(tokens)
        for i, stage in enumerate(encoder.stages):
            tokens = stage(tokens)
            assert torch.equal(tokens.permute(0, 3, 1, 2), encoder(image)[i])
    assert set(encoder.state_dict()) == names


def test_noncontiguous_tokens_give_the_same(pair):
    _, encoder = pair
    tokens = torch.randn(2, 32, 9, 7)
    with torch.no_grad():
        a = encoder.run_stage(0, tokens.permute(0, 2, 3, 1))
        b = encoder.run_stage(0, tokens.permute(0, 2, 3, 1).contiguous())
    assert torch.allclose(a, b, atol=1e-6)


@pytest.mark.parametrize("mode", ["autocast", "cast"])
def test_bfloat16_is_as_near_to_float32_as_segment_anythings(pair, mode):
    peer, encoder = pair
    image = torch.randn(1, 3, 80, 80)
    with torch.no_grad():
        exact = peer(image)
        if mode == "cast":
            peer, encoder, image = copy.deepcopy(peer).bfloat16(), encoder.bfloat16(), image.bfloat16()
        with torch.autocast("cpu", torch.bfloat16, enabled=mode == "autocast"):
            theirs, ours = peer(image), encoder.encode(image)
    assert (ours.float() - exact).abs().mean() <= 1.2 * (theirs.float() - exact).abs().mean()


@pytest.mark.parametrize("shape", [(81, 80), (80, 4)])
def test_a_size_that_is_no_multiple_of_the_patch_is_named(pair, shape):
    with pytest.raises(ValueError, match=f"{shape[0]} x {shape[1]}.*multiples of 8"):
        pair[1](torch.zeros(1, 3, *shape))


def test_encode_without_neck_says_so():
    with pytest.raises(ValueError, match="neck=True"):
        SamEncoder(SMALL).encode(torch.zeros(1, 3, 80, 80))


# Files


SMALL_OPTIONS = {
    "embed_dim": 32,
    "depth": 8,
    "num_heads": 2,
    "global_blocks": (1, 3, 5, 7),
    "image_size": 80,
    "patch_size": 8,
    "window_size": 4,
    "out_channels": 16,
}


def whole_sam(peer: ImageEncoderViT) -> Sam:
    prompt = PromptEncoder(16, (10, 10), (80, 80), 4)
    transformer = TwoWayTransformer(2, 16, 2, 32)
    decoder = MaskDecoder(transformer_dim=16, transformer=transformer, num_multimask_outputs=3)
    return Sam(peer, prompt, decoder)


@pytest.mark.parametrize("wrapping", ["sam", "model", "ddp", "ddp in model", "encoder alone"])
@pytest.mark.parametrize("neck", [False, True])
def test_original_files_load(pair, tmp_path, wrapping, neck):
    peer, _ = pair
    state = peer.state_dict() if wrapping == "encoder alone" else whole_sam(peer).state_dict()
    if "ddp" in wrapping:
        state = {f"module.{key}": value for key, value in state.items()}
    if "model" in wrapping:
        state = {"model": state, "epoch": 3}
    torch.save(state, tmp_path / "sam.pth")
    encoder = build_encoder("vit_b", checkpoint=tmp_path / "sam.pth", neck=neck, **SMALL_OPTIONS)
    expected = {key: value for key, value in peer.state_dict().items() if neck or not key.startswith("neck.")}
    assert encoder.state_dict().keys() == expected.keys()
    assert all(torch.equal(value, expected[key]) for key, value in encoder.state_dict().items())


def fake_state(name: str) -> dict[str, torch.Tensor]:
    """As many names of a large SAM's state as its recognition needs, without its gigabytes."""
    size = SAM_SIZES[name]
    state = {"image_encoder.patch_embed.proj.weight": torch.empty(size.embed_dim, 3, 1, 1)}
    for i in range(size.depth):
        state[f"image_encoder.blocks.{i}.attn.rel_pos_h"] = torch.empty(1)
    return state


def make_wrong_file(kind: str, path, peer: ImageEncoderViT) -> None:
    state = {f"image_encoder.{key}": value for key, value in peer.state_dict().items()}
    if kind == "html":
        path.write_text("\n<!DOCTYPE html><html><body>404</body></html>", encoding="utf-8")
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "text":
        path.write_text("version https://git-lfs.github.com/spec/v1", encoding="utf-8")
    elif kind == "cut":
        torch.save(state, path)
        path.write_bytes(path.read_bytes()[:-5000])
    elif kind == "pickled module":
        torch.save(nn.Linear(2, 2), path)
    elif kind == "list":
        torch.save([torch.zeros(2)], path)
    elif kind == "no tensors":
        torch.save({"a": 1}, path)
    elif kind == "resnet":
        torch.save({"conv1.weight": torch.zeros(2), "bn1.weight": torch.zeros(2)}, path)
    elif kind == "lite":
        torch.save({"image_encoder.patch_embed.seq.0.c.weight": torch.zeros(2)}, path)
    elif kind == "vit_l":
        torch.save(fake_state("vit_l"), path)
    elif kind == "unknown size":
        torch.save(state, path)
    elif kind == "lacks":
        torch.save({key: value for key, value in state.items() if "norm2" not in key}, path)
    elif kind == "extra":
        torch.save(state | {"image_encoder.blocks.0.adapter.weight": torch.zeros(2)}, path)
    elif kind == "shape":
        torch.save(state | {"image_encoder.pos_embed": torch.zeros(1, 20, 20, 32)}, path)


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("missing", "no such file"),
        ("html", "an HTML page"),
        ("empty", "empty"),
        ("text", "not a torch file"),
        ("cut", "cut short"),
        ("pickled module", "not a torch file of plain tensors"),
        ("list", "holds a list"),
        ("no tensors", "no tensors"),
        ("resnet", "not a SAM checkpoint: it holds 2 tensors such as 'conv1.weight'"),
        ("lite", "use --encoder lite_medsam"),
        ("vit_l", r"sam_vit_l checkpoint \(embed 1024, 24 blocks\) given for encoder vit_b .*: use --encoder vit_l"),
        ("unknown size", r"SAM checkpoint of no known size \(embed 32, 8 blocks\) given for .*embed 768, 12 blocks\)$"),
        ("lacks", r"does not fit encoder vit_b: 16 missing, e.g. blocks.0.norm2"),
        ("extra", "does not fit encoder vit_b: 1 unknown, e.g. blocks.0.adapter.weight"),
        ("shape", r"of another shape, e.g. pos_embed: \(1, 20, 20, 32\) in place of \(1, 10, 10, 32\)"),
    ],
)
def test_wrong_files_are_refused_in_one_line(pair, tmp_path, kind, said):
    path = tmp_path / "given.pth"
    make_wrong_file(kind, path, pair[0])
    options = SMALL_OPTIONS if kind in ("lacks", "extra", "shape") else {}
    with pytest.raises(InputError, match=said) as caught:
        build_encoder("vit_b", checkpoint=path, **options)
    assert "\n" not in str(caught.value) and "given.pth" in str(caught.value)


@pytest.mark.parametrize(
    ("kwargs", "said"),
    [
        ({"name": "vit_x"}, "vit_tiny, vit_b, vit_l, vit_h, lite_medsam"),
        ({"name": "vit_tiny", "tuning": "some"}, "full, frozen, lora"),
        ({"name": "vit_tiny", "tuning": "lora", "lora_rank": 0}, "lora_rank"),
        ({"name": "vit_tiny", "dept": 3}, "unknown option 'dept'"),
        ({"name": "vit_tiny", "depth": 3}, "needs 4 blocks"),
        ({"name": "vit_tiny", "num_heads": 5}, "whole heads"),
    ],
)
def test_wrong_options_are_refused(kwargs, said):
    with pytest.raises(InputError, match=said):
        build_encoder(**kwargs)


# Tuning


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


def small(tuning: str, **kwargs) -> SamEncoder:
    torch.manual_seed(1)
    encoder = build_sam_encoder("vit_tiny", tuning=tuning, **SMALL_OPTIONS, **kwargs)
    with torch.no_grad():
        for name, parameter in encoder.named_parameters():
            if "rel_pos" in name:
                parameter.copy_(torch.linspace(-1, 1, parameter.numel()).view(parameter.shape))
    return encoder


def test_parameters_that_learn():
    assert count(small("full")) == sum(p.numel() for p in small("full").parameters())
    assert count(small("frozen")) == 0
    assert count(small("lora", lora_rank=3)) == 8 * 3 * (32 + 96)  # blocks x rank x (in + out)


def test_frozen_stays_in_evaluation_mode_and_passes_gradients_through():
    encoder = small("frozen")
    assert not any(module.training for module in encoder.train().modules())
    assert all(module.training for module in small("full").train().modules())
    tokens = torch.randn(1, 5, 6, 32, requires_grad=True)
    encoder.run_stage(0, tokens).sum().backward()
    assert tokens.grad.abs().sum() > 0


def test_lora_starts_as_identity_and_learns():
    image = torch.randn(1, 3, 80, 80)
    plain, encoder = small("full").eval(), small("lora")
    with torch.no_grad():
        assert torch.allclose(encoder(image)[3], plain(image)[3], atol=1e-6)
    encoder(image)[3].square().mean().backward()
    grads = [p.grad for p in encoder.parameters() if p.requires_grad]
    assert all(grad is not None for grad in grads) and any(grad.abs().sum() > 0 for grad in grads)
    with torch.no_grad():
        for parameter in encoder.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.2)
        assert not torch.allclose(encoder.eval()(image)[3], plain(image)[3], atol=1e-2)


def test_gradients_equal_segment_anythings(pair):
    peer, encoder = pair
    image, direction = torch.randn(2, 3, 80, 80), torch.randn(2, 16, 10, 10)
    for model, out in ((peer, peer(image)), (encoder, encoder.encode(image))):
        (out * direction).mean().backward()
        assert model.blocks[0].attn.rel_pos_h.grad.abs().sum() > 0
    for (name, theirs), (_, ours) in zip(peer.named_parameters(), encoder.named_parameters(), strict=True):
        scale = theirs.grad.abs().max()
        assert torch.allclose(ours.grad, theirs.grad, atol=1e-4 * float(scale) + 1e-7), name


# Exports


@pytest.mark.parametrize("tuning", ["full", "frozen"])
def test_scripting(tuning, tmp_path):
    encoder = build_sam_encoder("vit_tiny", tuning=tuning).eval()
    torch.jit.save(torch.jit.script(encoder), tmp_path / "encoder.ts")
    scripted = torch.jit.load(tmp_path / "encoder.ts")
    with torch.no_grad():
        for shape in ((64, 64), (48, 80)):
            image = torch.randn(1, 3, *shape)
            for ours, plain in zip(scripted(image), encoder(image), strict=True):
                assert torch.allclose(ours, plain, atol=1e-5)


def test_onnx_equals_pytorch(tmp_path):
    import onnxruntime
    from monai.networks.utils import convert_to_onnx

    torch.manual_seed(2)
    encoder = SamEncoder(dataclasses.replace(SMALL, depth=4), neck=False).eval()
    with torch.no_grad():
        for name, parameter in encoder.named_parameters():
            if "rel_pos" in name:
                parameter.normal_(std=0.5)
    image = torch.randn(1, 3, 64, 96)  # not square, not native: the interpolations are in the graph
    convert_to_onnx(encoder, [image], input_names=["image"], filename=str(tmp_path / "encoder.onnx"), use_trace=False)
    session = onnxruntime.InferenceSession(tmp_path / "encoder.onnx", providers=["CPUExecutionProvider"])
    image = torch.randn_like(image)
    with torch.no_grad():
        for ours, plain in zip(session.run(None, {"image": image.numpy()}), encoder(image), strict=True):
            assert np.abs(ours - plain.numpy()).max() < 1e-4
