"""Options of a request: values of the types that the model's config has, and never code."""

from __future__ import annotations

import json

import pytest

from shared.serving.request_options import (
    BATCH,
    IMAGES,
    INFER,
    LABELS,
    LONGEST_TEXT,
    SERIES,
    TRAIN,
    check_file_name,
    checked,
)
from tests.bundles.running import assert_one_line, input_error

OWN = {
    "sentence": "",
    "overlap": 0.25,
    "resize": True,
    "result_extension": ".png",
    "device": ["NVIDIA H200"],
    "model_filename": ["model.pt"],
    "planes": ["auto", "axial"],
}
CODE = "$__import__('os').system('touch attacked')"


def test_known_options_pass_unchanged():
    options = {"sentence": "left lung, 50 $ and 5 % @ home.", "overlap": 0.5, "resize": False, "device": "cuda:1"}
    assert checked(options, INFER, OWN) == options


@pytest.mark.parametrize("name", [*OWN, *INFER])
@pytest.mark.parametrize(
    "value", [CODE, " " + CODE, "@network", "%/etc/x#y", {"_target_": "os.system"}, [CODE], [{}], 1e400]
)
def test_no_option_takes_an_expression_or_a_component(name, value):
    if name in ("sentence", "client_id"):
        value = value if value != 1e400 else {"a": 1}
    assert_one_line(input_error(checked, {name: value}, INFER, OWN), [f"option '{name}'", "give "])


@pytest.mark.parametrize("name", [*TRAIN, *OWN])
@pytest.mark.parametrize("value", [CODE, "@network", {"_target_": "os.system"}])
def test_no_option_of_a_training_takes_an_expression_or_a_component(name, value):
    assert_one_line(input_error(checked, {name: value}, TRAIN, OWN), [f"option '{name}'", "give "])


@pytest.mark.parametrize(
    "sentence", ["$50", "\t$x", "@x", "%x", "a@#b", "a%#b", "a::b", "a\0b", "a" * (LONGEST_TEXT + 1), 5, ["a", "b"], {}]
)
def test_text_that_monai_would_not_take_as_it_is_is_refused(sentence):
    if sentence == ["a", "b"]:
        assert checked({"sentence": sentence}, INFER, OWN) == {"sentence": "a"}
    else:
        assert_one_line(input_error(checked, {"sentence": sentence}, INFER, OWN), ["sentence", "does not begin with $"])


@pytest.mark.parametrize(
    "name, value",
    [
        ("overlap", "many"),
        ("overlap", True),
        ("overlap", float("nan")),
        ("resize", 1),
        ("device", "cuda:0;x"),
        ("model_filename", "../model.pt"),
        ("model_filename", "/elsewhere/model.pt"),
        ("model_filename", "main.py"),
        ("result_extension", ".png/../../x.png"),
        ("result_extension", ".py"),
        ("result_dtype", "a/b"),
        ("label_tag", "../../x"),
        ("planes", "sagittal"),
        ("logging", "info"),
    ],
)
def test_value_of_another_kind_is_refused(name, value):
    assert_one_line(input_error(checked, {name: value}, INFER, OWN), [f"'{name}'", "give"])


@pytest.mark.parametrize(
    "name, value",
    [
        ("tracking", "/elsewhere/tracking.json"),
        ("tracking_uri", "file:///elsewhere/x"),
        ("run_id", "initialize#0"),
        ("gpus", "0;1"),
        ("max_epochs", -1),
        ("max_epochs", 1.5),
        ("tracking_experiment_name", "a/b"),
    ],
)
def test_value_of_another_kind_is_refused_in_training(name, value):
    assert_one_line(input_error(checked, {name: value}, TRAIN, OWN), [f"'{name}'", "give"])


def test_values_may_be_given_as_forms_send_them():
    options = {"overlap": "0.5", "resize": "False", "max_workers": "2"}
    assert checked(options, BATCH, OWN) == {"overlap": 0.5, "resize": False, "max_workers": 2}


def test_choices_of_the_server_are_taken():
    options = {"device": ["NVIDIA H200"], "planes": "axial", "model_filename": "model_20261130-101010.pt"}
    assert checked(options, INFER, OWN) == {**options, "device": "NVIDIA H200"}


def test_what_slicer_and_ohif_send_is_taken():
    config = {key: value[0] if isinstance(value, list) else value for key, value in OWN.items()}
    slicer = {**config, "result_extension": ".nrrd", "result_dtype": "uint8", "client_id": None}
    ohif = {
        **slicer,
        "result_compress": False,
        "restore_label_idx": False,
        "label_prompt": ["opacity"],
        "client_id": "me",
    }
    assert checked(slicer, INFER, OWN) == {key: value for key, value in slicer.items() if value is not None}
    assert checked(ohif, INFER, OWN) == {key: value for key, value in ohif.items() if key != "label_prompt"}
    training = {"device": "cuda", "pretrained": True, "max_epochs": 50, "val_split": 0.2, "multi_gpu": True}
    training |= {"gpus": "all", "tracking": "None", "tracking_uri": "", "run_id": "", "model_filename": "model.pt"}
    expected = {key: value for key, value in training.items() if value != ""}
    assert checked({**training, "tracking_experiment_name": ""}, TRAIN, {}) == expected


def test_unknown_options_never_reach_the_server():
    options = {"image": "/etc/passwd", "model": "x", "label": "/etc/x", "bundle_path": "/tmp", "images": ["/etc/x"]}
    assert checked(options, INFER, OWN) == {}
    assert "images" in input_error(checked, options, BATCH, OWN)


def test_misspelt_option_is_refused_with_a_hint():
    assert_one_line(input_error(checked, {"overlp": 0.5}, INFER, OWN), ["'overlp'", "did you mean 'overlap'?"])


@pytest.mark.parametrize("options", [[], "x", 5, None])
def test_options_must_be_an_object(options):
    assert_one_line(input_error(checked, options, INFER, OWN), ["JSON object"])


def test_checked_options_are_json():
    json.dumps(checked({"overlap": 0.5, "sentence": "x"}, INFER, OWN))


@pytest.mark.parametrize("name", ["p01.nii.gz", "p.01.PNG", "x.jpg", "", None])
def test_image_files_are_taken(name):
    check_file_name(name, IMAGES)


@pytest.mark.parametrize(
    "name", ["x.json", "sitecustomize.py", "x.png.html", "x", "x.bin", ".png", "x.png/..", "x/.nii.gz"]
)
def test_other_files_are_refused(name):
    assert_one_line(input_error(check_file_name, name, IMAGES), [repr(name), ".png"])


def test_labels_of_ohif_and_dicom_files_without_extension_are_taken():
    check_file_name("label.bin", LABELS)
    check_file_name("IM0001", SERIES)
    assert_one_line(input_error(check_file_name, "IM0001.exe", SERIES), ["'IM0001.exe'", ".dcm"])
