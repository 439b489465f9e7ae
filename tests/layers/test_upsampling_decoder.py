"""The layer-by-layer decoder: sizes, deep supervision, every input used, strides of ViTs and of pyramids."""

import pytest
import torch

from shared.layers.upsampling_decoder import DetailStem, LayerwiseUpsamplingDecoder, ResidualBlock

LAYOUTS = {
    "vit 16": ([12] * 4, [16] * 4),
    "vit 8": ([12] * 4, [8] * 4),
    "pyramid": ([6, 8, 10, 12], [4, 8, 16, 16]),
    "swin": ([6, 8, 10, 12], [4, 8, 16, 32]),
    "tiny vit": ([6, 8, 10, 10], [2, 4, 4, 4]),
}
STEM = (4, 6, 8)


def build(layout, classes=3, size=(64, 32), **options):
    channels, strides = LAYOUTS[layout]
    torch.manual_seed(0)
    features = [torch.randn(2, c, size[0] // s, size[1] // s) for c, s in zip(channels, strides)]
    details = DetailStem(2, STEM)(torch.randn(2, 2, *size))
    return LayerwiseUpsamplingDecoder(channels, strides, STEM, classes, **options), features, details


def test_detail_stem_halves_step_by_step():
    details = DetailStem(3, (4, 6, 8, 10))(torch.randn(2, 3, 40, 24))
    assert [tuple(x.shape) for x in details] == [(2, 4, 40, 24), (2, 6, 20, 12), (2, 8, 10, 6), (2, 10, 5, 3)]


def test_residual_block_shapes():
    for stride in (1, 2):
        assert ResidualBlock(4, 6, stride)(torch.randn(1, 4, 8, 8)).shape == (1, 6, 8 // stride, 8 // stride)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_full_resolution_comes_first_and_in_evaluation_alone(layout):
    decoder, features, details = build(layout)
    shapes = [tuple(x.shape) for x in decoder(features, details)]
    assert shapes == [(2, 3, 64 >> i, 32 >> i) for i in range(len(shapes))]
    assert len(shapes) == min(2, LAYOUTS[layout][1][-1].bit_length() - 1) + 1
    masks = decoder.eval()(features, details)
    assert len(masks) == 1 and masks[0].shape == (2, 3, 64, 32)


@pytest.mark.parametrize("norm", ["instance", "batch"])
def test_in_evaluation_an_image_knows_nothing_of_its_neighbours(norm):
    """In training the layers of "batch" look at all images of the batch, those of "instance" never do."""
    decoder, features, details = build("pyramid", norm=norm)
    alone = [[x[:1] for x in xs] for xs in (features, details)]
    with torch.no_grad():
        same = torch.allclose(decoder(features, details)[0][:1], decoder(*alone)[0], atol=1e-5)
        assert same == (norm == "instance")
        decoder.eval()
        torch.testing.assert_close(decoder(features, details)[0][:1], decoder(*alone)[0])


def test_both_norms_have_the_same_parameters():
    instance, batch = ([name for name, _ in build("swin", norm=n)[0].named_parameters()] for n in ("instance", "batch"))
    assert instance == batch


@pytest.mark.parametrize(("asked", "heads"), [(0, 1), (1, 2), (3, 4), (9, 4)])
def test_number_of_heads(asked, heads):
    decoder, features, details = build("vit 8", deep_supervision=asked)
    assert len(decoder(features, details)) == heads == len(decoder.heads)


def test_training_and_evaluation_agree_on_the_full_resolution():
    decoder, features, details = build("pyramid")
    with torch.no_grad():
        torch.testing.assert_close(decoder(features, details)[0], decoder.eval()(features, details)[0])


def test_dropout_acts_in_training_only():
    decoder, features, details = build("vit 8", dropout=0.5)
    with torch.no_grad():
        assert not torch.equal(decoder(features, details)[0], decoder(features, details)[0])
        decoder.eval()
        assert torch.equal(decoder(features, details)[0], decoder(features, details)[0])


@pytest.mark.parametrize("strides", [[4, 8, 16, 12], [12] * 4, [8, 4, 8, 8], [16, 8, 4, 4], [3, 4, 8, 8], [0, 4, 8, 8]])
def test_strides_that_make_no_sense_are_refused(strides):
    with pytest.raises(ValueError, match="powers of two"):
        LayerwiseUpsamplingDecoder([8] * 4, strides, STEM, 2)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_feature_and_every_detail_has_a_say(layout):
    decoder, features, details = build(layout)
    decoder.eval()
    with torch.no_grad():
        plain = decoder(features, details)[0]
        for i in range(4):
            other = [torch.randn_like(x) if i == j else x for j, x in enumerate(features)]
            assert not torch.allclose(decoder(other, details)[0], plain, atol=1e-4), f"feature {i}"
        for i in range(len(details)):
            other = [torch.randn_like(x) if i == j else x for j, x in enumerate(details)]
            assert not torch.allclose(decoder(features, other)[0], plain, atol=1e-4), f"detail {i}"


def test_detail_stays_where_it_was():
    """One bright pixel of the finest detail moves the mask most around that very pixel: nothing is shifted."""
    decoder, features, details = build("vit 16")
    decoder.eval()
    changed = [details[0].clone(), *details[1:]]
    changed[0][:, :, 37, 11] += 3
    with torch.no_grad():
        moved = (decoder(features, changed)[0] - decoder(features, details)[0]).abs().sum((0, 1))
    row, column = divmod(int(moved.argmax()), 32)
    assert abs(row - 37) <= 2 and abs(column - 11) <= 2


def test_prior_is_the_first_probability():
    decoder, features, details = build("vit 8", prior=0.02)
    with torch.no_grad():
        for head in decoder.heads:
            head.weight.zero_()
        for mask in decoder(features, details):
            torch.testing.assert_close(mask.sigmoid(), torch.full_like(mask, 0.02))
    assert decoder.heads[0].bias.requires_grad


@pytest.mark.parametrize("layout", LAYOUTS)
def test_gradients_reach_everything(layout):
    decoder, features, details = build(layout)
    features = [x.requires_grad_() for x in features]
    details = [x.detach().requires_grad_() for x in details]
    sum((x.square()).sum() for x in decoder(features, details)).backward()
    for i, x in enumerate(features + details):
        assert x.grad is not None and x.grad.abs().sum() > 0, i
    for name, parameter in decoder.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("layout", ["vit 16", "pyramid"])
def test_torchscript_gives_the_same(layout):
    decoder, features, details = build(layout)
    scripted = torch.jit.script(decoder)
    with torch.no_grad():
        for ours, theirs in zip(decoder(features, details), scripted(features, details)):
            torch.testing.assert_close(theirs, ours, atol=1e-5, rtol=1e-5)
