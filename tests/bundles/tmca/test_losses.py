"""The loss of TMCA: one switch per term, finite for all logits."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.losses import DiceCELoss
from tmca.losses import TMCALoss
from tmca.outputs import AlignmentInput, TrainingOutput
from torch.nn import functional as F

from tests.bundles.running import assert_one_line, input_error

PLAIN = {"lambda_align": 0.0, "lambda_pixel": 0.0}


def discs(batch=3, size=32):
    """A target (B, 1, size, size) in another place in every image."""
    rows, columns = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    away = [(rows - 8 - 6 * i) ** 2 + (columns - 20 + 5 * i) ** 2 for i in range(batch)]
    return (torch.stack(away) < 36).float()[:, None]


def output_of(label, seed=0, noise=1.0, fill=None, dtype=torch.float32):
    """What a network might return for a label; `fill` in place of every logit."""
    g = torch.Generator().manual_seed(seed)

    def leaf(x):
        x = x + noise * torch.randn(x.shape, generator=g) if fill is None else torch.full_like(x, fill)
        return x.to(dtype).requires_grad_()

    masks = [leaf(8 * F.interpolate(label, scale_factor=0.5**i, mode="nearest-exact") - 4) for i in range(3)]
    sizes = [(len(label), 6, label.shape[-2] // s, label.shape[-1] // s) for s in (4, 8, 16, 32)]
    levels = [leaf(torch.randn(size, generator=g)) for size in sizes]
    maps = [leaf(torch.zeros(size)[:, :1]) for size in sizes]
    sentences = leaf(torch.randn(len(label), 6, generator=g))
    semantics = torch.rand(len(label), 5, generator=g)
    return TrainingOutput(masks, AlignmentInput(levels, maps, sentences, semantics, torch.ones(len(label)) > 0))


def value(output, label, **options):
    return TMCALoss(**options)(output, label)


def reached(output, label, **options):
    """Which of masks, levels, maps and sentences get a gradient."""
    given = output.alignment
    tensors = [output.masks, given.levels, given.maps, [given.sentences]]
    found = torch.autograd.grad(value(output, label, **options), sum(tensors, []), allow_unused=True)
    flags = iter([g is not None and bool(g.any()) for g in found])
    return tuple(any([next(flags) for _ in group]) for group in tensors)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, (True, True, True, True)),
        ({"targets": "hard"}, (True, True, True, True)),
        ({"alignment": "global"}, (True, True, False, True)),
        ({"alignment": "off"}, (True, False, False, False)),
        ({"lambda_align": 0.0}, (True, False, True, False)),
        ({"lambda_pixel": 0.0}, (True, True, False, True)),
    ],
)
def test_switches_say_what_learns(options, expected):
    label = discs()
    assert reached(output_of(label), label, **options) == expected


@pytest.mark.parametrize("name", list(PLAIN))
def test_a_lambda_scales_its_term_alone(name):
    label = discs()
    output = output_of(label)
    masks, once, twice = (value(output, label, **{**PLAIN, name: x}) for x in (0.0, 0.1, 0.2))
    assert once > masks + 1e-3
    torch.testing.assert_close(twice - once, once - masks)
    parts = [value(output, label, **{**PLAIN, key: 0.1}) - masks for key in PLAIN]
    torch.testing.assert_close(value(output, label), masks + sum(parts))


def test_without_sentences_the_masks_remain():
    label = discs()
    output = output_of(label)
    torch.testing.assert_close(value(TrainingOutput(output.masks, None), label), value(output, label, alignment="off"))
    torch.testing.assert_close(value(output, label, alignment="off"), value(output, label, **PLAIN))


def test_an_image_that_was_segmented_twice_has_its_label_twice():
    label = discs()
    output = output_of(label)
    again = torch.tensor([1])
    twice = output._replace(masks=[torch.cat([mask, mask[again]]) for mask in output.masks], again=again)
    by_hand = TrainingOutput(twice.masks, None), torch.cat([label, label[again]])
    torch.testing.assert_close(value(twice, label, **PLAIN), value(*by_hand))
    assert value(twice, label, **PLAIN) != value(twice._replace(again=torch.tensor([0])), label, **PLAIN)


def test_soft_and_hard_targets_differ():
    label = discs()
    output = output_of(label)
    assert (value(output, label, targets="soft") - value(output, label, targets="hard")).abs() > 1e-3


def test_masks_weigh_one_a_half_and_a_quarter():
    label = discs()
    output = output_of(label)
    single = DiceCELoss(sigmoid=True)
    parts = [single(m, F.interpolate(label, size=m.shape[-2:], mode="nearest-exact")) for m in output.masks]
    torch.testing.assert_close(value(output, label, **PLAIN), parts[0] + parts[1] / 2 + parts[2] / 4)


def test_better_masks_cost_less():
    label = discs()
    losses = [value(output_of(label, noise=noise), label, **PLAIN) for noise in (0.0, 3.0, 9.0)]
    assert losses[0] < losses[1] < losses[2]


@pytest.mark.parametrize("options", [{}, {"alignment": "global"}, {"targets": "hard"}])
def test_another_order_of_the_batch_costs_the_same(options):
    label, order = discs(), [2, 0, 1]
    output = output_of(label)
    masks, given, _ = output
    moved = AlignmentInput([x[order] for x in given[0]], [x[order] for x in given[1]], *(x[order] for x in given[2:]))
    there = value(TrainingOutput([x[order] for x in masks], moved), label[order], **options)
    torch.testing.assert_close(there, value(output, label, **options))


@settings(max_examples=20, deadline=None)
@given(st.sampled_from([torch.float32, torch.bfloat16, torch.float16]), st.floats(-3e4, 3e4), st.booleans())
def test_gradients_stay_finite_at_extreme_values(dtype, fill, empty):
    label = discs() * (not empty)
    output = output_of(label, fill=fill, dtype=dtype)
    loss = value(output, label)
    assert loss.isfinite()
    given = output.alignment
    for found in torch.autograd.grad(loss, [*output.masks, *given.levels, *given.maps[:2], given.sentences]):
        assert found.isfinite().all()


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        ({"alignment": "none"}, ["unknown alignment 'none'", "off, global, multilevel"]),
        ({"targets": "firm"}, ["unknown targets 'firm'", "soft, hard"]),
    ],
)
def test_unknown_switches_are_one_line(options, parts):
    assert_one_line(input_error(TMCALoss, **options), parts)


def test_masks_of_half_precision_are_summed_in_full():
    """A sum over an image's pixels has more digits than bfloat16 keeps."""
    label = discs()
    half = output_of(label, dtype=torch.bfloat16)
    full = half._replace(masks=[mask.float() for mask in half.masks])
    assert value(half, label, **PLAIN).item() == value(full, label, **PLAIN).item()
