"""EM clustering: tokens gather around centres on the unit sphere, some of them anchored (to the texts of classes)."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

BLOCK = 2048  # tokens an image that a CPU clusters at a time, so that they are still in its cache when summed


class ClusterOutput(NamedTuple):
    """What `EMAggregation` returns.

    tokens: (B, N, C), the tokens, each with what its centres say added; the type of the input.
    responsibilities: (B, N, K), the share of each centre in each token, in [0, 1]; a row sums to one.
    centres: (B, K, C), unit length, the anchored ones first; like the responsibilities at least float32.
    """

    tokens: Tensor
    responsibilities: Tensor
    centres: Tensor


class EMAggregation(nn.Module):
    """Gather tokens around semantic centres and tell each token what its centres say (DESIGN.md section 2).

    MAP-EM for a mixture of von Mises-Fisher directions (Banerjee 2005), equal weights, one concentration kappa, and the
    conjugate prior vMF(mu^0_k, kappa lambda) on each centre. With x_n and mu_k on the unit sphere, T times::

        mu^0 = [anchors ; free bases]
        E   z_nk = softmax_k( kappa <x_n, mu_k> )
        M   mu_k = normalise( lambda mu^0_k + sum_n z_nk x_n )
        R   y_n  = token_n + W_o sum_k z_nk mu_k            once, at the end; W_o starts at zero

    `clustering_objective` never falls from one iteration to the next. For any responsibilities z, Jensen's inequality
    bounds it from below by kappa sum_k <mu_k, lambda mu^0_k + sum_n z_nk x_n> + entropy(z). The E step makes the bound
    touch, the M step is the bound's maximum over the unit ball. The prior enters the M step as lambda and the objective
    as kappa lambda because the bound has kappa as a factor of both its terms. A centre that nothing pulls (the sum
    cancels) stays where it was, which leaves its term as it is; a token or an anchor without direction counts as the
    zero vector, which the argument allows. An overflow under mixed precision pulls no centre, so it spoils no base.

    As in EMANet (Li 2019) R takes z of the last E step and mu of the last M step, the free bases are buffers that a
    moving average carries along in training, and iterations before the last see no gradient. The residual goes round
    the token itself, not round its direction, and W_o acts on the K centres, not on the N tokens (our choices). Cost
    O(N K C T) time and O(N (C + K)) memory; no copy of the tokens is normalised, their lengths scale the scores.

    Everything but the last sum is computed in float32 (float64 for float64 tokens), also under autocast: a sum over
    65,536 tokens overflows half precision.

    Args:
        channels: C.
        num_free: number of free bases, those centres that belong to no anchor.
        iterations: T >= 0; 0 gives the responsibilities of mu^0 (for ablations).
        concentration: kappa > 0, the inverse temperature; default 1 / 0.07, CLIP's at its start (Radford 2021).
        prior_weight: lambda >= 0, in tokens: a centre is pulled to its start as if so many more tokens lay there
            (default 10: our choice).
        momentum: share of the old value in the moving average of the free bases.
        full_gradient: let the gradient flow through all iterations, not through the last alone.

    Raises:
        ValueError: a number out of its range.
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
        """Cluster each image's tokens.

        Args:
            tokens: (B, N, C), float, any length.
            anchors: (A, C) for all images or (B, A, C), float, any length; None for free
                centres alone. K = A + num_free.

        Raises:
            ValueError: shapes that do not fit, or no centre at all.
        """
        if not torch.jit.is_scripting():
            self._check(tokens, anchors)
            if torch.is_autocast_enabled(tokens.device.type):
                with torch.autocast(tokens.device.type, enabled=False):
                    return self._aggregate(tokens, anchors)
        return self._aggregate(tokens, anchors)

    def _aggregate(self, tokens: Tensor, anchors: Tensor | None) -> ClusterOutput:
        x = tokens if tokens.dtype == torch.float64 else tokens.float()  # (B, N, C)
        inverse = inverse_length(x)  # (B, N, 1), what makes a token a direction
        initial = self._initial_centres(x, anchors)  # (B, K, C)
        prior = self.prior_weight * initial
        centres = initial

        early = 0 if self.full_gradient else max(0, self.iterations - 1)
        if early:
            centres = self._iterate_without_gradient(x.detach(), inverse.detach(), initial.detach(), early)
        responsibilities = self._expect(x, inverse, centres)
        for step in range(early, self.iterations):
            if step > early:
                responsibilities = self._expect(x, inverse, centres)
            centres = maximise(prior + gather(x, inverse, responsibilities), centres)
        if not torch.jit.is_scripting():
            self._move_bases(centres)

        words = (centres @ self.output.weight.to(x.dtype).t()).to(tokens.dtype)  # (B, K, C): W_o on few centres
        tokens = torch.baddbmm(tokens, responsibilities.to(tokens.dtype), words)
        return ClusterOutput(tokens, responsibilities, centres)

    def _initial_centres(self, x: Tensor, anchors: Tensor | None) -> Tensor:
        """mu^0: (B, K, C), unit length."""
        initial = unit(self.bases.to(x.dtype)).expand(x.shape[0], -1, -1)
        if anchors is not None:
            initial = torch.cat([unit(anchors.to(x.dtype)).expand(x.shape[0], -1, -1), initial], dim=1)
        return initial

    def _expect(self, x: Tensor, inverse: Tensor, centres: Tensor) -> Tensor:
        """E step: (B, N, C), (B, N, 1), (B, K, C) -> (B, N, K)."""
        return (torch.bmm(x, centres.transpose(1, 2)) * (self.concentration * inverse)).softmax(-1)

    def _iterate_without_gradient(self, x: Tensor, inverse: Tensor, initial: Tensor, iterations: int) -> Tensor:
        """Move the centres from `initial` (B, K, C) by so many iterations; the tensors must be detached."""
        block = x.shape[1]
        if not torch.jit.is_scripting():
            block = self._block(x)
        prior = self.prior_weight * initial
        centres = initial
        for _ in range(iterations):
            pull = prior
            if block >= x.shape[1]:
                pull = pull + gather(x, inverse, self._expect(x, inverse, centres))
            else:
                for part, scale in zip(x.split(block, 1), inverse.split(block, 1)):
                    pull = pull + gather(part, scale, self._expect(part, scale, centres))
            centres = maximise(pull, centres)
        return centres

    @torch.jit.unused
    def _block(self, x: Tensor) -> int:
        """How many tokens to cluster at a time: on a CPU so many that both steps find them in the cache."""
        exporting = torch.jit.is_tracing() or torch.compiler.is_exporting()  # a graph holds no loop over tokens
        return BLOCK if x.device.type == "cpu" and not exporting else x.shape[1]

    @torch.jit.unused
    @torch.no_grad()
    def _move_bases(self, centres: Tensor) -> None:
        """In training, bases <- momentum bases + (1 - momentum) mean_batch(centres), a mean over all processes."""
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
                raise ValueError("no centre at all: pass anchors, or declare free ones")
            return
        if anchors.ndim not in (2, 3) or anchors.shape[-1] != self.channels:
            raise ValueError(f"anchors must be (A, {self.channels}) or (B, A, ...), got {tuple(anchors.shape)}")
        if anchors.ndim == 3 and anchors.shape[0] != tokens.shape[0]:
            raise ValueError(f"anchors for {anchors.shape[0]} images where there are {tokens.shape[0]}")
        if not anchors.shape[-2] + self.num_free:
            raise ValueError("no centre at all: pass anchors, or declare free ones")


def inverse_length(x: Tensor, shortest: float = 1e-6) -> Tensor:
    """1 / length of each vector, (..., C) -> (..., 1); 0, without gradient, where it is too short for a direction.

    At zero the gradient of a direction is infinite, and near it larger than float16 holds.
    """
    length = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return torch.where(length > shortest, length.clamp_min(shortest).reciprocal(), 0.0)


def unit(x: Tensor) -> Tensor:
    """Scale each vector (..., C) to unit length; zero stays zero, with a finite gradient."""
    return x * inverse_length(x)


def gather(x: Tensor, inverse: Tensor, responsibilities: Tensor) -> Tensor:
    """Sum the tokens' directions by centre: (B, N, C), (B, N, 1), (B, N, K) -> (B, K, C)."""
    return torch.bmm((responsibilities * inverse).transpose(1, 2), x)


def maximise(pull: Tensor, centres: Tensor) -> Tensor:
    """M step: the direction of each centre's pull, both (B, K, C); a centre without a pull (or a NaN) stays put."""
    inverse = inverse_length(pull)
    return torch.where(inverse > 0, pull * inverse, centres)


def clustering_objective(
    tokens: Tensor, centres: Tensor, initial: Tensor, concentration: float, prior_weight: float
) -> Tensor:
    """sum_n log sum_k exp(kappa <x_n, mu_k>) + kappa lambda sum_k <mu_k, mu^0_k>, which EM never lowers.

    It is the log posterior of the centres up to a constant.

    Args:
        tokens: (B, N, C), any length; x_n is their direction.
        centres: (B, K, C), mu, as `EMAggregation` returns them.
        initial: (K, C) or (B, K, C), mu^0, any length: the anchors, then the layer's `bases`.
        concentration: kappa.
        prior_weight: lambda.

    Returns:
        (B,), an image each.
    """
    scores = concentration * unit(tokens) @ centres.transpose(1, 2)  # (B, N, K)
    prior = (centres * unit(initial)).sum((1, 2))
    return scores.logsumexp(-1).sum(-1) + concentration * prior_weight * prior
