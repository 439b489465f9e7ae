"""Semantic distance and alignment: axioms of the distance, soft targets, images without sentences masked out."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.metrics import compute_dice
from tmca.alignment import (
    MASK_SIZE,
    MultiLevelAlignment,
    contrast,
    pixel_text_loss,
    pooled_over,
    semantic_distance,
    target_distribution,
)
from tmca.outputs import AlignmentInput
from tmca.texts import word_features
from torch.nn import functional as F

from tests.bundles.running import assert_one_line, input_error

BATCHES = {"batch": st.integers(1, 5), "seed": st.integers(0, 999)}


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def same(a, b, tolerance=1e-5):
    torch.testing.assert_close(a, b, atol=tolerance, rtol=tolerance)


def random_pairs(batch, seed, size=20):
    """Semantics of both signs, one of them zero at times; masks of blocks, some empty, some full, some of shares."""
    g = generator(seed)
    semantics = torch.randn(batch, 3, generator=g) * (torch.rand(batch, 1, generator=g) > 0.2)
    coarse = torch.rand(batch, 1, 3, 3, generator=g) - torch.rand(batch, 1, 1, 1, generator=g) * 2 + 0.7
    mask = F.interpolate(coarse.clamp(0, 1), size=(size, size), mode="nearest-exact")
    return semantics, mask if seed % 2 else mask.round()


def present_of(batch, seed):
    return torch.rand(batch, generator=generator(seed + 1)) > 0.4


def given_of(batch=4, seed=0, sizes=(16, 8, 4, 2), channels=6, present=None):
    """What a network might hand to the alignment, every tensor a leaf."""
    g = generator(seed)
    levels = [torch.randn(batch, channels, n, n, generator=g).requires_grad_() for n in sizes]
    maps = [torch.randn(batch, 1, n, n, generator=g).requires_grad_() for n in sizes]
    sentences = torch.randn(batch, channels, generator=g).requires_grad_()
    semantics = torch.rand(batch, 5, generator=g)
    return AlignmentInput(levels, maps, sentences, semantics, torch.ones(batch) > 0 if present is None else present)


def quarter(batch=4, size=64):
    """A target in another quarter of each image."""
    mask = torch.zeros(batch, 1, size, size)
    for i in range(batch):
        top, left = (i // 2) % 2 * size // 2, i % 2 * size // 2
        mask[i, :, top : top + size // 2, left : left + size // 2] = 1
    return mask


def reached(value, tensors):
    """Which tensors get a gradient that is not zero."""
    found = torch.autograd.grad(value, tensors, allow_unused=True, retain_graph=True)
    return [g is not None and bool(g.any()) for g in found]


# Distance


@settings(max_examples=60, deadline=None)
@given(**BATCHES, balance=st.floats(0, 1))
def test_a_distance_is_symmetric_zero_to_itself_and_in_the_unit_interval(batch, seed, balance):
    distance = semantic_distance(*random_pairs(batch, seed), balance)
    assert distance.shape == (batch, batch) and (distance >= 0).all() and (distance <= 1).all()
    same(distance, distance.t(), 1e-6)
    assert not distance.diagonal().any()


@settings(max_examples=20, deadline=None)
@given(**BATCHES, data=st.data())
def test_another_order_of_the_batch_gives_the_same_distances(batch, seed, data):
    order = data.draw(st.permutations(range(batch)))
    semantics, mask = random_pairs(batch, seed)
    moved = semantic_distance(semantics[order], mask[order])
    same(moved, semantic_distance(semantics, mask)[order][:, order], 1e-6)


@settings(max_examples=20, deadline=None)
@given(**BATCHES, gain=st.floats(0.01, 100))
def test_the_length_of_a_sentences_feature_does_not_count(batch, seed, gain):
    semantics, mask = random_pairs(batch, seed)
    same(semantic_distance(gain * semantics, mask), semantic_distance(semantics, mask))


def test_the_formula_on_numbers():
    """cos 0.6 and 0, Dice 0.5 and 0."""
    semantics = torch.tensor([[1.0, 0.0], [3.0, 4.0], [0.0, -2.0]])
    mask = torch.zeros(3, 1, 4, 4)
    mask[0, :, 0] = mask[1, :, 0, :2] = mask[1, :, 1, :2] = mask[2, :, 3] = 1
    for balance in (0.0, 0.3, 1.0):
        distance = semantic_distance(semantics, mask, balance)
        same(distance[0, 1], torch.tensor(1 - (balance * 0.6 + (1 - balance) * 0.5)))
        same(distance[0, 2], torch.tensor(1.0))


def test_a_negative_cosine_counts_as_zero():
    """Opposite sentences are as far apart as unrelated ones, and no further."""
    mask = torch.ones(3, 1, 8, 8)
    distance = semantic_distance(torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0]]), mask, balance=0.7)
    same(distance[0], torch.tensor([0.0, 0.7, 0.7]))


def test_two_empty_masks_are_the_same_and_an_empty_one_is_far_from_any_other():
    mask = torch.zeros(3, 1, 32, 32)
    mask[2, :, :2, :2] = 1
    distance = semantic_distance(torch.randn(3, 4), mask, balance=0.0)
    same(distance, torch.tensor([[0.0, 0, 1], [0, 0, 1], [1, 1, 0]]))


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 999))
def test_of_binary_masks_it_is_the_dice_of_monai(seed):
    mask = (torch.rand(2, 1, MASK_SIZE, MASK_SIZE, generator=generator(seed)) > 0.5).float()
    expected = 1 - compute_dice(mask[:1], mask[1:])[0, 0]
    same(semantic_distance(torch.ones(2, 1), mask, balance=0.0)[0, 1], expected)


def test_sentences_of_the_same_words_on_other_sides_are_apart():
    near, far, other = (
        "Upper left lung and lower right lung.",
        "upper right lung and lower left lung",
        "no infection found",
    )
    y = word_features([near, near.lower().replace(" and", ", and"), far, other])
    distance = semantic_distance(y, torch.ones(4, 1, 8, 8), balance=1.0)
    assert distance[0, 1] < 1e-6 < 0.1 < distance[0, 2] < distance[0, 3] == 1


# Targets


@settings(max_examples=40, deadline=None)
@given(**BATCHES, temperature=st.sampled_from([None, 0.02, 0.1, 1.0]))
def test_targets_sum_to_one_and_prefer_what_is_near(batch, seed, temperature):
    present = present_of(batch, seed)
    distance = semantic_distance(*random_pairs(batch, seed))
    targets = target_distribution(distance, present, temperature)
    same(targets.sum(1), torch.ones(batch))
    assert (targets >= 0).all()
    for row, near in zip(targets[present][:, present], distance[present][:, present]):
        assert (row.diff()[near.diff() > 1e-3] <= 0).all() or temperature is None
        assert row.max() == row[near.argmin()] or temperature is None
    assert not targets[present][:, ~present].any(), "an image without sentence is nobody's neighbour"


def test_hard_targets_are_the_limit_of_soft_ones():
    distance = semantic_distance(*random_pairs(4, 1))
    present = torch.ones(4) > 0
    assert distance[~torch.eye(4, dtype=torch.bool)].min() > 0.05
    hard = target_distribution(distance, present, None)
    assert torch.equal(hard, torch.eye(4))
    same(target_distribution(distance, present, 1e-3), hard)


@pytest.mark.parametrize(("targets", "together"), [("soft", True), ("hard", False)])
def test_identical_sentences_are_not_pushed_apart(targets, together):
    """Two pairs of images with the same sentence and target: whatever embeddings do to fit, those stay together."""
    semantics = word_features(["all left lung", "all left lung", "upper right lung", "upper right lung"])
    distance = semantic_distance(semantics, quarter()[[0, 0, 1, 1]])
    present = torch.ones(4) > 0
    wanted = target_distribution(distance, present, 0.1 if targets == "soft" else None)
    g = generator()
    base = torch.eye(8)[[0, 0, 1, 1]]
    images, sentences = ((base + 0.05 * torch.randn(4, 8, generator=g)).requires_grad_() for _ in range(2))
    optimizer = torch.optim.Adam([images, sentences], 0.03)
    for _ in range(100):
        optimizer.zero_grad()
        loss = contrast(images, sentences, wanted, present, 0.07)
        loss.backward()
        optimizer.step()
    for found in (images, sentences):
        cosines = [float(F.cosine_similarity(found[i], found[i + 1], dim=0)) for i in (0, 2)]
        assert (min(cosines) > 0.95) == together and (max(cosines) < 0.8) == (not together), cosines
    assert loss < 0.05


# Contrast


@settings(max_examples=40, deadline=None)
@given(**BATCHES, hard=st.booleans())
def test_contrast_is_a_divergence_of_those_who_are_there(batch, seed, hard):
    """Not negative; the others' features change neither value nor gradient; another order changes nothing."""
    g, present = generator(seed), present_of(batch, seed)
    distance = semantic_distance(*random_pairs(batch, seed))
    targets = target_distribution(distance, present, None if hard else 0.1)
    images, sentences = (torch.randn(batch, 4, generator=g).requires_grad_() for _ in range(2))
    value = contrast(images, sentences, targets, present, 0.07)
    assert value > -1e-5
    if present.sum() < 2:
        assert value.abs() < 1e-5
    other = torch.where(present[:, None], images, torch.randn(batch, 4, generator=g))
    same(contrast(other, sentences, targets, present, 0.07), value)
    for found in torch.autograd.grad(value, [images, sentences]):
        assert found.isfinite().all() and not found[~present].any()
    kept = target_distribution(distance[present][:, present], present[present], None if hard else 0.1)
    if present.any():
        same(contrast(images[present], sentences[present], kept, present[present], 0.07), value, 1e-4)
    order = torch.randperm(batch, generator=g)
    moved = contrast(images[order], sentences[order], targets[order][:, order], present[order], 0.07)
    same(moved, value, 1e-4)


def test_with_hard_targets_it_is_the_loss_of_clip():
    images, sentences = (F.normalize(torch.randn(5, 4, generator=generator(i)), dim=1) for i in range(2))
    logits, own = images @ sentences.t() / 0.2, torch.arange(5)
    expected = (F.cross_entropy(logits, own) + F.cross_entropy(logits.t(), own)) / 2
    same(contrast(3 * images, sentences / 2, torch.eye(5), torch.ones(5) > 0, 0.2), expected)


def test_it_is_zero_where_the_cosines_follow_the_targets():
    images = torch.randn(3, 4, generator=generator())
    cosines = F.normalize(images, dim=1) @ F.normalize(images, dim=1).t()
    same(contrast(images, images, (cosines / 0.3).softmax(1), torch.ones(3) > 0, 0.3), torch.tensor(0.0))


def test_features_of_zero_leave_finite_gradients():
    images, sentences = (torch.zeros(3, 4).requires_grad_() for _ in range(2))
    value = contrast(images, sentences, torch.eye(3), torch.ones(3) > 0, 0.07)
    assert all(g.isfinite().all() for g in torch.autograd.grad(value, [images, sentences]))


# Levels


def test_features_are_pooled_over_the_target():
    level = torch.randn(4, 3, 8, 8, generator=generator())
    mask = quarter()
    pooled = pooled_over(level, mask)
    same(pooled[1], level[1, :, :4, 4:].mean((1, 2)))
    outside = F.interpolate(mask, size=8, mode="nearest-exact") == 0
    same(pooled_over(torch.where(outside, 100.0, level), mask), pooled)
    same(pooled_over(level, torch.zeros_like(mask)), level.mean((2, 3)))
    same(pooled_over(level, 0.3 * mask), pooled)


def test_a_position_counts_by_the_share_of_target_in_it():
    mask = torch.zeros(1, 1, 8, 8)
    mask[..., :4, :4] = 1
    mask[..., 4:, 4:6] = 1
    same(pooled_over(torch.tensor([[[[3.0, 9.0], [9.0, 6.0]]]]), mask), torch.tensor([[4.0]]))


def test_multilevel_teaches_every_level_inside_the_target_only():
    given, mask = given_of(), quarter()
    value = MultiLevelAlignment()(given, mask)
    assert reached(value, [*given.levels, given.sentences, *given.maps]) == [True] * 5 + [False] * 4
    for level in given.levels:
        (found,) = torch.autograd.grad(value, level, retain_graph=True)
        inside = F.interpolate(mask, size=level.shape[-2:], mode="nearest-exact").bool().expand_as(found)
        assert found[inside].any() and not found[~inside].any()


def test_global_teaches_the_deepest_level_alone_wherever_the_target_is():
    given = given_of()
    alignment = MultiLevelAlignment("global", targets="hard")
    value = alignment(given, quarter())
    assert reached(value, [*given.levels, given.sentences]) == [False] * 3 + [True] * 2
    same(alignment(given, quarter()[[3, 2, 1, 0]]), value)
    (found,) = torch.autograd.grad(value, given.levels[-1])
    assert found.flatten(2).any(1).all(), "every position"


def test_levels_weigh_a_quarter_a_half_three_quarters_and_one():
    mask, full = quarter(), given_of()
    flat = [torch.zeros_like(level) for level in full.levels]
    alignment = MultiLevelAlignment()
    none = alignment(full._replace(levels=flat), mask)
    parts = []
    for i, level in enumerate(full.levels):
        alone = alignment(full._replace(levels=[*flat[:i], level, *flat[i + 1 :]]), mask) - none
        deepest = alignment(full._replace(levels=[*flat[:3], level]), mask) - none
        same(alone, (0.25, 0.5, 0.75, 1.0)[i] * deepest)
        parts.append(alone)
    same(alignment(full, mask) - none, sum(parts), 1e-4)


def test_soft_targets_ask_less_of_alike_pairs():
    """All images alike: soft targets are met by equal features, hard ones cannot be."""
    given = given_of()
    alike = given._replace(semantics=torch.ones(4, 2), levels=[torch.ones_like(x) for x in given.levels])
    alike = alike._replace(sentences=torch.ones_like(given.sentences))
    mask = quarter()[[0, 0, 0, 0]]
    assert MultiLevelAlignment(targets="soft")(alike, mask) < 1e-4
    same(MultiLevelAlignment(targets="hard")(alike, mask), 2.5 * torch.tensor(4.0).log())


def test_images_without_sentence_have_no_part_in_any_term():
    present = torch.tensor([True, False, True, True])
    given, mask = given_of(present=present), quarter()
    for term in (MultiLevelAlignment(), MultiLevelAlignment("global"), pixel_text_loss):
        value = term(given, mask)
        assert value > 0
        for found in torch.autograd.grad(value, [*given.levels, *given.maps], allow_unused=True, retain_graph=True):
            assert found is None or not found[1].any()
    nobody = given._replace(present=torch.zeros(4) > 0)
    for term in (MultiLevelAlignment(), MultiLevelAlignment("global"), pixel_text_loss):
        value = term(nobody, mask)
        assert value.abs() < 1e-6 and not any(reached(value, [*given.levels, *given.maps]))


# Pixels


def test_pixel_text_teaches_the_low_levels_where_the_target_is():
    given, mask = given_of(), quarter()
    assert reached(pixel_text_loss(given, mask), given.maps) == [True, True, False, False]
    right = [20 * F.interpolate(mask, size=m.shape[-2:], mode="nearest-exact") - 10 for m in given.maps]
    costs = [pixel_text_loss(given._replace(maps=[sign * m for m in right]), mask) for sign in (1, 0.1, -1)]
    assert costs[0] < 1e-3 < costs[1] < 1 < costs[2]


def test_a_position_on_the_border_wants_its_share():
    mask = torch.zeros(2, 1, 8, 8)
    mask[..., :1] = 1  # a quarter of each position of the first column, none of the other
    given = given_of(2, sizes=(2, 2, 2, 2))
    wanted = torch.tensor([[0.25, 1e-6]]).expand(2, 1, 2, 2).logit()
    best = pixel_text_loss(given._replace(maps=[wanted] * 4), mask)
    for share in (0.2, 0.3):
        other = torch.tensor([[share, 1e-6]]).expand(2, 1, 2, 2).logit()
        assert pixel_text_loss(given._replace(maps=[other] * 4), mask) > best


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        ({"alignment": "local"}, ["unknown alignment 'local'", "off, global, multilevel"]),
        ({"targets": "softish"}, ["unknown targets 'softish'", "soft, hard"]),
    ],
)
def test_unknown_switches_are_one_line(options, parts):
    assert_one_line(input_error(MultiLevelAlignment, **options), parts)
