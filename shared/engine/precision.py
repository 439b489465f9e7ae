"""Autocast on devices where bfloat16 is faster than float32; float32 elsewhere."""

from __future__ import annotations

import contextlib
from typing import Any

import torch
from monai.data import MetaTensor
from monai.inferers import Inferer
from torch.nn.attention import SDPBackend, sdpa_kernel

from shared.core.errors import InputError

Device = str | torch.device


def fast_dtype(device: Device) -> torch.dtype | None:
    """Return the type in which a device multiplies matrices faster than in float32, or None.

    CUDA: bfloat16 from compute capability 8 on, else None, because float16 needs a gradient scaler. CPU: bfloat16 with
    AVX512-BF16 or AMX; other CPUs emulate it, several times slower than float32.
    """
    kind = torch.device(device).type
    if kind == "cuda" and torch.cuda.is_available() and torch.cuda.get_device_capability(device)[0] >= 8:
        return torch.bfloat16
    if kind == "cpu" and (torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()):
        return torch.bfloat16
    return None


def precision(device: Device, amp: bool) -> str:
    """Return the name of the type in which a network computes, such as ``bfloat16``."""
    dtype = (fast_dtype(device) if amp else None) or torch.float32
    return str(dtype).removeprefix("torch.")


def describe(device: Device, amp: bool) -> str:
    """Return device and type for a run's heading, such as ``cpu, float32``."""
    return f"{torch.device(device)}, {precision(device, amp)}"


class PrecisionInferer(Inferer):
    """Run another inferer on plain tensors, under autocast if `fast_dtype` names a type; results are float32.

    MONAI's own ``amp`` supports CUDA only. The image's metadata is removed before the network runs, because every
    operation on a `MetaTensor` costs a Python call, and a single output gets it back.

    Args:
        inferer: e.g. `monai.inferers.SimpleInferer` or `SliceInferer`.
        device: where the network runs.
        amp: False computes in float32.
        few_tokens: set if the network attends over at most some hundred tokens. In bfloat16 on a CPU, attention then
            uses plain matrix products: the backward pass of the fused kernel is slower (TMCA at 128 pixels: 0.73 s per
            step with it, 0.60 s without), and it saves little memory.
    """

    def __init__(self, inferer: Inferer, device: Device, amp: bool = True, few_tokens: bool = False) -> None:
        super().__init__()
        self.inferer = inferer
        self.device_type = torch.device(device).type
        self.dtype = fast_dtype(device) if amp else None
        self.plain_attention = few_tokens and self.device_type == "cpu" and self.dtype is not None

    def __call__(self, inputs: torch.Tensor, network: Any, *args: Any, **kwargs: Any) -> Any:
        """Return the outputs of the wrapped inferer: a tensor or a list in float32, a named tuple unchanged."""
        meta = inputs.meta if isinstance(inputs, MetaTensor) else None
        if isinstance(inputs, MetaTensor):
            inputs = inputs.as_tensor()
        with contextlib.ExitStack() as contexts:
            if self.dtype is not None:
                contexts.enter_context(torch.autocast(self.device_type, dtype=self.dtype))
            if self.plain_attention:
                contexts.enter_context(sdpa_kernel(SDPBackend.MATH))
            outputs = self.inferer(inputs, network, *args, **kwargs)
        if not torch.is_grad_enabled():
            require_finite(outputs)
        if hasattr(outputs, "_fields"):
            return outputs
        if isinstance(outputs, (list, tuple)):
            return [x.float() for x in outputs]
        return outputs.float() if meta is None else MetaTensor(outputs.float(), meta=meta)  # `Invertd` needs it


def require_finite(outputs: Any) -> None:
    """Refuse NaN and infinity in a tensor or a sequence of tensors: after a threshold they look like background.

    Raises:
        InputError: there are such values.
    """
    tensors = outputs if isinstance(outputs, (list, tuple)) else [outputs]
    if not all(bool(x.isfinite().all()) for x in tensors if isinstance(x, torch.Tensor)):
        raise InputError(
            "the network's output holds NaN or infinite values: use other weights, or correct the image; in training, "
            "lower --learning_rate"
        )
