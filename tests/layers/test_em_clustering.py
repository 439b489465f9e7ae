"""EM clustering: equal to its equation, the objective never falls, degenerate input, moving bases, exports."""

import math

import numpy as np
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.networks.utils import convert_to_onnx
from torch.nn import functional as F

from shared.layers import em_clustering
from shared.layers.em_clustering import EMAggregation, clustering_objective, unit

SMALL = settings(max_examples=20, deadline=None)
SEEDS = st.integers(0, 10**6)
CHANNELS = 8
KINDS = ["random", "clustered", "equal", "opposite", "few", "one", "zero", "some zero", "huge", "tiny", "on a centre"]


def stirred(num_free=3, seed=0, channels=CHANNELS, **options) -> EMAggregation:
    """A layer whose W_o is not zero, so that it hides nothing."""
    torch.manual_seed(seed)
    layer = EMAggregation(channels, num_free, **options)
    torch.nn.init.normal_(layer.output.weight, std=0.5)
    return layer.eval()


def a_case(kind="random", batch=2, tokens=24, anchors=2, channels=CHANNELS, seed=0):
    """Tokens (B, N, C) of a kind and anchors (A, C)."""
    generator = torch.Generator().manual_seed(seed)
    texts = torch.randn(anchors, channels, generator=generator)
    tokens = {"few": 3, "one": 1}.get(kind, tokens)
    x = torch.randn(batch, tokens, channels, generator=generator)
    if kind == "clustered":
        means = F.normalize(torch.randn(3, channels, generator=generator), dim=-1)
        x = means[torch.randint(3, (batch, tokens), generator=generator)] + 0.05 * x
    elif kind == "equal":
        x = x[:, :1].expand(-1, tokens, -1).clone()
    elif kind == "opposite":  # every token has its antipode: with equal responsibilities all sums cancel
        x = torch.cat([x[:, : tokens // 2], -x[:, : tokens // 2]], dim=1)
    elif kind == "zero":
        x = torch.zeros_like(x)
    elif kind == "some zero":
        x[:, ::2] = 0
    elif kind in ("huge", "tiny"):
        x = x * (1e6 if kind == "huge" else 1e-4)
    elif kind == "on a centre":
        x = texts[torch.randint(anchors, (batch, tokens), generator=generator)]
    return x, texts


def climb(layer, x, anchors, iterations=6):
    """The objective (B,) after 0, 1, 2, ... iterations."""
    initial = layer.bases if anchors is None else torch.cat([anchors, layer.bases])
    values = []
    for count in range(iterations + 1):
        layer.iterations = count
        centres = layer(x, anchors).centres
        values.append(clustering_objective(x, centres, initial, layer.concentration, layer.prior_weight))
    return torch.stack(values)


def naive(layer, x, anchors):
    """DESIGN's equation, one image, token and centre after the other, in float64."""
    x, anchors, bases, output = x.double(), anchors.double(), layer.bases.double(), layer.output.weight.double()
    result, shares, directions = x.clone(), [], []
    for b in range(x.shape[0]):
        tokens = [t / t.norm() for t in x[b]]
        start = [m / m.norm() for m in [*anchors, *bases]]
        centres = list(start)
        for _ in range(layer.iterations):
            z = [torch.stack([layer.concentration * (t @ m) for m in centres]).softmax(0) for t in tokens]
            for k in range(len(centres)):
                pull = layer.prior_weight * start[k] + sum(z[n][k] * tokens[n] for n in range(len(tokens)))
                centres[k] = pull / pull.norm()
        for n in range(len(tokens)):
            result[b, n] += output @ sum(z[n][k] * centres[k] for k in range(len(centres)))
        shares.append(torch.stack(z))
        directions.append(torch.stack(centres))
    return result, torch.stack(shares), torch.stack(directions)


# The equation


@pytest.mark.parametrize("iterations", [1, 2, 3])
@pytest.mark.parametrize("kind", ["random", "clustered"])
def test_equals_the_equation_written_as_loops(kind, iterations):
    layer = stirred(iterations=iterations, prior_weight=2.0, concentration=5.0)
    case = a_case(kind, tokens=7)
    with torch.no_grad():
        for ours, theirs in zip(layer(*case), naive(layer, *case)):
            torch.testing.assert_close(ours.double(), theirs, atol=1e-5, rtol=1e-5)


def test_the_objective_is_what_it_says():
    x, anchors = a_case(tokens=5)
    centres = F.normalize(torch.randn(2, 2, CHANNELS), dim=-1)
    found = clustering_objective(x, centres, anchors, 3.0, 0.5)
    for b in range(2):
        value = 0.0
        for n in range(5):
            t = x[b, n] / x[b, n].norm()
            value += math.log(sum(math.exp(3.0 * float(t @ m)) for m in centres[b]))
        value += 3.0 * 0.5 * sum(float(m @ a / a.norm()) for m, a in zip(centres[b], anchors))
        assert float(found[b]) == pytest.approx(value, rel=1e-5)


@SMALL
@given(st.sampled_from(KINDS), st.integers(0, 4), st.floats(0.1, 60), st.floats(0, 40), SEEDS)
def test_the_objective_never_falls(kind, num_free, concentration, prior_weight, seed):
    x, anchors = a_case(kind, seed=seed)
    layer = stirred(num_free, seed, concentration=concentration, prior_weight=prior_weight).double()
    values = climb(layer, x.double(), anchors.double())
    assert values.isfinite().all()
    slack = 1e-12 * values.abs().max()
    assert (values.diff(dim=0) >= -slack).all(), values.diff(dim=0).min()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("prior_weight", [0.0, 0.3, 10.0])
def test_the_objective_never_falls_in_float32(kind, prior_weight):
    values = climb(stirred(prior_weight=prior_weight), *a_case(kind))
    assert (values.diff(dim=0) >= -3e-6 * values.abs().max()).all(), values.diff(dim=0).min()


@pytest.mark.parametrize("prior_weight", [0.0, 0.5, 20.0])
def test_the_objective_never_falls_on_adversarial_starts(prior_weight):
    """Anchors against the data, equal anchors, anchors of zero; every centre soft, usual or all but hard."""
    x, _ = a_case("clustered")
    away = -x.mean((0, 1))
    for anchors in (away[None], away.expand(3, -1), torch.zeros(2, CHANNELS), torch.stack([away, 0 * away, -away])):
        for concentration in (0.01, 14.0, 300.0):
            for num_free in (0, 2):
                layer = stirred(num_free, concentration=concentration, prior_weight=prior_weight).double()
                values = climb(layer, x.double(), anchors.double())
                assert (values.diff(dim=0) >= -1e-12 * values.abs().max()).all(), (concentration, num_free)


def test_the_objective_rises_to_where_it_is_flat():
    """At EM's fixed point no direction along the sphere leads up. It would with lambda or kappa in the wrong place."""
    x, anchors = a_case("clustered", batch=1)
    layer = stirred(1, concentration=4.0, prior_weight=3.0, iterations=2000).double()
    centres = layer(x.double(), anchors.double()).centres.detach().requires_grad_()
    initial = torch.cat([anchors.double(), layer.bases])
    clustering_objective(x.double(), centres, initial, 4.0, 3.0).sum().backward()
    along = centres.grad - (centres.grad * centres).sum(-1, keepdim=True) * centres
    assert centres.grad.norm() > 1 and along.norm() < 1e-6 * centres.grad.norm()


@SMALL
@given(st.sampled_from(KINDS), st.integers(0, 3), st.integers(0, 3), SEEDS)
def test_shares_and_unit_centres(kind, num_free, iterations, seed):
    x, anchors = a_case(kind, seed=seed)
    layer = stirred(num_free, seed, iterations=iterations)
    out = layer(x, anchors)
    count = 2 + num_free
    assert out.tokens.shape == x.shape and out.tokens.isfinite().all()
    assert out.responsibilities.shape == (*x.shape[:2], count) and out.centres.shape == (2, count, CHANNELS)
    assert (out.responsibilities >= 0).all()
    torch.testing.assert_close(out.responsibilities.sum(-1), torch.ones(x.shape[:2]), atol=1e-5, rtol=0)
    torch.testing.assert_close(out.centres.norm(dim=-1), torch.ones(2, count), atol=1e-5, rtol=0)


@SMALL
@given(st.sampled_from(["random", "clustered", "some zero"]), SEEDS)
def test_order_and_length_of_tokens_do_not_matter(kind, seed):
    x, anchors = a_case(kind, seed=seed)
    layer = stirred(seed=seed)
    order = torch.randperm(x.shape[1], generator=torch.Generator().manual_seed(seed))
    lengths = torch.rand(2, x.shape[1], 1, generator=torch.Generator().manual_seed(seed)) + 0.1
    with torch.no_grad():
        plain, permuted, scaled = layer(x, anchors), layer(x[:, order], anchors), layer(x * lengths, 7 * anchors)
    assert not torch.equal(plain.responsibilities[:, order], plain.responsibilities)
    torch.testing.assert_close(permuted.responsibilities, plain.responsibilities[:, order], atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(permuted.tokens, plain.tokens[:, order], atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(permuted.centres, plain.centres, atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(scaled.responsibilities, plain.responsibilities, atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(scaled.tokens - x * lengths, plain.tokens - x, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("concentration", [14.0, 300.0])
def test_log_responsibilities_are_finite_with_a_gradient_where_a_share_is_zero(kind, concentration):
    layer = stirred(concentration=concentration, prior_weight=1.0)
    x, anchors = a_case(kind)
    x.requires_grad_()
    out = layer(x, anchors)
    assert out.log_responsibilities.isfinite().all()
    torch.testing.assert_close(out.log_responsibilities.exp(), out.responsibilities, atol=1e-6, rtol=1e-4)
    (gradient,) = torch.autograd.grad(out.log_responsibilities.amin(-1).sum(), x)
    assert gradient.isfinite().all()
    if kind == "clustered":
        assert gradient.abs().sum(-1).gt(0).all(), "every token is told where its rarest centre lies"


def test_images_of_a_batch_do_not_influence_each_other():
    x, anchors = a_case(batch=3)
    layer = stirred()
    with torch.no_grad():
        together = layer(x, anchors)
        for b in range(3):
            for all_of_them, alone in zip(together, layer(x[b : b + 1], anchors)):
                torch.testing.assert_close(all_of_them[b : b + 1], alone, atol=1e-5, rtol=1e-4)


def test_anchors_of_each_image_or_of_all():
    x, anchors = a_case()
    layer = stirred()
    other = anchors.flip(-1)
    with torch.no_grad():
        each = layer(x, torch.stack([anchors, other]))
        for b, own in enumerate((anchors, other)):
            torch.testing.assert_close(each.tokens[b], layer(x, own).tokens[b], atol=1e-5, rtol=1e-4)


def test_heavy_anchors_stay_and_light_ones_go_to_the_data():
    x, anchors = a_case("clustered")
    start = F.normalize(anchors, dim=-1).expand(2, -1, -1)
    heavy = stirred(prior_weight=1e6)(x, anchors).centres
    torch.testing.assert_close(heavy[:, :2], start, atol=1e-4, rtol=0)
    torch.testing.assert_close(heavy[:, 2:], F.normalize(stirred().bases, dim=-1).expand(2, -1, -1), atol=1e-4, rtol=0)
    light = stirred(0, prior_weight=0.0, concentration=0.01, iterations=1)(x, anchors).centres
    mean = F.normalize(F.normalize(x, dim=-1).mean(1, keepdim=True), dim=-1)
    torch.testing.assert_close(light, mean.expand(-1, 2, -1), atol=0.02, rtol=0)


def test_finds_the_clusters_that_are_there():
    """Three tight clusters, three anchors leaning towards one each: every token ends with its own."""
    generator = torch.Generator().manual_seed(0)
    truth = torch.randint(3, (1, 60), generator=generator)
    means = torch.eye(CHANNELS)[:3]
    x = means[truth] + 0.05 * torch.randn(1, 60, CHANNELS, generator=generator)
    anchors = means + 0.3 * torch.randn(3, CHANNELS, generator=generator)
    out = stirred(0, prior_weight=1.0)(x, anchors)
    assert torch.equal(out.responsibilities.argmax(-1), truth)
    assert (out.centres[0] * means).sum(-1).min() > 0.99 > F.cosine_similarity(anchors, means).min()


def test_a_centre_without_a_pull_stays():
    x = torch.tensor([[[1.0, 0.0], [-1.0, 0.0]]])
    anchors = torch.tensor([[0.0, 1.0], [0.0, -1.0]])  # both tokens belong half to each: the sums cancel
    for tokens in (x, 0 * x):
        out = stirred(0, channels=2, prior_weight=0.0)(tokens, anchors)
        assert torch.equal(out.centres[0], anchors)
        assert torch.equal(out.responsibilities, torch.full((1, 2, 2), 0.5))


def test_the_layer_starts_as_the_identity():
    for kind in KINDS:
        x, anchors = a_case(kind)
        layer = EMAggregation(CHANNELS, 3)
        assert torch.equal(layer(x, anchors).tokens, x)
        x, anchors = x.bfloat16(), anchors.bfloat16()
        assert torch.equal(layer.bfloat16().eval()(x, anchors).tokens, x), kind


def test_no_iteration_gives_the_shares_of_the_start():
    x, anchors = a_case()
    layer = stirred(iterations=0)
    out = layer(x, anchors)
    start = F.normalize(torch.cat([anchors, layer.bases]), dim=-1)
    torch.testing.assert_close(out.centres, start.expand(2, -1, -1))
    expected = (layer.concentration * F.normalize(x, dim=-1) @ start.t()).softmax(-1)
    torch.testing.assert_close(out.responsibilities, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("tokens", [16, 17, 33])
def test_blocks_of_tokens_give_the_same(tokens, monkeypatch):
    x, anchors = a_case(tokens=tokens)
    layer = stirred(prior_weight=1.0)
    whole = layer(x, anchors)
    monkeypatch.setattr(em_clustering, "BLOCK", 8)
    seen, gather = [], em_clustering.gather

    def counting(x, inverse, responsibilities):
        seen.append(x.shape[1])
        return gather(x, inverse, responsibilities)

    monkeypatch.setattr(em_clustering, "gather", counting)
    for theirs, ours in zip(whole, layer(x, anchors)):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)
    assert sum(seen) == 3 * tokens and min(seen) <= 8 and seen[-1] == tokens


# Gradients


def a_loss(out):
    """A number that every entry of every output has a say in."""
    generator = torch.Generator().manual_seed(9)
    return torch.stack([(o * torch.randn(o.shape, generator=generator, dtype=o.dtype)).sum() for o in out]).sum()


def gradients(layer, x, anchors, outputs=4):
    """Gradients of `a_loss`, of the first outputs, by tokens, anchors and W_o."""
    x, anchors = x.clone().requires_grad_(), anchors.clone().requires_grad_()
    return torch.autograd.grad(a_loss(layer(x, anchors)[:outputs]), (x, anchors, layer.output.weight))


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("prior_weight", [0.0, 1.0])
def test_gradients_are_finite(kind, full, prior_weight):
    layer = stirred(full_gradient=full, prior_weight=prior_weight)
    x, anchors = a_case(kind)
    for case in ((x, anchors), (x, 0 * anchors)):
        for gradient in gradients(layer, *case):
            assert gradient.isfinite().all()


def test_gradient_of_the_last_iteration_is_that_of_one_iteration_from_there():
    """Three iterations give the same gradient as one that starts at the second's centres, with the prior kept."""
    x, anchors = a_case()
    layer = stirred(iterations=3, prior_weight=2.0, concentration=5.0).double()
    x, anchors = x.double(), anchors.double()
    last = gradients(layer, x, anchors)

    layer.iterations = 2
    before = layer(x, anchors).centres.detach()
    x2, anchors2 = x.clone().requires_grad_(), anchors.clone().requires_grad_()
    directions = F.normalize(x2, dim=-1)
    initial = torch.cat([F.normalize(anchors2, dim=-1), layer.bases / layer.bases.norm(dim=-1, keepdim=True)])
    scores = 5.0 * directions @ before.transpose(1, 2)
    z = scores.softmax(-1)
    centres = F.normalize(2.0 * initial + z.transpose(1, 2) @ directions, dim=-1)
    loss = a_loss((x2 + layer.output(z @ centres), z, centres, scores.log_softmax(-1)))
    for ours, expected in zip(last, torch.autograd.grad(loss, (x2, anchors2, layer.output.weight))):
        torch.testing.assert_close(ours, expected, atol=1e-9, rtol=1e-9)


def test_gradient_through_the_last_iteration_or_through_all():
    x, anchors = (t.double() for t in a_case())
    one, all_of_them = (stirred(full_gradient=full).double() for full in (False, True))
    for a, b in zip(one(x, anchors), all_of_them(x, anchors)):
        torch.testing.assert_close(a, b, atol=1e-12, rtol=1e-12)
    through_last, through_all = gradients(one, x, anchors), gradients(all_of_them, x, anchors)
    assert not torch.allclose(through_last[0], through_all[0], rtol=1e-2, atol=1e-4)
    assert not torch.allclose(through_last[1], through_all[1], rtol=1e-2, atol=1e-4)
    torch.testing.assert_close(through_last[2], through_all[2])  # W_o acts after the loop
    one.iterations = all_of_them.iterations = 1
    for a, b in zip(gradients(one, x, anchors), gradients(all_of_them, x, anchors)):
        torch.testing.assert_close(a, b, atol=1e-12, rtol=1e-12)


def test_full_gradient_is_the_derivative():
    x, anchors = (t.double().requires_grad_() for t in a_case("random", 1, 5, 2, channels=3))
    layer = stirred(1, channels=3, full_gradient=True, concentration=2.0, prior_weight=1.0).double()
    assert torch.autograd.gradcheck(lambda *case: tuple(layer(*case)), (x, anchors))


# Types


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("kind", [k for k in KINDS if k != "huge"])
def test_half_precision_is_finite_and_near(kind, dtype):
    layer = stirred(prior_weight=1.0)
    x, anchors = (t.to(dtype) for t in a_case(kind))
    with torch.no_grad():
        layer.output.weight.copy_(layer.output.weight.to(dtype))
        layer.bases.copy_(layer.bases.to(dtype))
    exact = layer(x.float(), anchors.float())
    layer = layer.to(dtype)
    half = layer(x, anchors)
    assert half.tokens.dtype == dtype and half.centres.dtype == half.responsibilities.dtype == torch.float32
    torch.testing.assert_close(half.responsibilities, exact.responsibilities, atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(half.tokens.float(), exact.tokens, atol=0.05, rtol=0.02)
    # The gradient of log z grows as 1 / length, which float16 does not hold for tiny tokens.
    for gradient in gradients(layer, x, anchors, outputs=3 if kind == "tiny" else 4):
        assert gradient.isfinite().all() and gradient.dtype == dtype


def test_more_tokens_than_half_precision_counts():
    """70,000 equal tokens: a sum in float16 would be infinite."""
    x = torch.ones(1, 70000, 2, dtype=torch.float16)
    out = stirred(1, channels=2, prior_weight=0.0).half()(x)
    torch.testing.assert_close(out.centres, torch.full((1, 1, 2), 0.5**0.5))
    assert out.tokens.isfinite().all()


def test_autocast_changes_nothing():
    x, anchors = a_case()
    layer = stirred()
    plain = layer(x, anchors)
    with torch.autocast("cpu", torch.bfloat16):
        cast = layer(x, anchors)
    for a, b in zip(cast, plain):
        assert torch.equal(a, b)


# The moving average


def test_bases_move_in_training_alone_and_by_a_tenth():
    x, anchors = a_case()
    layer = stirred()
    before = layer.bases.clone()
    centres = layer(x, anchors).centres
    assert torch.equal(layer.bases, before)
    layer.train()
    out = layer(x, anchors)
    assert torch.equal(out.centres, centres)  # the average is taken after the use
    torch.testing.assert_close(layer.bases, 0.9 * before + 0.1 * centres[:, 2:].mean(0))
    assert not torch.allclose(layer.bases, before, atol=1e-3)
    out.tokens.sum().backward()  # nothing that the gradient needs was overwritten
    assert not layer.bases.requires_grad and "bases" in layer.state_dict()
    assert [name for name, _ in layer.named_parameters()] == ["output.weight"]


def test_bases_find_the_data():
    """Bases that lean towards a cluster each end on it after enough steps of training."""
    generator = torch.Generator().manual_seed(0)
    means = torch.eye(CHANNELS)[:3]
    layer = EMAggregation(CHANNELS, 3, prior_weight=5.0).train()
    layer.bases.copy_(means + 0.4 * torch.randn(3, CHANNELS, generator=generator))
    assert F.cosine_similarity(layer.bases, means).max() < 0.9
    for _ in range(60):
        truth = torch.randint(3, (4, 24), generator=generator)
        layer(means[truth] + 0.1 * torch.randn(4, 24, CHANNELS, generator=generator))
    assert F.cosine_similarity(layer.bases, means).min() > 0.99


@pytest.mark.parametrize("rubbish", [float("inf"), float("nan")])
def test_an_overflow_does_not_spoil_the_bases(rubbish):
    x, anchors = a_case()
    layer = stirred().train()
    before = layer.bases.clone()
    layer(torch.where(x > 1, rubbish, x), anchors)
    torch.testing.assert_close(layer.bases, before)
    layer(x, rubbish * anchors)
    torch.testing.assert_close(layer.bases, before)
    layer(x, anchors)
    assert not torch.allclose(layer.bases, before, atol=1e-3) and layer.bases.isfinite().all()


def test_bases_are_averaged_over_processes(monkeypatch):
    """A second process that found the opposite mean (stood in for by a fake all_reduce) leaves nothing but decay."""
    layer = stirred().train()
    before = layer.bases.clone()
    distributed = torch.distributed
    monkeypatch.setattr(distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(distributed, "get_world_size", lambda: 2)
    monkeypatch.setattr(distributed, "all_reduce", lambda mean: mean.add_(-mean.clone()))
    layer(*a_case())
    torch.testing.assert_close(layer.bases, 0.9 * before)
    monkeypatch.setattr(distributed, "all_reduce", lambda mean: mean.add_(mean.clone()))
    alone = stirred(momentum=0.0)
    centres = alone(*a_case()).centres
    alone.train()(*a_case())
    torch.testing.assert_close(alone.bases, centres[:, 2:].mean(0))


# What is refused


@pytest.mark.parametrize(
    "options",
    [{"iterations": -1}, {"concentration": 0.0}, {"prior_weight": -1.0}, {"num_free": -1}, {"channels": 0}],
)
def test_numbers_out_of_range_are_refused(options):
    with pytest.raises(ValueError, match="positive"):
        EMAggregation(**{"channels": 4, "num_free": 2} | options)


@pytest.mark.parametrize("momentum", [-0.1, 1.1])
def test_a_momentum_out_of_range_is_refused(momentum):
    with pytest.raises(ValueError, match="momentum"):
        EMAggregation(4, 2, momentum=momentum)


@pytest.mark.parametrize(
    ("tokens", "anchors", "num_free", "message"),
    [
        ((2, 5, 7), None, 3, "tokens must be"),
        ((5, 8), None, 3, "tokens must be"),
        ((2, 5, 8), (2, 7), 3, "anchors must be"),
        ((2, 5, 8), (8,), 3, "anchors must be"),
        ((2, 5, 8), (3, 4, 8), 3, "anchors for 3 images"),
        ((2, 5, 8), None, 0, "no centre"),
        ((2, 5, 8), (0, 8), 0, "no centre"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(tokens, anchors, num_free, message):
    with pytest.raises(ValueError, match=message):
        stirred(num_free)(torch.randn(tokens), None if anchors is None else torch.randn(anchors))


# Exports


@pytest.mark.parametrize("kind", ["random", "clustered", "some zero"])
def test_torchscript_gives_the_same(kind):
    for num_free, full in ((3, False), (0, True)):
        layer = stirred(num_free, full_gradient=full)
        scripted = torch.jit.script(layer)
        x, anchors = a_case(kind)
        for case in ((x, anchors), (x, anchors.expand(2, -1, -1))) + (((x, None),) if num_free else ()):
            for ours, theirs in zip(layer(*case), scripted(*case)):
                torch.testing.assert_close(theirs, ours, atol=1e-5, rtol=1e-5)


def test_onnx_gives_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr(em_clustering, "BLOCK", 8)  # a graph must not hold the blocks
    layer = stirred()
    path = str(tmp_path / "clustering.onnx")
    convert_to_onnx(layer, a_case(), ["tokens", "anchors"], filename=path, dynamo=True)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for kind in ("random", "clustered", "equal", "zero", "some zero"):
        case = a_case(kind, seed=3)
        found = session.run(None, {"tokens": case[0].numpy(), "anchors": case[1].numpy()})
        with torch.no_grad():
            for ours, theirs in zip(layer(*case), found):
                np.testing.assert_allclose(theirs, ours.numpy(), atol=1e-4, rtol=1e-4)


def test_unit_has_no_hole_at_zero():
    x = torch.tensor([[0.0, 0.0], [3.0, 4.0], [1e-9, 0.0]], requires_grad=True)
    (gradient,) = torch.autograd.grad(unit(x).sum(), x)
    torch.testing.assert_close(unit(x)[:2].detach(), torch.tensor([[0.0, 0.0], [0.6, 0.8]]))
    assert gradient.isfinite().all() and (gradient[[0, 2]] == 0).all()
