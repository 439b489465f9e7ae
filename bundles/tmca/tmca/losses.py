"""The loss of TMCA (DESIGN.md section 3): masks, plus alignment and pixel-text terms where there are sentences."""

from __future__ import annotations

import torch
from monai.losses import DeepSupervisionLoss, DiceCELoss
from torch import Tensor, nn

from .alignment import ALIGNMENTS, MultiLevelAlignment, pixel_text_loss
from .blocks import TEMPERATURE
from .network import TrainingOutput


class TMCALoss(nn.Module):
    """Dice + cross-entropy with deep supervision (weights 1, 1/2, 1/4), alignment, pixel-text.

    Args:
        alignment: "multilevel"; "global", without the pixel-text term too, which is about low levels; or "off",
            neither (ablations; with "off" the network needs no `align`).
        targets, balance, temperature, target_temperature: of `MultiLevelAlignment`.
        lambda_align, lambda_pixel: weights of the terms; 0 leaves one out.

    Raises:
        InputError: unknown `alignment` or `targets`.
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
        """Return the loss, a scalar.

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
