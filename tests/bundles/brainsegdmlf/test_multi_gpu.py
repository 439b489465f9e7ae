"""Two processes under torchrun: gloo on CPUs here, nccl where there are GPUs."""

from __future__ import annotations

import subprocess
import sys

import pandas as pd
import pytest

from tests.bundles.brainsegdmlf.helpers import BUNDLE, CONFIGS, TRAIN, workflow
from tests.bundles.running import ROOT, environment, input_error, options

MAKER = """
import runpy, sys, time
from pathlib import Path
import torch.distributed as dist
runpy.run_path(sys.argv[1])
from shared.data.cases import dataset_file

def make(folder):
    if not (folder / "dataset.json").exists():
        time.sleep(1)
        with open(folder / "log.txt", "a") as log:
            log.write("made\\n")
        (folder / "dataset.json").write_text("{}")
    return folder / "dataset.json"

dist.init_process_group("gloo")
assert dataset_file(sys.argv[2], sys.argv[2], maker=make).exists()
dist.destroy_process_group()
"""


def test_one_process_makes_the_phantoms(tmp_path):
    script = tmp_path / "maker.py"
    script.write_text(MAKER)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    command = [*launcher, str(script), str(BUNDLE / "brainsegdmlf" / "prepare.py"), str(tmp_path)]
    done = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "log.txt").read_text() == "made\n"


@pytest.mark.slow
def test_two_processes_write_one_report(data_dir, tmp_path):
    files = f"['{CONFIGS / 'train.json'}','{CONFIGS / 'multi_gpu_train.json'}']"
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    settings = {"dataset_dir": data_dir, "output_dir": tmp_path, **TRAIN, "amp": False}
    command = [*launcher, "-m", "monai.bundle", "run", "--config_file", files, *options(settings)]
    done = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("BrainSegDMLF  6 cases (4 train, 2 validation)") == 1
    assert done.stdout.count("mean of 2") == 1
    assert pd.read_csv(tmp_path / "metrics.csv")["case_id"].tolist() == ["val_a", "val_b"]
    assert sorted(p.name for p in (tmp_path / "models").iterdir()) == ["last.pt", "model.pt"]


def test_without_torchrun(data_dir, tmp_path, monkeypatch):
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    settings = {"dataset_dir": str(data_dir), "output_dir": str(tmp_path / "out"), **TRAIN}
    flow = workflow("train", ["train", "multi_gpu_train"], **settings)
    flow.parser["device"] = {"_target_": "shared.distributed.start_processes", "_requires_": "@code"}
    assert "torchrun --nproc_per_node=2" in input_error(flow.initialize)
    assert not (tmp_path / "out").exists()
