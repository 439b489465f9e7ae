"""Training as a user starts it: what it leaves behind, its switches, and going on after a kill."""

from __future__ import annotations

import json

import pandas as pd
import pytest
import torch
from tmca.phantoms.sentence import mirror_sentence

from tests.bundles.tmca.facts import BUNDLE

VARIANTS = ["right", "none", "shuffled"]


def test_tables(trained):
    output = trained.output
    table = pd.read_csv(output / "sentences.csv")
    whole = table[table["target"] == "all"].set_index("sentence")
    assert whole.index.tolist() == VARIANTS and (whole["n"] == 3).all()
    cases = pd.read_csv(output / "metrics.csv")
    assert len(cases) == 3 and cases["case_id"].is_unique
    assert (cases["text"] != cases["text_shuffled"]).any()
    for variant in VARIANTS:
        assert whole.loc[variant, "dice"] == pytest.approx(cases[f"dice_{variant}"].mean())
        assert whole.loc[variant, ["dice", "micro_dice", "iou", "micro_iou"]].between(0, 1).all()
    assert cases["hd95_px_right"].notna().all() and cases["hd95_px_none"].isna().all()
    content = json.loads((output / "metrics.json").read_text(encoding="utf-8"))
    assert content["seed"] == 0 and [line["sentence"] for line in content["sentences"]] == table["sentence"].tolist()
    assert "| right | 3 |" in (output / "sentences.md").read_text(encoding="utf-8")


def test_products(trained):
    output = trained.output
    assert len(list((output / "overlays").glob("*.png"))) == BUNDLE.training["overlays"]
    assert [path.stat().st_size > 10_000 for path in (output / "attention").glob("*.png")] == [True]


def test_text_names_the_encoders_and_the_command_that_fits(trained):
    lines = [line for line in trained.text.splitlines() if line.strip()]
    assert "encoder test_resnet, text clip_tiny" in lines[0]
    assert "Dice right  Dice none  Dice shuffled" in trained.text
    assert "--image_size 64" in lines[-2]


@pytest.mark.parametrize("augmentation", [0, 1])
def test_augmentation_leaves_what_training_needs(data_dir, tmp_path, augmentation):
    """Masks of 0 and 1, a sentence on the right side; off, the picture as it is or flipped with its words."""
    places = {"dataset_dir": str(data_dir), "output_dir": str(tmp_path)}
    settings = {**BUNDLE.train_options, "image_size": 48, "augmentation": augmentation}
    flow = BUNDLE.workflow("train", **places, **settings)
    flow.initialize()
    items, dataset = (flow.parser.get_parsed_content(key) for key in ("training_items", "train#dataset"))
    for i, item in enumerate(items[:4]):
        seen = [dataset[i] for _ in range(4)]
        for one in seen:
            assert one["image"].shape == one["label"].shape == (1, 48, 48)
            assert one["image"].dtype == one["label"].dtype == torch.float32
            assert set(one["label"].unique().tolist()) <= {0.0, 1.0}
            assert one["image"].isfinite().all() and one["image"].abs().max() < 3
            assert one["text"] in (item["text"], mirror_sentence(item["text"]))
        for one in seen[1:] if not augmentation else []:
            turned = torch.equal(one["image"].flip(2), seen[0]["image"])
            assert turned or torch.equal(one["image"], seen[0]["image"])
            assert torch.equal(one["label"].flip(2) if turned else one["label"], seen[0]["label"])
            assert one["text"] == (mirror_sentence(seen[0]["text"]) if turned else seen[0]["text"])


def test_the_cache_holds_small_numbers_and_nothing_random(data_dir, tmp_path):
    """A fifth of a megabyte an image of 224 pixels, so that QaTa's 5,716 fit into 1 GB."""
    places = {"dataset_dir": str(data_dir), "output_dir": str(tmp_path)}
    flow = BUNDLE.workflow("train", **places, **{**BUNDLE.train_options, "image_size": 224})
    flow.initialize()
    cached = flow.parser.get_parsed_content("train#dataset")._cache[0]
    arrays = [cached[key] for key in ("image", "label")]
    assert [array.dtype for array in arrays] == [torch.float16, torch.uint8]
    assert sum(array.element_size() * array.numel() for array in arrays) == 3 * 224 * 224


@pytest.mark.parametrize(
    "switch",
    [
        {"alignment": "off", "lambda_pixel": 0},
        {"alignment": "global", "targets": "hard"},
        {"enhancement": False},
        {"null_share": 1.0, "deep_supervision": 0},
    ],
    ids=lambda switch: "_".join(switch),
)
def test_ablations(data_dir, tmp_path, switch):
    """As overrides; a network without enhancement shows its attention too."""
    BUNDLE.train(data_dir, tmp_path, **{**BUNDLE.quiet, "attention_pictures": 1}, **switch)
    assert pd.read_csv(tmp_path / "sentences.csv")["sentence"].unique().tolist() == VARIANTS
    assert len(list((tmp_path / "attention").iterdir())) == 1


def test_image_only_twin(data_dir, tmp_path):
    """It reads nothing: one variant, no attention, no layer of text in its weights."""
    BUNDLE.train(data_dir, tmp_path, "image_only")
    assert pd.read_csv(tmp_path / "sentences.csv")["sentence"].unique().tolist() == ["none"]
    assert not (tmp_path / "attention").exists()
    state = torch.load(tmp_path / "models" / "model.pt", weights_only=True)
    assert not [key for key in state if key.startswith(("texts", "fusion", "enhancements", "sentence"))]
