"""The loss of EM-CLIP: one switch per term, unannotated structures without influence, finite gradients."""

from __future__ import annotations

import pytest
import torch
from emclip.aggregation import TEMPERATURE
from emclip.losses import EMCLIPLoss, score_loss
from emclip.outputs import TrainingOutput
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

LAMBDAS = ("lambda_bce", "lambda_score", "lambda_prompt", "lambda_compact")


def nested(batch=2, size=32):
    """A cup in its disc, (B, 2, size, size), the disc in another place in every image."""
    rows, columns = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    away = torch.stack([((rows - 10 - 3 * i) ** 2 + (columns - 18 + 2 * i) ** 2) ** 0.5 for i in range(batch)])
    return torch.stack([away < 8, away < 4], 1).float()


def output_of(label, seed=0, heads=3, noise=1.0, spoil=None):
    """What a network might return for a label; `spoil` changes a tensor of it before it counts as a leaf."""
    generator = torch.Generator().manual_seed(seed)

    def leaf(x, name):
        x = x + noise * torch.randn(x.shape, generator=generator)
        return (spoil(x, name) if spoil else x).requires_grad_()

    known = label.clamp(min=0)
    masks = [
        leaf(8 * F.interpolate(known, scale_factor=0.5**i, mode="nearest-exact") - 4, "masks") for i in range(heads)
    ]
    classes = torch.cat([torch.ones_like(known[:, :1]), 2 * known], 1)
    scores = leaf(F.adaptive_avg_pool2d(classes, 4), "scores")
    compactness = leaf(torch.full((len(label),), 0.5), "compactness").detach().clamp(0, 2).requires_grad_()
    prompts, frozen = (torch.randn(3, 8, generator=generator).requires_grad_() for _ in range(2))
    return TrainingOutput(masks, scores, compactness, prompts, frozen)


def value(output, label, **options):
    return EMCLIPLoss(**options)(output, label)


def gradients(output, label, **options):
    tensors = [*output.masks, output.scores, output.compactness, output.prompts]
    found = torch.autograd.grad(value(output, label, **options), tensors, allow_unused=True)
    return dict(zip([*(f"mask {i}" for i in range(len(output.masks))), *output._fields[1:4]], found))


@pytest.mark.parametrize("name", LAMBDAS)
def test_a_lambda_scales_its_term_alone(name):
    """0 leaves the term out, twice as much counts twice, all terms together are their sum."""
    label = nested()
    output = output_of(label)
    none = dict.fromkeys(LAMBDAS, 0.0)
    dice, once, twice = (value(output, label, **{**none, name: x}) for x in (0.0, 1.0, 2.0))
    assert once > dice + 1e-4
    torch.testing.assert_close(twice - once, once - dice)
    together = value(output, label, **dict.fromkeys(LAMBDAS, 1.0))
    parts = sum(value(output, label, **{**none, key: 1.0}) - dice for key in LAMBDAS)
    torch.testing.assert_close(together, dice + parts)


@pytest.mark.parametrize(
    ("name", "reached"),
    [("lambda_score", "scores"), ("lambda_prompt", "prompts"), ("lambda_compact", "compactness")],
)
def test_without_its_term_a_tensor_gets_no_gradient(name, reached):
    label = nested()
    with_term = gradients(output_of(label), label, **{name: 0.5})
    assert with_term[reached].any()
    without = gradients(output_of(label), label, **{name: 0.0})
    assert without[reached] is None
    assert all(torch.equal(without[key], with_term[key]) for key in without if key != reached)


def test_outputs_that_are_none_add_no_term():
    label = nested()
    output = output_of(label)
    bare = TrainingOutput(output.masks, None, None, None, None)
    expected = value(output, label, **{name: 0.0 for name in LAMBDAS[1:]})
    torch.testing.assert_close(value(bare, label), expected)


def test_learned_prompts_are_drawn_to_the_frozen_ones():
    label = nested()
    output = output_of(label)
    near = output._replace(prompts=2 * output.frozen)
    assert value(near, label, lambda_prompt=1.0) < value(output, label, lambda_prompt=1.0)
    torch.testing.assert_close(value(near, label, lambda_prompt=1.0), value(near, label, lambda_prompt=0.0))


def test_better_masks_cost_less():
    label = nested()
    losses = [value(output_of(label, noise=noise), label) for noise in (0.0, 3.0, 9.0)]
    assert losses[0] < losses[1] < losses[2]
    perfect = output_of(label, noise=0.0, spoil=lambda x, name: 10 * x if name == "masks" else x)
    assert value(perfect, label, **dict.fromkeys(LAMBDAS[1:], 0.0)) < 0.01


def test_weights_of_deep_supervision():
    """1, w, w^2 ... of the heads, their sum one: the loss of a list is the weighted mean of the heads' own."""
    label = nested()
    output = output_of(label)
    plain = dict.fromkeys(LAMBDAS[1:], 0.0)
    single = [value(output._replace(masks=[head]), label, **plain) for head in output.masks]
    for weight in (0.5, 0.25):
        expected = sum(weight**i * x for i, x in enumerate(single)) / sum(weight**i for i in range(3))
        torch.testing.assert_close(value(output, label, deep_weight=weight, **plain), expected)
    torch.testing.assert_close(value(output, label, deep_weight=0.0, **plain), single[0])


# Structures that nobody outlined


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1), st.sampled_from([(0,), (1,), (0, 1)]), st.integers(0, 999), st.floats(-100, 100))
def test_a_structure_that_was_not_annotated_has_no_influence(structure, images, seed, offset):
    """Not in the value whatever the logits are there, and not in the gradient."""
    label = nested()
    label[list(images), structure] = -1

    def other(x, name):
        if name == "masks":
            x[list(images), structure] = offset + 5 * x[list(images), structure]
        return x

    torch.testing.assert_close(value(output_of(label, seed), label), value(output_of(label, seed, spoil=other), label))
    found = gradients(output_of(label, seed), label)
    for name in ("mask 0", "mask 1", "mask 2"):
        assert not found[name][list(images), structure].any()
        assert found[name][:, 1 - structure].any()
    assert not found["scores"][list(images)].any(), "it may be anywhere in the image"


def test_without_any_annotation_there_is_no_gradient():
    label = torch.full((2, 2, 32, 32), -1.0)
    found = gradients(output_of(label), label)
    assert not any(found[name].any() for name in ("mask 0", "mask 1", "mask 2", "scores"))
    assert value(output_of(label), label).isfinite()


def test_annotated_images_count_the_same_beside_others():
    """The mean is over what was outlined: an image without labels dilutes neither cross-entropy."""
    label = nested(1)
    output = output_of(label)
    unknown = torch.cat([label, torch.full_like(label, -1)])
    doubled = [torch.cat([x, torch.randn_like(x)]) for x in (*output.masks, output.scores)]
    both = TrainingOutput(doubled[:3], doubled[3], None, None, None)
    alone = TrainingOutput(output.masks, output.scores, None, None, None)
    torch.testing.assert_close(value(both, unknown), value(alone, label))


# The score map


def scores_of(classes, confidence=1.0):
    """Score map (B, 3, 4, 4) of cosines `confidence` for the right class, from classes (B, 4, 4)."""
    return confidence * F.one_hot(classes, 3).permute(0, 3, 1, 2).float() / TEMPERATURE


def label_of(classes):
    """Masks (B, 2, 32, 32) with 8 x 8 pixels a token: disc holds cup."""
    classes = classes.repeat_interleave(8, 1).repeat_interleave(8, 2)
    return torch.stack([classes > 0, classes > 1], 1).float()


@pytest.fixture
def classes():
    return torch.randint(3, (2, 4, 4), generator=torch.Generator().manual_seed(0))


def test_perfect_scores_cost_next_to_nothing_and_wrong_ones_much(classes):
    assert score_loss(scores_of(classes), label_of(classes)) < 1e-3
    assert score_loss(scores_of((classes + 1) % 3), label_of(classes)) > 1
    weaker = [score_loss(scores_of(classes, c), label_of(classes)) for c in (1.0, 0.5, 0.1, 0.0)]
    assert weaker == sorted(weaker)
    torch.testing.assert_close(weaker[-1], torch.tensor(3.0).log())


def test_a_token_on_a_border_wants_the_share_of_each_class():
    """Its minimum is the entropy of the shares, reached where softmax gives them."""
    label = torch.zeros(1, 2, 8, 8)
    label[:, 0, :, :4] = 1  # half disc, of which half is cup
    label[:, 1, :4, :4] = 1
    shares = torch.tensor([0.5, 0.25, 0.25])
    best = score_loss(shares.log()[None, :, None, None], label)
    torch.testing.assert_close(best, -(shares * shares.log()).sum())
    for other in ([0.4, 0.3, 0.3], [0.5, 0.3, 0.2], [0.5, 0.5, 1e-3]):
        assert score_loss(torch.tensor(other).log()[None, :, None, None], label) > best


def test_a_cup_in_its_disc_is_cup(classes):
    label = label_of(classes)
    scores = scores_of(classes).requires_grad_()
    (found,) = torch.autograd.grad(score_loss(scores, label), scores)
    inside = classes == 2
    assert inside.any() and (found[:, 2][inside] <= 0).all() and (found[:, 1][inside] >= 0).all()


# Numbers


@settings(max_examples=20, deadline=None)
@given(st.sampled_from([torch.float32, torch.bfloat16, torch.float16]), st.floats(-6e4, 6e4))
def test_gradients_stay_finite_at_extreme_logits(dtype, height):
    label = nested()

    def extreme(x, name):
        return torch.full_like(x, height) if name in ("masks", "scores") else x

    output = output_of(label, spoil=lambda x, name: extreme(x, name).to(dtype))
    assert value(output, label).isfinite()
    for name, found in gradients(output, label).items():
        assert found is None or found.isfinite().all(), name


def test_images_without_structures_give_a_finite_loss():
    label = torch.zeros(2, 2, 32, 32)
    found = gradients(output_of(label), label)
    assert value(output_of(label), label).isfinite() and found["mask 0"].isfinite().all() and found["mask 0"].any()
