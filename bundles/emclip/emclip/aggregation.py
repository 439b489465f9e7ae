"""EM aggregation of the deepest tokens, with class scores and compactness for the loss."""

import torch
from torch import Tensor

from shared.layers.em_clustering import ClusterOutput, EMAggregation, unit
from shared.layers.full_precision import full_precision

TEMPERATURE = 0.07  # of cosines between tokens and texts, CLIP's initial value (Radford 2021)


def aggregate(
    em: EMAggregation | None, feature: Tensor, texts: Tensor | None, anchored: bool
) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor | None]:
    """Gather the deepest tokens at semantic centres::

        score_n,class = log p(class | n) ,   p(class | n) = z_n,class ,   p(background | n) += sum over free centres
        compactness   = 1 - mean_n sum_k z_nk <x_n, mu_k>

    The free centres count as further parts of the background. Supervised this way, every class keeps its own centre;
    with p = softmax(cos(token, text) / tau) the free centres take all tokens. Without anchored centres the score is
    cos(token, text) / tau.

    Args:
        em: None skips the aggregation (ablation).
        feature: (B, D, h, w).
        texts: (A, D), the class texts; None without text.
        anchored: anchor the first A centres to the texts.

    Returns:
        tokens (B, h w, D); responsibilities (B, K, h, w), the classes' centres first, None without EM; scores
        (B, A, h, w), float32, None without text; compactness (B,), None without EM.
    """
    size = feature.shape[-2:]
    tokens = feature.flatten(2).transpose(1, 2)
    with full_precision(feature):
        if em is None:
            scores = None if texts is None else cosine_scores(tokens, texts)
            return tokens, None, _as_map(scores, size), None
        out = em(tokens, texts if anchored else None)
        if texts is None:
            scores = None
        elif anchored:
            scores = centre_scores(out.log_responsibilities, len(texts))
        else:
            scores = cosine_scores(tokens, texts)
        compactness = 1 - closeness(tokens, out).mean(1)
    return out.tokens, _as_map(out.responsibilities, size), _as_map(scores, size), compactness


def centre_scores(log_responsibilities: Tensor, classes: int) -> Tensor:
    """Return the log-probability of each class, (B, N, K) -> (B, N, A); the free centres join the background."""
    owned, free = log_responsibilities[..., :classes], log_responsibilities[..., classes:]
    background = torch.cat([owned[..., :1], free], dim=-1).logsumexp(-1, keepdim=True)
    return torch.cat([background, owned[..., 1:]], dim=-1)


def cosine_scores(tokens: Tensor, texts: Tensor) -> Tensor:
    """Return cos(token, text) / tau: tokens (B, N, D), texts (A, D) -> (B, N, A)."""
    return unit(tokens.float()) @ unit(texts.float()).t() / TEMPERATURE


def closeness(tokens: Tensor, out: ClusterOutput) -> Tensor:
    """Return sum_k z_nk <x_n, mu_k>, (B, N), in [-1, 1]."""
    return (unit(tokens.float()) @ out.centres.transpose(1, 2) * out.responsibilities).sum(-1)


def _as_map(x: Tensor | None, size: torch.Size) -> Tensor | None:
    """(B, h w, K) -> (B, K, h, w)."""
    return None if x is None else x.transpose(1, 2).unflatten(2, size)
