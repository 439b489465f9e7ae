"""What the tests of the open_clip backbones share."""

from __future__ import annotations

import json

import open_clip
import pytest
import torch


@pytest.fixture(scope="module")
def configs(request, tmp_path_factory):
    """Small models (`CONFIGS` of the module) under names of their own, the way open_clip lets users add them."""
    folder = tmp_path_factory.mktemp("configs")
    for name, config in request.module.CONFIGS.items():
        (folder / f"{name}.json").write_text(json.dumps(config), encoding="utf-8")
    open_clip.add_model_config(folder)
    yield
    open_clip.factory._MODEL_CONFIG_PATHS.remove(folder)
    for name in request.module.CONFIGS:
        open_clip.factory._MODEL_CONFIGS.pop(name)


@pytest.fixture
def seed():
    torch.manual_seed(0)
