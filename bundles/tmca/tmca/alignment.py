"""Target-sensitive semantic distance and multi-level alignment of images with sentences; used in training only.

The abstract (Li et al. 2024, arXiv 2412.13533) names both modules; the formulas are ours.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from shared.core.errors import InputError

from .blocks import TEMPERATURE
from .outputs import AlignmentInput

ALIGNMENTS = ("off", "global", "multilevel")
TARGETS = ("soft", "hard")
LEVEL_WEIGHTS = (0.25, 0.5, 0.75, 1.0)  # shallow to deep
LOW_LEVELS = 2  # levels of the pixel-text term, at strides 4 and 8
MASK_SIZE = 16  # side of the grid on which two masks are compared
HIDDEN = -1e4  # a logit whose softmax is zero; unlike -inf, its product with zero is zero


def semantic_distance(semantics: Tensor, mask: Tensor, balance: float = 0.5) -> Tensor:
    """Compute the target-sensitive semantic distance: D_ij = 1 - [ a cos(y_i, y_j) + (1 - a) Dice(M_i, M_j) ].

    A negative cosine counts as 0, the cosine of unrelated sentences. Masks are compared on a grid of 16 x 16 fields by
    the share of target in each field, Dice = 2 sum min(M_i, M_j) / sum (M_i + M_j), which equals the usual Dice for
    shares of 0 and 1. Two empty masks have Dice 1.

    Args:
        semantics: y (B, Y), from a frozen encoder.
        mask: M (B, 1, H, W) in [0, 1].
        balance: a in [0, 1].

    Returns:
        (B, B), float32, symmetric, in [0, 1], zero on the diagonal.
    """
    y = F.normalize(semantics.float(), dim=1)
    alike = (y @ y.t()).clamp(0, 1)
    shares = F.adaptive_avg_pool2d(mask.float(), MASK_SIZE).flatten(1)  # (B, N)
    common = torch.minimum(shares[:, None], shares[None]).sum(-1)
    total = shares.sum(1)[:, None] + shares.sum(1)[None]
    dice = torch.where(total > 0, 2 * common / total.clamp(min=torch.finfo(total.dtype).tiny), 1.0)
    distance = 1 - (balance * alike + (1 - balance) * dice).clamp(0, 1)
    return distance.fill_diagonal_(0)


def target_distribution(distance: Tensor, present: Tensor, temperature: float | None) -> Tensor:
    """Compute the soft targets of the contrast: Q = softmax(-D / tau_q); the own sentence is the most probable.

    Args:
        distance: D (B, B).
        present: (B,) bool; images without a sentence are masked out.
        temperature: tau_q > 0; None for hard targets, the identity matrix.

    Returns:
        (B, B); each row sums to one.
    """
    if temperature is None:
        return torch.eye(len(distance), device=distance.device)
    return (-distance / temperature).masked_fill(~_visible(present), HIDDEN).softmax(1)


def pooled_over(level: Tensor, mask: Tensor) -> Tensor:
    """Average features (B, C, h, w) over a mask (B, 1, H, W), weighted by its share in each position: (B, C).

    An empty mask averages over the whole image.
    """
    share = F.adaptive_avg_pool2d(mask.float(), (level.shape[-2], level.shape[-1]))
    share = torch.where(share.sum((2, 3), keepdim=True) > 0, share, 1.0)
    return (level.float() * share).sum((2, 3)) / share.sum((2, 3))


def contrast(images: Tensor, sentences: Tensor, targets: Tensor, present: Tensor, temperature: float) -> Tensor:
    """Compute KL(Q || softmax(cos / tau)), averaged over both directions: images to sentences and back.

    Args:
        images, sentences: (B, C), not normalised.
        targets: Q (B, B).
        present: (B,) bool; images without a sentence are masked out.
        temperature: tau.

    Returns:
        a scalar, at least 0; 0 if fewer than two images have a sentence.
    """
    cosines = F.normalize(images.float(), dim=1) @ F.normalize(sentences.float(), dim=1).t()
    visible, count = _visible(present), present.sum().clamp(min=1)
    loss = cosines.new_zeros(())
    for logits in (cosines, cosines.t()):
        log_p = (logits / temperature).masked_fill(~visible, HIDDEN).log_softmax(1)
        rows = F.kl_div(log_p, targets, reduction="none").sum(1)
        loss = loss + 0.5 * (rows * present).sum() / count
    return loss


def _visible(present: Tensor) -> Tensor:
    """Return the pairs that are compared, (B, B) bool: present sentences, and the diagonal to keep rows non-empty."""
    return present[None] | torch.eye(len(present), dtype=torch.bool, device=present.device)


class MultiLevelAlignment(nn.Module):
    """Align images with sentences at every level, over the target::

        L = sum_l w_l contrast( mean of level l over the mask , sentence )         w = 1/4, 1/2, 3/4, 1

    Args:
        alignment: "multilevel", as above; or "global", the deepest level averaged over the whole image (ablation).
        targets: "soft", by `semantic_distance`; or "hard", only the image's own sentence (ablation).
        balance: a of the distance.
        temperature: tau of the cosines.
        target_temperature: tau_q of the soft targets.

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
    ) -> None:
        super().__init__()
        if alignment not in ALIGNMENTS[1:]:
            raise InputError(f"unknown alignment {alignment!r}: choose one of {', '.join(ALIGNMENTS)}")
        if targets not in TARGETS:
            raise InputError(f"unknown targets {targets!r}: choose one of {', '.join(TARGETS)}")
        self.multilevel = alignment == "multilevel"
        self.balance = balance
        self.temperature = temperature
        self.target_temperature = target_temperature if targets == "soft" else None

    def forward(self, given: AlignmentInput, mask: Tensor) -> Tensor:
        """Compute the loss, a scalar, for masks (B, 1, H, W) in [0, 1]."""
        with torch.no_grad():
            distance = semantic_distance(given.semantics, mask, self.balance)
            targets = target_distribution(distance, given.present, self.target_temperature)
        weighed = list(zip(LEVEL_WEIGHTS, given.levels))
        where = mask
        if not self.multilevel:
            weighed, where = weighed[-1:], torch.ones_like(mask)
        terms = [
            weight * contrast(pooled_over(level, where), given.sentences, targets, given.present, self.temperature)
            for weight, level in weighed
        ]
        return torch.stack(terms).sum()


def pixel_text_loss(given: AlignmentInput, mask: Tensor) -> Tensor:
    """Compute the binary cross-entropy of the low levels' similarity maps against the share of target per position.

    Args:
        given: of the network; images without a sentence are masked out.
        mask: (B, 1, H, W) in [0, 1].

    Returns:
        a scalar.
    """
    terms = []
    for logits in given.maps[:LOW_LEVELS]:
        share = F.adaptive_avg_pool2d(mask.float(), (logits.shape[-2], logits.shape[-1]))
        each = F.binary_cross_entropy_with_logits(logits, share, reduction="none").mean((1, 2, 3))
        terms.append((each * given.present).sum() / given.present.sum().clamp(min=1))
    return torch.stack(terms).mean()
