"""Text conditioning: context placed as in CoOp, attention equal to its equation, an empty text changes nothing."""

import math

import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.networks.utils import convert_to_onnx

from shared.layers.text_conditioning import PromptLearner, TextToPixelAttention

SMALL = settings(max_examples=15, deadline=None)


def stirred(layer, seed: int = 0):
    """Random weights everywhere: nothing that starts as zero hides a mistake."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(0.5 * torch.randn(parameter.shape, generator=generator))
    return layer.eval()


# Prompts


def some_prompts(classes=3, tokens=6, channels=4, seed=0):
    """Token embeddings (A, L, D) and lengths (A,), the first class as long as can be."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(2, tokens + 1, (classes,), generator=generator)
    lengths[0] = tokens
    return torch.randn(classes, tokens, channels, generator=generator), lengths


@SMALL
@given(st.integers(1, 4), st.integers(2, 7), st.integers(1, 5), st.integers(0, 1), st.booleans(), st.integers(0, 10**6))
def test_context_stands_between_the_start_and_the_name(classes, tokens, words, start, own, seed):
    embeddings, lengths = some_prompts(classes, tokens, seed=seed)
    learner = stirred(PromptLearner(4, words, classes if own else None, start), seed)
    out = learner(embeddings, lengths)
    assert out.embeddings.shape == (classes, tokens + words, 4)
    for a in range(classes):
        context = learner.context[a if own else 0]
        expected = [*embeddings[a, :start], *context, *embeddings[a, start:]]
        assert torch.equal(out.embeddings[a], torch.stack(expected))
        # The end of the text is where `lengths` says, and everything up to it is real.
        assert torch.equal(out.embeddings[a, out.lengths[a] - 1], embeddings[a, lengths[a] - 1])
        assert out.mask[a].tolist() == [i < lengths[a] + words for i in range(tokens + words)]


def test_one_context_for_all_or_one_a_class():
    assert PromptLearner(4, 5).context.shape == (1, 5, 4)
    assert PromptLearner(4, 5, 3).context.shape == (3, 5, 4)
    embeddings, lengths = some_prompts()
    learner = PromptLearner(4, 2, 3)
    (gradient,) = torch.autograd.grad(learner(embeddings, lengths).embeddings[1].sum(), learner.context)
    assert torch.equal(gradient, torch.tensor([0.0, 1.0, 0.0])[:, None, None].expand(3, 2, 4))
    learner = PromptLearner(4, 2)
    (gradient,) = torch.autograd.grad(learner(embeddings, lengths).embeddings.sum(), learner.context)
    assert torch.equal(gradient, torch.full((1, 2, 4), 3.0))


def test_padding_makes_room_for_the_context():
    """CLIP's tower reads 77 tokens, no more: three words of context push three tokens of padding out."""
    embeddings, lengths = torch.randn(2, 77, 4), torch.tensor([4, 74])
    learner = PromptLearner(4, 3, max_length=77)
    out = learner(embeddings, lengths)
    assert out.embeddings.shape == (2, 77, 4) and out.mask.shape == (2, 77)
    assert out.lengths.tolist() == [7, 77] == out.mask.sum(1).tolist()
    assert torch.equal(out.embeddings[1, 76], embeddings[1, 73])
    with pytest.raises(ValueError, match="75 tokens plus 3 of context exceeds the tower's 77"):
        learner(embeddings, torch.tensor([4, 75]))
    assert PromptLearner(4, 3, max_length=99)(embeddings, lengths).embeddings.shape == (2, 80, 4)


def test_context_begins_small_or_as_told():
    torch.manual_seed(0)
    assert PromptLearner(256, 16).context.std().item() == pytest.approx(0.02, rel=0.05)
    words = torch.randn(5, 4)
    shared, own = PromptLearner(4, 5, initial=words), PromptLearner(4, 5, 3, initial=words)
    assert torch.equal(shared.context[0], words)
    assert torch.equal(own.context, words.expand(3, -1, -1))
    each = torch.randn(3, 5, 4)
    assert torch.equal(PromptLearner(4, 5, 3, initial=each).context, each)
    with torch.no_grad():
        own.context.add_(1)
    assert not torch.equal(words, own.context[0])  # a copy


def test_type_of_the_embeddings_is_kept():
    embeddings, lengths = some_prompts()
    out = PromptLearner(4, 2)(embeddings.half(), lengths.int())
    assert out.embeddings.dtype == torch.float16 and out.lengths.dtype == torch.int64 and out.mask.dtype == torch.bool


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_context": 0}, "positive"),
        ({"num_classes": 0}, "positive"),
        ({"num_start": -1}, "negative"),
        ({"initial": torch.zeros(3, 4)}, "initial context must be"),
        ({"initial": torch.zeros(2, 5, 4)}, "initial context must be"),
    ],
)
def test_a_learner_that_makes_no_sense_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        PromptLearner(**{"text_channels": 4, "num_context": 5} | options)


@pytest.mark.parametrize(
    ("shape", "lengths", "message"),
    [
        ((3, 6, 5), [2, 2, 2], "embeddings must be"),
        ((6, 4), [2, 2, 2], "embeddings must be"),
        ((3, 6, 4), [2, 2], "lengths for 3 classes"),
        ((2, 6, 4), [2, 2], "2 classes given, contexts declared for 3"),
        ((3, 6, 4), [2, 7, 2], "lengths must lie in 2 .. 6, got 2 .. 7"),
        ((3, 6, 4), [2, 1, 2], "lengths must lie in"),
    ],
)
def test_prompts_that_do_not_fit_are_refused(shape, lengths, message):
    with pytest.raises(ValueError, match=message):
        PromptLearner(4, 2, 3)(torch.randn(shape), torch.tensor(lengths))


def test_torchscript_learner_gives_the_same():
    for limit in (None, 7):
        learner = PromptLearner(4, 2, max_length=limit)
        embeddings, _ = some_prompts()
        lengths = torch.tensor([5, 2, 4])
        for ours, theirs in zip(learner(embeddings, lengths), torch.jit.script(learner)(embeddings, lengths)):
            assert torch.equal(ours, theirs)


# Attention


def a_case(batch=3, pixels=7, words=5, channels=8, width=6, texts=None, seed=0):
    """Pixels (B, N, C), text (B or 1, L, D), mask with at least one real token a text and one padded one in all."""
    generator = torch.Generator().manual_seed(seed)
    texts = batch if texts is None else texts
    mask = torch.arange(words) < torch.randint(1, words + 1, (texts, 1), generator=generator)
    mask[0] = torch.arange(words) < max(1, words - 2)
    x = torch.randn(batch, pixels, channels, generator=generator)
    return x, torch.randn(texts, words, width, generator=generator), mask


def naive(layer, pixels, text, mask):
    """Softmax attention, one image, head and pixel after the other, over the real tokens alone."""
    heads, channels = layer.num_heads, pixels.shape[2]
    width = channels // heads
    result, maps = pixels.clone(), torch.zeros(pixels.shape[0], heads, pixels.shape[1], text.shape[1])
    for b in range(pixels.shape[0]):
        t = b if text.shape[0] > 1 else 0
        there = [i for i in range(text.shape[1]) if mask[t, i]]
        query = layer.query(layer.norm(pixels[b]))
        key, value = layer.key_value(layer.text_norm(text[t])).chunk(2, dim=-1)
        for n in range(pixels.shape[1]):
            seen = []
            for h in range(heads):
                own = slice(h * width, (h + 1) * width)
                scores = torch.stack([query[n, own] @ key[i, own] / math.sqrt(width) for i in there])
                shares = scores.softmax(0)
                seen.append(sum(p * value[i, own] for p, i in zip(shares, there)))
                maps[b, h, n, there] = shares
            result[b, n] += layer.gate * layer.output(torch.cat(seen))
    return result, maps


@pytest.mark.parametrize("texts", [1, 3])
@pytest.mark.parametrize("heads", [1, 2])
def test_equals_softmax_attention_written_as_loops(heads, texts):
    layer = stirred(TextToPixelAttention(8, 6, heads))
    case = a_case(texts=texts)
    assert not case[2].all()
    with torch.no_grad():
        pixels, maps = naive(layer, *case)
        out = layer(*case, need_maps=True, average_maps=False)
        torch.testing.assert_close(out.pixels, pixels, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(out.maps, maps, atol=1e-5, rtol=1e-5)
        mean = layer(*case, need_maps=True)
        torch.testing.assert_close(mean.maps, maps.mean(1), atol=1e-5, rtol=1e-5)
        assert torch.equal(mean.pixels, out.pixels)


def test_begins_without_the_text():
    pixels, text, mask = a_case()
    layer = TextToPixelAttention(8, 6, 2)
    out = layer(pixels, text, mask)
    assert torch.equal(out.pixels, pixels) and out.maps is None
    (gradient,) = torch.autograd.grad(out.pixels.square().sum(), layer.gate)
    assert gradient.abs().min() > 0  # and yet it can learn to open


def test_one_text_for_all_windows_is_the_text_of_each():
    layer = stirred(TextToPixelAttention(8, 6, 2))
    pixels, text, mask = a_case(texts=1)
    one = layer(pixels, text, mask, need_maps=True)
    each = layer(pixels, text.expand(3, -1, -1), mask.expand(3, -1), need_maps=True)
    mixed = layer(pixels, text, mask.expand(3, -1), need_maps=True)
    for shared, own, other in zip(one, each, mixed):
        torch.testing.assert_close(shared, own, atol=1e-6, rtol=1e-5)
        torch.testing.assert_close(shared, other, atol=1e-6, rtol=1e-5)


@SMALL
@given(st.integers(1, 3), st.integers(1, 6), st.integers(1, 6), st.booleans(), st.integers(0, 10**6))
def test_maps_are_shares_of_the_real_words(batch, pixels, words, shared, seed):
    x, text, mask = a_case(batch, pixels, words, texts=1 if shared else None, seed=seed)
    out = stirred(TextToPixelAttention(8, 6, 2), seed)(x, 3 * text, mask, need_maps=True, average_maps=False)
    assert out.maps.shape == (batch, 2, pixels, words) and (out.maps >= 0).all()
    torch.testing.assert_close(out.maps.sum(-1), torch.ones(batch, 2, pixels), atol=1e-5, rtol=0)
    real = mask[:, None, None].expand(batch, 2, pixels, words)
    assert (out.maps[~real] == 0).all() and (out.maps[real] > 0).all()


@SMALL
@given(st.permutations(range(7)), st.permutations(range(5)), st.integers(0, 10**6))
def test_order_of_pixels_and_words(pixel_order, word_order, seed):
    layer = stirred(TextToPixelAttention(8, 6, 2), seed)
    pixels, text, mask = a_case(seed=seed)
    first = layer(pixels, text, mask, need_maps=True)
    second = layer(pixels[:, pixel_order], text[:, word_order], mask[:, word_order], need_maps=True)
    torch.testing.assert_close(second.pixels, first.pixels[:, pixel_order], atol=1e-5, rtol=1e-4)
    expected = first.maps[:, pixel_order][:, :, word_order]
    torch.testing.assert_close(second.maps, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("rubbish", [1e4, float("nan"), float("inf")])
def test_what_stands_in_the_padding_never_matters(rubbish):
    layer = stirred(TextToPixelAttention(8, 6, 2))
    pixels, text, mask = a_case()
    mask[1] = False
    results = []
    for fill in (0.0, rubbish):
        layer.zero_grad()
        given_text = text.masked_fill(~mask[..., None], fill).requires_grad_()
        out = layer(pixels, given_text, mask, need_maps=True)
        (out.pixels.square().sum() + out.maps.square().sum()).backward()
        assert (given_text.grad[~mask] == 0).all()
        results.append([out.pixels.detach(), out.maps.detach(), given_text.grad])
        results[-1] += [p.grad.clone() for p in layer.parameters()]
    for clean, dirty in zip(*results):
        assert dirty.isfinite().all()
        torch.testing.assert_close(dirty, clean, atol=0, rtol=0)


@pytest.mark.parametrize("texts", [1, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_no_sentence_leaves_no_trace(texts, dtype):
    layer = stirred(TextToPixelAttention(8, 6, 2)).to(dtype)
    pixels, text, mask = a_case(texts=texts)
    pixels, text = pixels.to(dtype), text.to(dtype)
    mask[-1] = False
    out = layer(pixels, text, mask, need_maps=True)
    assert torch.equal(out.pixels[-1], pixels[-1]) and (out.maps[-1] == 0).all()
    if texts == 3:
        assert not torch.equal(out.pixels[0], pixels[0]) and out.pixels.isfinite().all()
    assert out.pixels.dtype == dtype
    layer.zero_grad()
    out.pixels.float().square().sum().backward()
    for name, parameter in layer.named_parameters():
        assert parameter.grad.isfinite().all(), name


def test_no_mask_means_that_every_word_is_real():
    layer = stirred(TextToPixelAttention(8, 6, 2))
    pixels, text, _ = a_case()
    assert torch.equal(layer(pixels, text).pixels, layer(pixels, text, torch.ones(3, 5)).pixels)


def test_every_pixel_reads_for_itself():
    layer = stirred(TextToPixelAttention(8, 6, 2))
    pixels, text, mask = a_case()
    changed = pixels.clone()
    changed[1, 2] += torch.randn(8)
    before, after = layer(pixels, text, mask).pixels, layer(changed, text, mask).pixels
    moved = (before != after).any(-1)
    assert moved[1, 2] and moved.sum() == 1


def test_gradients_reach_everything():
    layer = stirred(TextToPixelAttention(8, 6, 2))
    pixels, text, mask = a_case()
    text.requires_grad_()
    layer(pixels, text, mask).pixels.square().sum().backward()
    for name, parameter in layer.named_parameters():
        if name == "key_value.bias":  # softmax does not see the half that belongs to the keys
            assert parameter.grad[8:].abs().min() > 1e-4 > parameter.grad[:8].abs().max()
        else:
            assert parameter.grad.abs().max() > 1e-4, name
    assert (text.grad[mask].abs().sum(-1) > 0).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_finite_and_near(dtype):
    layer = stirred(TextToPixelAttention(8, 6, 2))
    pixels, text, mask = a_case()
    exact = layer(pixels, text, mask, need_maps=True)
    half = layer.to(dtype)(pixels.to(dtype), text.to(dtype), mask, need_maps=True)
    assert half.pixels.dtype == dtype and half.pixels.isfinite().all()
    torch.testing.assert_close(half.pixels.float(), exact.pixels, atol=0.1, rtol=0.05)
    torch.testing.assert_close(half.maps.float(), exact.maps, atol=0.05, rtol=0.05)


@pytest.mark.parametrize(
    ("pixels", "text", "mask", "message"),
    [
        ((3, 7, 9), (3, 5, 6), None, "pixels must be"),
        ((3, 7, 4, 8), (3, 5, 6), None, "pixels must be"),
        ((3, 7, 8), (3, 5, 7), None, "text must be"),
        ((3, 7, 8), (3, 0, 6), None, "text must be"),
        ((3, 7, 8), (2, 5, 6), None, "2 texts for 3 images"),
        ((3, 7, 8), (3, 5, 6), (3, 4), "mask must be"),
        ((3, 7, 8), (3, 5, 6), (2, 5), "2 masks for 3 images"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(pixels, text, mask, message):
    with pytest.raises(ValueError, match=message):
        layer = TextToPixelAttention(8, 6, 2)
        layer(torch.randn(pixels), torch.randn(text), None if mask is None else torch.ones(mask))


@pytest.mark.parametrize("heads", [0, 3])
def test_heads_must_fit(heads):
    with pytest.raises(ValueError, match="multiple"):
        TextToPixelAttention(8, num_heads=heads)


def test_torchscript_attention_gives_the_same():
    layer = stirred(TextToPixelAttention(8, 6, 2))
    scripted = torch.jit.script(layer)
    for texts in (1, 3):
        pixels, text, mask = a_case(texts=texts)
        mask[-1] = False
        for options in ((mask,), (), (mask, True), (mask, True, False)):
            ours, theirs = layer(pixels, text, *options), scripted(pixels, text, *options)
            torch.testing.assert_close(theirs.pixels, ours.pixels, atol=1e-6, rtol=1e-5)
            assert (ours.maps is None) == (theirs.maps is None)
            if ours.maps is not None:
                torch.testing.assert_close(theirs.maps, ours.maps, atol=1e-6, rtol=1e-5)


def test_onnx_gives_the_same(tmp_path):
    layer = stirred(TextToPixelAttention(8, 6, 2))
    path = str(tmp_path / "attention.onnx")
    convert_to_onnx(layer, a_case(texts=1), ["pixels", "text", "mask"], filename=path, dynamo=True)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for seed in (0, 1, 2):
        pixels, text, mask = a_case(texts=1, seed=seed)
        if seed == 2:
            mask[:] = False
        found = session.run(None, {"pixels": pixels.numpy(), "text": text.numpy(), "mask": mask.numpy()})
        with torch.no_grad():
            expected = layer(pixels, text, mask).pixels
        torch.testing.assert_close(torch.from_numpy(found[0]), expected, atol=1e-4, rtol=1e-4)
