"""Options against their schema: what can be used passes, anything else gets one line that names it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from fire.parser import DefaultParseValue
from hypothesis import example, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from shared.options.overrides import config_paths, wrong_overrides
from shared.options.schema import FILE, load_schema, wrong_values
from tests.bundles.running import ROOT

CONFIGS = [path.parent for path in sorted(ROOT.glob("bundles/*/configs/metadata.json"))]
SCHEMAS = {path.parent.name: load_schema(path) for path in CONFIGS}
BUNDLE_OF = {"structures": "emclip", "nested_labels": "emclip", "nested_gamma": "emclip", "null_share": "tmca"}
BUNDLE_OF |= {"flip_prob": "tmca", "similarity_temperature": "tmca", "colour_prob": "emclip", "colour_range": "emclip"}


def schema_for(config):
    """The schema of a bundle that has all of these options."""
    names = [BUNDLE_OF[key] for key in config if key in BUNDLE_OF]
    bundle = names[0] if names else "tmca" if isinstance(config.get("image_size"), int) else "brainsegdmlf"
    return SCHEMAS["emclip" if isinstance(config.get("image_size"), list) else bundle]


FINE = [
    {"epochs": 1, "batch_size": 1, "num_workers": 0, "overlays": True, "learning_rate": 0.0},
    {"cache_rate": 0, "flip_prob": 1.0, "overlap": 0, "similarity_temperature": 1e-3},
    {"epochs": "@rounds", "patch_size": "$[96] * 2", "device": "$torch.device('cuda:77')", "channels": ["flair"]},
    {"patch_size": (96, 64), "pixdim": [1.0, 1.0, -1.0], "device": torch.device("cpu")},
    {"labels": [0, 1, 2], "regions": {"all": [1, 2], "core": [2]}, "region_values": [1, 2]},
    {"regions": {"all": [7]}, "region_values": "$[1]"},  # inference has no option labels
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
    ({"similarity_temperature": 0}, "'similarity_temperature' is 0: it must be above 0"),
    ({"temperature": 0}, "'temperature' is 0: it must be above 0"),
    ({"threshold": 1.5}, "'threshold' is 1.5: it must lie between 0 and 1"),
    ({"threshold": [0.5, -0.1]}, "'threshold' is [0.5, -0.1]: it must lie between 0 and 1"),
    ({"regions": {"all": [1]}, "threshold": [0.5, 0.4]}, "'threshold' has 2 values for 1 classes (all)"),
    ({"nested_gamma": [0, 1.2]}, "'nested_gamma' is [0, 1.2]: it must be above 0"),
    ({"nested_gamma": [0.5]}, "'nested_gamma' is [0.5]: it takes 2 numbers"),
    ({"null_share": 1.5}, "'null_share' is 1.5: it must lie between 0 and 1"),
    ({"pixdim": [1.0, 1.0]}, "'pixdim' is [1.0, 1.0]: it takes 3 numbers"),
    ({"device": "gpu"}, "'device' is 'gpu', which cannot be used"),
    ({"regions": {}}, "'regions' is empty: name at least one class"),
    ({"structures": {"disc": [1]}, "structure_values": [1, 2]}, "'structure_values' has 2 values for 1 classes (disc)"),
    ({"labels": [0, 1], "structures": {"disc": [1, 2]}}, "'disc' made of 2, which is not a label (0, 1)"),
    (
        {"labels": [0, 1], "nested_labels": [1, 7]},
        "'nested_labels' is [1, 7]: give a list of labels (of 0, 1), or null",
    ),
    ({"labels": [0, 1], "nested_labels": 1}, "'nested_labels' is 1 where a list of numbers is expected"),
    ({"image_size": 8}, "'image_size' is 8: it must be at least 16"),
    ({"channels": 63, "image_size": 64}, "'channels' is 63: it must be a multiple of 4"),
    ({"class_ratios": [0, 0]}, "'class_ratios' is [0, 0]: at least one number must be above 0"),
    ({"pixdim": [0, 1, 1]}, "'pixdim' is [0, 1, 1]: an entry is 0"),
    ({"learning_rate": float("inf")}, "'learning_rate' is inf where a number is expected"),
    ({"output_dir": ""}, "'output_dir' is empty: give a folder"),
    ({"planes": "axal"}, "'planes' is 'axal': choose one of axial, all, auto"),
    ({"tuning": "some"}, "'tuning' is 'some': choose one of full, lora, frozen"),
]


@pytest.mark.parametrize("config", FINE, ids=lambda config: "-".join(config))
def test_a_value_in_range_passes(config):
    assert wrong_values(config, schema_for(config), {}) == []


@pytest.mark.parametrize("config, part", WRONG, ids=lambda value: "-".join(value) if isinstance(value, dict) else "")
def test_a_value_out_of_range_gets_one_line(config, part):
    (line,) = wrong_values(config, schema_for(config), {})
    assert part in line and "\n" not in line


@pytest.mark.parametrize("configs", CONFIGS, ids=lambda path: path.parent.name)
class TestSchemaOfBundle:
    def test_is_json_schema_with_help_for_each_option(self, configs):
        content = json.loads((configs / FILE).read_text(encoding="utf-8"))
        Draft202012Validator.check_schema(content)
        for name, option in content["properties"].items():
            assert 10 < len(option["description"]) < 170 and option["description"].endswith("."), name
            assert "type" in option, name

    def test_the_bundles_own_configs_pass(self, configs):
        for path in config_paths(configs):
            assert wrong_overrides(json.loads(path.read_text(encoding="utf-8")), configs) == [], path

    def test_every_plain_setting_of_the_configs_is_an_option(self, configs):
        def is_setting(value):
            plain = [v for v in (value if isinstance(value, list) else [value])]
            return not any(isinstance(v, dict) or str(v).startswith(("$", "@", "%")) for v in plain)

        files = {path.name: json.loads(path.read_text(encoding="utf-8")) for path in config_paths(configs)}
        settings = {k for file in files.values() for k, v in file.items() if is_setting(v) and v != [] and "#" not in k}
        assert settings - set(load_schema(configs)) - {"imports", "measure_patients", "finalize"} == set()

    def test_every_option_is_in_a_config(self, configs):
        known = {key for path in config_paths(configs) for key in json.loads(path.read_text(encoding="utf-8"))}
        assert set(load_schema(configs)) <= known

    def test_shares_and_strengths_need_not_be_whole(self, configs):
        shares = {"augmentation", "flip_prob", "rephrase_prob", "colour_prob", "colour_range", "nested_prob"}
        schema = load_schema(configs)
        assert "augmentation" in schema
        assert wrong_values({key: 0.5 for key in shares & set(schema)}, schema, {}) == []


SCHEMA = {
    "epochs": {"type": "integer", "description": "Number."},
    "learning_rate": {"type": "number", "description": "Number."},
    "amp": {"type": "boolean", "description": "Switch."},
    "encoder": {"type": "string", "description": "Name."},
    "patch_size": {"type": "array", "items": {"type": "number"}, "description": "Sizes."},
    "channels": {"type": "array", "items": {"type": "string"}, "description": "Names."},
    "overlays": {"type": ["boolean", "integer"], "description": "Number."},
    "augmentation": {"type": "number", "description": "Strength."},
    "checkpoint": {"type": ["string", "null"], "description": "File."},
}
DEFAULTS = {"epochs": 22, "learning_rate": 0.004, "amp": True, "encoder": "vit_tiny", "patch_size": [96, 96]}
DEFAULTS |= {"channels": ["flair", "t1"], "overlays": 6, "augmentation": 1}
WRONG_TYPE = [
    ("epochs", "many", "a whole number"),
    ("epochs", "2.0", "a whole number"),
    ("epochs", "True", "a whole number"),
    ("epochs", "None", "a whole number"),
    ("epochs", "[3]", "a whole number"),
    ("learning_rate", "fast", "a number"),
    ("learning_rate", "True", "a number"),
    ("amp", "maybe", "true or false"),
    ("amp", "1", "true or false"),
    ("encoder", "3", "a text"),
    ("encoder", "[vit_b]", "a text"),
    ("patch_size", "96", "a list of numbers"),
    ("patch_size", "[96,big]", "a list of numbers"),
    ("patch_size", "[True,False]", "a list of numbers"),
    ("channels", "flair", "a list of texts"),
    ("channels", "[0,1]", "a list of texts"),
    ("channels", "{'flair':'t1'}", "a list of texts"),
    ("overlays", "all", "true or false or a whole number"),
    ("augmentation", "lots", "a number"),
]
RIGHT_TYPE = [
    ("epochs", "50"),
    ("epochs", "$2 * 3"),
    ("epochs", "@overlays"),
    ("learning_rate", "1"),
    ("learning_rate", "1e-3"),
    ("amp", "False"),
    ("amp", "false"),
    ("encoder", "vit_b"),
    ("patch_size", "96,64"),
    ("patch_size", "[32.5,32,1]"),
    ("patch_size", "['@epochs',32]"),
    ("patch_size", "{'_target_':'builtins.list'}"),
    ("channels", "[t2]"),
    ("overlays", "0"),
    ("overlays", "False"),
    ("augmentation", "0.5"),
    ("checkpoint", "weights.pt"),
    ("checkpoint", "None"),
    ("unknown", "anything"),
]


@pytest.mark.parametrize(("key", "given_", "wanted"), WRONG_TYPE)
def test_a_value_of_another_type_gets_one_line_with_an_example(key, given_, wanted):
    (problem,) = wrong_values(DEFAULTS | {key: DefaultParseValue(given_)}, SCHEMA, DEFAULTS)
    assert problem.startswith(f"override '{key}' is ") and f" where {wanted} is expected: e.g. --{key} " in problem
    assert "\n" not in problem


@pytest.mark.parametrize(("key", "given_"), RIGHT_TYPE)
def test_a_value_of_the_right_type_passes(key, given_):
    words = {"true": True, "false": False}
    value = words.get(given_, DefaultParseValue(given_))
    assert wrong_values(DEFAULTS | {key: value}, SCHEMA, DEFAULTS) == []


def test_values_of_a_program_pass():
    config = {"epochs": np.int64(3), "learning_rate": np.float32(0.1), "encoder": Path("encoder"), "patch_size": (32,)}
    assert wrong_values(config, SCHEMA, DEFAULTS) == []


def test_every_problem_gets_a_line():
    assert len(wrong_values(DEFAULTS | {"epochs": "many", "amp": "maybe"}, SCHEMA, DEFAULTS)) == 2


def test_the_example_is_the_default_as_a_shell_takes_it():
    config = {"epochs": "x", "amp": "x", "patch_size": 1, "channels": 1, "encoder": 1}
    examples = {line.split(" e.g. ")[1] for line in wrong_values(config, SCHEMA, DEFAULTS)}
    channels = """--channels '["flair", "t1"]'"""
    assert examples == {"--epochs 22", "--amp true", "--patch_size '[96, 96]'", channels, "--encoder vit_tiny"}


LITERALS = st.one_of(
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.booleans(),
    st.text("ab", max_size=3),
    st.lists(st.integers()),
)
PYTHON_TYPES = {"integer": int, "number": (int, float), "boolean": bool, "string": str, "array": list}


@settings(deadline=None)
@given(st.sampled_from(sorted(PYTHON_TYPES)), LITERALS)
@example("number", 10**400)
def test_json_types_part_values_as_python_does(kind, value):
    fits = isinstance(value, PYTHON_TYPES[kind]) and (kind == "boolean" or not isinstance(value, bool))
    assert (wrong_values({"key": value}, {"key": {"type": kind}}, {}) == []) == fits


def test_a_wrong_device_names_those_that_this_machine_has(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
    schema = {"device": {"type": "string", "format": "device", "description": "d"}}
    (line,) = wrong_values({"device": "gpu"}, schema, {})
    assert line == (
        "override 'device' is 'gpu', which cannot be used (no such device): this machine has cpu, cuda, cuda:0, cuda:1"
    )
