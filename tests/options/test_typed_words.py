"""What was typed reaches the config as it was meant: JSON's words, sentences and paths byte for byte."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from monai.bundle import ConfigParser

from shared.options.command_line import config_files, given_words
from shared.options.overrides import wrong_overrides
from shared.options.typed_words import altered_texts, as_typed, read_texts, read_words, wrong_texts

SCHEMA = {
    "amp": {"type": "boolean", "description": "Switch."},
    "overlays": {"type": ["boolean", "integer"], "description": "Number."},
    "encoder": {"type": "string", "description": "Name."},
    "text": {"type": ["string", "null"], "description": "Sentence."},
    "input": {"type": ["string", "array", "null"], "description": "Case."},
    "output_dir": {"type": "string", "description": "Folder."},
    "epochs": {"type": "integer", "description": "Number."},
    "regions": {"type": "object", "description": "Names."},
}


@pytest.fixture(scope="module")
def configs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("configs")
    (folder / "options.schema.json").write_text(json.dumps({"properties": SCHEMA}), encoding="utf-8")
    (folder / "train.json").write_text(json.dumps({"epochs": 22}), encoding="utf-8")
    return folder


def test_jsons_words_mean_what_they_mean_in_json(configs):
    given_ = {"amp": "false", "overlays": "true", "encoder": "true", "epochs": 1}
    nothing = {"regions": "null"}
    parser = ConfigParser({**given_, **nothing, "used": "$not @amp and @regions is None"})
    parser.parse()
    read_words(parser, configs)
    used = "$not @amp and @regions is None"
    assert parser.get() == {**given_, "amp": False, "overlays": True, "regions": None, "used": used}
    assert parser.get_parsed_content("used") is True


def test_null_where_a_number_is_expected_gets_a_line(configs):
    parser = ConfigParser({"epochs": "null"})
    parser.parse()
    read_words(parser, configs)
    assert wrong_overrides(parser.get(), configs) == [
        "override 'epochs' is None where a whole number is expected: e.g. --epochs 22"
    ]


TEXTS = [
    ("nodule #2 in the left lung", "nodule ::2 in the left lung"),
    ("left#right", "left"),
    ("2024", 2024),
    ("20230115_1", 202301151),
    ("1e5", 100000.0),
    ("consolidation, effusion", ("consolidation", "effusion")),
    ("50 % of it", "50 % of it"),
]


@pytest.mark.parametrize("typed, read", TEXTS)
def test_a_text_that_fire_or_monai_alters_is_restored(configs, typed, read):
    parser = ConfigParser({"text": read, "used": "@text", "first": 1})
    parser.get_parsed_content("first")
    assert read_texts(parser, configs, ["run", "--text", typed]) == []
    assert parser.get_parsed_content("used") == typed


@given(st.text(min_size=1).filter(lambda text: not text.startswith(("$", "@", "%", "-"))))
def test_any_folder_stays_as_it_is_typed(text):
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as folder:
        schema = {"properties": {"output_dir": SCHEMA["output_dir"]}}
        (Path(folder) / "options.schema.json").write_text(json.dumps(schema), encoding="utf-8")
        found = as_typed({"output_dir": 7}, Path(folder), ["--output_dir", text])["output_dir"]
    quoted = text[:1] in "'\"rRbBuUfF" and text[-1:] in "'\""
    assert found == text or quoted


@pytest.mark.parametrize("typed, read", [("['a.nii',None]", ["a.nii", None]), ("null", None), ("None", None)])
def test_a_list_or_null_is_not_a_text(configs, typed, read):
    assert as_typed({"input": read}, configs, ["--input", typed]) == {"input": read}


def test_a_text_in_quotes_is_what_stands_between_them(configs):
    assert as_typed({"text": "left"}, configs, ["--text", "'left'"]) == {"text": "left"}


@pytest.mark.parametrize("text", ["$50", "@left", "%40 of the lung", ["a.nii", "$b"]])
def test_a_text_that_monai_would_evaluate_is_refused(configs, text):
    (line,) = wrong_texts({"input": text}, configs)
    assert "which MONAI would evaluate" in line and line.startswith("--input ") and "\n" not in line


def test_a_refused_text_is_not_evaluated(configs, tmp_path):
    parser = ConfigParser({"output_dir": f"$open({str(tmp_path / 'x')!r}, 'w')"})
    parser.parse()
    (line,) = read_texts(parser, configs, ["--output_dir", "$open('x', 'w')"])
    assert "would evaluate" in line and list(tmp_path.iterdir()) == []


def test_a_programs_text_that_monai_altered_is_named(configs):
    parser = ConfigParser({"text": "nodule #2"})
    parser.parse()
    (line,) = altered_texts(parser.get(), configs)
    assert "'text'" in line and "'#'" in line


def test_words_of_a_command_line():
    words = ["run", "--epochs", "3", "--text=a=b", "--flag", "--input", "-x"]
    assert given_words(words) == {"epochs": "3", "text": "a=b", "input": "-x"}


def test_config_files_of_a_command_line(tmp_path):
    (tmp_path / "args.json").write_text(json.dumps({"config_file": ["a.json", "b.json"]}), encoding="utf-8")
    assert config_files(["run", "--config_file", "a.json"]) == ("a.json",)
    assert config_files(["run", "--config_file=['a.json','b.json']"]) == ("a.json", "b.json")
    assert config_files(["run", "--args_file", str(tmp_path / "args.json")]) == ("a.json", "b.json")
    assert config_files(["-n", "2"]) == ()
