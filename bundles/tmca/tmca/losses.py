"""The loss of TMCA: masks, plus multi-level alignment and pixel-text terms for images with sentences."""

from __future__ import annotations

import torch
from monai.losses import DeepSupervisionLoss, DiceCELoss
from torch import Tensor, nn

from .alignment import ALIGNMENTS, MultiLevelAlignment, pixel_text_loss
from .blocks import TEMPERATURE
from .outputs import TrainingOutput


class TMCALoss(nn.Module):
    """Sum the terms of the loss::

        L = sum_i 2^-i [ Dice + BCE ](mask_i) + lambda_align MultiLevelAlignment + lambda_pixel pixel_text_loss

    Args:
        alignment: "multilevel"; "global" aligns the deepest level only and omits the pixel-text term (ablation); "off"
            omits both terms (ablation).
        targets, balance, temperature, target_temperature: of `MultiLevelAlignment`.
        lambda_align, lambda_pixel: weights of the terms; 0 omits a term.

    Raises:
        InputError: `alignment` or `targets` is unknown.
    """

    def __init__(
        self,
        alignment: str = "multilevel",
        targets: str = "soft",
        balance: float = 0.5,
        temperature: float = TEMPERATURE,
        target_temperature: float = 0.1,
        lambda_align: float = 0.1,
        lambda_pixel: float = 0.1,
    ) -> None:
        super().__init__()
        self.mask_loss = DeepSupervisionLoss(DiceCELoss(sigmoid=True))
        self.alignment: MultiLevelAlignment | None = None
        if alignment != ALIGNMENTS[0]:
            self.alignment = MultiLevelAlignment(alignment, targets, balance, temperature, target_temperature)
        self.lambda_align = lambda_align
        self.lambda_pixel = lambda_pixel

    def forward(self, output: TrainingOutput, label: Tensor) -> Tensor:
        """Compute the loss, a scalar.

        Args:
            output: of the network in training.
            label: (B, 1, H, W), 1 in the target, 0 outside.
        """
        labels = torch.cat([label, label[output.again]])
        loss = self.mask_loss([mask.float() for mask in output.masks], labels)
        given = output.alignment
        if given is None or self.alignment is None:
            return loss
        if self.lambda_align:
            loss = loss + self.lambda_align * self.alignment(given, label)
        if self.lambda_pixel and self.alignment.multilevel:
            loss = loss + self.lambda_pixel * pixel_text_loss(given, label)
        return loss
