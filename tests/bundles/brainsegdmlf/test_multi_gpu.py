"""Two processes under torchrun: gloo on CPUs here, nccl where there are GPUs."""

from __future__ import annotations

import pandas as pd
import pytest

from tests.bundles.brainsegdmlf.helpers import BUNDLE, CONFIGS, TRAIN, workflow
from tests.bundles.running import input_error, options, torchrun

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
    torchrun(script, BUNDLE / "brainsegdmlf" / "prepare.py", tmp_path, cwd=tmp_path)
    assert (tmp_path / "log.txt").read_text() == "made\n"


@pytest.mark.slow
def test_two_processes_write_one_report(data_dir, tmp_path):
    files = f"['{CONFIGS / 'train.json'}','{CONFIGS / 'multi_gpu_train.json'}']"
    settings = {"dataset_dir": data_dir, "output_dir": tmp_path, **TRAIN, "amp": False}
    done = torchrun("-m", "monai.bundle", "run", "--config_file", files, *options(settings))
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
