"""What stands before every run: bad overrides are found, a second release of `shared` is refused."""

import json
import shutil
from pathlib import Path

import pytest
from monai.bundle import ConfigWorkflow

import shared
from shared.core.errors import find_input_error
from shared.options.start_up import check_release, running_parser, start


def release(folder: Path, version: str) -> Path:
    (folder / "shared").mkdir()
    (folder / "shared" / "__init__.py").write_text(f'"""Text."""\n\n__version__ = "{version}"\n')
    return folder


def test_the_same_release_passes(tmp_path):
    check_release(Path(shared.__file__).parents[1])
    check_release(release(tmp_path, shared.__version__))


def workflow(folder: Path, **override) -> ConfigWorkflow:
    return ConfigWorkflow(str(folder / "configs" / "train.json"), workflow_type="train", logging_file=False, **override)


def test_start_looks_at_the_workflow_that_is_being_evaluated(tmp_path, monkeypatch):
    """As a bundle does it: the config itself calls `start` while MONAI evaluates it."""
    monkeypatch.syspath_prepend(str(Path(shared.__file__).parents[1]))
    (tmp_path / "configs").mkdir()
    home = Path(shared.__file__).parents[1]
    call = f"$start(pathlib.Path({str(tmp_path)!r}), pathlib.Path({str(home)!r}))"
    config = {
        "imports": ["$import pathlib", "$from shared.options.start_up import start"],
        "epochs": 1,
        "initialize": [call],
        "run": ["@epochs"],
    }
    (tmp_path / "configs" / "train.json").write_text(json.dumps(config))
    workflow(tmp_path, epochs=2).initialize()
    for override, expected in (({"epoch": 2}, "did you mean 'epochs'"), ({"epochs": "many"}, "a whole number")):
        with pytest.raises(Exception) as error:  # noqa: PT011  (MONAI wraps it)
            workflow(tmp_path, **override).initialize()
        assert expected in str(find_input_error(error.value))


def test_outside_of_a_workflow_nothing_is_looked_at(tmp_path):
    assert running_parser() is None
    start(tmp_path, Path(shared.__file__).parents[1])


def test_a_packaged_shared_folder_is_compared_by_its_text(tmp_path):
    shutil.copytree(Path(shared.__file__).parent, tmp_path / "shared", ignore=shutil.ignore_patterns("__pycache__"))
    check_release(tmp_path)
