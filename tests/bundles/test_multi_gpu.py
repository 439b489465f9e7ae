"""Training in several processes, on one machine or two: gloo on CPUs here, nccl where there are GPUs."""

from __future__ import annotations

import os
import time

import ignite.distributed as idist
import pandas as pd
import pytest
import torch.distributed as dist
import torch.multiprocessing as processes

from shared.datasets.cases import dataset_file
from tests.bundles.emclip.facts import UNSEEN
from tests.bundles.facts import BUNDLES
from tests.bundles.running import free_port, input_error, train_in_two


def assert_brain_report(output):
    assert pd.read_csv(output / "metrics.csv")["case_id"].tolist() == ["val_a", "val_b"]


def assert_eye_report(output):
    table = pd.read_csv(output / "domains.csv")
    assert table["domain"].unique().tolist() == ["camera_a", *UNSEEN]
    assert table["n"].tolist() == [2, 2, *[1] * 6]
    assert len(list((output / "clusters").iterdir())) == 4


def assert_chest_report(output):
    assert len(pd.read_csv(output / "metrics.csv")) == 3
    assert pd.read_csv(output / "sentences.csv")["sentence"].unique().tolist() == ["right", "none", "shuffled"]
    assert len(list((output / "attention").iterdir())) == 1


REPORTS = {"brainsegdmlf": assert_brain_report, "emclip": assert_eye_report, "tmca": assert_chest_report}


def make(folder):
    """Phantoms that take a second, as the real ones take longer."""
    if not (folder / "dataset.json").exists():
        time.sleep(1)
        with open(folder / "log.txt", "a", encoding="utf-8") as log:
            log.write("made\n")
        (folder / "dataset.json").write_text("{}", encoding="utf-8")
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
    assert (tmp_path / "log.txt").read_text(encoding="utf-8") == "made\n"


RUNS = [("brainsegdmlf", 1), ("brainsegdmlf", 2), ("emclip", 1), ("tmca", 1)]


@pytest.mark.slow
@pytest.mark.parametrize("name, nodes", RUNS)
def test_two_processes_train_one_network_and_write_one_report(name, nodes, prepared, tmp_path):
    bundle, output = BUNDLES[name], tmp_path / "out"
    text = train_in_two(bundle, prepared.data(name), output, nodes)
    assert text.count(bundle.cases) == text.count(bundle.best) == 1
    assert pd.read_csv(output / "metrics.csv")["case_id"].is_unique
    REPORTS[name](output)


def test_without_torchrun(prepared, tmp_path, monkeypatch):
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    bundle = BUNDLES["brainsegdmlf"]
    places = {"dataset_dir": str(prepared.data(bundle.name)), "output_dir": str(tmp_path / "out")}
    flow = bundle.workflow("train", "multi_gpu_train", **places, **bundle.train_options)
    flow.parser["device"] = {"_target_": "shared.engine.distributed.start_processes", "_requires_": "@code"}
    assert "torchrun --nproc_per_node=2" in input_error(flow.initialize)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("bundle", ["emclip", "tmca"])
def test_the_network_has_the_layout_of_one_process(bundle):
    one, several = (BUNDLES[bundle].config(name)["network"] for name in ("train", "multi_gpu_train"))
    assert several["network"] == one and "channels_last" in one
