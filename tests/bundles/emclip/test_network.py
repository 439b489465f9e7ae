"""EM-CLIP: any size, text features saved with the weights, ablation switches, invariance to a camera's colour."""

import copy

import open_clip
import pytest
import torch
from emclip import towers
from emclip.aggregation import TEMPERATURE, centre_scores, closeness, cosine_scores
from emclip.losses import score_loss
from emclip.network import EMCLIP, GUIDANCE
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.backbones.text import build_clip
from tests.bundles.emclip.facts import SENTENCES
from tests.bundles.running import assert_one_line, input_error

STRUCTURES = len(SENTENCES) - 1
OTHER = "a drusen, a small yellow spot beneath the retina"


def build(seed=0, stir=False, sentences=SENTENCES, **options):
    """A network; stirred, every parameter is random, so that nothing hides behind a start at zero."""
    torch.manual_seed(seed)
    network = EMCLIP(sentences, **{"dropout": 0.0} | options)
    if stir:
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.add_(0.05 * torch.randn_like(parameter))
    return network.train().eval()  # on the way the features of the texts follow the context


@pytest.fixture(scope="module")
def network():
    """Not to be changed: shared by the tests that only look."""
    return build(stir=True)


def pictures(batch=2, channels=3, height=48, width=32, seed=0):
    return torch.rand(batch, channels, height, width, generator=torch.Generator().manual_seed(seed))


def same(a, b, tolerance=1e-5):
    torch.testing.assert_close(a, b, atol=tolerance, rtol=tolerance)


def masks_of(network, image=None):
    with torch.no_grad():
        return network(pictures() if image is None else image)


def step(network, image=None, rate=0.05):
    """One step of training on everything that the network returns then."""
    network.train()
    optimizer = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], rate)
    output = network(pictures() if image is None else image)
    terms = [*output.masks, *(x for x in (output.scores, output.compactness, output.prompts) if x is not None)]
    sum(x.float().square().mean() for x in terms).backward()
    optimizer.step()
    return output


SHARED: dict[str, EMCLIP] = {}  # hypothesis takes no fixture of this scope


@settings(max_examples=12, deadline=None)
@given(st.integers(1, 45), st.integers(1, 45), st.sampled_from([1, 3]), st.booleans())
def test_any_size_gives_masks_of_that_size(height, width, channels, training):
    network = SHARED.setdefault("any size", build(stir=True, deep_supervision=2)).train(training)
    with torch.no_grad():
        masks = network(pictures(1, channels, height, width))
    if training:
        masks = masks.masks
        assert [tuple(x.shape[2:]) for x in masks] == [(-(-height // s), -(-width // s)) for s in (1, 2, 4)]
        masks = masks[0]
    assert masks.shape == (1, STRUCTURES, height, width) and masks.isfinite().all()


def test_a_grey_image_is_one_of_equal_channels(network):
    grey = pictures(channels=1)
    same(masks_of(network, grey), masks_of(network, grey.expand(-1, 3, -1, -1)))


def test_gain_and_offset_of_a_channel_do_not_change_the_masks(network):
    """What a camera's lamp and white balance do; with CLIP's own statistics they do matter."""
    image = pictures()
    gain, offset = torch.tensor([0.7, 1.4, 0.5])[:, None, None], torch.tensor([0.1, -0.2, 0.3])[:, None, None]
    same(masks_of(network, image), masks_of(network, gain * image + offset), 1e-3)
    plain = build(stir=True, normalization="clip")
    assert not torch.allclose(masks_of(plain, image), masks_of(plain, gain * image + offset), atol=1e-2)


def test_images_of_a_batch_do_not_influence_each_other(network):
    image = pictures(3)
    together = masks_of(network, image)
    for i in range(3):
        same(masks_of(network, image[i : i + 1]), together[i : i + 1])


@pytest.mark.parametrize(
    ("options", "absent"),
    [
        ({}, []),
        *(({"text_guidance": where}, ["texts"] if where == "none" else []) for where in GUIDANCE),
        ({"em": False}, ["em"]),
        ({"anchors": False}, []),
        ({"em_iterations": 0}, []),
        ({"num_context": 0}, []),
        ({"num_free": 0}, []),
        ({"num_free": 3}, []),
        ({"guidance_layers": 0}, []),
        ({"deep_supervision": 0}, []),
        ({"text_guidance": "none", "em": False}, ["texts", "em"]),
        ({"encoder_size": 64}, []),
    ],
)
def test_switches_build_train_and_say_what_they_leave_out(options, absent):
    network = build(stir=True, **options)
    assert all(getattr(network, name) is None for name in absent)
    output = step(network, rate=0.0)
    unreached = [n for n, p in network.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())]
    assert [name for name in unreached if not name.endswith(("in_proj_bias", "key_value.bias", "key.bias"))] == []
    classes, tokens = len(SENTENCES), (4, 4) if "encoder_size" in options else (3, 2)
    depths = 1 + options.get("deep_supervision", 2)
    assert len(output.masks) <= depths and output.masks[0].shape == (2, STRUCTURES, 48, 32)
    with_text = "texts" not in absent
    assert (output.scores is not None) == with_text and (output.prompts is not None) == with_text
    assert (output.compactness is None) == ("em" in absent)
    if with_text:
        assert output.scores.shape == (2, classes, *tokens)
        assert output.prompts.shape == output.frozen.shape and len(output.prompts) == classes
        assert torch.equal(output.prompts, output.frozen) == (options.get("num_context") == 0)
    if "em" not in absent:
        assert output.compactness.shape == (2,) and (output.compactness >= 0).all() and (output.compactness <= 2).all()
        shares = network.eval().clusters(pictures())
        assert shares.shape[0] == 2 and shares.shape[2:] == tokens
        assert network.anchors == (with_text and options.get("anchors", True))
        if "num_free" in options:
            assert shares.shape[1] == classes + options["num_free"]
        same(shares.sum(1), torch.ones(2, *tokens))
    else:
        assert network.clusters(pictures()) is None


def test_without_anchors_there_are_as_many_centres():
    counts = [build(anchors=on).clusters(pictures()).shape[1] for on in (True, False)]
    assert counts[0] == counts[1]


@pytest.mark.parametrize(("em", "anchors"), [(True, True), (True, False), (False, True)])
def test_the_score_map_is_the_class_of_a_tokens_centres_or_of_the_nearest_text(em, anchors):
    network = build(stir=True, em=em, anchors=anchors)
    with torch.no_grad():
        prompts = network.texts().prompts
        feature = network.encode(network.prepare(pictures()))[-1]
        _, shares, scores, _ = network.aggregate(feature, prompts)
    classes = scores.softmax(1)
    if em and anchors:
        same(classes[:, 1:], shares[:, 1 : len(SENTENCES)])
        same(classes[:, 0], shares[:, 0] + shares[:, len(SENTENCES) :].sum(1))
    else:
        assert torch.equal(classes.argmax(1), torch.cosine_similarity(
            feature[:, None], prompts[None, :, :, None, None], dim=2
        ).argmax(1))  # fmt: skip


def test_em_starts_as_the_identity():
    """W_o starts at zero: the tokens are left as they are until it moves."""
    on, off = build(stir=False), build(em=False)
    off.load_state_dict({k: v for k, v in on.state_dict().items() if not k.startswith("em.")})
    same(masks_of(on), masks_of(off))
    torch.nn.init.normal_(on.em.output.weight)
    assert not torch.allclose(masks_of(on), masks_of(off), atol=1e-3)


def test_text_reaches_the_pixels_only_where_it_is_told_to():
    """With queries held fast, another sentence changes the masks through the guidance alone."""
    for where, layers, moves in (("deepest", 0, False), ("deepest", 1, True), ("all", 0, True)):
        network = build(stir=True, text_guidance=where, guidance_layers=layers, em=False)
        image = network.prepare(pictures())
        with torch.no_grad():
            features = network.encode(image)
            pixels = network.aggregate(features[-1], network.texts().prompts)[0]
            seen = [network.guide(features, pixels, t) for t in (torch.randn(3, pixels.shape[2]) for _ in range(2))]
        assert any(not torch.allclose(a, b, atol=1e-5) for a, b in zip(*seen)) == moves, (where, layers)


def test_permuting_the_sentences_permutes_the_masks(network):
    background, *rest = SENTENCES
    turned = build(stir=True, sentences=[background, *reversed(rest)])
    turned.load_state_dict(network.state_dict())
    same(masks_of(turned), masks_of(network).flip(1), 1e-4)


def test_a_sentence_alone_gives_the_mask_that_it_gives_among_others():
    """Where nothing but its own query knows it: no guidance by text, no EM round the others."""
    network = build(stir=True, guidance_layers=0, em=False)
    alone = build(stir=True, sentences=[SENTENCES[0], SENTENCES[-1]], guidance_layers=0, em=False)
    alone.load_state_dict(network.state_dict())
    same(masks_of(alone), masks_of(network)[:, -1:])


# Texts


def test_trained_weights_need_no_tower(tmp_path):
    network = build()
    for _ in range(2):
        step(network)
    torch.save(network.state_dict(), tmp_path / "model.pt")
    without = build(7, text_tower=False)
    without.load_state_dict(torch.load(tmp_path / "model.pt", weights_only=True))
    assert torch.equal(masks_of(without), masks_of(network.eval()))


def test_weights_are_up_to_date_without_a_change_of_mode():
    """Checkpoints are written while the network is in training mode: the state_dict brings the features along."""
    network = build()
    first = network.state_dict()["texts.learned"].clone()
    step(network)
    assert network.training
    second = network.state_dict()["texts.learned"].clone()
    rows = len(SENTENCES)
    assert not torch.allclose(first[:rows], second[:rows], atol=1e-6) and not second[rows:].any()
    with torch.no_grad():
        same(second[:rows], network.texts().prompts)


def test_a_copy_has_features_of_its_own():
    network = build()
    other = copy.deepcopy(network)
    step(other)
    assert not torch.equal(other.state_dict()["texts.learned"], network.state_dict()["texts.learned"])


def test_the_tower_is_neither_saved_nor_trained():
    network = build()
    with_tower, without = network.state_dict(), build(text_tower=False).state_dict()
    assert with_tower.keys() == without.keys()
    step(network)
    (tower,) = network.texts._encoder
    assert all(p.grad is None and not p.requires_grad for p in tower.parameters())
    own = set(map(id, network.parameters()))
    assert not any(id(p) in own for p in tower.parameters())


def test_learned_context_gets_a_gradient_through_the_tower():
    network = build()
    step(network, rate=0.0)
    assert network.texts.context.context.grad.any()


def test_another_sentence_without_the_tower_is_one_line(network):
    without = build(sentences=[*SENTENCES[:-1], OTHER], text_tower=False)
    assert masks_of(without).shape[1] == STRUCTURES, "nothing is loaded yet: a network like any other"
    line = input_error(without.load_state_dict, network.state_dict())
    assert_one_line(line, [OTHER, "the weights hold no text features", "set text_tower to true", SENTENCES[0][:40]])


@pytest.mark.parametrize("num_context", [0, 4])
def test_another_sentence_with_the_tower_works(num_context):
    """Weights of the old words, new words: as if the network had been built with both."""
    trained = build(stir=True, num_context=num_context)
    sentences = [*SENTENCES, OTHER]
    both = build(stir=True, num_context=num_context, sentences=sentences)
    reworded = build(3, num_context=num_context, sentences=sentences)
    reworded.load_state_dict(trained.state_dict())
    masks = masks_of(reworded)
    same(masks, masks_of(both))
    later = build(4, num_context=num_context, sentences=sentences, text_tower=False)
    later.load_state_dict(reworded.state_dict())
    same(masks_of(later), masks)


@pytest.mark.parametrize(
    ("words", "num_context"), [("very " * 100, 0), ("very " * 100, 8), ("a bright round spot " * 8, 70)]
)
def test_a_sentence_too_long_for_the_tower_is_one_line(words, num_context, recwarn):
    line = input_error(build, sentences=[SENTENCES[0], words], num_context=num_context)
    assert_one_line(line, [words[:40], f"{num_context} vectors of context", "longer than the", "shorten it"])
    assert not [w for w in recwarn if "cut" in str(w.message)]


def test_a_sentence_that_just_fits():
    tower = build_clip()[1]
    fitting = " ".join("a" * (tower.context_length - 2))  # two special tokens
    assert int(tower.tokenize([fitting])[1].sum()) == tower.context_length
    build(sentences=[SENTENCES[0], fitting], num_context=0)
    input_error(build, sentences=[SENTENCES[0], fitting], num_context=1)


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        ({"sentences": ["the retina", " "]}, ["sentence 2 of 2 is empty", "in words"]),
        ({"sentences": ["the retina"]}, ["1 class sentences", "background"]),
        ({"encoder": "ViT-B-15"}, ["unknown CLIP model 'ViT-B-15'", "did you mean ViT-B-1"]),
        ({"encoder": "RN50"}, ["only open_clip's ViTs", "ViT-B-16"]),
        ({"text_guidance": "deep"}, ["unknown text_guidance 'deep'", "none, deepest, all"]),
        ({"normalization": "z"}, ["unknown normalization 'z'", "image, clip"]),
        ({"checkpoint": "/nowhere/clip.pt"}, ["/nowhere/clip.pt"]),
    ],
)
def test_bad_options_are_one_line(options, parts):
    assert_one_line(input_error(build, **options), parts)


# Encoders

TINY_VISION = {"image_size": 28, "patch_size": 14, "width": 32, "head_width": 16, "layers": 4}
TINY_TEXT = {"context_length": 40, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1}
CLIP = {"embed_dim": 32, "vision_cfg": TINY_VISION, "text_cfg": TINY_TEXT}
MODELS = {"tiny-14": CLIP, "tiny-14-quickgelu": {**CLIP, "quick_gelu": True}}


@pytest.fixture
def models():
    """Small models under names of their own in open_clip."""
    open_clip.factory._MODEL_CONFIGS.update(MODELS)
    yield
    for name in MODELS:
        open_clip.factory._MODEL_CONFIGS.pop(name)


@pytest.mark.parametrize("encoder_size", [None, 28])
def test_patches_that_are_no_power_of_two(models, encoder_size):
    """As in ViT-L-14 and ViT-H-14."""
    network = build(stir=True, encoder="tiny-14", encoder_size=encoder_size)
    assert masks_of(network, pictures(height=37, width=21)).shape == (2, STRUCTURES, 37, 21)
    assert len(step(network, pictures(height=37, width=21)).masks) > 1


def test_weights_with_quick_gelu_need_a_name_that_says_so(models, monkeypatch):
    """OpenAI's: inference makes the tower by its name, without the file that training began with."""
    quick = build(encoder="tiny-14-quickgelu")
    assert masks_of(quick).isfinite().all()
    monkeypatch.setattr(towers, "build_clip", lambda name, *args, **kw: build_clip("tiny-14-quickgelu", *args, **kw))
    assert_one_line(input_error(build, encoder="tiny-14"), ["quick GELU", "choose encoder tiny-14-quickgelu"])


@pytest.mark.parametrize("tuning", ["lora", "frozen"])
def test_tuning_leaves_clips_weights_alone(tuning):
    network = build(stir=True, tuning=tuning, lora_rank=2)
    step(network, rate=0.0)
    for name, parameter in network.named_parameters():
        assert parameter.requires_grad == (not name.startswith("encoder.") or "lora_" in name), name
    assert any("lora_" in name for name, _ in network.named_parameters()) == (tuning == "lora")


def test_towers_begin_the_same_whatever_ran_before():
    """Texts have no weights on disk: inference with another sentence makes the tower again."""
    first, second = build(1), build(2)
    assert torch.equal(first.texts().frozen, second.texts().frozen)
    assert all(torch.equal(a, b) for a, b in zip(first.encoder.parameters(), second.encoder.parameters()))


def test_half_precision_trains():
    network = build(stir=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = step(network)
    assert all(x.isfinite().all() for x in output.masks)
    assert all(p.grad.isfinite().all() for p in network.parameters() if p.grad is not None)


@pytest.mark.parametrize(("em", "anchors"), [(True, True), (True, False), (False, True)])
def test_similarities_are_computed_in_float32_under_autocast(em, anchors):
    """A cosine in bfloat16, divided by 0.07, is off by up to 0.06; ``.float()`` alone is undone by autocast."""
    network = build(stir=True, em=em, anchors=anchors)
    feature = torch.randn(2, network.texts().prompts.shape[1], 3, 2, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        plain = network.aggregate(feature, network.texts().prompts)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            cast = network.aggregate(feature, network.texts().prompts)
    for a, b in zip(cast, plain):
        assert (a is None) == (b is None) and (a is None or (a.dtype == torch.float32 and torch.equal(a, b)))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 3), st.integers(1, 3), st.floats(0, 80), st.integers(0, 10**6))
def test_a_class_that_lost_a_token_gets_it_back(free, lost, gap, seed):
    """The scores of a token have a gradient towards its own class, also where that share is far below 1e-6."""
    classes = 4
    scores = torch.randn(1, 1, classes + free, generator=torch.Generator().manual_seed(seed))
    scores[..., lost] -= gap
    scores.requires_grad_()
    label = torch.zeros(1, classes - 1, 8, 8)
    label[:, :lost] = 1  # a pixel belongs to the last structure that holds it
    found = centre_scores(scores.log_softmax(-1), classes)
    torch.testing.assert_close(found.exp().sum(-1), torch.ones(1, 1))
    loss = score_loss(found.transpose(1, 2).unflatten(2, (1, 1)), label)
    (gradient,) = torch.autograd.grad(loss, scores)
    share = scores.softmax(-1)[0, 0, lost].item()
    assert gradient[0, 0, lost].item() == pytest.approx(share - 1, abs=1e-5), "that of a cross-entropy"
    assert loss.item() >= gap - 8 or gap < 8


def test_cosines_and_closeness_by_hand(network):
    tokens, texts = torch.randn(1, 5, 8), torch.randn(3, 8)
    wanted = torch.cosine_similarity(tokens[:, :, None], texts, dim=-1) / TEMPERATURE
    same(cosine_scores(tokens, texts), wanted, 1e-4)
    out = network.em(torch.randn(1, 5, network.em.channels), network.texts().prompts)
    near = closeness(out.tokens.detach(), out)
    assert near.shape == (1, 5) and (near.abs() <= 1 + 1e-5).all()


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize("options", [{}, {"text_guidance": "all", "num_context": 0}, {"text_guidance": "none"}])
def test_a_trace_gives_the_same(options, tmp_path):
    network = build(stir=True, **options)
    torch.jit.save(torch.jit.trace(network, pictures(1), check_trace=False), tmp_path / "model.ts")
    traced = torch.jit.load(tmp_path / "model.ts")
    with torch.no_grad(), torch.jit.optimized_execution(False):
        same(traced(pictures(1, seed=1)), masks_of(network, pictures(1, seed=1)), 1e-5)


# Tokens without a camera's style


class Styled(torch.nn.Module):
    """An image tower whose channels all have another gain and offset, in the space of the text another offset."""

    def __init__(self, tower):
        super().__init__()
        self.tower = tower

    def forward(self, image):
        return [2.5 * feature + 1 for feature in self.tower(image)]

    def project(self, feature):
        return self.tower.project((feature - 1) / 2.5) - 2


def test_style_of_tokens_does_not_matter(monkeypatch):
    """It changes nothing; without the norm it does."""
    image = pictures()
    for option in (True, False):
        network = build(stir=True, token_norm=option)
        before = network.encode(image)
        monkeypatch.setitem(network._modules, "encoder", Styled(network.encoder))
        after = network.encode(image)
        assert [torch.allclose(a, b, atol=0.05) for a, b in zip(before, after)] == [option] * 4
        if option:
            for feature in before:
                same(feature.mean((2, 3)), torch.zeros(feature.shape[:2]), 1e-4)


def test_weights_say_whether_tokens_are_normalised(network):
    """So a run's weights are used as they were trained, whatever the option says."""
    image = pictures()
    for source in (network, build(stir=True, token_norm=False)):
        for option in (True, False):
            copy = build(token_norm=option)
            copy.load_state_dict(source.state_dict())
            assert copy.with_token_norm == source.with_token_norm
            same(masks_of(copy, image), masks_of(source, image))
