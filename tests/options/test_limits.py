"""What an option can be: the borders of ranges pass, what lies beyond gets a line that names it."""

import json

import pytest
import torch

from shared.options.limits import impossible_overrides
from tests.bundles.running import ROOT

CONFIGS = [path for path in ROOT.glob("bundles/*/configs/*.json") if path.name != "metadata.json"]
FINE = [
    {"epochs": 1, "batch_size": 1, "num_workers": 0, "overlays": True, "learning_rate": 0.0},
    {"cache_rate": 0, "flip_prob": 1.0, "overlap": 0, "temperature": 1e-3},
    {"epochs": "@rounds", "patch_size": "$[96] * 2", "device": "$torch.device('cuda:77')", "channels": ["flair"]},
    {"image_size": 64, "patch_size": (96, 64), "pixdim": [1.0, 1.0, -1.0], "device": torch.device("cpu")},
    {"labels": [0, 1, 2], "regions": {"all": [1, 2], "core": [2]}, "region_values": [1, 2]},
    {"regions": {"all": [7]}, "region_values": "$[1]"},  # inference knows no labels
    {"labels": [0, 1, 2], "nested_labels": [1, 2]},
    {"labels": [0, 1, 2], "nested_labels": None},
]
WRONG = [
    ({"epochs": 0}, "override 'epochs' is 0: it must be at least 1"),
    ({"image_size": [64, 0]}, "override 'image_size' is [64, 0]: it must be at least 1"),
    ({"num_workers": -1}, "'num_workers' is -1: it must be at least 0"),
    ({"cache_rate": 1.1}, "'cache_rate' is 1.1: it must lie between 0 and 1"),
    ({"colour_prob": 2}, "'colour_prob' is 2: it must lie between 0 and 1"),
    ({"colour_range": -0.5}, "'colour_range' is -0.5: it must be at least 0"),
    ({"overlap": 1}, "'overlap' is 1: it must be at least 0 and below 1"),
    ({"temperature": 0}, "'temperature' is 0: it must be above 0"),
    ({"nested_gamma": [0, 1.2]}, "'nested_gamma' is [0, 1.2]: it must be above 0"),
    ({"nested_gamma": [0.5]}, "'nested_gamma' is [0.5]: it takes 2 numbers"),
    ({"null_share": 1.5}, "'null_share' is 1.5: it must lie between 0 and 1"),
    ({"pixdim": [1.0, 1.0]}, "'pixdim' is [1.0, 1.0]: it takes 3 numbers"),
    ({"device": "gpu"}, "'device' is 'gpu', which cannot be used"),
    ({"regions": {}}, "'regions' is empty: name at least one class"),
    ({"structures": {"disc": [1]}, "structure_values": [1, 2]}, "'structure_values' has 2 values for 1 classes (disc)"),
    ({"labels": [0, 1], "structures": {"disc": [1, 2]}}, "'disc' is made of 2, which is no label (0, 1)"),
    (
        {"labels": [0, 1], "nested_labels": [1, 7]},
        "'nested_labels' is [1, 7]: give a list of labels (of 0, 1), or null",
    ),
    ({"labels": [0, 1], "nested_labels": 1}, "'nested_labels' is 1: give a list of labels"),
]


@pytest.mark.parametrize("config", FINE, ids=lambda config: "-".join(config))
def test_what_can_be_passes(config):
    assert impossible_overrides(config) == []


@pytest.mark.parametrize("config, part", WRONG, ids=lambda value: "-".join(value) if isinstance(value, dict) else "")
def test_what_cannot_be_gets_a_line(config, part):
    (line,) = impossible_overrides(config)
    assert part in line and "\n" not in line


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: f"{path.parents[1].name}-{path.stem}")
def test_the_bundles_own_configs_pass(path):
    assert impossible_overrides(json.loads(path.read_text())) == []
