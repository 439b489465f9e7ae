"""Two processes under torchrun: gloo on CPUs here, nccl where there are GPUs."""

from __future__ import annotations

import json

import pandas as pd
import pytest

from tests.bundles.running import train_in_two
from tests.bundles.tmca.helpers import CONFIGS, TRAIN


def test_the_network_has_the_layout_of_one_process():
    one, several = (
        json.loads((CONFIGS / f"{name}.json").read_text())["network"] for name in ("train", "multi_gpu_train")
    )
    assert several["network"] == one and "channels_last" in one


@pytest.mark.slow
def test_two_processes_train_one_network_and_write_one_report(data_dir, tmp_path):
    output = tmp_path / "out"
    text = train_in_two(CONFIGS, data_dir, output, TRAIN)
    assert text.count("TMCA  9 cases (6 train, 3 validation)") == 1
    assert text.count("Dice right") == 1
    cases = pd.read_csv(output / "metrics.csv")
    assert len(cases) == 3 and cases["case_id"].is_unique
    assert pd.read_csv(output / "sentences.csv")["sentence"].unique().tolist() == ["right", "none", "shuffled"]
    assert len(list((output / "attention").iterdir())) == 1
