"""The command that a training ends with: what shaped the network and its input, again, and nothing else; it runs."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
from monai.bundle import ConfigParser

from shared.options.next_command import config_files, inference_command
from tests.bundles.facts import BUNDLES
from tests.bundles.running import ROOT, run_bundle
from tests.docs_commands import config_files as named_files
from tests.docs_commands import parsed, problems


def command(bundle: str, files: tuple[str, ...] = (), **overrides: Any) -> str:
    """The last line of a training with these override files and options; paths are of the repository's root."""
    root = Path("bundles") / bundle
    given = [str(root / "configs" / f"{name}.json") for name in ("train", *files)]
    config = ConfigParser.load_config_files(given) | overrides
    return inference_command(root, "out/models", config, given)


@pytest.mark.parametrize(
    "bundle, files, overrides, options",
    [
        ("brainsegdmlf", (), {}, {}),
        ("brainsegdmlf", (), {"dmif": False, "patch_size": [32, 32]}, {"dmif": "false", "patch_size": [32, 32]}),
        ("brainsegdmlf", ("sam_vit_b", "multi_gpu_train"), {"checkpoint": "sam.pth"}, {}),
        ("brainsegdmlf", ("brats",), {"overlap": 0.5, "planes": "all"}, {}),
        ("emclip", (), {"epochs": 3, "amp": False, "dataset_dir": "/data"}, {}),
        ("emclip", ("cardiac",), {"em": False, "drawn_size": None}, {"em": "false"}),
        ("emclip", ("cardiac",), {"cavity_and_wall": None}, {"cavity_and_wall": "null"}),
        ("emclip", (), {"sentences": ["an eye, red", "the disc's", 'a "cup"']}, ...),
        ("tmca", (), {}, {"image_size": 96}),
        ("tmca", ("image_only",), {"norm": "batch"}, {"image_size": 96, "norm": "batch"}),
        ("tmca", ("qata",), {"text_encoder": "/models/my bert"}, {"text_encoder": "/models/my bert"}),
    ],
)
def test_it_says_again_what_inference_would_have_otherwise(bundle, files, overrides, options, monkeypatch):
    monkeypatch.chdir(ROOT)
    line = command(bundle, files, **overrides)
    assert problems(line) == []
    found = parsed(line)
    names = [Path(file).stem for file in named_files(found)]
    assert names == ["inference", *(name for name in files if name != "multi_gpu_train")]
    rest = {key: value for key, value in found.options.items() if key not in ("config_file", "ckpt_dir")}
    assert rest == (overrides if options is ... else options)
    assert found.options["ckpt_dir"] == "out/models"


def test_outside_of_monai_there_are_no_files():
    assert config_files() == ()


def test_the_last_line_of_a_training_segments_with_its_weights(tmp_path):
    """With layers that inference would not have otherwise, in a file and in options."""
    BUNDLES["tmca"].write_cases(tmp_path / "data")
    configs = [f"bundles/tmca/configs/{name}.json" for name in ("train", "image_only")]
    options = {**BUNDLES["tmca"].short, **BUNDLES["tmca"].quiet}
    options |= {"backbone": "test_resnet", "norm": "batch", "detail_channels": [4, 8]}
    options |= {"device": "cpu", "dataset_dir": str(tmp_path / "data"), "output_dir": str(tmp_path / "my run")}
    options |= {"image_size": 64}
    words = [word for key, value in options.items() for word in (f"--{key}", str(value))]
    text = run_bundle("--config_file", str(configs), *words).stdout
    line = next(line for line in text.splitlines() if line.startswith("next")).split(maxsplit=1)[1]
    where = ["--dataset_dir", str(tmp_path / "data"), "--output_dir", str(tmp_path / "masks"), "--device", "cpu"]
    assert line.startswith("python -m monai.bundle run ")
    run_bundle(*shlex.split(line)[4:], *where)
    assert len(json.loads((tmp_path / "masks" / "predictions.json").read_text(encoding="utf-8"))) == 1
    assert len(list((tmp_path / "masks").rglob("*_seg.png"))) == 1
