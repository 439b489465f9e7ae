"""The formatter of configs: it changes where lines break, and nothing else."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.options.config_format import WIDTH, format_config, main

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=40)
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=20), inner))


@given(VALUES)
def test_values_and_order_of_keys_stay(value):
    assert json.dumps(json.loads(format_config(json.dumps(value)))) == json.dumps(value)


@given(VALUES)
def test_formatting_twice_is_formatting_once(value):
    once = format_config(json.dumps(value, indent=1))
    assert format_config(once) == once


def test_short_values_stand_on_one_line_and_long_components_share_lines():
    rotate = {"_target_": "RandAffined", "keys": ["image", "label"], "prob": 0.7, "rotate_range": 0.4}
    config = {
        "size": [96, 96],
        "reader": {"_target_": "LoadImaged", "keys": ["image", "label"]},
        "network": {"_target_": "UNet", "channels": "@channels", "strides": "@strides", "names": ["a" * 40, "b" * 40]},
        "chain": [rotate, {**rotate, "mode": ["bilinear", "nearest"], "padding_mode": "border"}],
        "nested": [{"_target_": "Compose", "transforms": [rotate, rotate]}],
        "names": [f"structure {i}" for i in range(12)],
        "units": {f"structure {i}": "millimetres" for i in range(4)},
        "empty": {},
    }
    text = """{
    "size": [96, 96],
    "reader": {"_target_": "LoadImaged", "keys": ["image", "label"]},
    "network": {
        "_target_": "UNet", "channels": "@channels", "strides": "@strides",
        "names": ["aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"]
    },
    "chain": [
        {"_target_": "RandAffined", "keys": ["image", "label"], "prob": 0.7, "rotate_range": 0.4},
        {"_target_": "RandAffined", "keys": ["image", "label"], "prob": 0.7, "rotate_range": 0.4,
         "mode": ["bilinear", "nearest"], "padding_mode": "border"}
    ],
    "nested": [
        {
            "_target_": "Compose",
            "transforms": [
                {"_target_": "RandAffined", "keys": ["image", "label"], "prob": 0.7, "rotate_range": 0.4},
                {"_target_": "RandAffined", "keys": ["image", "label"], "prob": 0.7, "rotate_range": 0.4}
            ]
        }
    ],
    "names": [
        "structure 0", "structure 1", "structure 2", "structure 3", "structure 4", "structure 5", "structure 6",
        "structure 7", "structure 8", "structure 9", "structure 10", "structure 11"
    ],
    "units": {
        "structure 0": "millimetres",
        "structure 1": "millimetres",
        "structure 2": "millimetres",
        "structure 3": "millimetres"
    },
    "empty": {}
}
"""
    assert format_config(json.dumps(config)) == text


COMPONENTS = st.dictionaries(st.sampled_from(["_target_", "keys", "prob", "spatial_size"]), SCALARS | st.lists(SCALARS))


@given(st.dictionaries(st.text(max_size=20), COMPONENTS | st.lists(COMPONENTS, max_size=3), max_size=4))
def test_long_components_keep_their_arguments(config):
    text = format_config(json.dumps(config))
    assert json.dumps(json.loads(text)) == json.dumps(config) and format_config(text) == text


@pytest.mark.parametrize("extra", [0, 1])
def test_a_line_has_at_most_120_columns(extra):
    text = format_config(json.dumps({"a": ["x" * (WIDTH - len('    "a": [""],') + extra)], "b": 1}))
    assert len(text.splitlines()[1]) == (WIDTH if extra == 0 else len('    "a": ['))


def test_letters_stay_readable():
    assert format_config('{"name": "\\u0153d\\u00e8me"}') == '{\n    "name": "œdème"\n}\n'


def test_a_key_that_stands_twice_is_refused():
    with pytest.raises(ValueError, match='"epochs" stands twice'):
        format_config('{"epochs": 1, "epochs": 2}')


def test_check_names_files_and_leaves_them(tmp_path, capsys):
    good, bad = tmp_path / "good.json", tmp_path / "bad.json"
    good.write_text('{\n    "a": 1\n}\n', encoding="utf-8")
    bad.write_text('{"a": 1}', encoding="utf-8")
    assert main(["--check", str(good), str(bad)]) == 1
    assert capsys.readouterr().out == f"{bad}: is not formatted\n"
    assert bad.read_text(encoding="utf-8") == '{"a": 1}'
    assert main([str(good), str(bad)]) == 0
    assert bad.read_text(encoding="utf-8") == good.read_text(encoding="utf-8")
    assert main(["--check", str(good), str(bad)]) == 0


def test_a_file_that_is_not_json_is_named(tmp_path, capsys):
    (tmp_path / "a.json").write_text("{", encoding="utf-8")
    with pytest.raises(SystemExit):
        main([str(tmp_path / "a.json")])
    assert str(tmp_path / "a.json") in capsys.readouterr().err
