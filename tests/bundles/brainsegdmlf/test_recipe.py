"""The recipe of the shipped weights: unknown pixels, held-out patients, patches and phantoms that are replaced."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from brainsegdmlf import make_weights
from brainsegdmlf.make_weights import Stage
from brainsegdmlf.phantoms.any_contrast import head_files
from brainsegdmlf.phantoms.real_lesions import find_shapes
from brainsegdmlf.training.losses import lesion_loss
from brainsegdmlf.training.mixture import Mixture, Pictures
from brainsegdmlf.training.patches import SIDE, crop, drop_sequences, make_patch, vary_intensity
from brainsegdmlf.training.shapes import phantom_options
from brainsegdmlf.training.slices import (
    HIDDEN_WEIGHT,
    FlairSlice,
    Slice,
    held_out,
    read_slices,
    robust_scores,
    training_slices,
    unknown,
    usual_brightness,
    visibility,
)
from brainsegdmlf.training.sources import FOLDERS
from brainsegdmlf.training.validation import validation_slices
from brainsegdmlf.training.volumes import POOL, USES, Phantoms, Volume
from monai.losses import DeepSupervisionLoss, DiceFocalLoss
from PIL import Image

from shared.core.errors import InputError
from shared.engine.resumable import cosine

SHAPE = (64, 56)
BRAIN = (slice(4, 60), slice(4, 52))
STROKE = (slice(36, 46), slice(20, 30))
DISEASE = (slice(16, 24), slice(22, 30))  # bright and not labelled


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def logits_label_weight() -> tuple[list[torch.Tensor], torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = [torch.randn(2, 1, side, side, generator=generator, requires_grad=True) for side in (16, 8, 4)]
    label = (torch.rand(2, 1, 16, 16, generator=generator) < 0.3).float()
    return logits, label, (torch.rand(2, 1, 16, 16, generator=generator) < 0.6).float()


def flair_slice(patient: str = "1", plane: str = "axial", stroke: float = 160, disease: float = 170) -> FlairSlice:
    """A brain of brightness 100 with a labelled stroke and a bright area without label."""
    noise = np.random.default_rng(int(patient)).normal(0, 8, SHAPE)
    flair = np.zeros(SHAPE)
    flair[BRAIN] = 100
    flair[STROKE], flair[DISEASE] = stroke, disease
    label = np.zeros(SHAPE, bool)
    label[STROKE] = True
    return FlairSlice(patient, plane, np.where(flair > 0, flair + noise, 0).astype(np.uint8), label)


def sequences(names: int = 4) -> np.ndarray:
    image = np.zeros((names, *SHAPE), np.float32)
    image[(slice(None), *BRAIN)] = 1 + np.arange(names)[:, None, None]
    return image


def slice_of(image: np.ndarray) -> Slice:
    label = np.zeros(SHAPE, np.uint8)
    label[STROKE] = 1
    return Slice(image, label, np.ones(SHAPE, np.float32))


def test_with_all_pixels_known_the_loss_is_that_of_the_config():
    logits, label, weight = logits_label_weight()
    usual = DeepSupervisionLoss(DiceFocalLoss(sigmoid=True, batch=True, gamma=1.0, lambda_focal=4.0))
    assert lesion_loss(logits, label, torch.ones_like(weight)).item() == pytest.approx(usual(logits, label).item())


def test_labels_and_logits_of_unknown_pixels_change_neither_loss_nor_gradient():
    logits, label, weight = logits_label_weight()
    loss = lesion_loss(logits, label, weight)
    gradients = torch.autograd.grad(loss, logits)
    others = []
    for scale, found in enumerate(logits):
        known = torch.nn.functional.interpolate(weight, size=found.shape[-2:], mode="nearest-exact") > 0
        assert not gradients[scale][~known].any() and gradients[scale][known].all()
        others.append((found + 9 * ~known).detach().requires_grad_())
    flipped = torch.where(weight > 0, label, 1 - label)
    loss_of_others = lesion_loss(others, flipped, weight)
    assert loss_of_others.item() == loss.item()
    assert all(map(torch.equal, torch.autograd.grad(loss_of_others, others), gradients))


def test_a_batch_without_any_known_pixel_has_a_finite_loss():
    logits, label, weight = logits_label_weight()
    assert lesion_loss(logits, label, torch.zeros_like(weight)).isfinite()


def test_a_fifth_of_the_patients_is_held_out_always_the_same():
    chosen = [number for number in range(2000) if held_out(number)]
    assert 0.17 < len(chosen) / 2000 < 0.23
    assert chosen[:5] == [0, 7, 8, 9, 10]
    assert held_out("0007") and held_out("7") and not held_out("6")


def test_held_out_patients_and_heads_give_no_shape_to_the_phantoms_of_training(tmp_path):
    names = ["brain_heads/labels.json", *(f"brain_heads/head_{number:02d}.nii.gz" for number in range(1, 8))]
    names += [f"brain_lesion_shapes/stroke/{number}.nii.gz" for number in range(20)]
    names += [f"brain_lesion_shapes/ms/patient{number:02d}.nii.gz" for number in range(1, 15)]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    heads, shapes = [], []
    for part in (False, True):
        options = phantom_options(tmp_path, part, ["patient01", "patient08"])
        heads.append({file.name for file in head_files(options["heads_dir"], options["heads"])})
        shapes.append(find_shapes(options["lesion_dir"], options["strokes"], options["exclude"]))
    assert not heads[0] & heads[1] and len(heads[0]) == 3 and len(heads[1]) == 4
    assert [sorted(held_out(path.name.split(".")[0]) for path in part.stroke) for part in shapes] == [
        [False] * len(shapes[0].stroke),
        [True] * len(shapes[1].stroke),
    ]
    assert len(shapes[0].stroke) + len(shapes[1].stroke) == 20
    patients = [{path.name for path in part.ms} for part in shapes]
    assert not patients[0] & patients[1] and patients[1]
    assert len(patients[0] | patients[1]) == 12 and "patient08.nii.gz" not in patients[0] | patients[1]


def test_bright_tissue_without_label_is_unknown_and_the_stroke_is_not():
    item = flair_slice()
    brain = item.flair > 0
    found = unknown(robust_scores(item.flair, item.label), item.label, brain, np.zeros(SHAPE))
    assert found[18:22, 24:28].all() and not found[STROKE].any()
    found[15:25, 21:31] = False
    assert found.mean() < 0.01


def test_what_is_bright_in_all_patients_at_the_same_place_is_not_unknown():
    slices = [flair_slice(str(number)) for number in range(5)]
    scores = [robust_scores(item.flair, item.label) for item in slices]
    found = unknown(scores[0], slices[0].label, slices[0].flair > 0, usual_brightness(scores))
    assert found[DISEASE].mean() < 0.1


@pytest.mark.parametrize("brightness, expected", [(160, 1.0), (100, HIDDEN_WEIGHT)], ids=["bright", "hidden"])
def test_a_stroke_that_flair_does_not_show_counts_less(brightness, expected):
    item = flair_slice(stroke=brightness)
    weight = visibility(robust_scores(item.flair, item.label), item.label, item.flair > 0)
    assert (weight[STROKE] == np.float32(expected)).all() and (weight[~item.label] == 1).all()


def test_slices_for_training_hold_flair_alone_and_leave_unknown_pixels_out():
    quiet = [flair_slice(str(number), disease=100) for number in range(2, 8)]
    item = training_slices([flair_slice(), *quiet], channels=4)[0]
    assert item.image.shape == (4, 56, 48) and not item.image[1:].any()
    assert abs(item.image[0].mean()) < 1e-3 and abs(item.image[0].std() - 1) < 1e-3
    assert item.weight[14:18, 20:24].max() == 0 and item.label[item.weight == 0].max() == 0


def test_pictures_are_read_with_axes_to_the_right_and_up(tmp_path):
    picture = np.zeros((5, 4), np.uint8)
    picture[0, 3] = 7  # top right
    Image.fromarray(picture).save(tmp_path / "a.png")
    item = {"image": "a.png", "label": "a.png", "patient": "9", "plane": "axial"}
    (tmp_path / "dataset.json").write_text(json.dumps({"slices": [item]}))
    (found,) = read_slices(tmp_path)
    assert found.flair.shape == (4, 5) and found.flair[3, 4] == 7 and found.label.sum() == 1


def test_a_list_without_slices_is_refused(tmp_path):
    (tmp_path / "dataset.json").write_text("{}")
    with pytest.raises(InputError, match="no list 'slices'"):
        read_slices(tmp_path)


def test_patches_have_one_size_and_stay_zero_outside_the_brain(rng):
    for _ in range(20):
        patch = make_patch(rng, slice_of(sequences()))
        assert patch["image"].shape == (4, SIDE, SIDE) and patch["label"].shape == (1, SIDE, SIDE)
        outside = ~(patch["image"] != 0).any(0)
        assert outside.any() and not patch["label"][0, outside].any()  # the stroke lies within the brain
        assert set(patch["label"].unique().tolist()) <= {0.0, 1.0}


def test_image_label_and_weight_move_together(rng):
    item = slice_of(sequences(1))
    item.image[0][STROKE] = 50
    item.weight[STROKE] = 0
    for image, label, weight in [crop(rng, item) for _ in range(10)]:
        assert ((weight == 0) == (label == 1)).all()
        assert ((image[0] > 25) != (label == 1)).sum() <= 0.1 * label.sum()  # its corners


def test_patches_that_are_not_deformed_hold_the_pixels_themselves(rng):
    image = rng.integers(1, 100, (1, 120, 110)).astype(np.float32)
    item = Slice(image, np.zeros((120, 110), np.uint8), np.ones((120, 110), np.float32))
    patches = [crop(rng, item)[0] for _ in range(40)]
    exact = [np.abs(patch - patch.round()).max() < 0.01 for patch in patches]  # interpolated values are no integers
    assert 0.3 < np.mean(exact) < 0.7


def test_patches_of_large_slices_hold_little_air_even_around_lesions_at_the_edge(rng):
    label = np.zeros((200, 180), np.uint8)
    label[:3, :3] = 1
    item = Slice(np.ones((1, 200, 180), np.float32), label, np.ones((200, 180), np.float32))
    patches = [crop(rng, item) for _ in range(60)]
    assert min((image != 0).mean() for image, _, _ in patches) > 0.5
    assert np.mean([found.any() for _, found, _ in patches]) > 0.4


def test_dropping_keeps_at_least_one_sequence_and_each_alone_comes_up(rng):
    kept = {tuple(drop_sequences(rng, sequences()).any((1, 2))) for _ in range(300)}
    assert not any(not any(k) for k in kept) and (True,) * 4 in kept
    assert {(True, False, False, False), (False, True, False, False), (False, False, False, True)} <= kept


def test_an_image_of_one_sequence_keeps_it(rng):
    image = sequences()
    image[1:] = 0
    assert all(np.array_equal(drop_sequences(rng, image), image) for _ in range(50))


def test_contrast_changes_within_the_tissue_only(rng):
    image = sequences()
    changed = [vary_intensity(rng, image) for _ in range(30)]
    assert all(not c[image == 0].any() for c in changed) and any(not np.array_equal(c, image) for c in changed)


def test_phantoms_are_replaced_and_the_pool_stays_small(rng):
    made: list[int] = []

    def make(seed: int) -> Volume:
        made.append(seed)
        return Volume(np.full((1, 4, 4, 2), len(made), np.float16), np.zeros((4, 4, 2), np.uint8), False)

    source = Phantoms(make)
    drawn = [int(source.draw(rng).image.max()) for _ in range((POOL + 4) * USES)]
    assert len(made) == POOL + 4 and len(set(made)) == len(made) and len(source.pool) == POOL
    assert set(drawn[:USES]) == {1} and min(drawn[-USES:]) == 5 and set(drawn) == set(range(1, POOL + 5))


def test_volumes_are_cut_in_three_planes_only_if_their_voxels_are_cubes(rng):
    image, label = np.ones((1, 6, 5, 4), np.float16), np.zeros((6, 5, 4), np.uint8)
    label[2, 3, 1] = 1
    thick = [Volume(image, label, False).draw(rng) for _ in range(40)]
    assert {item.label.shape for item in thick} == {(6, 5)} and 0.5 < np.mean([i.label.any() for i in thick]) < 1
    assert {Volume(image, label, True).draw(rng).label.shape for _ in range(40)} == {(6, 5), (6, 4), (5, 4)}


def test_the_mixture_follows_its_shares_and_repeats_for_a_seed():
    one, two = (Pictures([slice_of(np.full((1, *SHAPE), value, np.float32))]) for value in (1, 100))

    def first(seed: int) -> list[bool]:
        patches = iter(Mixture({"one": one, "two": two}, {"one": 3, "two": 1}, seed))
        return [float(next(patches)["image"].max()) > 30 for _ in range(100)]

    assert 0.12 < np.mean(first(0)) < 0.4
    assert first(0) == first(0) != first(1)


def test_strokes_of_fewer_than_ten_pixels_and_other_planes_are_not_validated():
    small = flair_slice("3")
    small.label[:] = False
    slices = [flair_slice("1"), flair_slice("2", plane="coronal"), small, flair_slice("4"), flair_slice("5")]
    assert [item.patient for item in validation_slices(slices, 100)] == ["1", "4", "5"]
    assert [item.patient for item in validation_slices(slices, 2)] == ["1", "5"]


def test_the_learning_rate_rises_and_falls_to_zero():
    rates = [cosine(step, 1000, 200) for step in range(1001)]
    assert rates.index(max(rates)) in (199, 200)
    assert 0 < rates[0] < 0.01 and rates[-1] == 0


@pytest.mark.parametrize(
    "stages, part", [("slices", "'slices': choose from phantoms, mixture, longer, last"), ([], "is empty")]
)
def test_wrong_stages_are_refused(stages, part):
    with pytest.raises(InputError, match=part):
        make_weights.chosen_stages(stages)


@pytest.mark.parametrize("folder", FOLDERS.values())
def test_a_missing_data_set_is_named(tmp_path, folder):
    for other in set(FOLDERS.values()) - {folder}:
        (tmp_path / other).mkdir()
        (tmp_path / other / "dataset.json").write_text("{}")
    with pytest.raises(InputError, match=f"no {folder}/dataset.json: correct --data_dir, or train with --stages phan"):
        make_weights.main(str(tmp_path), str(tmp_path / "work"))


def test_a_training_that_was_stopped_goes_on_through_its_stages(tmp_path, monkeypatch):
    sources = {"slices": Pictures([slice_of(sequences()) for _ in range(2)])}
    asked: list[dict[str, float]] = []

    def validate(network: torch.nn.Module, checks: object) -> dict[str, float]:
        asked.append({"dice": 0.5})
        return asked[-1]

    monkeypatch.setattr(make_weights, "load_sources", lambda *_: (sources, {}))
    monkeypatch.setattr(make_weights, "validate", validate)
    monkeypatch.setattr(make_weights, "BATCH", 2)
    stages = {"first": Stage(2, 1e-3, {"slices": 1}), "second": Stage(1, 1e-4, {"slices": 2})}
    monkeypatch.setattr(make_weights, "STAGES", stages)
    options = {"stages": ["first", "second"], "num_workers": 0}
    make_weights.main("unused", str(tmp_path), minutes=0, **options)
    state = torch.load(tmp_path / "first" / "training.pt", weights_only=True)
    assert state["step"] == 1 and not (tmp_path / "model.pt").exists()
    with pytest.raises(InputError, match="holds a training with leave_out None, not patient07: repeat its command"):
        make_weights.main("unused", str(tmp_path), leave_out="patient07", **options)
    make_weights.main("unused", str(tmp_path), **options)
    done = [torch.load(tmp_path / name / "training.pt", weights_only=True)["step"] for name in stages]
    assert done == [2, 1] and len(asked) == 3
    first, second, written = (
        torch.load(path, weights_only=True)
        for path in (tmp_path / "first" / "model.pt", tmp_path / "second" / "model.pt", tmp_path / "model.pt")
    )
    assert written.keys() == state["network"].keys() and all(written[key].equal(second[key]) for key in written)
    moved = [name for name in first if not second[name].equal(first[name])]
    assert moved and max((second[name] - first[name]).abs().max() for name in moved) < 0.01, (
        "starts from the first stage"
    )
    assert (tmp_path / "first" / "validation.csv").read_text().splitlines()[0] == "step,loss,dice"
    make_weights.main("unused", str(tmp_path), **options)
    assert len(asked) == 3, "a finished training is not repeated"
