from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from shared.core.errors import InputError
from shared.datasets.datalist import expand_datalist, parse_input

REAL = os.environ.get("BUNDLES_REAL_DATA")


def write(folder: Path, **splits) -> Path:
    path = folder / "dataset.json"
    path.write_text(json.dumps({"name": "toy", "numTraining": 1, **splits}), encoding="utf-8")
    return path


def ids(folder: Path, images: list) -> list[str]:
    items = expand_datalist(write(folder, training=[{"image": image} for image in images]), "training")
    return [item["case_id"] for item in items]


def test_paths_become_absolute_also_beside_null(tmp_path):
    (tmp_path / "rim_one").mkdir()  # MONAI's own reader would turn the domain into a path
    entry = {
        "image": ["p1/flair.nii.gz", None, "/data/t2.nii.gz"],
        "label": "p1/l.nii.gz",
        "domain": "rim_one",
        "text": ".",
    }
    (item,) = expand_datalist(write(tmp_path, training=[entry]), "training")
    assert item["image"] == [str(tmp_path / "p1/flair.nii.gz"), None, "/data/t2.nii.gz"]
    assert item["label"] == str(tmp_path / "p1/l.nii.gz")
    assert item["domain"] == "rim_one" and item["text"] == "."


def test_decathlon_test_list_of_plain_paths(tmp_path):
    (item,) = expand_datalist(write(tmp_path, test=["./imagesTs/BRATS_485.nii.gz"]), "test")
    assert item == {"image": str(tmp_path / "imagesTs/BRATS_485.nii.gz"), "case_id": "BRATS_485"}


@pytest.mark.parametrize(
    "images, expected",
    [
        ([["p1/flair.nii.gz", "p1/t1.nii.gz"], ["p2/flair.nii.gz", None]], ["p1", "p2"]),
        ([["p1/t1.nii.gz", "p1/t1ce.nii.gz"]], ["p1"]),
        ([["im/p1_flair.nii.gz", "im/p1_t1.nii.gz"], ["im/p2_flair.nii.gz", None]], ["p1", "p2"]),
        ([["t1/p1.nii.gz", "t2/p1.nii.gz"], ["t1/p2.nii.gz", "t2/p2.nii.gz"]], ["p1", "p2"]),
        (["images/a.nii.gz", "images/b.nii"], ["a", "b"]),
        (["s1.2/a.b.png", "s1.2/a.c.png"], ["a.b", "a.c"]),
        (["p1/image.nii.gz", "p2/image.nii.gz"], ["p1_image", "p2_image"]),
        (["a/p1/image.nii.gz", "b/p1/image.nii.gz"], ["a_p1_image", "b_p1_image"]),
        (["s1/p1.png", "s1/p2.png", "s2/p1.png"], ["s1_p1", "p2", "s2_p1"]),
    ],
)
def test_case_ids(tmp_path, images, expected):
    assert ids(tmp_path, images) == expected


def test_given_case_ids_stay_and_made_ones_differ(tmp_path):
    entries = [{"image": "x/b.png"}, {"image": "x/a.png", "case_id": "b"}]
    items = expand_datalist(write(tmp_path, training=entries), "training")
    assert [item["case_id"] for item in items] == ["x_b", "b"]


def test_null_of_any_key_means_that_the_case_has_none(tmp_path):
    entry = {"image": ["p1/flair.nii.gz", None], "label": None, "age": None, "case_id": None, "sex": "f"}
    nested = {"image": "a.png", "ages": [1, None], "scanner": {"name": None}, "sites": [1, 2]}
    plain, other = expand_datalist(write(tmp_path, training=[entry, nested]), "training")
    assert plain == {"image": [str(tmp_path / "p1/flair.nii.gz"), None], "sex": "f", "case_id": "p1"}
    assert other == {"image": str(tmp_path / "a.png"), "sites": [1, 2], "case_id": "a"}


def test_a_list_with_a_byte_order_mark_or_umlauts_is_read(tmp_path):
    path = write(tmp_path, training=[{"image": "Müller.png"}])
    path.write_text(json.dumps({"training": [{"image": "Müller.png"}]}, ensure_ascii=False), encoding="utf-8-sig")
    assert expand_datalist(path, "training")[0]["case_id"] == "Müller"


def test_a_whole_number_as_case_id_becomes_text(tmp_path):
    (item,) = expand_datalist(write(tmp_path, training=[{"image": "a.png", "case_id": 7}]), "training")
    assert item["case_id"] == "7"


def test_all_bad_entries_are_named_at_once(tmp_path):
    entries = [{"label": "b"}, {"image": "a.png", "case_id": ".."}, {"image": {"x": 1}}, {"image": "b.png"}]
    with pytest.raises(InputError) as caught:
        expand_datalist(write(tmp_path, training=entries), "training")
    lines = str(caught.value).splitlines()
    assert [line.split(" ")[0] for line in lines] == ["training[0]", "training[1]", "training[2]"]


@pytest.mark.parametrize(
    "content, parts",
    [
        ("{", ["not JSON"]),
        ("[1]", ["not a JSON object"]),
        (
            '{"training": [{"image": "a"}], "name": "x"}',
            ["split 'validation' is missing", "splits with items: training"],
        ),
        ('{"validation": []}', ["split 'validation' is empty", "none"]),
        ('{"validation": [{"image": "a"}, {"label": "b"}]}', ["validation[1]", "names no image"]),
        ('{"validation": [{"image": [null, ""]}]}', ["validation[0]", "names no image"]),
        ('{"validation": [{"image": "a", "case_id": "p"}, {"image": "b", "case_id": "p"}]}', ["'p' occurs 2 times"]),
        (
            '{"validation": [{"image": "a", "case_id": "P1"}, {"image": "b", "case_id": "p1"}]}',
            ["case_id 'P1' and 'p1' differ only in upper and lower case", "every case needs its own"],
        ),
        ('{"validation": [{"image": "a", "case_id": "p:1"}]}', ["validation[0]", "'p:1' cannot be a folder name"]),
        ('{"validation": [{"image": "a", "case_id": "p "}]}', ["validation[0]", "leave out the blank at its end"]),
        ('{"validation": [{"image": "a", "case_id": "../p"}]}', ["'../p' cannot be a folder name: leave out '/'"]),
        ('{"validation": [{"image": "a", "case_id": ".."}]}', ["'..' cannot be a folder name"]),
        ('{"validation": [{"image": "a", "case_id": ""}]}', ["'' cannot be a folder name", "leave the key out"]),
        ('{"validation": [{"image": "a", "case_id": "p\\u0000"}]}', ["cannot be a folder name", "control"]),
        ('{"validation": [{"image": "a", "case_id": "predictions.json"}]}', ["the name of a result file"]),
        ('{"validation": [{"image": "a", "case_id": ["p"]}]}', ["case_id is ['p']: give a text"]),
        (f'{{"validation": [{{"image": "a", "case_id": "{"p" * 300}"}}]}}', ["give at most 120 bytes"]),
        ('{"validation": [{"image": "a\\u0000.png"}]}', ["validation[0]", "image holds 'a\\x00.png': give a path"]),
        ('{"validation": [{"image": "\\ud800.png"}]}', ["validation[0]", "give a path"]),
        (f'{{"validation": [{{"image": "{"a" * 300}.png"}}]}}', ["validation[0]", "give a path"]),
        ('{"validation": [{"image": [["a.png"]]}]}', ["validation[0]", "image holds ['a.png']: give a path"]),
        ('{"validation": [{"image": "a", "label": {"x": 1}}]}', ["label holds {'x': 1}: give a path"]),
        ('{"validation": {"image": "a"}}', ["split 'validation' is not a list"]),
        ("[" * 200_000, ["nested too deeply"]),
        ('{"validation": ' + "[" * 200_000, ["nested too deeply"]),
    ],
)
def test_bad_list_is_one_line(tmp_path, content, parts):
    path = tmp_path / "dataset.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(InputError) as caught:
        expand_datalist(path, "validation")
    message = str(caught.value)
    assert str(path) in message and "\n" not in message
    for part in parts:
        assert part in message


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "latin-1"])
def test_a_list_that_is_not_in_utf_8_is_one_line_in_plain_words(tmp_path, encoding):
    path = tmp_path / "dataset.json"
    path.write_text('{"training": [{"image": "Müller.png"}]}', encoding=encoding)
    with pytest.raises(InputError) as caught:
        expand_datalist(path, "training")
    assert str(caught.value) == f"data list {path} is not UTF-8 text: save it as UTF-8"


def test_absent_list(tmp_path):
    with pytest.raises(InputError, match="dataset.json not found: give --dataset_dir"):
        expand_datalist(tmp_path / "dataset.json", "training")


@pytest.mark.parametrize(
    "text, image, case_id",
    [
        ("a.nii.gz", "CWD/a.nii.gz", "a"),
        ("/d/p1/series", "/d/p1/series", "p1_series"),
        (["/d/p1/flair.nii.gz", None, "/d/p1/t2.nii.gz"], ["/d/p1/flair.nii.gz", None, "/d/p1/t2.nii.gz"], "p1"),
        (("/d/p1_0000.nii.gz", "None"), ["/d/p1_0000.nii.gz", None], "p1"),
        ("[/d/p1/flair.nii.gz,None,'t2.nii.gz']", ["/d/p1/flair.nii.gz", None, "CWD/t2.nii.gz"], "p1"),
    ],
)
def test_parse_input(tmp_path, monkeypatch, text, image, case_id):
    monkeypatch.chdir(tmp_path)
    expected = json.loads(json.dumps(image).replace("CWD", str(tmp_path)))
    assert parse_input(text) == {"image": expected, "case_id": case_id}


def test_a_folder_with_brackets_in_its_name_is_an_input(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "[p1]").mkdir()
    assert parse_input("[p1]") == {"image": str(tmp_path / "[p1]"), "case_id": "[p1]"}


def test_a_file_whose_name_begins_with_a_tilde_is_an_input(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert parse_input("~nobody_of_this_name.png")["image"] == str(tmp_path / "~nobody_of_this_name.png")


@pytest.mark.parametrize("text", ["['a',None,None,None", "[a.nii.gz", " [a,b", "["])
def test_a_list_without_its_closing_bracket_is_one_line(tmp_path, monkeypatch, text):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError) as caught:
        parse_input(text)
    assert str(caught.value) == f"--input {text!r} begins a list and does not close it: add ']' at its end"


@pytest.mark.parametrize("name", ["[a.nii.gz", "[a]b.nii.gz"])
def test_a_file_with_a_bracket_in_its_name_is_an_input(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).touch()
    assert parse_input(name)["image"] == str(tmp_path / name)


@pytest.mark.parametrize("text", [None, "", "[]", "None", [], [None, None]])
def test_parse_nothing(text):
    with pytest.raises(InputError, match="names no file"):
        parse_input(text)


@pytest.mark.skipif(not REAL, reason="BUNDLES_REAL_DATA is not set")
@pytest.mark.parametrize("split, count", [("training", 62), ("validation", 16), ("incomplete", 10)])
def test_real_list(split, count):
    items = expand_datalist(Path(REAL) / "brain_lgg64" / "dataset.json", split)
    assert len({item["case_id"] for item in items}) == count
    for item in items:
        assert all(Path(path).is_file() for path in item["image"] if path)
        assert item["case_id"].startswith("TCGA_" + item["domain"])
