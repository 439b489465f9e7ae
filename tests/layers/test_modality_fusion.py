"""Modality fusion: equal to its equation, weights that sum to one, missing streams without influence, exports."""

import math

import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.networks.utils import convert_to_onnx
from torch import nn
from torch.nn import functional as F

from shared.layers.modality_fusion import DynamicModalFusion, drop_modalities

SMALL = settings(max_examples=15, deadline=2000)


def stirred(layer: nn.Module, seed: int = 0) -> nn.Module:
    """Random weights everywhere: nothing that starts as zero or as the identity hides a mistake."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(0.5 * torch.randn(parameter.shape, generator=generator))
    return layer.eval()


def a_case(batch=3, tokens=5, modalities=4, channels=8, context=0, seed=0):
    """Streams, availability with at least one stream an image, context."""
    generator = torch.Generator().manual_seed(seed)
    streams = torch.randn(batch, tokens, modalities, channels, generator=generator)
    available = torch.rand(batch, modalities, generator=generator) < 0.6
    available[torch.arange(batch), torch.randint(modalities, (batch,), generator=generator)] = True
    return streams, available, torch.randn(batch, context, generator=generator) if context else None


def naive(layer: DynamicModalFusion, streams, available, context):
    """DESIGN's equation, one image, position and head after the other, over the available streams alone."""
    heads, (batch, tokens, modalities, channels) = layer.num_heads, streams.shape
    fused = torch.zeros(batch, tokens, channels)
    for b in range(batch):
        there = [m for m in range(modalities) if available[b, m]]
        x = {m: streams[b, :, m] + layer.modality_code[m] for m in there}
        u = {m: x[m].clone() for m in there}
        for n in range(tokens):
            query, key, value = {}, {}, {}
            for m in there:
                query[m], key[m], value[m] = layer.qkv(layer.norm(x[m][n])).chunk(3)
            width = query[there[0]].numel() // heads
            for m in there:
                seen = []
                for h in range(heads):
                    own = slice(h * width, (h + 1) * width)
                    scores = torch.stack([query[m][own] @ key[o][own] / math.sqrt(width) for o in there])
                    seen.append(sum(p * value[o][own] for p, o in zip(scores.softmax(0), there)))
                u[m][n] = x[m][n] + layer.proj(torch.cat(seen))
        summaries = {m: u[m].mean(0) if context is None else torch.cat([u[m].mean(0), context[b]]) for m in there}
        g = torch.cat([layer.image_score(summaries[m]) for m in there]).softmax(0)
        for n in range(tokens):
            s = torch.cat([layer.position_score(u[m][n]) for m in there]).softmax(0)
            fused[b, n] = layer.output(sum(0.5 * (g[i] + s[i]) * u[m][n] for i, m in enumerate(there)))
    return fused


@pytest.mark.parametrize("context", [0, 3])
@pytest.mark.parametrize("heads", [1, 2])
def test_equals_the_equation_written_as_loops(context, heads):
    layer = stirred(DynamicModalFusion(8, 4, context, attention_channels=4, num_heads=heads))
    case = a_case(context=context)
    assert not case[1].all()
    with torch.no_grad():
        torch.testing.assert_close(layer(*case).fused, naive(layer, *case), atol=1e-5, rtol=1e-5)


@SMALL
@given(st.integers(1, 5), st.integers(1, 6), st.integers(0, 10**6))
def test_weights_are_shares_of_what_is_there(modalities, tokens, seed):
    streams, available, _ = a_case(2, tokens, modalities, seed=seed)
    out = stirred(DynamicModalFusion(8, modalities), seed)(3 * streams, available)
    assert out.image_weights.shape == (2, modalities) and out.position_weights.shape == (2, tokens, modalities)
    for weights in (out.image_weights, out.position_weights):
        assert (weights >= 0).all()
        torch.testing.assert_close(weights.sum(-1), torch.ones(weights.shape[:-1]), atol=1e-5, rtol=0)
    assert (out.image_weights[~available] == 0).all()
    assert (out.position_weights.transpose(1, 2)[~available] == 0).all()
    assert (out.image_weights[available] > 0).all()


@SMALL
@given(st.permutations(range(4)), st.integers(0, 10**6))
def test_order_of_modalities_is_a_name_only(order, seed):
    streams, available, context = a_case(context=3, seed=seed)
    layer = stirred(DynamicModalFusion(8, 4, 3), seed)
    with torch.no_grad():
        first = layer(streams, available, context)
        layer.modality_code.copy_(layer.modality_code[order].clone())
        second = layer(streams[:, :, order], available[:, order], context)
    torch.testing.assert_close(second.fused, first.fused, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(second.image_weights, first.image_weights[:, order], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(second.position_weights, first.position_weights[:, :, order], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(second.streams, first.streams[:, :, order], atol=1e-4, rtol=1e-4)


def test_codes_tell_modalities_apart():
    streams, available, _ = a_case()
    available[:] = True
    layer = stirred(DynamicModalFusion(8, 4))
    assert not torch.allclose(layer(streams, available).fused, layer(streams.flip(2), available).fused, atol=1e-3)


@pytest.mark.parametrize("rubbish", [1e4, float("nan"), float("inf")])
def test_what_stands_in_a_missing_stream_never_matters(rubbish):
    layer = stirred(DynamicModalFusion(8, 4, 3))
    streams, available, context = a_case(context=3)
    missing = (~available)[:, None, :, None].expand_as(streams)
    results = []
    for fill in (0.0, rubbish):
        layer.zero_grad()
        given_streams = streams.masked_fill(missing, fill).requires_grad_()
        out = layer(given_streams, available, context)
        out.fused.square().sum().backward()
        assert (given_streams.grad[missing] == 0).all()
        results.append([out.fused.detach(), out.image_weights.detach(), out.position_weights.detach()])
        results[-1] += [given_streams.grad] + [p.grad.clone() for p in layer.parameters()]
    for clean, dirty in zip(*results):
        assert dirty.isfinite().all()
        torch.testing.assert_close(dirty, clean, atol=0, rtol=0)


def test_context_decides_the_weights_of_the_image_alone():
    layer = stirred(DynamicModalFusion(8, 4, 3))
    streams, available, context = a_case(context=3)
    available[:] = True
    one, two = layer(streams, available, context), layer(streams, available, context + 1)
    assert not torch.allclose(one.image_weights, two.image_weights, atol=1e-4)
    assert torch.equal(one.position_weights, two.position_weights)


def test_begins_as_the_mean_of_what_is_there():
    layer = DynamicModalFusion(8, 4)
    streams, available, _ = a_case()
    with torch.no_grad():
        out = layer(streams, available)
        shares = available / available.sum(1, keepdim=True)
        torch.testing.assert_close(out.fused, torch.einsum("bnmc,bm->bnc", streams, shares), atol=1e-6, rtol=1e-5)
        torch.testing.assert_close(out.image_weights, shares)
        equal = streams[:, :, :1].expand_as(streams)
        torch.testing.assert_close(layer(equal, available).fused, streams[:, :, 0], atol=1e-6, rtol=1e-5)


def test_one_modality_has_all_the_weight():
    out = stirred(DynamicModalFusion(8, 1))(torch.randn(2, 5, 1, 8), torch.ones(2, 1))
    assert (out.image_weights == 1).all() and (out.position_weights == 1).all()
    assert out.fused.shape == (2, 5, 8) and out.fused.isfinite().all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s, a, c: (s, a, None), "context"),
        (lambda s, a, c: (s[:, :, :3], a[:, :3], c), "3 modality streams given, 4 declared"),
        (lambda s, a, c: (s, a & (torch.arange(3) != 1)[:, None], c), "missing"),
    ],
)
def test_wrong_shapes_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        DynamicModalFusion(8, 4, 3)(*change(*a_case(context=3)))


def test_a_context_that_nobody_asked_for_is_refused():
    streams, available, _ = a_case()
    with pytest.raises(ValueError, match="context"):
        DynamicModalFusion(8, 4)(streams, available, torch.randn(3, 3))


def test_heads_must_fit():
    with pytest.raises(ValueError, match="multiple"):
        DynamicModalFusion(8, 4, attention_channels=5, num_heads=2)


@pytest.mark.parametrize("context", [0, 3])
def test_gradients_reach_all_parameters(context):
    layer = stirred(DynamicModalFusion(8, 4, context))
    layer(*a_case(context=context)).fused.square().sum().backward()
    for name, parameter in layer.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 1e-4, name


def test_half_precision_is_finite_and_near():
    layer = stirred(DynamicModalFusion(8, 4))
    streams, available, _ = a_case()
    exact = layer(streams, available)
    half = layer.bfloat16()(streams.bfloat16(), available)
    assert half.fused.dtype == torch.bfloat16
    for name, value in half._asdict().items():
        assert value.isfinite().all(), name
    torch.testing.assert_close(half.image_weights.float(), exact.image_weights, atol=0.05, rtol=0.1)
    assert (half.image_weights[~available] == 0).all()


@pytest.mark.parametrize("context", [0, 3])
def test_torchscript_gives_the_same(context):
    layer = stirred(DynamicModalFusion(8, 4, context))
    case = a_case(context=context)
    with torch.no_grad():
        for ours, scripted in zip(layer(*case), torch.jit.script(layer)(*case)):
            torch.testing.assert_close(scripted, ours, atol=1e-6, rtol=1e-5)


def test_onnx_gives_the_same_whatever_is_missing(tmp_path):
    layer = stirred(DynamicModalFusion(8, 4, 3))
    path = str(tmp_path / "fusion.onnx")
    convert_to_onnx(layer, a_case(context=3), ["streams", "available", "context"], filename=path, dynamo=True)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [entry.name for entry in session.get_inputs()]
    for seed in (0, 1):  # other streams missing than in the export
        case = a_case(context=3, seed=seed)
        found = session.run(None, {n: v.numpy() for n, v in zip(names, case)})
        with torch.no_grad():
            for ours, theirs in zip(layer(*case), found):
                torch.testing.assert_close(torch.from_numpy(theirs), ours, atol=1e-5, rtol=1e-4)


@SMALL
@given(st.integers(1, 5), st.floats(0, 1), st.integers(0, 10**6))
def test_dropping_keeps_a_part_of_what_is_there(modalities, probability, seed):
    _, available, _ = a_case(8, 1, modalities, seed=seed)
    torch.manual_seed(seed)
    kept = drop_modalities(available, probability)
    assert kept.dtype == torch.bool and kept.any(1).all()
    assert not (kept & ~available).any()


def test_dropping_nothing_or_all_but_one():
    _, available, _ = a_case(64)
    assert torch.equal(drop_modalities(available, 0.0), available)
    alone = drop_modalities(available, 1.0)
    assert (alone.sum(1) == 1).all() and not (alone & ~available).any()
    survivors = drop_modalities(torch.ones(64, 4, dtype=torch.bool), 1.0)
    assert survivors.any(0).all()  # the one that stays is drawn, not always the first
    empty = torch.zeros(2, 3, dtype=torch.bool)
    assert not drop_modalities(empty, 0.5).any()


def test_dropping_as_often_as_asked():
    torch.manual_seed(0)
    dropped = 1 - drop_modalities(torch.ones(20000, 4, dtype=torch.bool), 0.3).float().mean(0)
    expected = 0.3 - 0.3**4 / 4  # of the images that would lose all four, one stream is spared
    assert F.l1_loss(dropped, torch.full((4,), expected)) < 0.01
