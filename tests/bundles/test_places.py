"""Every bundle works wherever it and its user stand."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from monai.bundle import load

from tests.bundles.running import PLAIN, ROOT, copy_bundle, finish, options, predictions, run_bundle


@pytest.mark.parametrize("place", ["root", "bundle", "linked", "absolute"])
def test_config_finds_its_bundle(place, bundle, data_dir, weights_dir, tmp_path, monkeypatch):
    (tmp_path / "link").symlink_to(bundle.folder)
    folder, configs = {
        "root": (ROOT, Path(f"bundles/{bundle.name}/configs")),
        "bundle": (bundle.folder, Path("configs")),
        "linked": (tmp_path, Path("link/configs")),
        "absolute": (tmp_path, bundle.configs),
    }[place]
    monkeypatch.chdir(folder)
    places = {"dataset_dir": str(data_dir), "ckpt_dir": str(weights_dir), "output_dir": str(tmp_path / "out")}
    flow = finish(bundle.workflow("inference", configs=configs, **places, **bundle.infer_options, overlays=False))
    assert Path(flow.bundle_root).resolve() == bundle.folder
    assert len(predictions(tmp_path / "out")) == bundle.predictions


@pytest.mark.slow
@pytest.mark.parametrize("packaged", [False, True], ids=["checkout", "packaged"])
def test_command_line_from_an_unrelated_folder(packaged, bundle, data_dir, weights_dir, tmp_path):
    """Python has never seen the bundle here: its config alone makes its code importable."""
    folder = bundle.folder
    if packaged:
        folder = tmp_path / "unpacked" / bundle.name
        copy_bundle(bundle.folder, folder)
        shutil.copytree(bundle.folder / "models", folder / "models")
    (tmp_path / "here").mkdir()
    case = bundle.one_case(data_dir)
    settings = {**case, "ckpt_dir": weights_dir, "output_dir": "out", **bundle.infer_options, **PLAIN}
    config = str(folder / "configs" / "inference.json")
    done = run_bundle("--config_file", config, *options(settings), cwd=tmp_path / "here")
    assert done.stdout.strip().splitlines()[0] == "segmented 1 case", "nothing before the bundle's own words"
    assert "Traceback" not in done.stderr
    (entry,) = predictions(tmp_path / "here" / "out")
    assert all(path in case["input"] for path in entry["image"] if path)
    assert entry["image"].count(None) == len(entry.get("missing", [])) == bundle.missing
    assert entry.get("text") == case.get("text")


def test_monai_load_gives_the_network_with_its_weights(bundle, tmp_path, monkeypatch):
    """`monai.bundle.load` of a folder that holds an unpacked bundle; it takes no options."""
    copy_bundle(bundle.folder, tmp_path / bundle.name)
    models = tmp_path / bundle.name / "models"
    models.mkdir()
    wanted = bundle.workflow("inference", **bundle.whole).parser.get_parsed_content("network_def").state_dict()
    torch.save(wanted, models / "model.pt")
    monkeypatch.chdir("/")
    network = load(bundle.name, bundle_dir=str(tmp_path), source="github", repo="a/b/c")
    assert all(torch.equal(value, wanted[key]) for key, value in network.state_dict().items())
