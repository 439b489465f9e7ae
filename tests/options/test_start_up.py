"""How a bundle starts: it finds itself, checks its options, and leaves the process that reads its config as it was."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from monai.bundle import ConfigWorkflow

import shared
from shared.core.errors import find_input_error
from shared.core.processes import is_command_line
from shared.options.start_up import check_release, start
from tests.bundles.running import ROOT, copy_bundle, environment
from tests.warm import run_code, run_module

BUNDLES = sorted(path.parents[1].name for path in ROOT.glob("bundles/*/configs/metadata.json"))
READERS = """
import atexit, signal, sys, threading, warnings
from pathlib import Path
from monai.bundle import ConfigParser, ConfigWorkflow, load
import ignite.engine, open_clip, pandas, peft, PIL.Image, scipy, segment_anything, timm, torch.utils.data, transformers

def state():
    signals = [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)]
    return sys.excepthook, threading.excepthook, atexit._ncallbacks(), list(warnings.filters), signals

def by_parser(root):
    parser = ConfigParser()
    parser.read_config(f"{root}/configs/train.json")
    parser["bundle_root"] = root
    return parser.get_parsed_content("network_def")

def by_workflow(root):
    flow = ConfigWorkflow(f"{root}/configs/train.json", workflow_type="train", logging_file=False)
    flow.initialize()
    assert flow.bundle_root == root
    return flow.network_def

def by_load(root):
    return load(Path(root).name, bundle_dir=str(Path(root).parent))

path, roots = list(sys.path), sys.argv[1:]
for root in roots:
    for reader in (by_load, by_workflow, by_parser):
        before = state()
        assert reader(root)
        assert state() == before, (root, reader.__name__, before, state())
        new = [folder for folder in sys.path if folder not in path]
        known = roots[: roots.index(root) + 1]
        assert sorted(new) == sorted([str(Path(root).parents[1]), *known]), (root, reader.__name__, new)
"""


def in_a_process(code: str, folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    return run_code(code, *arguments, cwd=folder, environment=environment())


def test_reading_a_config_from_another_folder_leaves_the_process_as_it_was(tmp_path):
    """Through `ConfigParser`, `ConfigWorkflow` and `monai.bundle.load`, every bundle in one process."""
    done = in_a_process(READERS, tmp_path, *(str(ROOT / "bundles" / bundle) for bundle in BUNDLES))
    assert done.returncode == 0, done.stderr[-2000:]


def test_each_of_two_copies_of_a_bundle_finds_itself(tmp_path):
    for name in ("one", "two"):
        copy_bundle(ROOT / "bundles" / "emclip", tmp_path / name / "emclip")
    files = [str(tmp_path / name / "emclip" / "configs" / "inference.json") for name in ("one", "two")]
    flows = [ConfigWorkflow(file, workflow_type="infer", logging_file=False) for file in files]
    for flow, file in reversed(list(zip(flows, files))):
        assert Path(flow.parser.get_parsed_content("bundle_root")) == Path(file).parents[1]


def test_a_workflow_that_could_not_be_made_does_no_harm(tmp_path):
    with pytest.raises(FileNotFoundError) as kept:  # its traceback keeps the half-made workflow alive
        ConfigWorkflow(str(tmp_path / "missing.json"), workflow_type="infer")
    flow = ConfigWorkflow(str(ROOT / "bundles" / "tmca" / "configs" / "inference.json"), logging_file=False)
    assert Path(flow.parser.get_parsed_content("bundle_root")) == ROOT / "bundles" / "tmca"
    assert kept is not None


@pytest.mark.parametrize("override, expected", [({"epoch": 2}, "did you mean 'epochs'"), ({"epochs": "many"}, "whole")])
def test_start_checks_the_options_of_its_workflow(override, expected):
    file = str(ROOT / "bundles" / "emclip" / "configs" / "train.json")
    flow = ConfigWorkflow(file, workflow_type="train", logging_file=False, **override)
    with pytest.raises(Exception) as error:  # noqa: PT011  (MONAI wraps it)
        flow.initialize()
    assert expected in str(find_input_error(error.value))


def test_without_a_workflow_there_is_nothing_to_check(tmp_path):
    start(None, str(tmp_path))
    assert not is_command_line()


def release(folder: Path, version: str) -> Path:
    (folder / "shared").mkdir()
    (folder / "shared" / "__init__.py").write_text(f'"""Text."""\n\n__version__ = "{version}"\n', encoding="utf-8")
    return folder


def test_the_same_release_passes(tmp_path):
    check_release(Path(shared.__file__).parents[1])
    check_release(release(tmp_path, shared.__version__))


def test_a_packaged_shared_folder_is_compared_by_its_text(tmp_path):
    shutil.copytree(Path(shared.__file__).parent, tmp_path / "shared", ignore=shutil.ignore_patterns("__pycache__"))
    check_release(tmp_path)


@pytest.mark.parametrize("is_package", [True, False], ids=["package", "folder without __init__"])
def test_a_strangers_package_called_shared_gives_one_clear_line(is_package, tmp_path):
    (tmp_path / "shared").mkdir()
    if is_package:
        (tmp_path / "shared" / "__init__.py").write_text("", encoding="utf-8")
    file = ROOT / "bundles" / "tmca" / "configs" / "inference.json"
    read = f"ConfigWorkflow({str(file)!r}, logging_file=False).initialize()"
    done = in_a_process(
        f"import sys; sys.path.insert(0, '.'); import shared\nfrom monai.bundle import ConfigWorkflow\n{read}", tmp_path
    )
    lines = [line for line in done.stderr.splitlines() if line.startswith("ImportError")]
    assert len(lines) == 1 and "another package called 'shared'" in lines[0] and str(tmp_path) in lines[0], done.stderr


def command_with_texts(module: str, *words: str, cwd: Path, output: Path) -> subprocess.CompletedProcess:
    texts = ["--input", "pat#1/none.png", "--text", "nodule #2", "--output_dir", str(output)]
    return run_module(module, *words, *texts, cwd=cwd, environment=environment())


def test_texts_arrive_as_typed_although_another_shared_folder_lies_around(tmp_path):
    """A package called `shared` that is not imported does no harm; neither does "#" in a path."""
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / "__init__.py").write_text("raise RuntimeError('wrong package')", encoding="utf-8")
    configs = ROOT / "bundles" / "tmca" / "configs" / "inference.json"
    words = ["run", "--config_file", str(configs)]
    done = command_with_texts("monai.bundle", *words, cwd=tmp_path, output=tmp_path / "out")
    assert "pat#1/none.png" in done.stderr.splitlines()[-1] and "Traceback" not in done.stderr, done.stderr


def test_the_check_takes_texts_as_the_run_does(tmp_path):
    words = ["check", "tmca", "--config_file", "inference"]
    done = command_with_texts("shared", *words, cwd=ROOT, output=tmp_path / "out")
    *_, line, count = done.stdout.splitlines()  # after the log lines of MONAI
    assert "pat#1/none.png" in line and count == "1 problem: nothing was run" and done.returncode == 1


@pytest.mark.parametrize("option", ["input", "text", "output_dir", "dataset_dir"])
def test_the_command_line_evaluates_no_text(option, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given = "$open('evaluated', 'w')"
    monkeypatch.setattr(sys, "argv", ["monai.bundle", "run", f"--{option}", given])
    monkeypatch.setattr("shared.options.start_up.is_command_line", lambda: True)
    monkeypatch.setattr("shared.options.start_up.prepare", lambda home: None)
    file = str(ROOT / "bundles" / "tmca" / "configs" / "inference.json")
    flow = ConfigWorkflow(file, workflow_type="infer", logging_file=False, **{option: given})
    with pytest.raises(Exception) as error:  # noqa: PT011  (MONAI wraps it)
        flow.initialize()
    assert "which MONAI would evaluate" in str(find_input_error(error.value))
    assert not (tmp_path / "evaluated").exists()
