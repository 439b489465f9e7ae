"""Options of every bundle: the configs have the same defaults, and the metadata describe what they build."""

from __future__ import annotations

import re

import pytest

OF_THE_RUN = {"output_dir", "ckpt_dir", "overlays", "num_workers", "initialize", "run"}
WEIGHTS = {"pretrained", "checkpoint"}  # inference takes them from model.pt


@pytest.mark.parametrize("names", [["inference"], ["train", "evaluate"]], ids="-".join)
def test_metadata_describe_the_configs(bundle, names):
    formats = bundle.config("metadata")["network_data_format"]
    image, pred = formats["inputs"]["image"], formats["outputs"]["pred"]
    parser = bundle.workflow(*names).parser
    classes = parser.get(bundle.classes)
    classes = [classes] if isinstance(classes, str) else list(classes)
    assert image["num_channels"] == len(image["channel_def"]) == bundle.channels
    assert image["spatial_shape"] == pred["spatial_shape"] == parser.get_parsed_content(bundle.sides)
    assert pred["num_channels"] == len(classes)
    assert list(pred["channel_def"].values()) == ["background", *classes]
    assert ("text" in formats["inputs"]) == ("text" in bundle.inputs)


def test_inference_has_the_options_of_training(bundle):
    """Weights fit without a word on the command line."""
    train, inference = bundle.config("train"), bundle.config("inference")
    settings = {key for key in train.keys() & inference.keys() if "_target_" not in str(inference[key])}
    differing = {key for key in settings if inference[key] != train[key]}
    assert differing == OF_THE_RUN | bundle.differing


def test_inference_builds_the_network_of_training(bundle):
    train, inference = bundle.config("train"), bundle.config("inference")
    theirs, ours = train["network_def"], inference["network_def"]
    assert {key for key in ours if key in theirs and ours[key] != theirs[key]} <= WEIGHTS
    assert ours.keys() - theirs.keys() == set(bundle.whole)
    assert theirs.keys() - ours.keys() == bundle.training_only
    named = set(re.findall(r"@(\w+)", str(ours))) - {"code", *bundle.whole}
    assert len(named) > 5 and {key for key in named if inference[key] != train[key]} == set()


def test_defaults_train_on_the_builtin_data(bundle):
    """The command of the docs has no option: its phantoms lie in the bundle."""
    assert bundle.config("train")["dataset_dir"] == "@builtin_dir"
    found = bundle.workflow("train").parser.get_parsed_content("dataset_dir")
    assert found.endswith(f"{bundle.name}/data/phantoms")


@pytest.mark.parametrize("word", ["false", "true"])
def test_words_switch_parts(bundle, word):
    """A command line delivers them as text, of which any would count as true."""
    flow = bundle.workflow("train", **bundle.network, **dict.fromkeys(bundle.switches, word))
    flow.initialize()
    network = flow.parser.get_parsed_content("network_def")
    assert {bool(getattr(network, part)) for part in bundle.switches.values()} == {word == "true"}
