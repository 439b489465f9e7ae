"""Dice and focal loss with deep supervision, in which every pixel has a weight."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.losses import FocalLoss
from torch import Tensor
from torch.nn import functional as F

GAMMA, FOCAL_SHARE = 1.0, 4.0  # as in train.json
SMOOTH = 1e-5  # of the Dice, as in monai.losses.DiceLoss

_focal = FocalLoss(gamma=GAMMA, reduction="none")


def lesion_loss(logits: Sequence[Tensor], label: Tensor, weight: Tensor) -> Tensor:
    """Sum the loss over the scales of a network in training; each scale counts half of the finer one before it.

    With all weights 1 this is MONAI's `DeepSupervisionLoss` of `DiceFocalLoss(sigmoid=True, batch=True)`. Pixels of
    weight 0 have no influence, neither their logits nor their labels.

    Args:
        logits: (B, 1, h, w) per scale, full resolution first.
        label: (B, 1, H, W), 0 or 1.
        weight: (B, 1, H, W), in [0, 1].

    Returns:
        A scalar.
    """
    total = label.new_zeros((), dtype=torch.float32)
    for scale, found in enumerate(logits):
        size = found.shape[-2:]
        target, counted = (F.interpolate(x.float(), size=size, mode="nearest-exact") for x in (label, weight))
        total = total + 0.5**scale * _dice_focal(found.float(), target, counted)
    return total


def _dice_focal(logits: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    probability = torch.sigmoid(logits)
    overlap = 2 * (weight * probability * target).sum() + SMOOTH
    dice = overlap / ((weight * (probability + target)).sum() + SMOOTH)
    focal = (weight * _focal(logits, target)).sum() / weight.sum().clamp_min(1)
    return 1 - dice + FOCAL_SHARE * focal
