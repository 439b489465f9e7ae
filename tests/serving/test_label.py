"""The bundles as MONAI Label reads them, without MONAI Label: its steps are imitated in `tests.serving.labelling`."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from shared.__main__ import label as command
from shared.engine import precision
from shared.serving import label as labelling
from shared.serving.label import check_port, known_models, set_up
from shared.serving.publish import publish_weights
from shared.serving.requests import FindSequencesd, KeepSequencesd, PictureForViewerd, as_cases, find_sequences
from tests.bundles.brainsegdmlf.helpers import CHANNELS
from tests.bundles.running import ROOT, assert_one_line, environment, files, input_error, workflow
from tests.serving.labelling import KINDS, SENTENCES, LabelInfer, lies_on, read, train_like_label, write_studies

MODELS = list(KINDS)
KEYS = ("network", "train#trainer#max_epochs", "train#dataset#data", "train#handlers", "validate#dataset#data")
# request -> another mask than without it, or with the second of two
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


def with_sample_app(patch, folder: Path) -> None:
    """MONAI Label is not in this environment; its app is one file here."""
    folder.mkdir(exist_ok=True)
    (folder / "main.py").write_text("app = 1\n")
    patch.setattr(labelling, "_sample_app", lambda: {"main.py": folder / "main.py"})


@pytest.fixture(scope="module", autouse=True)
def float32():
    """Masks are compared pixel by pixel, which bfloat16, on a processor that has it, does not promise."""
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
    return json.loads((folder / "configs" / f"{name}.json").read_text())


def test_known_models():
    assert {name: model.config for name, model in known_models().items()} == {
        "brainsegdmlf": None,
        "emclip": None,
        "emclip_cardiac": "cardiac",
        "tmca": None,
    }


@pytest.mark.parametrize("name", MODELS)
def test_app_is_self_contained(app, name):
    bundle = known_models()[name].bundle
    assert (app[name] / "shared" / "errors.py").is_file() and (app[name] / bundle.name / "prepare.py").is_file()
    shipped = "model_cardiac.pt" if name == "emclip_cardiac" else "model.pt"
    assert files(app[name] / "models") == {"model.pt": (bundle / "models" / shipped).read_bytes()}
    assert not (app[name] / "configs" / "multi_gpu_train.json").exists()


@pytest.mark.parametrize("name", MODELS)
def test_labels_are_those_of_the_metadata(app, tasks, studies, name):
    pred = config(app[name], "metadata")["network_data_format"]["outputs"]["pred"]
    found = np.unique(tasks[name](Path(studies[name][0]["image"])))
    assert set(found) <= {int(value) for value in pred["channel_def"]}
    assert pred["channel_def"]["0"] == "background" and found.max() > 0


@pytest.mark.parametrize("name", MODELS)
def test_label_map_lies_on_the_image(tasks, studies, name):
    """Shape and place: the mask meets the truth, which is stored as the image is."""
    item = studies[name][0]
    pred, truth = tasks[name](Path(item["image"])), read(Path(item["label"]))[0]
    truth = truth.T if truth.ndim == 2 else truth  # viewers count columns first
    assert pred.shape == truth.shape and pred.dtype == np.uint8
    assert lies_on(pred, truth)


@pytest.mark.parametrize("name, one, other", OPTIONS)
def test_options_of_a_request_take_effect(tasks, studies, name, one, other):
    image = Path(studies[name][-1]["image"])  # of hearts one that is hard to see, in which windows and pieces differ
    assert not np.array_equal(tasks[name](image, **one), tasks[name](image, **other))


def test_a_request_leaves_nothing_for_the_next(tasks, studies):
    image = Path(studies["tmca"][0]["image"])
    before = tasks["tmca"](image)
    tasks["tmca"](image, sentence=SENTENCES[0], resize=False)
    np.testing.assert_array_equal(tasks["tmca"](image), before)


def test_same_mask_as_an_ordinary_run(tasks, studies, tmp_path):
    item = studies["brainsegdmlf"][0]
    image = [item["image"].replace("_flair", f"_{name}") for name in CHANNELS]
    flow = workflow(
        ROOT / "bundles" / "brainsegdmlf" / "configs", "infer", "inference", input=image, output_dir=str(tmp_path)
    )
    flow.initialize()
    flow.run()
    ordinary = read(next(tmp_path.glob("*/*_seg.nii.gz")))[0]
    np.testing.assert_array_equal(tasks["brainsegdmlf"](Path(item["image"])), ordinary)


def test_one_file_with_all_sequences_gives_the_same(tasks, studies, tmp_path):
    image = Path(studies["brainsegdmlf"][0]["image"])
    volumes = [nib.load(str(image).replace("_flair", f"_{name}")) for name in CHANNELS]
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
    assert 0 < distance < 0.5  # it began with the weights that were served


def test_second_set_up_keeps_weights_and_renews_code(monkeypatch, tmp_path):
    with_sample_app(monkeypatch, tmp_path / "sample")
    folder = set_up(tmp_path / "app", ["tmca"])["tmca"]
    (folder / "models" / "model.pt").write_bytes(b"trained here")
    (folder / "configs" / "inference.json").write_text("{}")
    assert set_up(tmp_path / "app", ["tmca"])["tmca"] == folder
    assert (folder / "models" / "model.pt").read_bytes() == b"trained here"
    assert "displayable_configs" in config(folder, "inference")


def test_unknown_model(monkeypatch, tmp_path):
    with_sample_app(monkeypatch, tmp_path / "sample")
    assert_one_line(input_error(set_up, tmp_path / "app", ["tcma"]), ["'tcma'", "did you mean 'tmca'?"])
    assert not (tmp_path / "app").exists()


def test_folder_that_is_no_app(monkeypatch, tmp_path):
    with_sample_app(monkeypatch, tmp_path / "sample")
    (tmp_path / "scans").mkdir()
    (tmp_path / "scans" / "p01.nii.gz").write_text("")
    assert_one_line(input_error(set_up, tmp_path / "scans", ["tmca"]), [str(tmp_path / "scans"), "--app"])


def test_without_monai_label(monkeypatch, tmp_path):
    monkeypatch.setattr(labelling.util, "find_spec", lambda name: None)
    line = input_error(set_up, tmp_path / "app")
    assert_one_line(line, ["not installed", "requirements-label.txt", sys.executable])


def test_no_folder_of_images(tmp_path):
    line = input_error(command, studies=str(tmp_path / "none"))
    assert_one_line(line, [str(tmp_path / "none"), "--studies"])
    assert_one_line(input_error(command), ["--studies FOLDER"])
    assert_one_line(input_error(command, studies=str(tmp_path), start="perhaps"), ["--start", "true or false"])


def test_port_that_is_taken(tmp_path):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        line = input_error(command, studies=str(tmp_path), app=str(tmp_path / "app"), port=port)
        assert_one_line(line, [f"port {port}", "--port"])
    check_port("127.0.0.1", port)
    assert_one_line(input_error(check_port, "127.0.0.1", "many"), ["'many'", "--port"])
    assert_one_line(input_error(check_port, "no.such.host.invalid", 8000), ["no.such.host.invalid", "--host"])


def test_command_line_prints_one_line(tmp_path):
    words = [sys.executable, "-m", "shared", "label", "--studies", str(tmp_path / "none")]
    done = subprocess.run(words, cwd=ROOT, env=environment(), capture_output=True, text=True)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert_one_line(done.stderr.strip(), ["error:", str(tmp_path / "none")])


def test_started_as_monai_labels_own_command(monkeypatch, tmp_path):
    """The server runs in the app's folder, so that no module of the checkout is in its reach, and asks nobody else."""
    with_sample_app(monkeypatch, tmp_path / "sample")
    calls = []
    monkeypatch.setattr(os, "execv", lambda path, words: calls.append((path, words, Path.cwd())))
    monkeypatch.chdir(tmp_path)
    command(studies=str(tmp_path), models="tmca", app="app", port=_free_port(), train="false")
    (path, words, folder), text = calls[0], " ".join(calls[0][1])
    assert path == sys.executable and folder == tmp_path / "app"
    for part in ("models tmca", "zoo_source local", "sam2 false", "skip_trainers true", "--host 127.0.0.1"):
        assert part in text
    assert words[words.index("--studies") + 1] == str(tmp_path)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def touch(folder: Path, *names: str) -> list[str]:
    for name in names:
        (folder / name).write_text("")
    return [str(folder / name) for name in names]


def test_sequences_are_found_beside_one(tmp_path):
    flair, t1ce, *_ = touch(tmp_path, "p1_flair.nii.gz", "p1_T1CE.nii.gz", "p2_t1.nii.gz", "p1_t2.nii")
    assert find_sequences(flair, CHANNELS) == [flair, None, t1ce, None]
    assert find_sequences(t1ce, CHANNELS) == [flair, None, t1ce, None]
    assert find_sequences(tmp_path / "whole.nii.gz", CHANNELS) == str(tmp_path / "whole.nii.gz")
    assert find_sequences(tmp_path / "flair.nii.gz", CHANNELS) == str(tmp_path / "flair.nii.gz")  # of which case?


def test_named_sequences_alone_are_used(tmp_path):
    flair, _, t2 = touch(tmp_path, "p1_flair.nii.gz", "p1_t1.nii.gz", "p1_t2.nii.gz")
    find = FindSequencesd("image", CHANNELS, "T2, flair")
    assert find({"image": flair})["image"] == [flair, None, None, t2]
    assert find({"image": "whole.nii.gz"})["image"] == "whole.nii.gz"
    assert FindSequencesd("image", CHANNELS, "t1")({"image": "x.nii.gz"})["image"] == [None, "x.nii.gz", None, None]
    assert_one_line(input_error(FindSequencesd("image", CHANNELS, "flare"), {"image": flair}), ["'flare'", "flair"])
    assert_one_line(input_error(FindSequencesd("image", CHANNELS, " ,"), {"image": flair}), ["none", "t1ce"])


def test_channels_not_named_become_zero():
    image = MetaTensor(torch.ones(4, 2, 2, 2))
    image[1] = 0
    kept = KeepSequencesd("image", CHANNELS, ["flair", "t1"])({"image": image})["image"]
    assert kept.flatten(1).sum(1).tolist() == [8, 0, 0, 0] and image.sum() == 24
    line = input_error(KeepSequencesd("image", CHANNELS, "t1"), {"image": image})
    assert_one_line(line, ["nothing in t1"])


def test_listed_images_become_cases(tmp_path):
    image, _, _ = touch(tmp_path, "p1_flair.nii.gz", "p1_t1.nii.gz", "x.png")
    (tmp_path / "x.txt").write_text("left lung.\n")
    brain = as_cases([{"image": image, "label": "l"}], "training", CHANNELS)
    expected = [image, str(tmp_path / "p1_t1.nii.gz"), None, None]
    assert brain == [{"image": expected, "label": "l", "case_id": "p1_flair"}]
    picture = as_cases([{"image": str(tmp_path / "x.png"), "label": "l"}], "training", domain="here")
    assert picture[0]["text"] == "left lung." and picture[0]["domain"] == "here" and picture[0]["case_id"] == "x"
    assert_one_line(input_error(as_cases, [], "validation"), ["validation", "val_split"])


def test_label_map_of_a_picture_is_turned():
    data = {"pred": MetaTensor(torch.arange(6).view(1, 2, 3)), "image": MetaTensor(torch.zeros(3, 2, 3))}
    turned = PictureForViewerd("pred")(data)
    assert turned["pred"].tolist() == [[0, 3], [1, 4], [2, 5]] and turned["pred"].dtype == torch.uint8
    assert tuple(turned["image"].meta["spatial_shape"]) == (3, 2)


def test_weights_are_published_whole_and_kept(tmp_path, capsys):
    run, models = tmp_path / "run", tmp_path / "models"
    run.mkdir()
    kept = []
    for content in (b"one", b"two", b"three"):
        (run / "model.pt").write_bytes(content)
        kept.append(publish_weights(run, models))
        assert (models / "model.pt").read_bytes() == content
    assert kept[0] is None and [path.read_bytes() for path in kept[1:]] == [b"one", b"two"]
    assert str(models / "model.pt") in capsys.readouterr().out


def test_documented_options_are_those_of_the_configs(app):
    page = (ROOT / "docs" / "monai_label.md").read_text()
    for name in MODELS:
        for option in config(app[name], "inference")["displayable_configs"]:
            assert f"`{option}`" in page, option
