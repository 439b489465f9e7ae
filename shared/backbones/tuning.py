"""Which parameters of an encoder learn: all, none, or low-rank additions to its attention (LoRA)."""

from __future__ import annotations

import re

from peft import LoraConfig, inject_adapter_in_model
from torch import nn

from shared.backbones.fused_attention import FusedAttention
from shared.core.errors import InputError

TUNINGS = ("full", "frozen", "lora")
QKV = r".*\.attn\.qkv"  # input projection of the attention in SAM, timm and `FusedAttention`


def apply_tuning(encoder: nn.Module, tuning: str, lora_rank: int = 4, targets: str = QKV) -> None:
    """Choose which parameters of an encoder learn, in place.

    Args:
        encoder: has an attribute ``tuning``.
        tuning: ``full``, all; ``frozen``, none, and the encoder stays in evaluation mode; ``lora``, low-rank additions
            W + B A to `targets`, which start at zero (Hu 2021, https://arxiv.org/abs/2106.09685).
        lora_rank: rank of the additions; their scale is 1 (alpha = rank).
        targets: regular expression for the names of linear layers. An `nn.MultiheadAttention` whose name followed by
            ``.qkv`` matches becomes a `FusedAttention` first.

    Raises:
        InputError: the tuning is unknown, the rank below 1, or LoRA finds no target (convolutional encoders).
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


def freeze_batch_norm(encoder: nn.Module) -> None:
    """Put batch norm into evaluation mode under LoRA: its statistics would otherwise change with frozen weights."""
    if encoder.tuning == "lora":
        for module in encoder.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()
