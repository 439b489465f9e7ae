from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from monai.bundle import ConfigParser
from monai.data import DataLoader, Dataset, MetaTensor
from monai.engines import SupervisedEvaluator
from monai.transforms import AsDiscreted
from PIL import Image

from shared.core.errors import InputError
from shared.datasets.datalist import expand_datalist
from shared.results.case_report import CaseReport
from shared.results.metrics import case_metrics
from shared.results.report import ReportHandler, closing_lines

ROOT = Path(__file__).resolve().parents[2]
AFFINE = torch.diag(torch.tensor([1.0, 1, 3, 1], dtype=torch.float64))


def values(dice: float, hd95: float = 2.0, f1: float = 0.5) -> dict[str, float]:
    return {"dice": dice, "hd95_mm": hd95, "lesion_f1": f1}


def single(scores: list[float]) -> CaseReport:
    report = CaseReport(["lesion"])
    for number, score in enumerate(scores):
        report.add(f"case_{number:02d}", {"lesion": values(score)})
    return report


def test_table_is_the_one_of_the_design():
    report = CaseReport(["lesion"])
    report.add("phantom_019", {"lesion": values(0.844, 3.14, 0.8)})
    report.add("phantom_020", {"lesion": values(0.776, 4.7, 0.741)})
    assert report.text().splitlines() == [
        "validation                Dice   HD95 mm  lesion F1",
        "  phantom_019             0.84       3.1       0.80",
        "  phantom_020             0.78       4.7       0.74",
        "  mean of 2               0.81       3.9       0.77",
    ]


def test_long_lists_show_the_worst_and_the_best():
    lines = single([(7 * n % 40) / 40 for n in range(40)]).text().splitlines()
    shown = [line.split()[1] for line in lines[1:-1] if "..." not in line]
    assert shown == ["0.00", "0.03", "0.05", "0.07", "0.10", "0.93", "0.95", "0.97"]
    assert lines[6].strip() == "..." and lines[-1].split()[:3] == ["mean", "of", "40"]


@pytest.mark.parametrize(
    "classes, headings", [(["WT", "TC", "ET"], "Dice WT"), ([f"organ {n}" for n in range(9)], "Dice")]
)
def test_several_classes_fit_the_terminal(classes, headings):
    report = CaseReport(classes)
    report.add("BraTS-GLI-00000-000", {name: values(index / 10) for index, name in enumerate(classes)})
    lines = report.text().splitlines()
    assert max(map(len, lines)) <= 100 and headings in lines[0]
    assert report.frame()[f"dice_{classes[1]}"].item() == 0.1
    assert ("Dice WT" in lines[0]) == (len(classes) == 3)


def test_files(tmp_path):
    report = single([0.5, 0.7, 0.9])
    report.add("a_case", {"lesion": values(0.3)}, domain="rim_one")
    table, summary = report.write(tmp_path / "run", seed=3, seconds=1.5)
    frame = pd.read_csv(table)
    assert list(frame["case_id"]) == ["a_case", "case_00", "case_01", "case_02"]
    assert list(frame["dice"]) == [0.3, 0.5, 0.7, 0.9] and frame["domain"][0] == "rim_one"
    content = json.loads(summary.read_text(encoding="utf-8"))
    assert content["summary"]["dice"] == pytest.approx(
        {"mean": 0.6, "std": np.std([0.3, 0.5, 0.7, 0.9], ddof=1), "median": 0.6, "n": 4}
    )
    assert (content["seed"], content["wall_seconds"], len(content["cases"])) == (3, 1.5, 4)
    assert content["versions"]["torch"] == torch.__version__.split("+")[0] or content["versions"]["torch"]
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["metrics.csv", "metrics.json"]


def test_json_is_valid_when_a_column_is_absent_for_a_case(tmp_path):
    report = single([0.5])
    report.add("b", {"lesion": values(0.5)}, domain="x")
    _, summary = report.write(tmp_path)
    json.loads(summary.read_text(encoding="utf-8"), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


def fundus(cups: list[float], **options) -> CaseReport:
    report = CaseReport(["disc", "cup"], **options)
    for number, cup in enumerate(cups):
        blank = math.isnan(cup)
        report.add(f"p{number}", {"disc": values(0.9, 3.0), "cup": values(cup, *([math.nan] * 2 if blank else [5.0]))})
    return report


def test_classes_that_were_not_annotated_are_left_out(tmp_path):
    table, summary = fundus([0.6, math.nan, 0.8]).write(tmp_path)
    assert table.read_text(encoding="utf-8").splitlines()[2].split(",") == ["p1", "0.9", "", "3.0", "", "0.5", ""]
    content = json.loads(
        summary.read_text(encoding="utf-8"), parse_constant=lambda name: pytest.fail(f"{name} is no JSON")
    )
    assert content["cases"][1] | {"case_id": 0} == {
        "case_id": 0,
        "dice_disc": 0.9,
        "dice_cup": None,
        "hd95_mm_disc": 3.0,
        "hd95_mm_cup": None,
        "lesion_f1_disc": 0.5,
        "lesion_f1_cup": None,
    }
    assert content["summary"]["dice_cup"] == pytest.approx({"mean": 0.7, "std": 0.2 / 2**0.5, "median": 0.7, "n": 2})
    assert content["summary"]["dice_disc"]["n"] == 3


def test_a_region_of_no_case_is_a_dash(tmp_path):
    options = {"table": {"dice": ["Dice", ".2f"], "hd95_mm": ["HD95 px", ".1f"]}}  # lists, as in JSON
    report = fundus([math.nan, math.nan], **options)
    assert [line.split() for line in report.text().splitlines()] == [
        ["validation", "Dice", "disc", "Dice", "cup", "HD95", "px", "disc", "HD95", "px", "cup"],
        ["p0", "0.90", "-", "3.0", "-"],
        ["p1", "0.90", "-", "3.0", "-"],
        ["mean", "of", "2", "0.90", "-", "3.0", "-"],
    ]
    _, summary = report.write(tmp_path)
    empty = {"mean": None, "std": None, "median": None, "n": 0}
    assert json.loads(summary.read_text(encoding="utf-8"))["summary"]["dice_cup"] == empty


def test_a_case_without_annotation_is_neither_worst_nor_best():
    report = single([n / 20 for n in range(20)] + [math.nan])
    lines = report.text().splitlines()
    assert "case_20" not in report.text() and lines[-2].split() == ["case_19", "0.95", "2.0", "0.50"]
    assert lines[-1].split()[:4] == ["mean", "of", "21", f"{np.mean([n / 20 for n in range(20)]):.2f}"]


def test_closing_lines():
    assert closing_lines(["a.png", "b.png"], ["m.csv", "m.json"], "model.pt", "python -m x").splitlines() == [
        "pictures  a.png ... (2)",
        "tables    m.csv  m.json",
        "weights   model.pt",
        "next      python -m x",
    ]
    assert closing_lines() == ""


class Threshold(torch.nn.Module):
    """Stands for a network: the first channel is the logit of the lesion."""

    def forward(self, image):
        return torch.cat([-image[:, :1], image[:, :1]], 1)


def items(count: int) -> list[dict]:
    rng = np.random.default_rng(0)
    found = []
    for number in range(count):
        image = torch.from_numpy(rng.normal(size=(1, 12, 10, 6)).astype(np.float32))
        label = (image > 0.5).to(torch.uint8)
        meta = {"filename_or_obj": f"/d/p{number}.nii.gz"}
        image, label = (MetaTensor(array, AFFINE, meta) for array in (image, label))
        found.append({"image": image, "label": label, "case_id": f"p{number}", "domain": "x"})
    return found


def evaluate(handler: ReportHandler, postprocessing, count: int = 3, epoch: int = 1) -> list[dict]:
    data = items(count)
    SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=DataLoader(Dataset(data), batch_size=2),
        network=Threshold(),
        postprocessing=postprocessing,
        val_handlers=[handler],
    ).run(epoch)
    return data


@pytest.mark.parametrize("channel_wise", [False, True])
def test_handler_on_an_evaluator(tmp_path, capsys, channel_wise):
    handler = ReportHandler(
        tmp_path,
        ["lesion"],
        channel_wise,
        overlays=2,
        extra_keys=["domain"],
        weights="model.pt",
        next_command="go",
        seed=7,
    )
    post = AsDiscreted(["pred", "label"], argmax=[True, False], to_onehot=2 if channel_wise else None)
    data = evaluate(handler, post)
    frame = pd.read_csv(tmp_path / "metrics.csv")
    assert list(frame["case_id"]) == ["p0", "p1", "p2"] and list(frame["domain"]) == ["x"] * 3
    for item, dice, hd95 in zip(data, frame["dice"], frame["hd95_mm"]):
        expected = case_metrics(item["image"] > 0, item["label"], (1, 1, 3), ["lesion"])["lesion"]
        assert (dice, hd95) == pytest.approx((expected["dice"], expected["hd95_mm"]))
    assert sorted(path.name for path in (tmp_path / "overlays").iterdir()) == ["p0.png", "p1.png"]
    printed = capsys.readouterr().out
    for part in (
        "validation",
        "  p2 ",
        "mean of 3",
        "overlays/p0.png ... (2)",
        "metrics.csv",
        "model.pt",
        "next      go",
    ):
        assert part in printed
    assert json.loads((tmp_path / "metrics.json").read_text(encoding="utf-8"))["seed"] == 7


def test_handler_without_overlays_and_only_in_its_epoch(tmp_path, capsys):
    handler = ReportHandler(tmp_path, ["lesion"], overlays=0, epoch=2)
    post = AsDiscreted(["pred"], argmax=True)
    evaluate(handler, post, epoch=1)
    assert list(tmp_path.iterdir()) == [] and capsys.readouterr().out == ""
    evaluate(handler, post, epoch=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["metrics.csv", "metrics.json"]


def test_handler_starts_afresh_each_run(tmp_path):
    handler = ReportHandler(tmp_path, ["lesion"], overlays=0)
    post = AsDiscreted(["pred"], argmax=True)
    evaluate(handler, post, count=3)
    evaluate(handler, post, count=1)
    assert len(pd.read_csv(tmp_path / "metrics.csv")) == 1


def test_handler_gathers_over_ranks(tmp_path, monkeypatch, capsys):
    other = CaseReport(["lesion"])
    other.add("q9", {"lesion": values(0.1)})
    monkeypatch.setattr("shared.results.report.idist.get_world_size", lambda: 2)
    monkeypatch.setattr("shared.results.report.idist.all_gather", lambda rows: [rows, other.rows])
    evaluate(ReportHandler(tmp_path, ["lesion"], overlays=0), AsDiscreted(["pred"], argmax=True))
    assert list(pd.read_csv(tmp_path / "metrics.csv")["case_id"]) == ["p0", "p1", "p2", "q9"]


def test_other_ranks_stay_silent(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("shared.results.report.idist.get_rank", lambda: 1)
    evaluate(ReportHandler(tmp_path, ["lesion"]), AsDiscreted(["pred"], argmax=True))
    assert list(tmp_path.iterdir()) == [] and capsys.readouterr().out == ""


def test_a_folder_in_use_by_another_process_is_refused(tmp_path):
    code = "from shared.core.locks import locked\n"
    code += f"with locked({str(tmp_path)!r}, 'a training'): print(flush=True); input()"
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        other.stdout.readline()
        with pytest.raises(InputError, match=f"in use by a training .process {other.pid} "):
            evaluate(ReportHandler(tmp_path, ["lesion"], overlays=0), AsDiscreted(["pred"], argmax=True))
        other.communicate("\n")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_is_free_after_an_error(tmp_path):
    with pytest.raises(KeyError):
        evaluate(ReportHandler(tmp_path, ["lesion"], extra_keys=["absent"]), AsDiscreted(["pred"], argmax=True))
    assert not (tmp_path / ".lock").exists()


def test_tables_of_other_cases_are_not_replaced_without_a_word(tmp_path, capsys):
    single([0.1, 0.2]).write(tmp_path)
    for line in ("which had 2 other cases", None):
        evaluate(ReportHandler(tmp_path, ["lesion"], overlays=0), AsDiscreted(["pred"], argmax=True))
        assert ("replaced" in capsys.readouterr().out) == bool(line)


class FirstTwo(torch.nn.Module):
    """Stands for a network: red is the disc, green the cup."""

    def forward(self, image):
        return image[:, :2]


def test_handler_on_pictures_of_which_some_lack_a_structure(tmp_path, capsys):
    """What a config writes, from the files to the tables: colour, pixels, a cup that was not annotated."""
    truth = np.zeros((40, 60), np.uint8)
    truth[10:30, 20:50] = 100
    truth[15:25, 30:40] = 200
    colour = np.stack([truth > 0, truth == 200, truth == 0], -1).astype(np.uint8) * 255
    listed = []
    for case, labelled in (("a", ["disc", "cup"]), ("b", ["disc"])):
        Image.fromarray(colour).save(tmp_path / f"{case}.png")
        Image.fromarray(np.minimum(truth, 100 * len(labelled))).save(tmp_path / f"{case}_label.png")
        listed.append({"image": f"{case}.png", "label": f"{case}_label.png", "labelled": labelled, "domain": "x"})
    (tmp_path / "dataset.json").write_text(json.dumps({"testing": listed}), encoding="utf-8")
    config = ConfigParser(
        {
            "before": {
                "_target_": "Compose",
                "transforms": [
                    {"_target_": "shared.io.pictures.LoadPictured", "keys": "image"},
                    {"_target_": "shared.io.pictures.LoadPictureLabeld", "keys": "label", "labels": [0, 100, 200]},
                    {"_target_": "Resized", "keys": "image", "spatial_size": [64, 64], "mode": "bilinear"},
                ],
            },
            "after": {
                "_target_": "Compose",
                "transforms": [
                    {
                        "_target_": "Invertd",
                        "keys": ["pred", "image"],
                        "transform": "@before",
                        "orig_keys": "image",
                        "nearest_interp": False,
                    },
                    {"_target_": "AsDiscreted", "keys": "pred", "threshold": 0.5},
                    {
                        "_target_": "shared.transforms.regions.LabelToRegionsd",
                        "keys": "label",
                        "regions": {"disc": [100, 200], "cup": [200]},
                        "labelled_key": "labelled",
                    },
                ],
            },
            "report": {
                "_target_": "shared.results.report.ReportHandler",
                "output_dir": str(tmp_path / "out"),
                "class_names": ["disc", "cup"],
                "channel_wise": True,
                "channel": None,
                "table": {"dice": ["Dice", ".2f"], "hd95_px": ["HD95 px", ".1f"]},
                "extra_keys": ["domain"],
            },
        }
    )
    before = config.get_parsed_content("before")
    data = Dataset(expand_datalist(tmp_path / "dataset.json", "testing"), before)
    SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=DataLoader(data, batch_size=1),
        network=FirstTwo(),
        postprocessing=config.get_parsed_content("after"),
        val_handlers=[config.get_parsed_content("report")],
    ).run()
    frame = pd.read_csv(tmp_path / "out" / "metrics.csv")
    assert (frame["dice_disc"] > 0.95).all() and (frame["hd95_px_disc"] < 2).all()
    assert list(frame["area_px_disc"]) == [600, 600]
    assert frame["area_pred_px_disc"].tolist() == pytest.approx([600, 600], rel=0.05)
    assert not [column for column in frame if "_mm" in column or "_ml" in column], "pixels are called pixels"
    assert list(frame["dice_cup"].isna()) == [False, True] and frame["dice_cup"][0] > 0.9
    printed = capsys.readouterr().out
    assert "HD95 px cup" in printed and " - " in next(line for line in printed.splitlines() if line.startswith("  b "))
    assert sorted(path.name for path in (tmp_path / "out" / "overlays").iterdir()) == ["a.png", "b.png"]
