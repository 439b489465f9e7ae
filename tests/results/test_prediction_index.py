"""The index of predictions: nothing of it is lost, whoever else writes into the same folder."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from shared.core.errors import InputError, OutputError
from shared.core.files import _host
from shared.results.prediction_index import PredictionIndex

ROOT = Path(__file__).resolve().parents[2]


def segment(folder: Path, images: dict[str, str], **options) -> dict[str, str]:
    """Write a run's results: one mask per case."""
    index = PredictionIndex(folder, ["image"])
    names = index.claim(images, dict.fromkeys(images, options["text"]) if "text" in options else None)
    for case_id, image in images.items():
        index.add(names[case_id], image, mask(folder, names[case_id], image), **options)
    index.close()
    return names


def mask(folder: Path, name: str, content: str = "") -> Path:
    path = folder / name / f"{name}_seg.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")
    return path


def entries(folder: Path) -> dict[str, dict]:
    return {entry["case_id"]: entry for entry in json.loads((folder / "predictions.json").read_text(encoding="utf-8"))}


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_later_run_keeps_the_entries_of_an_earlier_one(tmp_path):
    segment(tmp_path, {"a": "/d/a.png"}, measures={"area": 1})
    segment(tmp_path, {"b": "/d/b.png"}, measures={"area": 2})
    assert list(entries(tmp_path)) == ["a", "b"]
    assert list(pd.read_csv(tmp_path / "predictions.csv")["area"]) == [1, 2]
    assert files(tmp_path) == ["a", "b", "predictions.csv", "predictions.json"]


def test_the_same_input_replaces_its_own_result(tmp_path):
    segment(tmp_path, {"a": "/d/a.png"}, text="left", measures={"area": 1})
    segment(tmp_path, {"a": "/d/x/../a.png"}, text="left", measures={"area": 2})
    assert [entry["measures"] for entry in entries(tmp_path).values()] == [{"area": 2}]


def test_another_sentence_for_the_same_image_keeps_the_earlier_mask(tmp_path):
    asked = ("left", "right", None, "right", "left", "")
    names = [segment(tmp_path, {"a": "/d/a.png"}, **({} if text is None else {"text": text}))["a"] for text in asked]
    assert names == ["a", "a_text2", "a_text3", "a_text2", "a", "a_text3"]
    assert {name: entry.get("text") for name, entry in entries(tmp_path).items()} == {
        "a": "left",
        "a_text2": "right",
        "a_text3": "",
    }


def test_names_that_differ_only_in_case_are_kept_apart_between_runs(tmp_path):
    segment(tmp_path, {"P1": "/d/x/P1.png"})
    mask(tmp_path, "Q1", "of an unknown input")
    names = segment(tmp_path, {"p1": "/d/y/p1.png", "q1": "/d/y/q1.png"})
    assert names == {"p1": "y_p1", "q1": "y_q1"}
    assert segment(tmp_path, {"p1": "/d/x/P1.png"}) == {"p1": "P1"}, "its own result, under its own spelling"


def test_composed_and_decomposed_accents_are_one_folder_on_some_systems(tmp_path):
    segment(tmp_path, {"M\u00fc": "/d/x/M\u00fc.png"})
    assert segment(tmp_path, {"Mu\u0308": "/d/y/Mu\u0308.png"}) == {"Mu\u0308": "y_Mu\u0308"}


def test_another_input_of_the_same_name_is_called_after_its_folder(tmp_path):
    first = segment(tmp_path, {"IM0001": "/d/p1/IM0001.jpg"})
    second = segment(tmp_path, {"IM0001": "/d/p2/IM0001.jpg"})
    again = segment(tmp_path, {"IM0001": "/d/p2/IM0001.jpg"})
    assert (first["IM0001"], second["IM0001"]) == ("IM0001", "p2_IM0001") and again == second
    assert {name: entry["image"] for name, entry in entries(tmp_path).items()} == {
        "IM0001": ["/d/p1/IM0001.jpg"],
        "p2_IM0001": ["/d/p2/IM0001.jpg"],
    }
    assert (tmp_path / "IM0001" / "IM0001_seg.png").read_text(encoding="utf-8") == "/d/p1/IM0001.jpg"


def test_a_case_of_the_same_folder_gets_a_name_as_well(tmp_path):
    names = {segment(tmp_path, {"a": f"/d/a.{kind}"})["a"] for kind in ("png", "jpg", "bmp")}
    assert len(names) == 3 and names == set(entries(tmp_path))


def test_a_new_name_is_not_that_of_another_case_of_the_run(tmp_path):
    segment(tmp_path, {"a": "/d/p1/a.png"})
    names = segment(tmp_path, {"a": "/d/p2/a.png", "p2_a": "/d/p3/x.png"})
    assert names["p2_a"] == "p2_a" and names["a"] not in ("a", "p2_a")


def test_a_mask_without_an_entry_is_kept(tmp_path):
    mask(tmp_path, "a", "of an unknown input")
    assert segment(tmp_path, {"a": "/d/p1/a.png"}) == {"a": "p1_a"}
    assert (tmp_path / "a" / "a_seg.png").read_text(encoding="utf-8") == "of an unknown input"


def test_two_runs_at_once_keep_their_results_apart(tmp_path):
    one, other = PredictionIndex(tmp_path, ["image"]), PredictionIndex(tmp_path, ["image"])
    names = one.claim({"a": "/d/p1/a.png"}), other.claim({"a": "/d/p2/a.png"})
    assert (names[0]["a"], names[1]["a"]) == ("a", "p2_a")
    other.add("p2_a", "/d/p2/a.png", mask(tmp_path, "p2_a"))
    one.add("a", "/d/p1/a.png", mask(tmp_path, "a"))
    one.close()
    other.close()
    assert set(entries(tmp_path)) == {"a", "p2_a"}
    assert files(tmp_path) == ["a", "p2_a", "predictions.json"]


def test_a_name_of_a_case_that_failed_is_free_again(tmp_path):
    index = PredictionIndex(tmp_path, ["image"])
    index.claim({"a": "/d/p1/a.png"})
    index.close()
    assert segment(tmp_path, {"a": "/d/p2/a.png"}) == {"a": "a"}


KILLED = """
import os, signal, sys
from pathlib import Path
from shared.results import prediction_index
from shared.results.prediction_index import PredictionIndex
prediction_index.SHARE = 1  # rarely: most cases are in the journal only
index = PredictionIndex(sys.argv[1], ["image"])
images = {f"case{k:03d}": f"/d/case{k:03d}.png" for k in range(100)}
index.claim(images)
for name, image in images.items():
    index.add(name, image, Path(sys.argv[1]) / name / f"{name}_seg.png")
    if name == "case059":
        os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def killed(tmp_path):
    """Return the folder of a run of 100 cases that was killed after 60."""
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], cwd=ROOT)
    assert done.returncode == -signal.SIGKILL
    return tmp_path


def test_nothing_is_lost_when_a_run_is_killed(killed):
    segment(killed, {"z": "/d/z.png"})
    assert list(entries(killed)) == [*(f"case{k:03d}" for k in range(60)), "z"]


def test_a_killed_run_is_known_by_its_inputs(killed):
    names = segment(killed, {"case001": "/e/case001.png", "case002": "/d/case002.png", "case080": "/d/case080.png"})
    assert names == {"case001": "e_case001", "case002": "case002", "case080": "case080"}


def test_a_line_that_was_cut_by_a_kill_spoils_no_other(killed):
    with open(killed / ".predictions.jsonl", "a", encoding="utf-8") as journal:
        journal.write('\n{"case_id": "half", "ima')
    index = PredictionIndex(killed, ["image"])
    index.add("z", "/d/z.png", mask(killed, "z"))
    index.close()
    assert len(entries(killed)) == 61


def test_the_index_is_up_to_date_within_a_64th_of_its_cases(tmp_path):
    index = PredictionIndex(tmp_path, ["image"])
    for k in range(300):
        index.add(f"case{k}", f"/d/{k}.png", tmp_path / "x.png")
        assert len(entries(tmp_path)) >= (k + 1) * 63 / 64 - 1
    index.close()
    assert len(entries(tmp_path)) == 300


class CountingIndex(PredictionIndex):
    """Counts the entries that are written to ``predictions.json``."""

    written = 0

    def _merge(self, *arguments, **options):
        super()._merge(*arguments, **options)
        self.written += self._merged


def test_the_cost_of_a_case_does_not_grow_with_their_number(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda file: None)  # thousands of them take time
    written = []
    for cases in (500, 2000):
        index = CountingIndex(tmp_path / str(cases), ["image"])
        for k in range(cases):
            index.add(f"case{k:05d}", f"/d/{k}.png", tmp_path / "x.png", measures={"area": k})
        written.append(index.written)
    assert written[1] < 5 * written[0]


def test_measures_that_come_later_are_in_the_index(tmp_path):
    index = PredictionIndex(tmp_path, ["image"])
    index.add("ed", "/d/ed.png", tmp_path / "x.png", measures={"volume": 5})
    index.measure({"ed": {"volume": 5, "ejection_fraction": 60}})
    index.close()
    assert entries(tmp_path)["ed"]["measures"] == {"volume": 5, "ejection_fraction": 60}


def test_cells_of_the_table_are_not_formulas(tmp_path):
    segment(tmp_path, {"=1+1": "/d/a.png"}, measures={"area": -1})
    assert pd.read_csv(tmp_path / "predictions.csv").values.tolist() == [["'=1+1", -1]]


@pytest.mark.parametrize("content", ["{", "{}x", '[{"name": "a"}]', "[1]", "5", "[" * 100_000])
def test_a_file_of_someone_else_is_refused_in_one_line(tmp_path, content):
    (tmp_path / "predictions.json").write_text(content, encoding="utf-8")
    with pytest.raises(InputError) as caught:
        PredictionIndex(tmp_path, ["image"]).claim({"a": "/d/a.png"})
    line = str(caught.value)
    assert "predictions.json" in line and "--output_dir" in line and "\n" not in line
    assert (tmp_path / "predictions.json").read_text(encoding="utf-8") == content


@pytest.mark.skipif(sys.platform != "linux", reason="needs /dev/full")
def test_a_full_disk_is_one_line(tmp_path):
    (tmp_path / ".predictions.jsonl").symlink_to("/dev/full")
    index = PredictionIndex(tmp_path, ["image"])
    with pytest.raises(OutputError, match="cannot be written: the disk is full"):
        index.add("a", "/d/a.png", tmp_path / "x.png")


def test_drafts_of_killed_processes_are_swept_at_the_start(tmp_path):
    process = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], stdout=subprocess.PIPE)
    draft = tmp_path / "a" / f".draft-{_host()}-{int(process.stdout)}-0.png"
    draft.parent.mkdir()
    draft.touch()
    segment(tmp_path, {"z": "/d/z.png"})
    assert not draft.exists()
