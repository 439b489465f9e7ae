"""What a user overrides: a mistyped name and a value of the wrong type are found, whatever can be meant passes."""

import json
from pathlib import Path

import numpy as np
import pytest
from fire.parser import DefaultParseValue
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.bundle import ConfigParser

from shared.options.overrides import mistyped_overrides, read_words, unknown_overrides

CONFIGS = Path(__file__).resolve().parents[1] / "bundles" / "brainsegdmlf" / "configs"
FILES = [f.name for f in CONFIGS.glob("*.json") if f.name != "metadata.json"]
CONFIG = {
    "epochs": 3,
    "output_dir": "out",
    "ckpt_dir": "$@output_dir + '/models'",
    "trainer": {"_target_": "Trainer", "max_epochs": "@epochs", "lr": "@optimizer#lr"},
    "optimizer": {"lr": 0.1},
}
TYPED = {
    "epochs": 22,
    "learning_rate": 0.004,
    "amp": True,
    "encoder": "vit_tiny",
    "patch_size": [96, 96],
    "channels": ["flair", "t1"],
    "overlays": 6,
    "augmentation": "$0 if @builtin else 1",
    "checkpoint": None,
    "empty": [],
    "device": "$torch.device('cpu')",
    "dataset_dir": "@builtin_dir",
    "mode": "$0 if @amp else 'auto' if @epochs else 1",
    "initialize": ["$@code"],
    "regions": {"lesion": [1]},
    "size": 64,
}


@pytest.fixture
def configs(tmp_path):
    (tmp_path / "train.json").write_text(json.dumps(CONFIG))
    (tmp_path / "brats.json").write_text(json.dumps({"labels": [0, 1, 2, 4]}))
    (tmp_path / "metadata.json").write_text(json.dumps({"version": "1"}))
    return tmp_path


@pytest.fixture(scope="module")
def typed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("typed")
    (folder / "train.json").write_text(json.dumps(TYPED))
    (folder / "inference.json").write_text(json.dumps({"overlays": True, "size": None}))
    (folder / "metadata.json").write_text(json.dumps({"epochs": "many"}))
    return folder


def test_own_names_and_those_of_monai_pass(configs):
    config = CONFIG | {"labels": [0, 1], "_meta_": {}, "bundle_root": ".", "workflow_type": "train"}
    assert unknown_overrides(config, configs) == []


@pytest.mark.parametrize(
    ("typo", "meant"),
    [("output_dirr", "output_dir"), ("epoch", "epochs"), ("output_di", "output_dir"), ("optimiser", "optimizer")],
)
def test_a_typo_is_found_and_the_nearest_name_is_suggested(configs, typo, meant):
    """Also one that is the beginning of a name: '@epochs' in the config is no use of 'epoch'."""
    (problem,) = unknown_overrides(CONFIG | {typo: 1}, configs)
    assert f"'{typo}'" in problem and f"did you mean '{meant}'" in problem and "\n" not in problem


def test_metadata_is_no_config(configs):
    assert len(unknown_overrides(CONFIG | {"version": 1}, configs)) == 1


@pytest.mark.parametrize(
    "reference", ["@helper", "$@helper + 1", "@helper#0", "@helper::0", "$sum(@helper)", "%helper"]
)
def test_a_users_own_helper_that_is_used_passes(configs, reference):
    assert unknown_overrides(CONFIG | {"helper": [1], "epochs": reference}, configs) == []


def test_a_helper_that_nobody_uses_is_named(configs):
    assert len(unknown_overrides(CONFIG | {"helper": [1], "epochs": "@helper_of_another_name"}, configs)) == 1
    assert len(unknown_overrides(CONFIG | {"a.b": [1], "epochs": "@axb"}, configs)) == 1


@pytest.mark.parametrize("name", FILES)
def test_the_bundles_own_configs_pass(name):
    config = json.loads((CONFIGS / name).read_text())
    assert unknown_overrides(config, CONFIGS) == mistyped_overrides(config, CONFIGS) == []


WRONG = [
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
RIGHT = [
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
    *[(key, value) for key in ("checkpoint", "empty", "size", "mode") for value in ("weights.pt", "3", "[1]", "None")],
    *[(key, value) for key in ("device", "dataset_dir", "initialize", "regions") for value in ("cuda:1", "3", "[a]")],
]


@pytest.mark.parametrize(("key", "given_", "wanted"), WRONG)
def test_a_value_of_another_type_is_one_line_with_an_example(typed, key, given_, wanted):
    (problem,) = mistyped_overrides(TYPED | {key: DefaultParseValue(given_)}, typed)
    assert problem.startswith(f"override '{key}' is ") and f" where {wanted} is expected: e.g. --{key} " in problem
    assert "\n" not in problem


@pytest.mark.parametrize("configs", CONFIGS.parents[1].glob("*/configs"), ids=lambda path: path.parent.name)
def test_shares_and_strengths_need_not_be_whole(configs):
    """A default of 0 or 1, not 0.0 or 1.0, would ask for a whole number."""
    shares = {"augmentation", "flip_prob", "rephrase_prob", "colour_prob", "colour_range", "nested_prob", "null_share"}
    known = {key for file in configs.glob("*.json") for key in json.loads(file.read_text())}
    assert "augmentation" in known
    assert mistyped_overrides({key: 0.5 for key in shares & known}, configs) == []


@pytest.mark.parametrize(("key", "given_"), RIGHT)
def test_what_fits_a_default_or_cannot_be_known_passes(typed, key, given_):
    assert mistyped_overrides({key: DefaultParseValue(given_)}, typed) == []


def test_values_of_a_program_pass(typed):
    config = {"epochs": np.int64(3), "learning_rate": np.float32(0.1), "encoder": Path("encoder"), "patch_size": (32,)}
    assert mistyped_overrides(config, typed) == []


def test_every_problem_gets_a_line(typed):
    assert len(mistyped_overrides(TYPED | {"epochs": "many", "amp": "maybe"}, typed)) == 2


def test_the_example_is_the_default_as_a_shell_takes_it(typed):
    lines = mistyped_overrides({"epochs": "x", "amp": "x", "patch_size": 1, "channels": 1, "encoder": 1}, typed)
    examples = {line.split(" e.g. ")[1] for line in lines}
    channels = """--channels '["flair", "t1"]'"""
    assert examples == {"--epochs 22", "--amp true", "--patch_size '[96, 96]'", channels, "--encoder vit_tiny"}


LITERALS = st.one_of(
    st.integers(), st.floats(allow_nan=False), st.booleans(), st.text("ab", max_size=3), st.lists(st.integers())
)


@settings(deadline=None)
@given(LITERALS, LITERALS)
def test_a_default_fits_itself_and_types_part_as_python_does(tmp_path_factory, default, value):
    folder = tmp_path_factory.mktemp("any")
    (folder / "train.json").write_text(json.dumps({"key": default}))
    assert mistyped_overrides({"key": default}, folder) == []
    same = type(default) is type(value) or (type(default) is float and type(value) is int)
    assert (mistyped_overrides({"key": value}, folder) == []) == (same or default == [])


def test_jsons_words_mean_what_they_mean_in_json(typed):
    given_ = {"amp": "false", "overlays": "true", "encoder": "true", "checkpoint": "false", "epochs": 1}
    nothing = {"regions": "null", "mode": "null"}
    parser = ConfigParser({**given_, **nothing, "used": "$not @amp and @regions is None"})
    parser.parse()
    read_words(parser, typed)
    used = "$not @amp and @regions is None"
    assert parser.get() == {**given_, "amp": False, "overlays": True, "regions": None, "mode": None, "used": used}
    assert parser.get_parsed_content("used") is True


def test_null_where_a_number_is_expected_gets_a_line(typed):
    parser = ConfigParser({"epochs": "null"})
    parser.parse()
    read_words(parser, typed)
    assert mistyped_overrides(parser.get(), typed) == [
        "override 'epochs' is None where a whole number is expected: e.g. --epochs 22"
    ]
