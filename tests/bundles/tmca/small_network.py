"""A small TMCA, sentences and images for the tests of its parts."""

from __future__ import annotations

import torch
from tmca.network import TMCA

LEFT = "bilateral pulmonary infection, two infected areas, upper left lung and lower right lung."
RIGHT = "bilateral pulmonary infection, two infected areas, lower left lung and upper right lung."
ONE = "unilateral pulmonary infection, one infected area, middle left lung."
OPTIONS = {"backbone": "test_resnet", "channels": 16, "detail_channels": (4, 8, 16), "dropout": 0.0, "null_share": 0.0}


def build(seed=0, stir=False, **options):
    """A small network; stirred, every parameter that learns is random, so that nothing hides behind a gate at zero."""
    torch.manual_seed(seed)
    network = TMCA(**OPTIONS | options)
    if stir:
        with torch.no_grad():
            for parameter in filter(lambda p: p.requires_grad, network.parameters()):
                parameter.add_(0.1 * torch.randn_like(parameter))
    return network.eval()


def pictures(batch=2, height=64, width=64, seed=0):
    return torch.rand(batch, 1, height, width, generator=torch.Generator().manual_seed(seed))
