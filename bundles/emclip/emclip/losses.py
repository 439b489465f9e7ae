"""The loss of EM-CLIP. Structures that were not annotated have no influence on it."""

from __future__ import annotations

import torch
from monai.losses import DeepSupervisionLoss, DiceLoss
from torch import Tensor, nn
from torch.nn import functional as F

from .outputs import TrainingOutput

ABSENT = -30.0  # a logit whose sigmoid is zero: unannotated structures count as correctly absent, without gradient
MAX_HEADS = 8  # of deep supervision


class EMCLIPLoss(nn.Module):
    """Sum the terms of the loss::

        L = sum_i w^i [ Dice + lambda_bce BCE ](mask_i) / sum_i w^i        deep supervision, w = deep_weight
          + lambda_score CE(scores) + lambda_prompt mean(1 - cos(prompt, frozen)) + lambda_compact mean(compactness)

    Args:
        deep_weight: w, the weight of a mask head relative to the head of twice its resolution.
        lambda_bce, lambda_score, lambda_prompt, lambda_compact: weights of the terms; 0 omits a term.
    """

    def __init__(
        self,
        deep_weight: float = 0.5,
        lambda_bce: float = 1.0,
        lambda_score: float = 0.2,
        lambda_prompt: float = 0.1,
        lambda_compact: float = 0.1,
    ) -> None:
        super().__init__()
        weights = [deep_weight**i for i in range(MAX_HEADS)]
        self.mask_loss = DeepSupervisionLoss(MaskLoss(lambda_bce), weights=weights)  # type: ignore[arg-type]
        self.lambda_score = lambda_score
        self.lambda_prompt = lambda_prompt
        self.lambda_compact = lambda_compact

    def forward(self, output: TrainingOutput, label: Tensor) -> Tensor:
        """Compute the loss, a scalar.

        Args:
            output: of the network in training.
            label: (B, S, H, W), 1 in the structure, 0 outside, -1 everywhere if the structure was not annotated.
        """
        loss = self.mask_loss(output.masks, label) / sum(self.mask_loss.get_weights(len(output.masks)))
        if output.scores is not None and self.lambda_score:
            loss = loss + self.lambda_score * score_loss(output.scores, label)
        if output.prompts is not None and output.frozen is not None and self.lambda_prompt:
            distance = 1 - F.cosine_similarity(output.prompts.float(), output.frozen.float(), dim=1)
            loss = loss + self.lambda_prompt * distance.mean()
        if output.compactness is not None and self.lambda_compact:
            loss = loss + self.lambda_compact * output.compactness.mean()
        return loss


class MaskLoss(nn.Module):
    """Dice plus binary cross-entropy over the annotated structures.

    Args:
        lambda_bce: weight of the cross-entropy.
    """

    def __init__(self, lambda_bce: float) -> None:
        super().__init__()
        self.lambda_bce = lambda_bce
        self.dice = DiceLoss(sigmoid=True, batch=True)

    def forward(self, logits: Tensor, label: Tensor) -> Tensor:
        """Compare logits and label, both (B, S, h, w); the label is -1 where a structure was not annotated."""
        known = label >= 0
        logits = torch.where(known, logits.float(), ABSENT)
        label = label.clamp(min=0)
        bce = F.binary_cross_entropy_with_logits(logits, label, reduction="sum") / known.sum().clamp(min=1)
        return self.dice(logits, label) + self.lambda_bce * bce


def score_loss(scores: Tensor, label: Tensor) -> Tensor:
    """Compute the cross-entropy of the class scores against the share of each class in a token's patch.

    Structures may contain others (a disc its cup): a pixel belongs to the last structure that holds it, as in the label
    map. Images with an unannotated structure are left out.

    Args:
        scores: logits (B, A, h, w), the background first.
        label: (B, S, H, W) as in `EMCLIPLoss`.

    Returns:
        a scalar.
    """
    known = (label >= 0).flatten(1).all(1)  # (B,)
    classes = torch.zeros_like(label[:, 0], dtype=torch.int64)
    for index in range(label.shape[1]):
        classes = torch.where(label[:, index] > 0, index + 1, classes)
    shares = F.one_hot(classes, scores.shape[1]).permute(0, 3, 1, 2).float() * known[:, None, None, None]
    shares = F.adaptive_avg_pool2d(shares, (scores.shape[-2], scores.shape[-1]))
    return -(shares * scores.float().log_softmax(1)).sum() / shares.sum().clamp(min=1)
