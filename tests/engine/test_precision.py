"""Lower precision only where it is faster; the network gets plain tensors, the caller float32."""

import pytest
import torch
from monai.data import MetaTensor
from monai.inferers import SimpleInferer, SliceInferer

from shared.core.errors import InputError
from shared.engine import precision
from shared.engine.precision import PrecisionInferer, describe, fast_dtype


def cpu_has(monkeypatch, bf16: bool, amx: bool) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: bf16)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)


@pytest.mark.parametrize(("bf16", "amx"), [(False, False), (True, False), (False, True), (True, True)])
def test_cpu_gets_bfloat16_only_with_instructions_for_it(monkeypatch, bf16, amx):
    cpu_has(monkeypatch, bf16, amx)
    expected = torch.bfloat16 if bf16 or amx else None
    assert fast_dtype("cpu") == fast_dtype(torch.device("cpu")) == expected
    assert describe("cpu", amp=True) == ("cpu, bfloat16" if expected else "cpu, float32")
    assert describe("cpu", amp=False) == "cpu, float32"


@pytest.mark.parametrize(
    ("capability", "expected"), [((7, 5), None), ((8, 0), torch.bfloat16), ((9, 0), torch.bfloat16)]
)
def test_gpu_gets_bfloat16_from_ampere_on(monkeypatch, capability, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: capability)
    assert fast_dtype("cuda:0") == expected


def test_other_devices_keep_float32(monkeypatch):
    cpu_has(monkeypatch, True, True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert fast_dtype("cuda") is None and fast_dtype("meta") is None and fast_dtype("mps") is None


class Spy(torch.nn.Module):
    """A layer that records its input's class and its output's type."""

    def __init__(self, outputs=1):
        super().__init__()
        self.layer = torch.nn.Conv2d(2, 1, 1)
        self.outputs = outputs

    def forward(self, image):
        self.given = type(image)
        result = self.layer(image)
        self.computed = result.dtype
        return result if self.outputs == 1 else [result] * self.outputs


def image(meta=True):
    torch.manual_seed(0)
    plain = torch.randn(1, 2, 4, 4)
    return MetaTensor(plain, affine=torch.diag(torch.tensor([2.0, 3, 4, 1]))) if meta else plain


@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("meta", [True, False])
def test_the_network_gets_plain_tensors_and_returns_float32(monkeypatch, dtype, outputs, meta):
    monkeypatch.setattr(precision, "fast_dtype", lambda device: dtype)
    network = Spy(outputs)
    result = PrecisionInferer(SimpleInferer(), "cpu")(image(meta), network)
    assert network.given is torch.Tensor and network.computed == (dtype or torch.float32)
    assert isinstance(result, list) == (outputs > 1)
    for mask in result if outputs > 1 else [result]:
        assert mask.dtype == torch.float32
        expected = network.layer(image(False))
        assert torch.allclose(torch.as_tensor(mask), expected, atol=0.05, rtol=0.05)
    if outputs == 1:  # post-processing (Invertd) finds the affine again
        assert isinstance(result, MetaTensor) == meta
        assert not meta or torch.equal(result.affine, image().affine)


def test_amp_can_be_switched_off(monkeypatch):
    monkeypatch.setattr(precision, "fast_dtype", lambda device: torch.bfloat16)
    network = Spy()
    PrecisionInferer(SimpleInferer(), "cpu", amp=False)(image(), network)
    assert network.computed == torch.float32


def test_gradients_pass(monkeypatch):
    monkeypatch.setattr(precision, "fast_dtype", lambda device: torch.bfloat16)
    network = Spy()
    PrecisionInferer(SimpleInferer(), "cpu")(image(), network).sum().backward()
    assert network.layer.weight.grad.dtype == torch.float32 and network.layer.weight.grad.abs().sum() > 0


def test_volumes_slice_by_slice(monkeypatch):
    monkeypatch.setattr(precision, "fast_dtype", lambda device: torch.bfloat16)
    network = Spy()
    volume = MetaTensor(torch.randn(1, 2, 6, 5, 3))
    result = PrecisionInferer(SliceInferer(roi_size=(4, 4), spatial_dim=2, sw_batch_size=2), "cpu")(volume, network)
    assert result.shape == (1, 1, 6, 5, 3) and result.dtype == torch.float32 and network.given is torch.Tensor


class Attention(torch.nn.Module):
    """Attention over an image's pixels that records whether the fused kernel was allowed."""

    def forward(self, image):
        self.fused = torch.backends.cuda.flash_sdp_enabled()  # governs the CPU's kernel as well
        pixels = image.flatten(2).transpose(1, 2)
        seen = torch.nn.functional.scaled_dot_product_attention(pixels, pixels, pixels)
        return seen.transpose(1, 2).unflatten(2, image.shape[-2:])


@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_few_tokens_use_plain_attention_in_bfloat16_only(monkeypatch, dtype):
    monkeypatch.setattr(precision, "fast_dtype", lambda device: dtype)
    network = Attention()
    expected = PrecisionInferer(SimpleInferer(), "cpu")(image(), network)
    assert network.fused
    result = PrecisionInferer(SimpleInferer(), "cpu", few_tokens=True)(image(), network)
    assert network.fused == (dtype is None)
    assert torch.backends.cuda.flash_sdp_enabled()  # the setting is restored
    assert torch.allclose(result, expected, atol=0.02)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_an_output_that_is_not_finite_is_no_mask(value):
    inferer = PrecisionInferer(SimpleInferer(), "cpu")
    with torch.no_grad(), pytest.raises(InputError, match="NaN or infinite values"):
        inferer(torch.zeros(1, 1, 4, 4), lambda image: image + value)
