"""Images brought to one scale, and to sides that can be halved."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.layers.fitting import pad_to_multiple, standardize


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 70), st.integers(1, 70), st.sampled_from([8, 16, 32]))
def test_padding_keeps_the_image_and_repeats_its_border(height, width, multiple):
    image = torch.rand(2, 3, height, width)
    padded = pad_to_multiple(image, multiple)
    rows, columns = padded.shape[-2:]
    assert rows % multiple == columns % multiple == 0 and columns >= 2 * multiple
    assert rows - height < multiple and columns - width < 2 * multiple
    assert torch.equal(padded[..., :height, :width], image)
    assert torch.equal(padded[..., height:, :width], image[..., -1:, :].expand(-1, -1, rows - height, -1))
    assert torch.equal(padded[..., width:], padded[..., width - 1 : width].expand(-1, -1, -1, columns - width))


def test_gain_and_offset_of_a_channel_drop_out():
    image = torch.rand(2, 3, 9, 7)
    one = standardize(image)
    torch.testing.assert_close(one.mean((2, 3)), torch.zeros(2, 3), atol=1e-5, rtol=0)
    torch.testing.assert_close(one.std((2, 3), correction=0), torch.ones(2, 3), atol=1e-3, rtol=0)
    gain, offset = torch.tensor([0.5, 1.0, 3.0])[:, None, None], torch.tensor([0.0, 2.0, -1.0])[:, None, None]
    torch.testing.assert_close(standardize(gain * image + offset), one, atol=1e-3, rtol=0)
    assert not standardize(torch.full((1, 1, 4, 4), 0.3)).any()
