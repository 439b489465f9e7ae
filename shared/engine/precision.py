"""Lower precision where the device gains by it, full precision where it would lose."""

from __future__ import annotations

import contextlib
from typing import Any

import torch
from monai.data import MetaTensor
from monai.inferers import Inferer
from torch.nn.attention import SDPBackend, sdpa_kernel

Device = str | torch.device


def fast_dtype(device: Device) -> torch.dtype | None:
    """The dtype that this device multiplies matrices in faster than in float32, or None.

    CUDA: bfloat16 from compute capability 8 on, else None (float16 would need a gradient scaler). CPU: bfloat16 with
    AVX512-BF16 or AMX; without them it is emulated and several times slower than float32.
    """
    kind = torch.device(device).type
    if kind == "cuda" and torch.cuda.is_available() and torch.cuda.get_device_capability(device)[0] >= 8:
        return torch.bfloat16
    if kind == "cpu" and (torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()):
        return torch.bfloat16
    return None


def precision(device: Device, amp: bool) -> str:
    """The name of the type in which a network computes, such as ``bfloat16``."""
    dtype = (fast_dtype(device) if amp else None) or torch.float32
    return str(dtype).removeprefix("torch.")


def describe(device: Device, amp: bool) -> str:
    """The words for a run's heading, such as ``cpu, float32``."""
    return f"{torch.device(device)}, {precision(device, amp)}"


class PrecisionInferer(Inferer):
    """Run another inferer on plain tensors, under autocast where `fast_dtype` names one; results are float32.

    MONAI's own ``amp`` knows CUDA only. The image's metadata is taken off on the way in, since every operation on a
    `MetaTensor` costs a Python call; a single output gets it back.

    Args:
        inferer: e.g. `monai.inferers.SimpleInferer` or `SliceInferer`.
        device: where the network runs.
        amp: False keeps float32.
        few_tokens: the network's attentions are over some hundred tokens at most. In bfloat16 on a CPU they are then
            made of plain matrix products: the fused kernel's backward takes longer (TMCA at 128 pixels: 0.73 s a step
            with it, 0.60 s without), and what it saves in memory is little.
    """

    def __init__(self, inferer: Inferer, device: Device, amp: bool = True, few_tokens: bool = False) -> None:
        super().__init__()
        self.inferer = inferer
        self.device_type = torch.device(device).type
        self.dtype = fast_dtype(device) if amp else None
        self.plain_attention = few_tokens and self.device_type == "cpu" and self.dtype is not None

    def __call__(self, inputs: torch.Tensor, network: Any, *args: Any, **kwargs: Any) -> Any:
        """Infer as the wrapped inferer does; a list of outputs stays a list, a named tuple stays as it is."""
        meta = inputs.meta if isinstance(inputs, MetaTensor) else None
        if isinstance(inputs, MetaTensor):
            inputs = inputs.as_tensor()
        with contextlib.ExitStack() as contexts:
            if self.dtype is not None:
                contexts.enter_context(torch.autocast(self.device_type, dtype=self.dtype))
            if self.plain_attention:
                contexts.enter_context(sdpa_kernel(SDPBackend.MATH))
            outputs = self.inferer(inputs, network, *args, **kwargs)
        if hasattr(outputs, "_fields"):
            return outputs
        if isinstance(outputs, (list, tuple)):
            return [x.float() for x in outputs]
        return outputs.float() if meta is None else MetaTensor(outputs.float(), meta=meta)  # `Invertd` asks for it
