"""Two processes under torchrun: gloo on CPUs here, nccl where there are GPUs."""

from __future__ import annotations

import pandas as pd
import pytest

from tests.bundles.emclip.helpers import CONFIGS, TRAIN, UNSEEN
from tests.bundles.running import train_in_two


@pytest.mark.slow
def test_two_processes_train_one_network_and_write_one_report(data_dir, tmp_path):
    text = train_in_two(CONFIGS, data_dir, tmp_path / "out", TRAIN)
    assert text.count("EM-CLIP  9 cases (4 train, 2 validation, 3 unseen domains)") == 1
    assert text.count("mean of unseen") == 1
    table = pd.read_csv(tmp_path / "out" / "domains.csv")
    assert table["domain"].unique().tolist() == ["camera_a", *UNSEEN] and table["n"].tolist() == [2, 2, *[1] * 6]
    assert pd.read_csv(tmp_path / "out" / "metrics.csv")["case_id"].is_unique
    assert len(list((tmp_path / "out" / "clusters").iterdir())) == 4
