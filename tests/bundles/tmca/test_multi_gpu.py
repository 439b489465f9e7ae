"""Two processes under torchrun: gloo on CPUs here, nccl where there are GPUs."""

from __future__ import annotations

import pandas as pd
import pytest

from tests.bundles.running import train_in_two
from tests.bundles.tmca.helpers import CONFIGS, TRAIN


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
