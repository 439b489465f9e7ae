"""Two processes under torchrun, on one machine or two: gloo on CPUs here, nccl where there are GPUs."""

from __future__ import annotations

import os
import time

import ignite.distributed as idist
import pandas as pd
import pytest
import torch.distributed as dist
import torch.multiprocessing as processes

from shared.datasets.cases import dataset_file
from tests.bundles.brainsegdmlf.helpers import CONFIGS, TRAIN, workflow
from tests.bundles.running import free_port, input_error, train_in_two


def make(folder):
    """Phantoms that take a second, as the real ones take longer."""
    if not (folder / "dataset.json").exists():
        time.sleep(1)
        with open(folder / "log.txt", "a") as log:
            log.write("made\n")
        (folder / "dataset.json").write_text("{}")
    return folder / "dataset.json"


def ask_for_phantoms(rank, folder, port):
    """What each of two processes of a machine does."""
    for name, value in (("RANK", rank), ("LOCAL_RANK", rank), ("WORLD_SIZE", 2), ("LOCAL_WORLD_SIZE", 2)):
        os.environ[name] = str(value)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    assert idist.get_world_size() == 2
    assert dataset_file(folder, folder, maker=make).exists()
    dist.destroy_process_group()


def test_one_process_makes_the_phantoms(tmp_path):
    processes.start_processes(ask_for_phantoms, (tmp_path, free_port()), nprocs=2, start_method="fork")
    assert (tmp_path / "log.txt").read_text() == "made\n"


@pytest.mark.slow
@pytest.mark.parametrize("nodes", [1, 2])
def test_two_processes_train_one_network_and_write_one_report(nodes, data_dir, tmp_path):
    output = tmp_path / "out"
    text = train_in_two(CONFIGS, data_dir, output, TRAIN, nodes)
    assert text.count("BrainSegDMLF  6 cases (4 train, 2 validation)") == 1
    assert text.count("mean of 2") == 1
    assert pd.read_csv(output / "metrics.csv")["case_id"].tolist() == ["val_a", "val_b"]


def test_without_torchrun(data_dir, tmp_path, monkeypatch):
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    settings = {"dataset_dir": str(data_dir), "output_dir": str(tmp_path / "out"), **TRAIN}
    flow = workflow("train", ["train", "multi_gpu_train"], **settings)
    flow.parser["device"] = {"_target_": "shared.engine.distributed.start_processes", "_requires_": "@code"}
    assert "torchrun --nproc_per_node=2" in input_error(flow.initialize)
    assert not (tmp_path / "out").exists()
