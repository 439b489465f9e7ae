"""Tuning of any module: LoRA targets by name pattern, and an error without a match."""

import pytest
import torch
from torch import nn

from shared.backbones.fused_attention import FusedAttention
from shared.backbones.tuning import apply_tuning
from shared.core.errors import InputError


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.attn = nn.MultiheadAttention(8, 2, batch_first=True)
        self.query = nn.Linear(8, 8)

    def forward(self, x):
        return self.query(self.attn(x, x, x, need_weights=False)[0])


class Tower(nn.Module):
    tuning = "full"

    def __init__(self):
        super().__init__()
        self.blocks = nn.Sequential(Block(), Block())

    def forward(self, x):
        return self.blocks(x)


@pytest.mark.parametrize(
    ("named", "part", "numbers"), [({}, "attn.qkv", 8 + 24), ({"targets": r".*\.query"}, "query", 8 + 8)]
)
def test_lora_adds_to_the_layers_that_are_named(named, part, numbers):
    torch.manual_seed(0)
    tower, x = Tower(), torch.randn(2, 5, 8)
    before = tower(x)
    apply_tuning(tower, "lora", 3, **named)
    learning = {name: p for name, p in tower.named_parameters() if p.requires_grad}
    assert sum(p.numel() for p in learning.values()) == 2 * 3 * numbers
    assert all(f".{part}.lora" in name for name in learning)
    assert any(isinstance(module, FusedAttention) for module in tower.modules()) == (part == "attn.qkv")
    assert torch.allclose(tower(x), before, atol=1e-5)
    with torch.no_grad():
        for parameter in learning.values():
            parameter.add_(torch.randn_like(parameter))
    assert not torch.allclose(tower(x), before, atol=1e-2)


def test_an_encoder_without_such_layers_is_refused_by_its_kind():
    with pytest.raises(InputError, match="this Tower has no attention that LoRA knows; choose frozen or full"):
        apply_tuning(Tower(), "lora", targets=r".*\.v_proj")
