"""What training in several processes must share with that in one."""

from __future__ import annotations

import json

import pytest

from tests.bundles.running import ROOT


@pytest.mark.parametrize("bundle", ["emclip", "tmca"])
def test_the_network_has_the_layout_of_one_process(bundle):
    configs = ROOT / "bundles" / bundle / "configs"
    one, several = (
        json.loads((configs / f"{name}.json").read_text())["network"] for name in ("train", "multi_gpu_train")
    )
    assert several["network"] == one and "channels_last" in one
