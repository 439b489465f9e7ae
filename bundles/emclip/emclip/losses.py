"""The loss of EM-CLIP (DESIGN.md section 3); structures that were not annotated have no part in it."""

from __future__ import annotations

import torch
from monai.losses import DiceLoss
from torch import Tensor, nn
from torch.nn import functional as F

from .network import TrainingOutput

FAR = -30.0  # a logit whose sigmoid is zero: what is not annotated counts as found absent, without gradient


class EMCLIPLoss(nn.Module):
    """Dice + BCE on the masks, cross-entropy on the score map, prompts near the frozen texts, compact clusters.

    Args:
        deep_weight: weight of a mask head relative to the one of twice its resolution.
        lambda_bce, lambda_score, lambda_prompt, lambda_compact: weights of the terms (our choice); 0 leaves one out.
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
        self.deep_weight = deep_weight
        self.lambda_bce = lambda_bce
        self.lambda_score = lambda_score
        self.lambda_prompt = lambda_prompt
        self.lambda_compact = lambda_compact
        self.dice = DiceLoss(sigmoid=True, batch=True)

    def forward(self, output: TrainingOutput, label: Tensor) -> Tensor:
        """Return the loss, a scalar.

        Args:
            output: of the network in training.
            label: (B, S, H, W), 1 in the structure, 0 outside, -1 everywhere where it was not annotated.
        """
        weights = [self.deep_weight**i for i in range(len(output.masks))]
        terms = [w * self.mask_loss(logits, label) for w, logits in zip(weights, output.masks)]
        loss = torch.stack(terms).sum() / sum(weights)
        if output.scores is not None and self.lambda_score:
            loss = loss + self.lambda_score * score_loss(output.scores, label)
        if output.prompts is not None and output.frozen is not None and self.lambda_prompt:
            distance = 1 - F.cosine_similarity(output.prompts.float(), output.frozen.float(), dim=1)
            loss = loss + self.lambda_prompt * distance.mean()
        if output.compactness is not None and self.lambda_compact:
            loss = loss + self.lambda_compact * output.compactness.mean()
        return loss

    def mask_loss(self, logits: Tensor, label: Tensor) -> Tensor:
        """Dice + BCE of logits (B, S, h, w) at any resolution."""
        size = logits.shape[-2:]
        if label.shape[-2:] != size:
            label = F.interpolate(label, size=size, mode="nearest-exact")
        known = label >= 0
        logits = torch.where(known, logits.float(), FAR)
        label = label.clamp(min=0)
        bce = F.binary_cross_entropy_with_logits(logits, label, reduction="sum") / known.sum().clamp(min=1)
        return self.dice(logits, label) + self.lambda_bce * bce


def score_loss(scores: Tensor, label: Tensor) -> Tensor:
    """Cross-entropy of the score map (B, A, h, w) against the share of each class in a token's patch.

    Structures may lie in one another (a cup in its disc): a pixel belongs to the last one that holds it, as in the
    label map that they came from. An image with a structure that was not annotated is left out: it may be anywhere.
    """
    known = (label >= 0).flatten(1).all(1)  # (B,)
    classes = torch.zeros_like(label[:, 0], dtype=torch.int64)
    for index in range(label.shape[1]):
        classes = torch.where(label[:, index] > 0, index + 1, classes)
    shares = F.one_hot(classes, scores.shape[1]).permute(0, 3, 1, 2).float() * known[:, None, None, None]
    shares = F.adaptive_avg_pool2d(shares, (scores.shape[-2], scores.shape[-1]))
    return -(shares * scores.float().log_softmax(1)).sum() / shares.sum().clamp(min=1)
