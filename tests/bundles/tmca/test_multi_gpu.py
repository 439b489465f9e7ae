"""Two processes under torchrun: gloo on CPUs here, nccl where there are GPUs."""

from __future__ import annotations

import pandas as pd
import pytest

from tests.bundles.running import options, torchrun
from tests.bundles.tmca.helpers import CONFIGS, TRAIN


@pytest.mark.slow
def test_two_processes_write_one_report(data_dir, tmp_path):
    files = f"['{CONFIGS / 'train.json'}','{CONFIGS / 'multi_gpu_train.json'}']"
    settings = {"dataset_dir": data_dir, "output_dir": tmp_path, **TRAIN, "amp": False}
    done = torchrun("-m", "monai.bundle", "run", "--config_file", files, *options(settings))
    assert done.stdout.count("TMCA  9 cases (6 train, 3 validation)") == 1
    assert done.stdout.count("Dice right") == 1
    cases = pd.read_csv(tmp_path / "metrics.csv")
    assert len(cases) == 3 and cases["case_id"].is_unique
    assert pd.read_csv(tmp_path / "sentences.csv")["sentence"].unique().tolist() == ["right", "none", "shuffled"]
    assert len(list((tmp_path / "attention").iterdir())) == 1
    assert sorted(p.name for p in (tmp_path / "models").iterdir()) == ["last.pt", "model.pt"]
