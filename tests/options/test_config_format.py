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


def test_what_fits_stands_on_one_line():
    config = {
        "size": [96, 96],
        "reader": {"_target_": "LoadImaged", "keys": ["image", "label"]},
        "names": [f"structure {i}" for i in range(12)],
        "empty": {},
    }
    lines = format_config(json.dumps(config)).splitlines()
    assert lines[:4] == [
        "{",
        '    "size": [96, 96],',
        '    "reader": {"_target_": "LoadImaged", "keys": ["image", "label"]},',
        '    "names": [',
    ]
    assert lines[4] == '        "structure 0",' and lines[-2:] == ['    "empty": {}', "}"]


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
