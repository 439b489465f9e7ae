from __future__ import annotations

import json
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import torch
from emclip.measures import ejection_fractions, heart
from monai.data import DataLoader, Dataset, MetaTensor
from monai.engines import SupervisedEvaluator
from monai.transforms import AsDiscreted, Compose, Invertd, Orientationd, Resized, Spacingd
from PIL import Image

from shared.datasets.datalist import expand_datalist
from shared.io.masks import save_prediction
from shared.io.pictures import LoadPictured
from shared.io.volumes import LoadSequencesd
from shared.results.prediction_index import PredictionIndex
from shared.results.predictions import PredictionHandler

OBLIQUE = np.array([[-0.8, 0.3, 0.1, 40], [0.2, 0.9, -0.6, -30], [0.1, 0.3, 2.9, 12], [0, 0, 0, 1]])


def test_prediction_lies_on_its_input(tmp_path):
    label = np.random.default_rng(0).integers(0, 4, (1, 7, 6, 5)).astype(np.float32)
    path = save_prediction(MetaTensor(torch.from_numpy(label), torch.from_numpy(OBLIQUE)), tmp_path, "p1")
    assert path == tmp_path / "p1" / "p1_seg.nii.gz" and [file.name for file in path.parent.iterdir()] == [path.name]
    image: nib.Nifti1Image = nib.load(path)
    assert image.get_data_dtype() == np.uint8
    assert np.array_equal(np.asarray(image.dataobj), label[0])
    assert np.allclose(image.affine, OBLIQUE, atol=1e-5)


def test_prediction_of_a_picture_is_a_grey_png(tmp_path):
    label = np.random.default_rng(0).integers(0, 4, (1, 7, 6)).astype(np.float32)
    path = save_prediction(MetaTensor(torch.from_numpy(label)), tmp_path, "p1")
    assert path == tmp_path / "p1" / "p1_seg.png" and [file.name for file in path.parent.iterdir()] == [path.name]
    with Image.open(path) as image:
        assert image.mode == "L" and image.size == (6, 7)
        assert np.array_equal(np.asarray(image), label[0])


@pytest.mark.parametrize(
    "array",
    [
        torch.zeros(2, 3, 3, 3),
        torch.zeros(3, 3),
        torch.full((1, 3, 3, 3), 0.5),
        torch.full((1, 3, 3), 0.5),
        torch.full((1, 3, 3, 3), 256.0),
    ],
)
def test_what_is_no_label_map(tmp_path, array):
    with pytest.raises(ValueError, match="prediction"):
        save_prediction(MetaTensor(array), tmp_path, "p1")


def test_index_is_whole_after_each_case(tmp_path):
    index = PredictionIndex(tmp_path, ["flair", "t1"])
    for number in (1, 2):
        path = index.add(f"p{number}", ["/d/flair.nii.gz", None], tmp_path / "p1" / "p1_seg.nii.gz", tmp_path / "o.png")
        entries = json.loads(path.read_text(encoding="utf-8"))
        assert [entry["case_id"] for entry in entries] == ["p1", "p2"][:number]
    assert entries[0] == {
        "case_id": "p1",
        "image": ["/d/flair.nii.gz", None],
        "missing": ["t1"],
        "prediction": "p1/p1_seg.nii.gz",
        "overlay": "o.png",
    }
    assert [file.name for file in tmp_path.iterdir()] == ["predictions.json"]


class Threshold(torch.nn.Module):
    """Stands for a network: lesion where the second sequence is bright."""

    def forward(self, image):
        return torch.cat([1 - image[:, 1:2], image[:, 1:2]], 1)


@pytest.mark.parametrize("overlays", [True, False])
def test_handler_writes_in_the_grid_of_the_input(tmp_path, overlays):
    """The network sees another orientation and spacing; what lands on disk lies on the input."""
    lesion = np.zeros((20, 24, 10), np.float32)
    lesion[4:12, 6:18, 2:8] = 1
    nib.save(nib.Nifti1Image(lesion, OBLIQUE), tmp_path / "t1.nii.gz")
    listed = {"testing": [{"image": [None, "t1.nii.gz"], "case_id": "p1"}]}
    (tmp_path / "dataset.json").write_text(json.dumps(listed), encoding="utf-8")
    items = expand_datalist(tmp_path / "dataset.json", "testing")
    before = Compose(
        [
            LoadSequencesd("image", ["flair", "t1"]),
            Orientationd("image", "RAS", labels=None),
            Spacingd("image", (1, 1, 1)),
        ]
    )
    after = Compose(
        [Invertd("pred", before, orig_keys="image", nearest_interp=False), AsDiscreted("pred", argmax=True)]
    )
    output = tmp_path / "out"
    SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=DataLoader(Dataset(items, before), batch_size=1),
        network=Threshold(),
        postprocessing=after,
        val_handlers=[PredictionHandler(output, items, ["flair", "t1"], ["lesion"], overlays)],
    ).run()
    image: nib.Nifti1Image = nib.load(output / "p1" / "p1_seg.nii.gz")
    assert image.shape == lesion.shape and np.allclose(image.affine, OBLIQUE, atol=1e-4)
    assert (np.asarray(image.dataobj) == lesion).mean() > 0.95
    (entry,) = json.loads((output / "predictions.json").read_text(encoding="utf-8"))
    assert entry["missing"] == ["flair"] and entry["image"] == [None, str(tmp_path / "t1.nii.gz")]
    assert entry["overlay"] == ("p1/p1_overlay.png" if overlays else None)
    assert (output / "p1" / "p1_overlay.png").is_file() == overlays


class Red(torch.nn.Module):
    """Stands for a network: 1 where red is bright, 2 where blue is too."""

    def forward(self, image):
        red, blue = image[:, :1], image[:, 2:]
        return torch.cat([1 - red, torch.minimum(red, 1 - blue), torch.minimum(red, blue)], 1)


@pytest.mark.parametrize("overlays", [True, False])
def test_handler_writes_pictures_in_the_size_of_the_input(tmp_path, overlays):
    """The network sees squares; what lands on disk lies on the input, whatever its size and EXIF orientation."""
    truth = np.zeros((60, 90), np.uint8)
    truth[6:30, 48:84] = 1
    truth[12:24, 60:72] = 2
    colour = np.stack([truth > 0, truth * 0, truth == 2], -1).astype(np.uint8) * 255
    exif = Image.Exif()
    exif[274] = 6  # lies in the file a quarter turn to the left
    Image.fromarray(colour).save(tmp_path / "eye.png")
    Image.fromarray(np.ascontiguousarray(np.rot90(colour))).save(tmp_path / "turned.png", exif=exif)
    listed = {"testing": [{"image": "eye.png"}, {"image": "turned.png"}]}
    (tmp_path / "dataset.json").write_text(json.dumps(listed), encoding="utf-8")
    items = expand_datalist(tmp_path / "dataset.json", "testing")
    before = Compose([LoadPictured("image"), Resized("image", (120, 120))])
    after = Compose(
        [Invertd("pred", before, orig_keys="image", nearest_interp=False), AsDiscreted("pred", argmax=True)]
    )
    output = tmp_path / "out"
    handler = PredictionHandler(output, items, ["red", "green", "blue"], ["disc", "cup"], overlays)
    SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=DataLoader(Dataset(items, before), batch_size=2),
        network=Red(),
        postprocessing=after,
        val_handlers=[handler],
    ).run()
    for case in ("eye", "turned"):
        found = np.asarray(Image.open(output / case / f"{case}_seg.png"))
        assert found.shape == truth.shape and (found == truth).mean() > 0.97
        assert (output / case / f"{case}_overlay.png").is_file() == overlays
    entries = json.loads((output / "predictions.json").read_text(encoding="utf-8"))
    assert [entry["prediction"] for entry in entries] == ["eye/eye_seg.png", "turned/turned_seg.png"]
    assert entries[0]["image"] == [str(tmp_path / "eye.png")] and entries[0]["missing"] == []
    if overlays:
        picture = np.asarray(Image.open(output / "eye" / "eye_overlay.png").convert("RGB")).astype(int)
        assert (np.abs(picture - [255, 0, 0]).sum(-1) < 30).any(), "the photograph is in colour"


def heart_of(tmp_path, phase, slices, **keys):
    """A case of one patient: a file whose left ventricle fills so many slices, and its item."""
    label = np.zeros((4, 5, 10), np.float32)
    label[1:3, 1:3, :slices] = 1
    path = tmp_path / f"{phase}.nii.gz"
    nib.save(nib.Nifti1Image(label, np.diag([2.0, 2.5, 10.0, 1.0])), path)
    return {"case_id": phase, "image": str(path), "patient": "p1", "phase": phase} | keys, label


@pytest.mark.parametrize(
    ("spacing", "key", "volume"),
    [("mm", "lv_volume_ml", 2.0), (None, "lv_volume_ml", 2.0), ("nominal", "lv_volume_voxels", 40)],
)
def test_measures_stand_beside_the_mask(tmp_path, capsys, spacing, key, volume):
    """A voxel has 50 mm3. Of a patient with both ends of the cycle the ejection fraction is in both entries."""
    cases = [heart_of(tmp_path, "ED", 10, spacing=spacing), heart_of(tmp_path, "ES", 4, spacing=spacing)]
    items = [item for item, _ in cases]
    handler = PredictionHandler(
        tmp_path / "out", items, ["cine"], ["lv"], False, measure=heart, measure_patients=ejection_fractions
    )
    for item, label in cases:
        pred = MetaTensor(torch.from_numpy(label)[None], torch.diag(torch.tensor([2.0, 2.5, 10.0, 1.0])))
        handler._write(SimpleNamespace(state=SimpleNamespace(batch=[item], output=[{"pred": pred}])))
    handler.summary()
    entries = json.loads((tmp_path / "out" / "predictions.json").read_text(encoding="utf-8"))
    assert [entry["measures"][key] for entry in entries] == [volume, 0.4 * volume]
    assert [entry["measures"]["lv_ejection_fraction"] for entry in entries] == [60.0, 60.0]
    table = pd.read_csv(tmp_path / "out" / "predictions.csv")
    assert list(table["case_id"]) == ["ED", "ES"] and list(table[key]) == [volume, 0.4 * volume]
    text = capsys.readouterr().out
    assert ("2 of them measured in voxels" in text) == (spacing == "nominal")
    assert ("2 of them measured in mm on assumption" in text) == (spacing is None)


def test_a_dicom_seg_that_fails_is_one_warning(tmp_path):
    """The mask counts, whatever highdicom finds wrong with the images."""

    def fail(*_: object) -> None:
        raise AttributeError("'FileDataset' object has no attribute 'SeriesInstanceUID'\nsecond line")

    items = [{"case_id": "p1", "image": str(tmp_path)}]
    handler = PredictionHandler(tmp_path / "out", items, ["t1"], ["lesion"], overlays=False, dicom_seg=fail)
    state = SimpleNamespace(batch=[{"case_id": "p1"}], output=[{"pred": MetaTensor(torch.zeros(1, 4, 4, 4))}])
    with pytest.warns(UserWarning, match="^no DICOM SEG for case p1: [^\n]*'SeriesInstanceUID'$"):
        handler._write(SimpleNamespace(state=state))
    assert (tmp_path / "out" / "p1" / "p1_seg.nii.gz").is_file()
    assert handler.index.entries["p1"]["case_id"] == "p1"
