"""Names that a user overrides: a mistyped one is found, and the nearest known name is suggested."""

import json

import pytest

from shared.options.overrides import default_values, unknown_overrides

CONFIG = {
    "epochs": 3,
    "output_dir": "out",
    "ckpt_dir": "$@output_dir + '/models'",
    "trainer": {"_target_": "Trainer", "max_epochs": "@epochs", "lr": "@optimizer#lr"},
    "optimizer": {"lr": 0.1},
}


@pytest.fixture
def configs(tmp_path):
    (tmp_path / "train.json").write_text(json.dumps(CONFIG), encoding="utf-8")
    (tmp_path / "brats.json").write_text(json.dumps({"labels": [0, 1, 2, 4]}), encoding="utf-8")
    (tmp_path / "metadata.json").write_text(json.dumps({"version": "1"}), encoding="utf-8")
    return tmp_path


def test_own_names_and_those_of_monai_pass(configs):
    config = CONFIG | {"labels": [0, 1], "_meta_": {}, "bundle_root": ".", "workflow_type": "train"}
    assert unknown_overrides(config, default_values(configs)) == []


@pytest.mark.parametrize(
    ("typo", "meant"),
    [("output_dirr", "output_dir"), ("epoch", "epochs"), ("output_di", "output_dir"), ("optimiser", "optimizer")],
)
def test_a_typo_is_found_and_the_nearest_name_is_suggested(configs, typo, meant):
    """Also one that is the beginning of a name: '@epochs' in the config is no use of 'epoch'."""
    (problem,) = unknown_overrides(CONFIG | {typo: 1}, default_values(configs))
    assert f"'{typo}'" in problem and f"did you mean '{meant}'" in problem and "\n" not in problem


def test_metadata_is_no_config(configs):
    assert len(unknown_overrides(CONFIG | {"version": 1}, default_values(configs))) == 1


@pytest.mark.parametrize(
    "reference", ["@helper", "$@helper + 1", "@helper#0", "@helper::0", "$sum(@helper)", "%helper"]
)
def test_a_users_own_helper_that_is_used_passes(configs, reference):
    assert unknown_overrides(CONFIG | {"helper": [1], "epochs": reference}, default_values(configs)) == []


def test_a_helper_without_a_reference_is_named(configs):
    assert (
        len(unknown_overrides(CONFIG | {"helper": [1], "epochs": "@helper_of_another_name"}, default_values(configs)))
        == 1
    )
    assert len(unknown_overrides(CONFIG | {"a.b": [1], "epochs": "@axb"}, default_values(configs))) == 1


def test_a_name_that_resembles_none_lists_the_names_of_the_config(configs):
    (problem,) = unknown_overrides(CONFIG | {"zzz": 1}, default_values(configs))
    assert problem.startswith("unknown override 'zzz': the config has ") and "epochs" in problem
