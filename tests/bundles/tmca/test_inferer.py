"""Inference with sentences: windows share the sentence of their image and know where in it they lie."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tmca.inferer import SentenceInferer, VariantInferer, warn_of_windows
from tmca.pyramid import PositionCode

from tests.bundles.tmca.small_network import LEFT, build


class Listening:
    """A network that counts its calls and returns for each image the length of its sentence."""

    def __init__(self):
        self.calls = 0

    def __call__(self, image, text, place=None):
        self.calls += 1
        texts = text * (len(image) // len(text))
        return torch.stack([torch.full_like(x, len(t)) for x, t in zip(image, texts)])


@pytest.mark.parametrize("size", [32, 80])
def test_windows_share_the_sentence_of_their_image(size):
    network, image = Listening(), torch.rand(2, 1, size, 48)
    found = SentenceInferer(roi_size=48, sw_batch_size=4)(image, network, ["ab", "abcd"])
    assert found.shape == image.shape
    torch.testing.assert_close(found[:, 0, 0, 0], torch.tensor([2.0, 4.0]))
    assert torch.allclose(found, found[:, :, :1, :1].expand_as(found))
    assert network.calls == (1 if size == 32 else 2)


def test_windows_without_a_sentence():
    assert SentenceInferer(roi_size=(32, 32))(torch.rand(1, 1, 40, 40), Listening()).max() == 0


def test_variants_are_channels():
    inferer = VariantInferer(SentenceInferer(roi_size=32))
    found = inferer(torch.rand(2, 1, 32, 32), Listening(), ["a", "ab"], ["", ""], ["abc", "abcd"])
    assert found[:, :, 0, 0].tolist() == [[1, 0, 3], [2, 0, 4]]


# Places


@pytest.mark.filterwarnings("always")
def test_windows_with_a_sentence_are_mentioned_once(recwarn):
    warn_of_windows.cache_clear()
    inferer = SentenceInferer(roi_size=32)
    inferer(torch.rand(1, 1, 32, 32), Listening(), "lower left lung")
    inferer(torch.rand(1, 1, 40, 40), Listening(), "")
    assert not recwarn
    for _ in range(2):
        inferer(torch.rand(1, 1, 40, 40), Listening(), "lower left lung")
    (warning,) = recwarn
    assert "larger than 32 x 32 pixels" in str(warning.message) and "--resize true" in str(warning.message)


def coordinates(image, text, place=None):
    """A network that returns row and column of every pixel as shares of the whole image."""
    if place is None:
        place = torch.tensor([[0.0, 1.0, 0.0, 1.0]]).expand(len(image), -1)
    height, width = image.shape[2:]
    rows, columns = ((torch.arange(n) + 0.5) / n for n in (height, width))
    top, bottom, left, right = place[:, :, None, None].unbind(1)
    rows = (top + (bottom - top) * rows[:, None]).expand(-1, height, width)
    return torch.stack([rows, (left + (right - left) * columns).expand(-1, height, width)], 1)


@settings(max_examples=20, deadline=None)
@given(st.integers(20, 90), st.integers(20, 90), st.sampled_from([0.25, 0.5]), st.integers(1, 4))
def test_windows_know_where_in_the_image_they_lie(height, width, overlap, batch):
    inferer = SentenceInferer(roi_size=32, sw_batch_size=batch, overlap=overlap)
    found = inferer(torch.rand(1, 1, height, width), coordinates, "lower left lung")
    padded = [max(side, 32) if max(height, width) > 32 else side for side in (height, width)]
    wanted = coordinates(torch.zeros(1, 1, *padded), "")
    top, left = ((p - side) // 2 for p, side in zip(padded, (height, width)))
    wanted = wanted[:, :, top : top + height, left : left + width]
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)


def test_the_position_code_of_a_window_is_cut_from_that_of_the_image():
    code = PositionCode(8)
    with torch.no_grad():
        whole = code(12, 20)
        torch.testing.assert_close(code(12, 20, torch.tensor([[0.0, 1.0, 0.0, 1.0]])), whole, atol=0, rtol=0)
        window = code(6, 5, torch.tensor([[0.5, 1.0, 0.25, 0.5], [0.0, 0.5, 0.75, 1.0]]))
    torch.testing.assert_close(window[:1], whole[:, :, 6:, 5:10], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(window[1:], whole[:, :, :6, 15:], atol=1e-5, rtol=1e-5)


def test_the_network_takes_the_place_of_a_window_into_account():
    network, image = build(stir=True), torch.rand(1, 1, 64, 64)
    with torch.no_grad():
        whole = network(image, LEFT)
        same = network(image, LEFT, place=torch.tensor([[0.0, 1.0, 0.0, 1.0]]))
        corner = network(image, LEFT, place=torch.tensor([[0.5, 1.0, 0.0, 0.5]]))
    assert torch.equal(whole, same)
    assert not torch.allclose(whole, corner, atol=1e-3)
