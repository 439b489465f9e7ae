"""Two processes under torchrun: gloo on CPUs here, nccl where there are GPUs."""

from __future__ import annotations

import pandas as pd
import pytest

from tests.bundles.emclip.helpers import CONFIGS, TRAIN, UNSEEN
from tests.bundles.running import options, torchrun


@pytest.mark.slow
def test_two_processes_write_one_report(data_dir, tmp_path):
    files = f"['{CONFIGS / 'train.json'}','{CONFIGS / 'multi_gpu_train.json'}']"
    settings = {"dataset_dir": data_dir, "output_dir": tmp_path, **TRAIN, "amp": False}
    done = torchrun("-m", "monai.bundle", "run", "--config_file", files, *options(settings))
    assert done.stdout.count("EM-CLIP  9 cases (4 train, 2 validation, 3 unseen domains)") == 1
    assert done.stdout.count("mean of unseen") == 1
    table = pd.read_csv(tmp_path / "domains.csv")
    assert table["domain"].unique().tolist() == ["camera_a", *UNSEEN] and table["n"].tolist() == [2, 2, *[1] * 6]
    assert pd.read_csv(tmp_path / "metrics.csv")["case_id"].is_unique
    assert len(list((tmp_path / "clusters").iterdir())) == 4
    assert sorted(p.name for p in (tmp_path / "models").iterdir()) == ["last.pt", "model.pt"]
