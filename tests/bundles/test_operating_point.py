"""Threshold and temperature of every bundle, fitted on labelled cases and used by the next command."""

from __future__ import annotations

import contextlib
import io
import json
import shlex
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from shared.__main__ import operating_point
from shared.options.threshold_run import ThresholdRun
from tests.bundles.facts import BUNDLES
from tests.bundles.running import PLAIN, ROOT, input_error, predictions, read_mask


@dataclass
class Found:
    """What a run wrote and printed."""

    output: Path
    record: dict[str, Any]
    text: str

    @property
    def options(self) -> dict[str, Any]:
        """The options to paste, as a command line delivers them."""
        words = shlex.split(self.record["options"])
        return {key.removeprefix("--"): json.loads(value) for key, value in zip(words[::2], words[1::2])}


def small(bundle, data_dir, weights_dir, output) -> dict[str, Any]:
    places = {"dataset_dir": str(data_dir), "ckpt_dir": str(weights_dir), "output_dir": str(output)}
    return {**places, **bundle.infer_options, **PLAIN}


@pytest.fixture(scope="module")
def found(bundle, data_dir, weights_dir, tmp_path_factory) -> Found:
    output = tmp_path_factory.mktemp("operating_point")
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()) as text:
        patch.chdir(ROOT)
        operating_point(bundle.name, report_split="testing", **small(bundle, data_dir, weights_dir, output))
    record = json.loads((output / "operating_point.json").read_text(encoding="utf-8"))
    return Found(output, record, text.getvalue())


def test_evaluation_with_the_pasted_options_gives_the_reported_figures(bundle, found, data_dir, weights_dir, tmp_path):
    own = {"split": "testing"} if "split" in bundle.config("evaluate") else {}
    bundle.evaluate(data_dir, tmp_path, weights_dir, **own, **bundle.quiet, **found.options)
    table = pd.read_csv(tmp_path / "metrics.csv").rename(columns={"dice_right": "dice"})  # with its own sentence
    table = table[table["domain"] != "camera_a"] if "domain" in table else table
    assert len(table) == found.record["report"]["cases"]
    for name, (usual, chosen) in found.record["report"]["regions"].items():
        column = "dice" if "dice" in table else f"dice_{name}"
        assert chosen["dice"] == pytest.approx(table[column].mean(), abs=1e-4)
        assert usual["threshold"] == 0.5


def test_masks_follow_the_threshold(bundle, segmented, data_dir, weights_dir, tmp_path):
    """The usual one marks something, 1 only what is certain."""
    quiet = {"overlays": False, "report_page": False, "threshold": 1.0}
    bundle.infer(tmp_path, weights_dir, dataset_dir=str(data_dir), **quiet)
    usual, strict = (
        sum(int((read_mask(folder / entry["prediction"]) > 0).sum()) for entry in predictions(folder))
        for folder in (segmented.output, tmp_path)
    )
    assert usual > strict == 0


def test_the_run_prints_tables_notes_and_the_next_commands(bundle, found, data_dir):
    lines = found.text.splitlines()
    assert "in validation" in found.text and "chosen on these cases ('validation')" in found.text
    assert "the intervals mean little" in found.text and "which played no part in the choice" in found.text
    for name, region in found.record["regions"].items():
        assert any(line.startswith(f"{name}  temperature") for line in lines)
        assert len(region["curve"]) == 21 and 0 < region["threshold"] < 1
    commands = {word: line for line in lines for word in ("option", "segment", "evaluate") if line.startswith(word)}
    assert len(commands) == 3 and all(found.record["options"] in line for line in commands.values())
    assert "inference.json" in commands["segment"] and str(data_dir) in commands["evaluate"]
    assert (found.output / "operating_point.png").stat().st_size > 10_000


def test_the_defaults_leave_masks_as_they_are(bundle):
    for name in ("train", "inference"):
        config = bundle.config(name)
        assert (config["threshold"], config["temperature"]) == (0.5, 1.0)


class TestOneBundle:
    """What does not depend on the bundle."""

    @pytest.fixture
    def options(self, prepared, tmp_path, monkeypatch) -> dict[str, Any]:
        monkeypatch.chdir(ROOT)
        return small(BUNDLES["tmca"], prepared.data("tmca"), prepared.weights("tmca"), tmp_path / "out")

    def test_a_wrong_report_split_stops_before_the_cases_are_segmented(self, options, monkeypatch):
        def sweep(*_: Any) -> None:
            raise AssertionError("segmented")

        monkeypatch.setattr(ThresholdRun, "sweep", sweep)
        assert "split 'held_out' is missing" in input_error(operating_point, "tmca", report_split="held_out", **options)

    @pytest.mark.parametrize(
        ("given", "part"),
        [
            ({"split": "held_out"}, "split 'held_out' is missing"),
            ({"ckpt_dir": "nowhere"}, "nowhere"),
            ({"overlap": 1.5}, "override 'overlap' is 1.5"),
        ],
        ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
    )
    def test_what_cannot_be_used_gets_one_line(self, options, tmp_path, given, part):
        line = input_error(operating_point, "tmca", **{**options, **given})
        assert part in line and "\n" not in line
        assert not (tmp_path / "out" / "operating_point.json").exists()

    def test_cases_without_labels_get_one_line(self, options, prepared, tmp_path):
        shutil.copytree(prepared.cases("tmca"), tmp_path / "data")
        file = tmp_path / "data" / "dataset.json"
        lists = json.loads(file.read_text(encoding="utf-8"))
        for item in lists["validation"]:
            del item["label"]
        file.write_text(json.dumps(lists), encoding="utf-8")
        line = input_error(operating_point, "tmca", **{**options, "dataset_dir": str(tmp_path / "data")})
        assert "of 'validation' has no label: give a --split of labelled cases" in line

    def test_an_aim_out_of_reach_gets_one_line_and_leaves_the_curve(self, options, tmp_path, monkeypatch):
        monkeypatch.setattr("shared.results.operating_point.best_threshold", lambda *arguments: None)
        line = input_error(operating_point, "tmca", aim="sensitivity", false_lesions=0, **options)
        assert (
            "opacity: thresholds with 0 false lesions per scan or fewer lose more than half of the best Dice" in line
            and "--false_lesions" in line
        )
        record = json.loads((tmp_path / "out" / "operating_point.json").read_text(encoding="utf-8"))
        assert record["regions"]["opacity"]["threshold"] is None and "options" not in record
