import json
import sys

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from tests.bundles.running import ROOT

sys.path.append(str(ROOT / "benchmarks"))

import brain_weights  # noqa: E402
import brain_weights_cases as cases  # noqa: E402
import brain_weights_tables as tables  # noqa: E402
from brain_weights_inference import BUNDLE, Inference, score  # noqa: E402
from brainsegdmlf.phantoms.raw_study import make_raw_study  # noqa: E402

from shared.results.metrics import lesion_wise  # noqa: E402

HEADINGS = ["## Each source", "## Size of lesions", "## All sequences, and each alone"]


def blocks(*corners):
    """A mask with a block of 8 voxels at each corner."""
    mask = np.zeros((20, 20, 20), bool)
    for x, y, z in corners:
        mask[x : x + 2, y : y + 2, z : z + 2] = True
    return mask


def row(source="phantoms, ms", sequences="all", case="a", dice=0.5, lesions=(), false_ml=(), **others):
    one = {"source": source, "sequences": sequences, "case": case, "dice": dice, "lesion_f1": 0.5}
    return one | {"lesions": list(lesions), "false_ml": list(false_ml)} | others


@pytest.fixture(scope="module")
def inference(tmp_path_factory):
    return Inference(BUNDLE / "models" / "model.pt", 0.4, str(tmp_path_factory.mktemp("scratch")))


def test_a_lesion_is_found_by_one_voxel_and_other_pieces_are_false():
    label, found = blocks((2, 2, 2), (10, 10, 10)), blocks((16, 2, 2))
    found[2, 2, 2] = True
    assert score(found, label, 0.5) == {
        "dice": 2 / (9 + 16),
        "lesion_f1": 0.5,
        "lesions": [[4.0, True], [4.0, False]],
        "false_ml": [4.0],
    }


@pytest.mark.parametrize("seed", range(5))
def test_lesions_are_counted_as_the_metrics_of_the_project_count_them(seed):
    found, label = np.random.default_rng(seed).random((2, 9, 9, 9)) > 0.9
    mine, theirs = score(found, label, 1.0), lesion_wise(found, label)
    assert [hit for _, hit in mine["lesions"]].count(True) == theirs["lesions_found"]
    assert len(mine["lesions"]) == theirs["lesions"]
    assert 1 - len(mine["false_ml"]) / theirs["lesions_pred"] == pytest.approx(theirs["lesion_precision"])
    assert sum(ml for ml, _ in mine["lesions"]) == label.sum()


def test_a_healthy_head_has_only_false_lesions():
    assert score(blocks((0, 0, 0)), blocks(), 1.0)["false_ml"] == [8.0]
    assert score(blocks(), blocks(), 1.0) == {"dice": 1.0, "lesion_f1": 1.0, "lesions": [], "false_ml": []}


def test_few_cases_have_no_interval_and_the_interval_of_many_holds_the_mean():
    values = np.random.default_rng(0).random(30)
    assert "[" not in tables.mean(values[: tables.ENOUGH - 1])
    middle, low, high = (float(word.strip("[],")) for word in tables.mean(values).split())
    assert low < middle < high


def test_every_lesion_falls_into_one_class_of_size():
    group = [row(lesions=[[0.05, True], [0.1, False], [1.0, True], [7, True]])]
    assert [tables.recall(group, *limits) for limits in tables.SIZES.values()] == [
        "1 of 1 (1.00)",
        "0 of 1 (0.00)",
        "2 of 2 (1.00)",
    ]


def test_the_report_marks_patients_of_the_training_and_shows_what_was_measured():
    parts = {"patients": [row("MS patient07", case="patient07"), row("MS patient26", case="patient26")]}
    text = tables.report({"settings": {"threshold": 0.5}, "seen": ["patient26"], "parts": parts})
    assert "| MS patient26 * |" in text and "| MS patient07 |" in text and "were trained on patient26 " in text
    assert [line for line in text.splitlines() if line.startswith("## ")] == HEADINGS


def test_the_report_gives_the_worst_healthy_head_of_each_kind():
    parts = {"healthy": [row("clean", false_ml=[]), row("clean", false_ml=[1, 2]), row("rough", false_ml=[4])]}
    text = tables.report({"settings": {}, "seen": [], "parts": parts})
    assert "| clean | 2 | 1.0 | 1.50 | 2.0 | 3.00 |" in text
    assert "| rough | 1 | 1.0 | 4.00 | 1.0 | 4.00 |" in text
    assert "| all | 3 | 1.0 | 2.33 | 2.0 | 4.00 |" in text


def test_the_loss_of_the_preparation_is_that_of_the_same_heads():
    rows = [row(source, dice=dice, outside_ml=0.1) for dice, source in zip((0.7, 0.8, 0.5, 0.9), ("own", "true") * 2)]
    *_, loss = tables.whole_heads(rows)
    assert loss[:4] == ["loss by the preparation", "2", "0.250", "0.400"]


def test_a_part_is_measured_again_with_other_weights(tmp_path):
    (tmp_path / "slices.json").write_text(json.dumps({"settings": {"sha256": "a"}, "rows": [1]}))
    assert brain_weights.measured(tmp_path, "slices", {"sha256": "a"}) == [1]
    assert brain_weights.measured(tmp_path, "slices", {"sha256": "b"}) == []
    assert brain_weights.measured(tmp_path, "phantoms", {"sha256": "a"}) == []


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"only": "slice"}, "unknown part 'slice'"),
        ({"only": "slices"}, "has no brain_flair_slices, which slices needs"),
    ],
)
def test_wrong_options_are_refused_in_one_line(tmp_path, options, line):
    with pytest.raises(SystemExit, match=line):
        brain_weights.main(str(tmp_path), **options)


def test_a_perfect_preparation_shows_every_sequence_inside_the_brain_only():
    study = make_raw_study(3, coarse=True)
    brain = study.brains["flair"] > 0
    moved = cases.perfectly_prepared(study)
    assert moved.shape == (4, *brain.shape)
    assert not moved[:, ~brain].any()
    assert (moved[:, brain] > 0).mean(1).min() > 0.95


def test_single_sequences_are_segmented_as_if_the_others_were_missing(inference):
    rng = np.random.default_rng(0)
    image = np.zeros((4, 40, 48, 6), np.float32)
    image[:, 4:-4, 4:-4] = rng.uniform(50, 60, (4, 32, 40, 6))
    image[0, 15:20, 20:26] += 60
    affine = np.diag([-1.0, 1, 3, 1])
    alone = image * (np.arange(4) == 0)[:, None, None, None]
    found, whole = (
        inference.segment(MetaTensor(torch.from_numpy(x.astype(np.float32)), affine=affine), names)
        for x, names in ((image, ["flair"]), (alone, inference.channels))
    )
    assert found.shape == (40, 48, 6)
    assert found.any() and np.array_equal(found, whole)


def test_the_settings_name_the_file_by_its_hash(inference):
    assert len(inference.settings["sha256"]) == 64 and inference.settings["threshold"] == 0.4
