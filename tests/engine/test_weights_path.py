"""Which file of weights a run reads."""

import os

import pytest

from shared.engine.weights_path import weights_path


@pytest.mark.parametrize("folder", ["models", "models/", "other/../models", "link"])
def test_the_bundles_own_folder_holds_the_weights_of_the_task(tmp_path, folder):
    (tmp_path / "models").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "models")
    path = f"{tmp_path}/{folder}"
    assert weights_path(path, tmp_path, "model_cardiac.pt") == os.path.join(path, "model_cardiac.pt")


def test_a_training_always_leaves_model_pt(tmp_path):
    folder = str(tmp_path / "output" / "models")
    assert weights_path(folder, tmp_path, "model_cardiac.pt") == f"{folder}/model.pt"


def test_a_bundle_with_one_task_reads_model_pt(tmp_path):
    assert weights_path(tmp_path / "models", tmp_path) == str(tmp_path / "models" / "model.pt")
