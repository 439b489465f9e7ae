"""An inference over many cases leaves out those that cannot be used, names them twice, and writes the rest."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from shared.options.check import check
from tests.bundles.running import files, finish, input_error, options, run_bundle


def with_image(entry: dict[str, Any], path: Any) -> dict[str, Any]:
    """The entry with another first file."""
    image = entry["image"]
    return {**entry, "image": [path, *image[1:]] if isinstance(image, list) else path}


def first_file(entry: dict[str, Any]) -> str:
    return entry["image"][0] if isinstance(entry["image"], list) else entry["image"]


@pytest.fixture
def batch(data_dir, tmp_path) -> Path:
    """A list of six cases: two good ones, a missing file, one with a damaged header, no image, a path that is none."""
    folder = tmp_path / "data"
    shutil.copytree(data_dir, folder)
    lists = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))
    good = [{k: v for k, v in entry.items() if k != "patient"} for entry in lists["testing"][:2]]
    source = folder / first_file(good[0])
    damaged = source.with_name(f"damaged{''.join(source.suffixes)}")
    damaged.write_bytes(source.read_bytes()[:20])
    bad = [
        {**with_image(good[0], "absent.png"), "case_id": "absent"},
        {**with_image(good[0], str(damaged.relative_to(folder))), "case_id": "damaged"},
        {"text": "no image"},
        {"image": {"path": "a"}},
    ]
    for number, entry in enumerate(good):
        entry["case_id"] = f"good{number}"
    (folder / "dataset.json").write_text(
        json.dumps({"testing": [bad[0], good[0], *bad[1:3], good[1], bad[3]]}), encoding="utf-8"
    )
    return folder


BAD = ["absent", "damaged", "testing[3]", "testing[5]"]


def test_a_batch_goes_on_without_the_cases_that_cannot_be_used(bundle, batch, weights_dir, tmp_path, capsys):
    places = {"dataset_dir": str(batch), "output_dir": str(tmp_path / "out"), "ckpt_dir": str(weights_dir)}
    flow = bundle.workflow("inference", **places, **bundle.infer_options, overlays=False)
    flow.initialize()
    message = input_error(flow.run)
    said = capsys.readouterr().out.splitlines()
    start = said.index("4 of 6 cases cannot be used and are left out:")
    assert [next(name for name in BAD if name in line) for line in said[start + 1 : start + 5]] == BAD
    first, *lines = message.splitlines()
    assert first == "4 of 6 cases failed"
    assert [next(name for name in BAD if line.strip().startswith(name)) for line in lines] == BAD
    index = json.loads((tmp_path / "out" / "predictions.json").read_text(encoding="utf-8"))
    assert [entry["case_id"] for entry in index] == ["good0", "good1"]
    assert all((tmp_path / "out" / entry["prediction"]).is_file() for entry in index)


@pytest.mark.slow
def test_the_command_ends_with_exit_code_1(bundle, batch, weights_dir, tmp_path):
    places = {"dataset_dir": batch, "output_dir": tmp_path / "out", "ckpt_dir": weights_dir}
    config = str(bundle.configs / "inference.json")
    settings = {**bundle.infer_options, "overlays": "false", "device": "cpu"}
    done = run_bundle("--config_file", config, *options({**places, **settings}), check=False)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "error: 4 of 6 cases failed" in done.stderr
    assert len(json.loads((tmp_path / "out" / "predictions.json").read_text(encoding="utf-8"))) == 2


def test_the_check_lists_every_bad_case(bundle, batch, weights_dir, tmp_path):
    lists = json.loads((batch / "dataset.json").read_text(encoding="utf-8"))
    missing = [{**with_image(lists["testing"][1], f"no{k}.png"), "case_id": f"no{k}"} for k in range(30)]
    lists["testing"] += missing
    (batch / "dataset.json").write_text(json.dumps(lists), encoding="utf-8")
    places = {"dataset_dir": str(batch), "output_dir": str(tmp_path / "out"), "ckpt_dir": str(weights_dir)}
    problems = check(str(bundle.folder), ["inference"], **places, **bundle.infer_options)
    for name in [*BAD, *(entry["case_id"] for entry in missing)]:
        assert sum(problem.startswith((f"case {name}: ", f"{name} ")) for problem in problems) == 1, problems
    assert len(problems) == 34


def test_a_batch_without_a_good_case_is_refused_before_it_starts(bundle, batch, weights_dir, tmp_path, monkeypatch):
    lists = json.loads((batch / "dataset.json").read_text(encoding="utf-8"))
    lists["testing"] = [entry for entry in lists["testing"] if not str(entry.get("case_id", "")).startswith("good")]
    (batch / "dataset.json").write_text(json.dumps(lists), encoding="utf-8")
    monkeypatch.setattr("monai.engines.SupervisedEvaluator.run", lambda self: pytest.fail("inference began"))
    places = {"dataset_dir": str(batch), "output_dir": str(tmp_path / "out"), "ckpt_dir": str(weights_dir)}
    flow = bundle.workflow("inference", **places, **bundle.infer_options)
    assert len(input_error(finish, flow).splitlines()) == 4
    assert files(tmp_path / "out") == {}


def test_a_training_refuses_a_bad_case(bundle, data_dir, tmp_path, monkeypatch):
    shutil.copytree(data_dir, tmp_path / "data")
    lists = json.loads((tmp_path / "data" / "dataset.json").read_text(encoding="utf-8"))
    lists["training"].append({"text": "no image"})
    (tmp_path / "data" / "dataset.json").write_text(json.dumps(lists), encoding="utf-8")
    monkeypatch.setattr("monai.engines.SupervisedTrainer.run", lambda self: pytest.fail("training began"))
    assert "names no image" in input_error(bundle.train, tmp_path / "data", tmp_path / "out")
