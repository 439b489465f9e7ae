"""What of an encoder learns: all, nothing, or low-rank additions to its attention (LoRA)."""

from __future__ import annotations

import re

from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn

from shared.backbones.fused_attention import FusedAttention
from shared.core.errors import InputError

TUNINGS = ("full", "frozen", "lora")
QKV = r".*\.attn\.qkv"  # the attention's input projection in SAM, in timm and in `FusedAttention`


def apply_tuning(encoder: nn.Module, tuning: str, lora_rank: int = 4, targets: str = QKV) -> None:
    """Say which parameters of an encoder learn, in place.

    Args:
        encoder: has an attribute ``tuning``.
        tuning: ``full`` (all), ``frozen`` (none; stays in evaluation mode), ``lora`` (only low-rank additions to
            `targets`; Hu 2021, https://arxiv.org/abs/2106.09685; they start as zero).
        lora_rank: rank of the additions; their scale is 1 (alpha = rank, our choice).
        targets: pattern of the names of linear layers. An `nn.MultiheadAttention` with such a name but for its last
            part, ``qkv``, becomes a `FusedAttention` first.

    Raises:
        InputError: unknown tuning, a rank below 1, or ``lora`` for an encoder without such layers (convolutions).
    """
    if tuning not in TUNINGS:
        raise InputError(f"unknown tuning {tuning!r}: choose one of {', '.join(TUNINGS)}")
    if tuning == "lora" and lora_rank < 1:
        raise InputError(f"lora_rank must be at least 1, not {lora_rank}")
    encoder.tuning = tuning  # type: ignore[assignment]
    encoder.requires_grad_(tuning == "full")
    if tuning == "lora":
        for name, module in list(encoder.named_modules()):
            plain = isinstance(module, nn.MultiheadAttention) and module._qkv_same_embed_dim and module.batch_first
            if plain and re.fullmatch(targets, f"{name}.qkv"):
                encoder.set_submodule(name, FusedAttention(module))  # type: ignore[arg-type]
        config = LoraConfig(r=lora_rank, lora_alpha=lora_rank, target_modules=targets, bias="none")
        try:
            inject_adapter_in_model(config, encoder)
        except ValueError as error:
            kind = type(encoder).__name__
            raise InputError(
                f"tuning lora: this {kind} has no attention that LoRA knows; choose frozen or full"
            ) from error
    encoder.train(encoder.training)


def merge_lora(encoder: nn.Module) -> nn.Module:
    """Fold LoRA's matrices into the weights, in place: original names and shapes again, ready for export.

    Returns:
        The same encoder; without adapters it is left as it is.
    """
    for module in list(encoder.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, BaseTunerLayer):
                child.merge()
                setattr(module, name, child.get_base_layer())
    for name, module in list(encoder.named_modules()):
        if isinstance(module, FusedAttention):
            encoder.set_submodule(name, module.original())
    return encoder
