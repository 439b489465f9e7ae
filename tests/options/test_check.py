"""The check before a run: every kind of problem at once, a line each, and nothing written but what a run needs."""

import shutil

import pytest
import torch
from emclip.phantoms.dataset import make_fundus_phantoms

from shared.__main__ import check
from shared.options.check import check as find_problems
from tests.bundles.running import ROOT


@pytest.fixture
def here(monkeypatch):
    monkeypatch.chdir(ROOT)


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("eyes") / "data"
    return make_fundus_phantoms(folder, num_training=2, num_validation=1, num_testing=1, progress=False).parent


def problems(config_file="train", bundle="emclip", **overrides):
    return find_problems(bundle, [config_file] if config_file else [], **overrides)


def test_a_good_run_is_ready(here, data_dir, tmp_path, capsys):
    check("emclip", dataset_dir=str(data_dir), output_dir=str(tmp_path / "out"), device="cpu")
    assert capsys.readouterr().out.splitlines()[-1] == "emclip train: ready"


def test_all_problems_at_once(here, data_dir, tmp_path, capsys):
    folder = tmp_path / "copy"
    shutil.copytree(data_dir, folder)
    next(folder.rglob("*_label.png")).unlink()
    torch.save({"other": torch.zeros(2)}, tmp_path / "w.pt")
    options = {"output_dirr": "x", "epochs": "many", "encoder": "clip_tyni", "device": "cuda:77"}
    with pytest.raises(SystemExit) as end:
        check("emclip", dataset_dir=str(folder), output_dir=str(tmp_path / "out"), **options)
    assert end.value.code == 1
    lines = capsys.readouterr().out.splitlines()
    for part in ("'output_dirr'", "'epochs' is 'many'", "'cuda:77'", "_label.png", "'clip_tyni'"):
        assert sum(part in line for line in lines) == 1, part
    assert lines[-1] == "5 problems: nothing was run"


def test_weights_of_another_network(here, data_dir, tmp_path):
    torch.save({"other": torch.zeros(2)}, tmp_path / "model.pt")
    base = {"dataset_dir": str(data_dir), "output_dir": str(tmp_path / "out"), "device": "cpu"}
    (line,) = problems(weights=str(tmp_path / "model.pt"), **base)
    assert "model.pt" in line
    (line,) = problems("inference", ckpt_dir=str(tmp_path), **base)
    assert "model.pt" in line


def test_weights_of_no_training_stop_a_training_in_their_folder_and_no_evaluation(here, data_dir):
    models = str(ROOT / "bundles" / "emclip" / "models")
    base = {"dataset_dir": str(data_dir), "ckpt_dir": models, "device": "cpu"}
    (line,) = problems("train", **base)
    assert "model.pt was not written by a training" in line and "--ckpt_dir" in line
    assert find_problems("emclip", ["train", "evaluate"], **base) == []


def test_a_typo_needs_no_built_in_data(here, tmp_path, monkeypatch):
    monkeypatch.setattr("emclip.phantoms.dataset.make_fundus_phantoms", None)
    lines = problems(epoch=5, builtin_dir=str(tmp_path / "builtin"), output_dir=str(tmp_path / "out"), device="cpu")
    assert len(lines) == 1 and "did you mean 'epochs'" in lines[0]
    assert not (tmp_path / "builtin").exists()
