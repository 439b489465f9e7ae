"""Training as a user starts it: what it leaves behind, its switches, and going on after a kill."""

from __future__ import annotations

import json

import pandas as pd
import pytest
import torch
from ignite.engine import Events
from tmca.phantoms.sentence import mirror_sentence

from tests.bundles.running import finish, input_error, train_and_kill
from tests.bundles.tmca.helpers import CONFIG, CONFIGS, QUIET, TRAIN, train, workflow

VARIANTS = ["right", "none", "shuffled"]


def test_no_property_is_missing(trained):
    assert not trained.missing


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
    content = json.loads((output / "metrics.json").read_text())
    assert content["seed"] == 0 and [line["sentence"] for line in content["sentences"]] == table["sentence"].tolist()
    assert "| right | 3 |" in (output / "sentences.md").read_text()


def test_products(trained):
    output = trained.output
    assert len(list((output / "overlays").glob("*.png"))) == TRAIN["overlays"]
    assert [path.stat().st_size > 10_000 for path in (output / "attention").glob("*.png")] == [True]
    assert sorted(p.name for p in (output / "models").iterdir()) == ["last.pt", "model.pt"]
    assert list((output / "tensorboard").glob("events.*"))


def test_text(trained):
    lines = [line for line in trained.text.splitlines() if line.strip()]
    assert lines[0].startswith("TMCA  9 cases (6 train, 3 validation)  cpu, float32")
    assert "encoder test_resnet, text clip_tiny" in lines[0]
    assert "Dice right  Dice none  Dice shuffled" in trained.text
    assert [line.split()[0] for line in lines[-5:]] == ["pictures", "tables", "weights", "next", "attention"]
    assert "--image_size 64" in lines[-2], "the command that fits these weights"


def test_weights_are_a_plain_state_dict_of_the_network(trained):
    state = torch.load(trained.output / "models" / "model.pt", weights_only=True)
    network = trained.flow.parser.get_parsed_content("network_def")
    assert state.keys() == network.state_dict().keys() and all(torch.is_tensor(value) for value in state.values())


def test_loss_falls(data_dir, tmp_path):
    places = {"dataset_dir": str(data_dir), "output_dir": str(tmp_path)}
    flow = workflow("train", "train", **places, **{**TRAIN, "augmentation": 0, "null_share": 0.0, "dropout": 0.0})
    flow.initialize()
    batch = next(iter(flow.parser.get_parsed_content("train#dataloader")))
    network, loss, optimizer = (flow.parser.get_parsed_content(key) for key in ("network", "loss", "optimizer"))
    for group in optimizer.param_groups:
        group["lr"] = 0.002
    network.train()
    values = []
    for _ in range(12):
        optimizer.zero_grad()
        value = loss(network(batch["image"], batch["text"]), batch["label"])
        value.backward()
        optimizer.step()
        values.append(value.item())
    assert sum(values[-3:]) / 3 < 0.9 * values[0], values


@pytest.mark.parametrize("augmentation", [0, 1])
def test_augmentation_leaves_what_training_needs(data_dir, tmp_path, augmentation):
    """Masks of 0 and 1, a sentence on the right side; off, the picture as it is or flipped with its words."""
    places = {"dataset_dir": str(data_dir), "output_dir": str(tmp_path)}
    flow = workflow("train", "train", **places, **{**TRAIN, "image_size": 48, "augmentation": augmentation})
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
    flow = workflow("train", "train", **places, **{**TRAIN, "image_size": 224})
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
    train(data_dir, tmp_path, **{**QUIET, "attention_pictures": 1}, **switch)
    assert pd.read_csv(tmp_path / "sentences.csv")["sentence"].unique().tolist() == VARIANTS
    assert len(list((tmp_path / "attention").iterdir())) == 1


def test_image_only_twin(data_dir, tmp_path):
    """It reads nothing: one variant, no attention, no layer of text in its weights."""
    train(data_dir, tmp_path, ["train", "image_only"])
    assert pd.read_csv(tmp_path / "sentences.csv")["sentence"].unique().tolist() == ["none"]
    assert not (tmp_path / "attention").exists()
    state = torch.load(tmp_path / "models" / "model.pt", weights_only=True)
    assert not [key for key in state if key.startswith(("texts", "fusion", "enhancements", "sentence"))]


def test_fine_tuning_begins_with_the_weights_given(data_dir, weights_dir, tmp_path):
    begin = weights_dir / "model.pt"
    flow = train(data_dir, tmp_path, **QUIET, weights=str(begin), learning_rate=0.0)
    wanted, found = torch.load(begin, weights_only=True), flow.parser.get_parsed_content("network").state_dict()
    moved = {key for key, value in found.items() if not torch.equal(value, wanted[key])}
    assert all("running" in key or "num_batches" in key for key in moved), "statistics of norms move without a rate"


@pytest.mark.slow
def test_resume_after_kill(data_dir, tmp_path, capfd):
    places = {"dataset_dir": str(data_dir), "output_dir": str(tmp_path)}
    settings = {**places, **TRAIN, **QUIET, "epochs": 6}
    last = train_and_kill(CONFIGS, settings)
    saved = torch.load(last, weights_only=True)
    done = saved["trainer"]["iteration"] // saved["trainer"]["epoch_length"]
    assert 1 <= done < 6

    flow = workflow("train", "train", **settings, resume=True)
    flow.initialize()
    trainer, network = (flow.parser.get_parsed_content(key) for key in ("train#trainer", "network"))
    began = {}

    @trainer.on(Events.EPOCH_STARTED)
    def look(engine):
        began.setdefault("epoch", engine.state.epoch)
        began.setdefault("weights", {key: value.clone() for key, value in network.state_dict().items()})

    flow.run()
    assert began["epoch"] == done + 1 and trainer.state.epoch == 6
    assert all(torch.equal(value, saved["network"][key]) for key, value in began["weights"].items())
    assert f"resuming after epoch {done} of 6" in capfd.readouterr().out
    complete = input_error(finish, workflow("train", "train", **settings, resume=True))
    assert "has all of 6 epochs" in complete and "--epochs" in complete


def test_defaults_train_on_the_builtin_data():
    """The command of the docs has no option: its phantoms lie in the bundle."""
    parser = workflow("train", "train").parser
    assert CONFIG["dataset_dir"] == "@builtin_dir"
    assert parser.get_parsed_content("dataset_dir").endswith("tmca/data/phantoms")
