"""The bundles as MONAI Label reads them, without MONAI Label: `tests.serving.labelling` repeats its steps."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from shared.engine import precision
from shared.preparation import load
from shared.serving import label_app
from shared.serving.label_app import known_models, set_up
from tests.bundles.facts import BUNDLES
from tests.bundles.running import ROOT, assert_one_line, files, finish, input_error
from tests.making import SEQUENCES
from tests.preparation.bright_brain import BrightBrain, ball_scan
from tests.serving.labelling import (
    KINDS,
    SENTENCES,
    LabelInfer,
    lies_on,
    read,
    train_like_label,
    with_sample_app,
    write_studies,
)

MODELS = list(KINDS)
KEYS = ("network", "train#trainer#max_epochs", "train#dataset#data", "train#handlers", "validate#dataset#data")
# model, a request, and the request whose mask differs from its mask
OPTIONS = [
    ("brainsegdmlf", {"sequences": "t1"}, {}),
    ("brainsegdmlf", {"sequences": "flair, t2"}, {}),
    ("brainsegdmlf", {"overlap": 0.8}, {}),
    ("brainsegdmlf", {"planes": "all"}, {"planes": "axial"}),
    ("emclip_cardiac", {"overlap": 0.75}, {}),
    ("emclip_cardiac", {"largest_component": False}, {}),
    ("tmca", {"sentence": SENTENCES[0]}, {"sentence": SENTENCES[1]}),
    ("tmca", {"sentence": SENTENCES[0]}, {"sentence": "unilateral pulmonary infection, lower left lung."}),
    ("tmca", {"resize": False}, {}),
    ("tmca", {"resize": False, "overlap": 0.7}, {"resize": False}),
]


@pytest.fixture(scope="module", autouse=True)
def float32():
    """Compare masks in float32: bfloat16, on a processor that has it, is not exact to the pixel."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(precision, "fast_dtype", lambda device: None)
        yield


@pytest.fixture(scope="module")
def app(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("label")
    with pytest.MonkeyPatch.context() as patch:
        with_sample_app(patch, folder / "sample")
        return set_up(folder / "app")


@pytest.fixture(scope="module")
def studies(tmp_path_factory) -> dict[str, list[dict[str, str]]]:
    folder = tmp_path_factory.mktemp("studies")
    return {name: write_studies(folder / kind, kind) for name, kind in KINDS.items()}


@pytest.fixture(scope="module")
def tasks(app) -> dict[str, LabelInfer]:
    return {name: LabelInfer(app[name]) for name in MODELS}


def config(folder: Path, name: str) -> dict:
    return json.loads((folder / "configs" / f"{name}.json").read_text(encoding="utf-8"))


def test_a_config_with_weights_of_its_own_is_a_model():
    assert {name: model.config for name, model in known_models().items()} == {
        "brainsegdmlf": None,
        "emclip": None,
        "emclip_cardiac": "cardiac",
        "tmca": None,
    }


@pytest.mark.parametrize("name", MODELS)
def test_each_model_of_the_app_is_self_contained(app, name):
    bundle = known_models()[name].bundle
    assert (app[name] / "shared" / "core" / "errors.py").is_file() and (
        app[name] / bundle.name / "prepare.py"
    ).is_file()
    shipped = "model_cardiac.pt" if name == "emclip_cardiac" else "model.pt"
    assert files(app[name] / "models") == {"model.pt": (bundle / "models" / shipped).read_bytes()}
    assert not (app[name] / "configs" / "multi_gpu_train.json").exists()


def test_weights_that_a_config_reads_beside_the_served_ones_are_there_and_are_no_choice_of_users(app):
    folder = app["brainsegdmlf"]
    for name in ("inference", "train"):
        (read_from,) = set(re.findall(r"bundle_root \+ '(/[^']+\.pt)'", json.dumps(config(folder, name))))
        assert (folder / read_from[1:]).read_bytes() == (ROOT / "bundles/brainsegdmlf/models/brain.pt").read_bytes()
        assert not read_from.startswith("/models/")


@pytest.mark.parametrize("name", MODELS)
def test_labels_are_those_of_the_metadata(app, tasks, studies, name):
    pred = config(app[name], "metadata")["network_data_format"]["outputs"]["pred"]
    found = np.unique(tasks[name](Path(studies[name][0]["image"])))
    assert set(found) <= {int(value) for value in pred["channel_def"]}
    assert pred["channel_def"]["0"] == "background" and found.max() > 0


@pytest.mark.parametrize("name", MODELS)
def test_label_map_lies_on_the_image(tasks, studies, name):
    """The mask has the shape of the truth, which is stored like the image, and overlaps it."""
    item = studies[name][0]
    pred, truth = tasks[name](Path(item["image"])), read(Path(item["label"]))[0]
    truth = truth.T if truth.ndim == 2 else truth  # viewers index columns first
    assert pred.shape == truth.shape and pred.dtype == np.uint8
    assert lies_on(pred, truth)


def test_a_raw_scan_is_prepared_on_its_own_grid_and_the_answer_says_how(tasks, tmp_path, monkeypatch):
    monkeypatch.setattr(load, "load_network", lambda weights: BrightBrain())
    scan = ball_scan((3, 3, 5), 62.0, skull=True)[0]
    nib.save(nib.Nifti1Image(scan.voxels, scan.affine), tmp_path / "p1_flair.nii")
    task = tasks["brainsegdmlf"]
    assert task(tmp_path / "p1_flair.nii", planes="axial").shape == scan.voxels.shape
    found = task.result["preparation"]
    assert "remove the skull" in found["steps"] and "folder" not in found
    task(tmp_path / "p1_flair.nii", planes="axial", prepare="off")
    assert task.result == {}


@pytest.mark.parametrize("name, one, other", OPTIONS)
def test_options_of_a_request_take_effect(tasks, studies, name, one, other):
    image = Path(studies[name][-1]["image"])  # the noisiest: there windows and components differ
    assert not np.array_equal(tasks[name](image, **one), tasks[name](image, **other))


def test_a_request_leaves_nothing_for_the_next(tasks, studies):
    image = Path(studies["tmca"][0]["image"])
    before = tasks["tmca"](image)
    tasks["tmca"](image, sentence=SENTENCES[0], resize=False)
    np.testing.assert_array_equal(tasks["tmca"](image), before)


def test_same_mask_as_an_ordinary_run(tasks, studies, tmp_path):
    item = studies["brainsegdmlf"][0]
    image = [item["image"].replace("_flair", f"_{name}") for name in SEQUENCES]
    finish(BUNDLES["brainsegdmlf"].workflow("inference", input=image, output_dir=str(tmp_path)))
    ordinary = read(next(tmp_path.glob("*/*_seg.nii.gz")))[0]
    np.testing.assert_array_equal(tasks["brainsegdmlf"](Path(item["image"])), ordinary)


def test_one_file_with_all_sequences_gives_the_same(tasks, studies, tmp_path):
    image = Path(studies["brainsegdmlf"][0]["image"])
    volumes = [nib.load(str(image).replace("_flair", f"_{name}")) for name in SEQUENCES]
    whole = tmp_path / "whole.nii.gz"
    nib.save(
        nib.Nifti1Image(np.stack([v.get_fdata() for v in volumes], -1).astype(np.float32), volumes[0].affine), whole
    )
    task = tasks["brainsegdmlf"]
    np.testing.assert_array_equal(task(whole), task(image))
    np.testing.assert_array_equal(task(whole, sequences="flair"), task(image, sequences="flair"))


@pytest.mark.parametrize("name", MODELS)
def test_training_config_has_the_keys(app, name):
    content = config(app[name], "train")
    for key in KEYS:
        value = content
        for part in key.split("#"):
            value = value[part]
        assert value is not None
    assert isinstance(content["train"]["handlers"], list)


@pytest.mark.parametrize("name", ["emclip", "tmca"])
def test_training_config_trains_nothing_without_labels(app, name):
    with pytest.raises(Exception) as error:  # noqa: PT011  (MONAI wraps it)
        train_like_label(app[name], [], 0)
    assert_one_line(input_error(_raise, error.value), ["no labelled image for training", "val_split"])


def _raise(error: BaseException) -> None:
    raise error


@pytest.mark.parametrize("name", ["brainsegdmlf", "tmca"])
def test_training_serves_the_new_weights_and_keeps_the_old(app, studies, tmp_path, name):
    models = app[name] / "models"
    before = (models / "model.pt").read_bytes()
    small = {"overlays": 0, **({"attention_pictures": 0} if name == "tmca" else {})}
    train_like_label(app[name], studies[name], 1, **small)
    after = files(models)
    assert len(after) == 2 and after.pop("model.pt") != before
    assert list(after.values()) == [before] and re.fullmatch(r"model_\d{8}-\d{6}\.pt", next(iter(after)))
    old = torch.load(models / next(iter(after)), weights_only=True)
    new = torch.load(models / "model.pt", weights_only=True)
    floats = [key for key, value in old.items() if value.is_floating_point() and value.ndim > 1]
    distance = torch.stack([(new[key] - old[key]).norm() / old[key].norm() for key in floats]).median()
    assert 0 < distance < 0.5  # training started from the served weights


def test_second_set_up_keeps_weights_and_renews_code(monkeypatch, tmp_path):
    with_sample_app(monkeypatch, tmp_path / "sample")
    folder = set_up(tmp_path / "app", ["tmca"])["tmca"]
    (folder / "models" / "model.pt").write_bytes(b"trained here")
    (folder / "configs" / "inference.json").write_text("{}", encoding="utf-8")
    assert set_up(tmp_path / "app", ["tmca"])["tmca"] == folder
    assert (folder / "models" / "model.pt").read_bytes() == b"trained here"
    assert "displayable_configs" in config(folder, "inference")


def test_unknown_model_is_refused_with_a_hint(monkeypatch, tmp_path):
    with_sample_app(monkeypatch, tmp_path / "sample")
    assert_one_line(input_error(set_up, tmp_path / "app", ["tcma"]), ["'tcma'", "did you mean 'tmca'?"])
    assert not (tmp_path / "app").exists()


def test_folder_with_other_files_is_refused(monkeypatch, tmp_path):
    with_sample_app(monkeypatch, tmp_path / "sample")
    (tmp_path / "scans").mkdir()
    (tmp_path / "scans" / "p01.nii.gz").write_text("", encoding="utf-8")
    assert_one_line(input_error(set_up, tmp_path / "scans", ["tmca"]), [str(tmp_path / "scans"), "--app"])


def test_missing_monai_label_is_one_line(monkeypatch, tmp_path):
    monkeypatch.setattr(label_app.util, "find_spec", lambda name: None)
    line = input_error(set_up, tmp_path / "app")
    assert_one_line(line, ["not installed", "requirements-label.txt", sys.executable])


def test_documented_options_are_those_of_the_configs(app):
    page = (ROOT / "docs" / "monai_label.md").read_text(encoding="utf-8")
    for name in MODELS:
        for option in config(app[name], "inference")["displayable_configs"]:
            assert f"`{option}`" in page, option
