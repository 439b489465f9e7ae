"""Inference over many cases: one that fails is named at the end, the others have their masks."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from monai.data import DataLoader, Dataset
from monai.transforms import AsDiscreted, Compose
from PIL import Image

from shared.core.errors import InputError, OutputError
from shared.io.pictures import LoadPictured
from shared.results.case_evaluator import CaseEvaluator
from shared.results.predictions import PredictionHandler


class Bright(torch.nn.Module):
    """Stands for a network; refuses images of 9 columns."""

    def forward(self, image):
        if image.shape[-1] == 9:
            raise RuntimeError("sizes do not match")
        return image[:, :1]


def pictures(folder, broken: str = "", widths: str = "888") -> list[dict]:
    items = []
    for number, width in enumerate(widths):
        path = folder / f"p{number}.png"
        Image.fromarray(np.full((8, int(width), 3), 255, np.uint8)).save(path)
        if str(number) in broken:
            path.write_bytes(path.read_bytes()[:40])
        items.append({"image": str(path), "case_id": f"p{number}"})
    return items


def run(folder, items, workers: int = 0, network: torch.nn.Module | None = None) -> PredictionHandler:
    handler = PredictionHandler(folder, items, ["image"], ["target"], overlays=False)
    CaseEvaluator(
        device=torch.device("cpu"),
        val_data_loader=DataLoader(Dataset(items, LoadPictured("image")), batch_size=1, num_workers=workers),
        network=network or Bright(),
        postprocessing=Compose([AsDiscreted("pred", threshold=0.5)]),
        val_handlers=[handler],
    ).run()
    return handler


def segmented(folder) -> list[str]:
    return [entry["case_id"] for entry in json.loads((folder / "predictions.json").read_text(encoding="utf-8"))]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_batch_goes_on_after_a_file_that_cannot_be_read(tmp_path, capsys, workers):
    handler = run(tmp_path / "out", pictures(tmp_path, broken="13", widths="88888"), workers)
    with pytest.raises(InputError) as caught:
        handler.summary()
    first, *lines = str(caught.value).splitlines()
    assert first == "2 of 5 cases failed"
    assert [line.split(":")[0].strip() for line in lines] == ["p1", "p3"] and all("png" in line for line in lines)
    assert segmented(tmp_path / "out") == ["p0", "p2", "p4"]
    assert "segmented 3 cases" in capsys.readouterr().out


def test_a_batch_goes_on_after_a_case_that_the_network_refuses(tmp_path, capsys):
    handler = run(tmp_path / "out", pictures(tmp_path, widths="898"))
    with pytest.raises(InputError, match="1 of 3 cases failed\n  p1: RuntimeError: sizes do not match"):
        handler.summary()
    assert segmented(tmp_path / "out") == ["p0", "p2"]
    assert "Traceback" in capsys.readouterr().err, "an error of the program can be found"


def test_a_case_alone_raises_its_own_error(tmp_path):
    with pytest.raises(RuntimeError, match="sizes do not match"):
        run(tmp_path / "out", pictures(tmp_path, widths="9"))


def test_all_cases_may_fail(tmp_path, capsys):
    handler = run(tmp_path / "out", pictures(tmp_path, broken="012"))
    with pytest.raises(InputError, match="3 of 3 cases failed"):
        handler.summary()
    assert "segmented 0 cases" in capsys.readouterr().out and list((tmp_path / "out").iterdir()) == []


def test_a_full_disk_ends_the_run(tmp_path, monkeypatch):
    def full(*_):
        raise OutputError("mask.png cannot be written: the disk is full")

    monkeypatch.setattr("shared.results.predictions.save_prediction", full)
    with pytest.raises(OutputError):
        run(tmp_path / "out", pictures(tmp_path))


def test_what_is_done_is_in_the_index_when_a_run_ends_early(tmp_path, monkeypatch):
    from shared.io.masks import save_prediction

    def full_at_last(pred, folder, case_id):
        if case_id == "p2":
            raise OutputError("mask.png cannot be written: the disk is full")
        return save_prediction(pred, folder, case_id)

    monkeypatch.setattr("shared.results.predictions.save_prediction", full_at_last)
    with pytest.raises(OutputError):
        run(tmp_path / "out", pictures(tmp_path))
    assert segmented(tmp_path / "out") == ["p0", "p1"]
    assert not (tmp_path / "out" / ".predictions.jsonl").exists()


def test_two_inputs_of_one_name_share_an_output_folder(tmp_path, capsys):
    for name in ("p1", "p2"):
        (tmp_path / name).mkdir()
        Image.fromarray(np.full((8, 8, 3), 255, np.uint8)).save(tmp_path / name / "IM0001.png")
        item = {"image": str(tmp_path / name / "IM0001.png"), "case_id": "IM0001"}
        run(tmp_path / "out", [item]).summary()
    assert segmented(tmp_path / "out") == ["IM0001", "p2_IM0001"]
    assert "IM0001 as p2_IM0001" in capsys.readouterr().out
