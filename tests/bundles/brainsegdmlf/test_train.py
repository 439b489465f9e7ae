"""Training as a user starts it: what it leaves behind, its switches, and going on after a kill."""

from __future__ import annotations

import json

import pandas as pd
import pytest
import torch
from ignite.engine import Events
from monai.data import MetaTensor

from shared.io.dicom_seg import save_dicom_seg
from tests.bundles.brainsegdmlf.facts import BUNDLE
from tests.bundles.running import finish, input_error, train_and_kill
from tests.making import SEQUENCES, brain_affine, make_brain, save_frames


def test_products(trained):
    output = trained.output
    table = pd.read_csv(output / "metrics.csv")
    assert table["case_id"].tolist() == ["val_a", "val_b"]
    report = json.loads((output / "metrics.json").read_text(encoding="utf-8"))
    assert report["summary"]["dice"]["n"] == 2 and report["seed"] == 0
    assert sorted(p.name for p in (output / "overlays").glob("*.png")) == ["val_a.png", "val_b.png"]


@pytest.mark.parametrize(
    "switch",
    [{"dmif": False}, {"layerwise_decoder": False}, {"modality_drop": 0}, {"deep_supervision": 0}],
    ids=lambda switch: next(iter(switch)),
)
def test_ablations(data_dir, tmp_path, switch):
    BUNDLE.train(data_dir, tmp_path, overlays=0, **switch)
    assert (tmp_path / "models" / "model.pt").is_file()
    assert len(pd.read_csv(tmp_path / "metrics.csv")) == 2


def test_regions_that_overlap(data_dir, tmp_path):
    """BraTS's override: four label values, three regions; here the cases hold only the first."""
    BUNDLE.train(data_dir, tmp_path, "brats", overlays=0)
    assert {"dice_WT", "dice_TC", "dice_ET"} <= set(pd.read_csv(tmp_path / "metrics.csv").columns)


def test_dicom_with_dicom_seg_as_labels(tmp_path):
    """What an archive holds: volumes in one file each, and corrected segmentations."""
    cases = []
    for number, name in enumerate(["a", "b"]):
        images, label = make_brain(number)
        paths = [
            save_frames(tmp_path / name / f"{channel}.dcm", images[channel], brain_affine()) for channel in SEQUENCES
        ]
        drawn = MetaTensor(torch.as_tensor(label)[None], torch.as_tensor(brain_affine()))
        codes = [["52988006", "SCT", "Lesion"]]
        seg = save_dicom_seg(drawn, paths[0], tmp_path / name / "label.dcm", ["lesion"], codes)
        cases.append({"case_id": name, "image": paths, "label": str(seg)})
    (tmp_path / "dataset.json").write_text(
        json.dumps({"training": cases[:1], "validation": cases[1:]}), encoding="utf-8"
    )
    BUNDLE.train(tmp_path, tmp_path / "out", overlays=0)
    table = pd.read_csv(tmp_path / "out" / "metrics.csv")
    assert table["case_id"].tolist() == ["b"] and table["dice"].between(0, 1).all()


@pytest.mark.slow
def test_resume_after_kill(data_dir, tmp_path, capfd):
    places = {"dataset_dir": str(data_dir), "output_dir": str(tmp_path)}
    settings = {**places, **BUNDLE.train_options, "epochs": 6, "overlays": 0}
    last = train_and_kill(BUNDLE, settings)
    saved = torch.load(last, weights_only=True)
    done = saved["trainer"]["iteration"] // saved["trainer"]["epoch_length"]
    assert 1 <= done < 6

    flow = BUNDLE.workflow("train", **settings, resume=True)
    flow.initialize()
    trainer = flow.parser.get_parsed_content("train#trainer")
    evaluator = flow.parser.get_parsed_content("validate#evaluator")
    optimizer = flow.parser.get_parsed_content("optimizer")
    began = {}

    @trainer.on(Events.EPOCH_STARTED)
    def look(engine):
        if not began:
            began.update(epoch=engine.state.epoch, best=evaluator.state.best_metric, optimizer=optimizer.state_dict())
            began["moments"] = {k: v["exp_avg"].clone() for k, v in began["optimizer"]["state"].items()}

    flow.run()
    flow.finalize()
    assert began["epoch"] == done + 1
    assert began["best"] == pytest.approx(saved["best"]["metric"])
    assert began["optimizer"]["param_groups"][0]["betas"] == tuple(saved["optimizer"]["param_groups"][0]["betas"])
    for key, value in began["moments"].items():
        assert torch.equal(value, saved["optimizer"]["state"][key]["exp_avg"])
    assert trainer.state.epoch == 6
    assert f"resuming after epoch {done} of 6" in capfd.readouterr().out
    assert (tmp_path / "metrics.csv").is_file()

    complete = input_error(finish, BUNDLE.workflow("train", **settings, resume=True))
    assert "has all of 6 epochs" in complete and "--epochs" in complete
