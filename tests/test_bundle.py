"""What stands before every run: a mistyped override is found, a second release of `shared` is refused."""

import json
import shutil
from pathlib import Path

import pytest
from monai.bundle import ConfigWorkflow

import shared
from shared.bundle import check_release, running_config, start, unknown_overrides
from shared.errors import InputError

CONFIGS = Path(__file__).resolve().parents[1] / "bundles" / "brainsegdmlf" / "configs"
CONFIG = {
    "epochs": 3,
    "output_dir": "out",
    "ckpt_dir": "$@output_dir + '/models'",
    "trainer": {"_target_": "Trainer", "max_epochs": "@epochs", "lr": "@optimizer#lr"},
    "optimizer": {"lr": 0.1},
}


@pytest.fixture
def configs(tmp_path):
    (tmp_path / "train.json").write_text(json.dumps(CONFIG))
    (tmp_path / "brats.json").write_text(json.dumps({"labels": [0, 1, 2, 4]}))
    (tmp_path / "metadata.json").write_text(json.dumps({"version": "1"}))
    return tmp_path


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


@pytest.mark.parametrize("name", [f.name for f in CONFIGS.glob("*.json") if f.name != "metadata.json"])
def test_the_bundles_own_configs_pass(name):
    assert unknown_overrides(json.loads((CONFIGS / name).read_text()), CONFIGS) == []


def release(folder: Path, version: str) -> Path:
    (folder / "shared").mkdir()
    (folder / "shared" / "__init__.py").write_text(f'"""Text."""\n\n__version__ = "{version}"\n')
    return folder


def test_the_same_release_passes(tmp_path):
    check_release(Path(shared.__file__).parents[1])
    check_release(release(tmp_path, shared.__version__))


def test_another_release_in_one_process_is_refused(tmp_path):
    with pytest.raises(InputError, match="99.0.0") as error:
        check_release(release(tmp_path, "99.0.0"))
    text = str(error.value)
    assert "\n" not in text and shared.__version__ in text and "different processes" in text


def workflow(folder: Path, **override) -> ConfigWorkflow:
    return ConfigWorkflow(str(folder / "configs" / "train.json"), workflow_type="train", logging_file=False, **override)


def test_start_looks_at_the_workflow_that_is_being_evaluated(tmp_path, monkeypatch):
    """As a bundle does it: the config itself calls `start` while MONAI evaluates it."""
    monkeypatch.syspath_prepend(str(Path(shared.__file__).parents[1]))
    (tmp_path / "configs").mkdir()
    home = Path(shared.__file__).parents[1]
    call = f"$start(pathlib.Path({str(tmp_path)!r}), pathlib.Path({str(home)!r}))"
    config = {
        "imports": ["$import pathlib", "$from shared.bundle import start"],
        "epochs": 1,
        "initialize": [call],
        "run": ["@epochs"],
    }
    (tmp_path / "configs" / "train.json").write_text(json.dumps(config))
    workflow(tmp_path, epochs=2).initialize()
    with pytest.raises(Exception) as error:  # noqa: PT011  (MONAI wraps it)
        workflow(tmp_path, epoch=2).initialize()
    causes, cause = [], error.value
    while cause is not None:
        causes.append(cause)
        cause = cause.__cause__ or cause.__context__
    assert any(isinstance(c, InputError) and "did you mean 'epochs'" in str(c) for c in causes)


def test_outside_of_a_workflow_nothing_is_looked_at(tmp_path):
    assert running_config() is None
    start(tmp_path, Path(shared.__file__).parents[1])


def test_a_packaged_shared_folder_is_compared_by_its_text(tmp_path):
    shutil.copytree(Path(shared.__file__).parent, tmp_path / "shared", ignore=shutil.ignore_patterns("__pycache__"))
    check_release(tmp_path)
