"""Training as a user starts it: what it leaves behind, its switches, and going on after a stop."""

from __future__ import annotations

import json

import pandas as pd
import pytest
import torch

from tests.bundles.emclip.facts import BUNDLE, SENTENCES, STRUCTURES, UNSEEN


def test_table_by_domain(trained):
    table = pd.read_csv(trained.output / "domains.csv")
    assert table["domain"].unique().tolist() == ["camera_a", *UNSEEN]
    assert table.set_index("domain")["role"].to_dict() == {"camera_a": "source", **dict.fromkeys(UNSEEN, "unseen")}
    assert table["class"].unique().tolist() == STRUCTURES
    assert table["n"].tolist() == [2, 2, 1, 1, 1, 1, 1, 1]
    assert table["dice_mean"].between(0, 1).all() and table["hd95_mean"].notna().all()
    assert "camera_a (source)" in (trained.output / "domains.md").read_text(encoding="utf-8")
    assert (trained.output / "domains.png").stat().st_size > 10_000


def test_products(trained):
    output = trained.output
    cases = pd.read_csv(output / "metrics.csv")
    assert cases["case_id"].is_unique and cases["domain"].tolist() == ["camera_a"] * 2 + UNSEEN
    for folder in ("camera_a", *UNSEEN):
        assert len(list((output / "overlays" / folder).glob("*.png"))) == BUNDLE.training["overlays"]
    shown = sorted(path.name for path in (output / "clusters").iterdir())
    assert [name.split("_eye")[0] for name in shown] == ["camera_a", *UNSEEN]


def test_trained_network_holds_the_features_of_its_sentences(trained):
    network = trained.flow.parser.get_parsed_content("network_def")
    assert network.texts.frozen.cached == SENTENCES


def test_the_context_is_learned_and_its_features_saved_with_it(trained):
    state = torch.load(trained.output / "models" / "model.pt", weights_only=True)
    begin = BUNDLE.workflow("train").parser.get_parsed_content("network_def")
    begin.load_state_dict({**state, "texts.context.context": 0 * state["texts.context.context"]})
    features = begin.state_dict()["texts.learned"][: len(SENTENCES)]
    assert not torch.allclose(features, state["texts.learned"][: len(SENTENCES)], atol=1e-5)


@pytest.mark.parametrize("augmentation", [0, 1])
def test_augmentation_leaves_what_training_needs(data_dir, tmp_path, augmentation):
    """Masks of 0 and 1, a cup in its disc, colours that stay near [0, 1]; off, the picture as it is."""
    places = {"dataset_dir": str(data_dir), "output_dir": str(tmp_path)}
    settings = {**BUNDLE.train_options, "image_size": [48, 40], "augmentation": augmentation}
    flow = BUNDLE.workflow("train", **places, **settings)
    flow.initialize()
    dataset = flow.parser.get_parsed_content("train#dataset")
    seen = [dataset[i] for i in range(4) for _ in range(3)]
    for item in seen:
        assert item["image"].shape == (3, 48, 40) and item["label"].shape == (2, 48, 40)
        assert set(item["label"].unique().tolist()) <= {0.0, 1.0}
        assert (item["label"][0] >= item["label"][1]).all()
        assert item["image"].isfinite().all() and item["image"].abs().max() < 3
    if not augmentation:
        assert all(
            torch.equal(a["image"], b["image"]) or torch.equal(a["image"].flip(2), b["image"])
            for a, b in zip(seen[::3], seen[1::3])
        )


@pytest.mark.parametrize(
    "switch",
    [{"em": False}, {"text_guidance": "none", "deep_supervision": 0}, {"lambda_score": 0, "num_context": 0}],
    ids=lambda switch: "_".join(switch),
)
def test_ablations(data_dir, tmp_path, switch):
    """As overrides; the clusters know when there are none."""
    BUNDLE.train(data_dir, tmp_path, domains=["camera_b"], overlays=0, **switch)
    assert pd.read_csv(tmp_path / "domains.csv")["domain"].unique().tolist() == ["camera_a", "camera_b"]
    assert (tmp_path / "clusters").is_dir() == switch.get("em", True)


def test_a_structure_that_was_not_annotated(data_dir, tmp_path):
    """Validation and an unseen camera with the disc alone: trained, chosen by and scored for what is there."""
    lists = json.loads((data_dir / "dataset.json").read_text(encoding="utf-8"))
    del lists["recipe"]
    for split in ("training", "validation", "testing"):
        for item in lists[split]:
            item |= {key: str(data_dir / item[key]) for key in ("image", "label")}
            if split == "validation" or item["domain"] == "camera_b" or item["image"].endswith("eye_001.png"):
                item["labelled"] = ["optic disc"]
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "dataset.json").write_text(json.dumps(lists), encoding="utf-8")
    flow = BUNDLE.train(tmp_path / "data", tmp_path / "out", **BUNDLE.quiet)
    table = pd.read_csv(tmp_path / "out" / "domains.csv").set_index(["domain", "class"])
    assert table.loc[("camera_a", "optic cup"), "n"] == 0 == table.loc[("camera_b", "optic cup"), "n"]
    assert table["dice_mean"].isna().sum() == 2 and table["n"].sum() == 2 + 1 + 2 + 2
    assert 0 <= flow.parser.get_parsed_content("validate#evaluator").state.best_metric <= 1


def test_fine_tuning_with_other_words(data_dir, trained, tmp_path):
    words = [*SENTENCES[:-1], "the cup, a pale hollow"]
    begin = str(trained.output / "models" / "model.pt")
    flow = BUNDLE.train(data_dir, tmp_path, **BUNDLE.quiet, weights=begin, sentences=words, domains=UNSEEN[:1])
    assert words[-1] in flow.parser.get_parsed_content("network").texts.frozen.cached
