"""EM clustering: tokens gather at centres on the unit sphere; anchored centres start at class text embeddings."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from shared.layers.full_precision import full_precision

BLOCK = 2048  # tokens per image that a CPU clusters at a time; they stay in its cache from the E step to the M step


class ClusterOutput(NamedTuple):
    """The output of `EMAggregation`.

    tokens: (B, N, C), the tokens plus the message of their centres; the dtype of the input.
    responsibilities: (B, N, K), z: the share of each centre in each token, in [0, 1]; each row sums to one.
    centres: (B, K, C), mu: unit length, anchored centres first; float32 at least, as the responsibilities.
    log_responsibilities: (B, N, K), log z from a log-softmax: a loss on it has a gradient even where z rounds to zero.
    """

    tokens: Tensor
    responsibilities: Tensor
    centres: Tensor
    log_responsibilities: Tensor


class EMAggregation(nn.Module):
    """Gather tokens at semantic centres and send each token the message of its centres.

    MAP-EM for a mixture of von Mises-Fisher directions (Banerjee 2005) with equal weights, one concentration kappa, and
    the conjugate prior vMF(mu^0_k, kappa lambda) on each centre. With x_n and mu_k on the unit sphere::

        mu^0 = [anchors ; free bases]
        E   z_nk = softmax_k( kappa <x_n, mu_k> )
        M   mu_k = normalise( lambda mu^0_k + sum_n z_nk x_n )        E and M alternate T times
        R   y_n  = token_n + W_o sum_k z_nk mu_k                      once, at the end; W_o starts at zero

    `clustering_objective` never falls from one iteration to the next. For any responsibilities z, Jensen's inequality
    bounds it from below by kappa sum_k <mu_k, lambda mu^0_k + sum_n z_nk x_n> + entropy(z). The E step makes the bound
    tight; the M step maximises it over the unit ball. Both terms of the bound carry the factor kappa, which is why the
    prior appears as lambda in the M step and as kappa lambda in the objective.

    Degenerate input keeps the guarantee: a centre stays where it is if the sum that the M step normalises (its "pull")
    is zero or overflows, and a token or anchor of zero length counts as the zero vector.

    As in EMANet (Li 2019), R uses z of the last E step and mu of the last M step, an exponential average moves the free
    bases in training, and only the last iteration is differentiated. Two things differ: the residual is added to the
    token itself, not to its direction, and W_o is applied to the K centres instead of the N tokens.

    Cost: time O(N K C T), memory O(N (C + K)). Tokens are never copied to unit length; the scores are scaled instead.
    Everything but the final sum runs in float32 (float64 for float64 tokens), also under autocast: in half precision a
    sum over 65,536 tokens overflows.

    Args:
        channels: C.
        num_free: number of free bases, the centres without an anchor.
        iterations: T >= 0; with 0 the responsibilities are those of mu^0 (ablation).
        concentration: kappa > 0, the inverse temperature; default 1 / 0.07, CLIP's initial value (Radford 2021).
        prior_weight: lambda >= 0, in tokens: the start of a centre counts as so many tokens lying there.
        momentum: share of the old value in the moving average of the free bases, in [0, 1].
        full_gradient: differentiate all iterations instead of the last one.

    Raises:
        ValueError: a number is out of its range.
    """

    bases: Tensor

    def __init__(
        self,
        channels: int,
        num_free: int,
        iterations: int = 3,
        concentration: float = 1 / 0.07,
        prior_weight: float = 10.0,
        momentum: float = 0.9,
        full_gradient: bool = False,
    ) -> None:
        super().__init__()
        if min(channels, num_free + 1, iterations + 1) < 1 or not concentration > 0 or not prior_weight >= 0:
            raise ValueError(
                "channels and concentration must be positive, num_free, iterations and prior_weight not negative, got "
                f"{channels}, {concentration}, {num_free}, {iterations}, {prior_weight}"
            )
        if not 0 <= momentum <= 1:
            raise ValueError(f"momentum must lie in [0, 1], got {momentum}")
        self.channels = channels
        self.num_free = num_free
        self.iterations = iterations
        self.concentration = float(concentration)
        self.prior_weight = float(prior_weight)
        self.momentum = float(momentum)
        self.full_gradient = full_gradient
        self.register_buffer("bases", unit(torch.randn(num_free, channels)))
        self.output = nn.Linear(channels, channels, bias=False)
        nn.init.zeros_(self.output.weight)

    def forward(self, tokens: Tensor, anchors: Tensor | None = None) -> ClusterOutput:
        """Cluster the tokens of each image.

        Args:
            tokens: (B, N, C), float, vectors of any length.
            anchors: (A, C) for all images or (B, A, C), float, vectors of any length; None for free centres only.
                K = A + num_free.

        Raises:
            ValueError: shapes do not fit, or there is no centre at all.
        """
        if not torch.jit.is_scripting():
            self._check(tokens, anchors)
            with full_precision(tokens):
                return self._aggregate(tokens, anchors)
        return self._aggregate(tokens, anchors)

    def _aggregate(self, tokens: Tensor, anchors: Tensor | None) -> ClusterOutput:
        x = tokens if tokens.dtype == torch.float64 else tokens.float()  # (B, N, C)
        inverse = inverse_length(x)  # (B, N, 1)
        initial = self._initial_centres(x, anchors)  # (B, K, C)
        prior = self.prior_weight * initial
        centres = initial

        early = 0 if self.full_gradient else max(0, self.iterations - 1)
        if early:
            centres = self._iterate_without_gradient(x.detach(), inverse.detach(), initial.detach(), early)
        scores = self._score(x, inverse, centres)
        responsibilities = scores.softmax(-1)
        for step in range(early, self.iterations):
            if step > early:
                scores = self._score(x, inverse, centres)
                responsibilities = scores.softmax(-1)
            centres = maximise(prior + gather(x, inverse, responsibilities), centres)
        if not torch.jit.is_scripting():
            self._move_bases(centres)

        messages = (centres @ self.output.weight.to(x.dtype).t()).to(tokens.dtype)  # (B, K, C)
        tokens = torch.baddbmm(tokens, responsibilities.to(tokens.dtype), messages)
        return ClusterOutput(tokens, responsibilities, centres, scores.log_softmax(-1))

    def _initial_centres(self, x: Tensor, anchors: Tensor | None) -> Tensor:
        """Return mu^0, (B, K, C), unit length."""
        initial = unit(self.bases.to(x.dtype)).expand(x.shape[0], -1, -1)
        if anchors is not None:
            initial = torch.cat([unit(anchors.to(x.dtype)).expand(x.shape[0], -1, -1), initial], dim=1)
        return initial

    def _score(self, x: Tensor, inverse: Tensor, centres: Tensor) -> Tensor:
        """Return kappa <x_n, mu_k>, whose softmax is the E step: (B, N, C), (B, N, 1), (B, K, C) -> (B, N, K)."""
        return torch.bmm(x, centres.transpose(1, 2)) * (self.concentration * inverse)

    def _iterate_without_gradient(self, x: Tensor, inverse: Tensor, initial: Tensor, iterations: int) -> Tensor:
        """Run `iterations` of E and M from the centres `initial` (B, K, C); the tensors must be detached."""
        block = x.shape[1]
        if not torch.jit.is_scripting():
            block = self._block(x)
        prior = self.prior_weight * initial
        centres = initial
        for _ in range(iterations):
            pull = prior
            if block >= x.shape[1]:
                pull = pull + gather(x, inverse, self._score(x, inverse, centres).softmax(-1))
            else:
                for part, scale in zip(x.split(block, 1), inverse.split(block, 1)):
                    pull = pull + gather(part, scale, self._score(part, scale, centres).softmax(-1))
            centres = maximise(pull, centres)
        return centres

    @torch.jit.unused
    def _block(self, x: Tensor) -> int:
        """Return how many tokens to cluster at a time; exported graphs have no loop over tokens."""
        exporting = torch.jit.is_tracing() or torch.compiler.is_exporting()
        return BLOCK if x.device.type == "cpu" and not exporting else x.shape[1]

    @torch.jit.unused
    @torch.no_grad()
    def _move_bases(self, centres: Tensor) -> None:
        """In training, set bases to momentum bases + (1 - momentum) mean(centres), over all processes."""
        if not self.training or not self.num_free or torch.jit.is_tracing() or torch.compiler.is_exporting():
            return
        mean = centres[:, -self.num_free :].mean(0)
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.all_reduce(mean)
            mean /= torch.distributed.get_world_size()
        self.bases.copy_(self.momentum * self.bases + (1 - self.momentum) * mean)

    @torch.jit.unused
    def _check(self, tokens: Tensor, anchors: Tensor | None) -> None:
        if tokens.ndim != 3 or tokens.shape[2] != self.channels:
            raise ValueError(f"tokens must be (B, N, {self.channels}), got {tuple(tokens.shape)}")
        if anchors is None:
            if not self.num_free:
                raise ValueError("no centre at all: pass anchors, or set num_free")
            return
        if anchors.ndim not in (2, 3) or anchors.shape[-1] != self.channels:
            raise ValueError(f"anchors must be (A, {self.channels}) or (B, A, ...), got {tuple(anchors.shape)}")
        if anchors.ndim == 3 and anchors.shape[0] != tokens.shape[0]:
            raise ValueError(f"anchors for {anchors.shape[0]} images where there are {tokens.shape[0]}")
        if not anchors.shape[-2] + self.num_free:
            raise ValueError("no centre at all: pass anchors, or set num_free")


def inverse_length(x: Tensor, shortest: float = 1e-6) -> Tensor:
    """Return 1 / length of each vector, (..., C) -> (..., 1); 0, without gradient, for vectors shorter than `shortest`.

    The gradient of a direction is infinite at length zero, and near zero it overflows float16.
    """
    length = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return torch.where(length > shortest, length.clamp_min(shortest).reciprocal(), 0.0)


def unit(x: Tensor) -> Tensor:
    """Scale each vector (..., C) to unit length; a zero vector stays zero, with a finite gradient."""
    return x * inverse_length(x)


def gather(x: Tensor, inverse: Tensor, responsibilities: Tensor) -> Tensor:
    """Sum the directions of the tokens by centre: (B, N, C), (B, N, 1), (B, N, K) -> (B, K, C)."""
    return torch.bmm((responsibilities * inverse).transpose(1, 2), x)


def maximise(pull: Tensor, centres: Tensor) -> Tensor:
    """M step: return the direction of each pull, (B, K, C); where the pull is zero or NaN the centre stays."""
    inverse = inverse_length(pull)
    return torch.where(inverse > 0, pull * inverse, centres)


def clustering_objective(
    tokens: Tensor, centres: Tensor, initial: Tensor, concentration: float, prior_weight: float
) -> Tensor:
    """Compute what EM maximises: sum_n log sum_k exp(kappa <x_n, mu_k>) + kappa lambda sum_k <mu_k, mu^0_k>.

    It equals the log posterior of the centres up to a constant.

    Args:
        tokens: (B, N, C), any length; x_n is their direction.
        centres: (B, K, C), mu, as `EMAggregation` returns them.
        initial: (K, C) or (B, K, C), mu^0, any length: the anchors, then the layer's `bases`.
        concentration: kappa.
        prior_weight: lambda.

    Returns:
        (B,), one value per image.
    """
    scores = concentration * unit(tokens) @ centres.transpose(1, 2)  # (B, N, K)
    prior = (centres * unit(initial)).sum((1, 2))
    return scores.logsumexp(-1).sum(-1) + concentration * prior_weight * prior
