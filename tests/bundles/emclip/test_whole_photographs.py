"""Whole photographs with the shipped weights: found, cropped, segmented and put back; crops and other pictures."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pydicom
import pytest
import skimage.data
import torch
from emclip.phantoms.dataset import make_fundus_case
from emclip.phantoms.whole_fundus import WholeFundus, make_whole_fundus
from PIL import Image
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

from shared.datasets.datalist import expand_datalist
from shared.io.picture_files import load_picture
from shared.options.check import check
from shared.preparation.disc import find_disc, load_disc_network
from tests.bundles.emclip.facts import BUNDLE
from tests.bundles.running import finish, input_error, mask_of
from tests.serving.labelling import LabelInfer, with_sample_app

SEEDS = range(5_000_000, 5_000_012)  # no training of the finder has seen them
OTHERS = ("astronaut.png", "coffee.png", "chelsea.png", "coins.png", "page.png", "rocket.jpg")
REAL = os.environ.get("BUNDLES_REAL_DATA", "")
WEIGHTS = BUNDLE.folder / "models" / "disc.pt"


@pytest.fixture(scope="module")
def find():
    network = load_disc_network(WEIGHTS)
    return lambda picture: find_disc(picture, network)


@pytest.fixture(scope="module")
def whole() -> WholeFundus:
    """A photograph with the whole disc in it, of odd and different height and width."""
    return next(made for made in (make_whole_fundus(seed, 401) for seed in SEEDS) if made.disc.shape[1] % 2)


def tensor(image: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(image.transpose(2, 0, 1).copy()).float() / 255


def dice(first: np.ndarray, second: np.ndarray) -> float:
    return 2 * (first & second).sum() / (first.sum() + second.sum())


def save(image: np.ndarray, path: Path) -> Path:
    """Write a photograph as its name says; as DICOM, a colour picture without a position."""
    if path.suffix != ".dcm":
        Image.fromarray(image).save(path, **({"quality": 92} if path.suffix == ".jpg" else {}))
        return path
    piece = pydicom.Dataset()
    piece.file_meta = pydicom.dataset.FileMetaDataset()
    piece.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    piece.file_meta.MediaStorageSOPClassUID = piece.SOPClassUID = SecondaryCaptureImageStorage
    piece.file_meta.MediaStorageSOPInstanceUID = piece.SOPInstanceUID = generate_uid()
    piece.StudyInstanceUID, piece.SeriesInstanceUID = generate_uid(), generate_uid()
    piece.Modality, piece.Rows, piece.Columns = "OP", *image.shape[:2]
    piece.SamplesPerPixel, piece.PhotometricInterpretation, piece.PlanarConfiguration = 3, "RGB", 0
    piece.BitsAllocated = piece.BitsStored = 8
    piece.HighBit, piece.PixelRepresentation = 7, 0
    piece.PixelData = image.tobytes() + b"\0" * (image.size % 2)
    piece.save_as(path, enforce_file_format=True)
    return path


def infer(image: Path, output: Path, **options) -> np.ndarray:
    quiet = {"overlays": False, "report_page": False, "write_dicom_seg": False}
    finish(BUNDLE.workflow("inference", input=str(image), output_dir=str(output), **{**quiet, **options}))
    return mask_of(output)


def test_the_disc_of_synthetic_photographs_is_found(find):
    found = 0
    for seed in SEEDS:
        made = make_whole_fundus(seed, 300)
        disc = find(tensor(made.image))
        middle = np.argwhere(made.disc).mean(0)
        if disc is not None and np.hypot(*np.subtract((disc.row, disc.column), middle)) < made.radius / 2:
            found += disc.is_in_whole_photograph(*made.disc.shape)
    assert found >= len(SEEDS) - 1


def test_photographs_without_disc_have_none(find):
    assert sum(find(tensor(make_whole_fundus(seed, 300, with_disc=False).image)) is not None for seed in SEEDS) <= 1


@pytest.mark.parametrize("name", OTHERS)
def test_photographs_of_something_else_have_no_disc(find, name):
    assert find(load_picture(Path(skimage.data.__file__).parent / name, "case a")) is None


@pytest.mark.parametrize("camera", ["camera_a", "camera_b", "camera_c", "camera_d"])
def test_the_built_in_phantoms_are_cropped_already(find, camera):
    for seed in range(6):
        image = make_fundus_case(seed, camera).image
        disc = find(tensor(image))
        assert disc is not None
        assert not disc.is_in_whole_photograph(*image.shape[:2])


@pytest.mark.parametrize("ending", [".png", ".jpg", ".dcm"])
def test_a_known_disc_comes_back_at_its_pixels(whole, tmp_path, ending):
    mask = infer(save(whole.image, tmp_path / f"eye{ending}"), tmp_path / "out", prepare="auto")
    assert mask.shape == whole.disc.shape
    assert dice(mask > 0, whole.disc) > 0.85


def test_the_mirrored_eye_gives_the_mirrored_mask(whole, tmp_path):
    first = infer(save(whole.image, tmp_path / "eye.png"), tmp_path / "out")
    other = infer(save(whole.image[:, ::-1].copy(), tmp_path / "mirrored.png"), tmp_path / "mirrored")
    assert dice(first > 0, other[:, ::-1] > 0) > 0.93


def test_off_leaves_the_photograph_and_says_what_it_looks_like(whole, tmp_path, capsys):
    image = save(whole.image, tmp_path / "eye.png")
    mask = infer(image, tmp_path / "off", prepare="off")
    assert capsys.readouterr().out.count("looks like a whole photograph") == 1
    assert dice(mask > 0, whole.disc) < 0.7


def test_the_note_of_a_whole_photograph_stands_in_the_index(whole, tmp_path):
    infer(save(whole.image, tmp_path / "eye.png"), tmp_path)
    (entry,) = json.loads((tmp_path / "predictions.json").read_text(encoding="utf-8"))
    assert "the disc was searched for round column" in entry["warnings"][0]


def test_a_cropped_photograph_is_segmented_as_without_the_search(tmp_path):
    image = save(make_fundus_case(3, "camera_b").image, tmp_path / "eye.png")
    assert np.array_equal(infer(image, tmp_path / "auto"), infer(image, tmp_path / "none", prepare="none"))


def data_set(folder: Path, whole: WholeFundus, other: bool) -> Path:
    """A testing list of a whole photograph and, with `other`, of a picture of something else."""
    folder.mkdir()
    save(whole.image, folder / "eye.png")
    Image.fromarray((100 * whole.disc).astype(np.uint8)).save(folder / "eye_label.png")
    items = [{"image": "eye.png", "label": "eye_label.png", "labelled": ["optic disc"]}]
    if other:
        Image.fromarray(skimage.data.astronaut()).save(folder / "other.png")
        Image.new("L", (512, 512)).save(folder / "other_label.png")
        items.append({"image": "other.png", "label": "other_label.png"})
    (folder / "dataset.json").write_text(json.dumps({"testing": items}), encoding="utf-8")
    return folder


def evaluation(data: Path, output: Path):
    options = {"dataset_dir": str(data), "output_dir": str(output), "overlays": 0, "cluster_pictures": 0}
    return BUNDLE.workflow("train", "evaluate", report_page=False, num_workers=0, **options)


def test_check_evaluation_and_inference_agree_on_a_whole_photograph(whole, tmp_path):
    data = data_set(tmp_path / "data", whole, other=False)
    for config in (["inference"], ["train", "evaluate"]):
        assert check(str(BUNDLE.folder), config, dataset_dir=str(data), output_dir=str(tmp_path / "checked")) == []
    mask = infer(data / "eye.png", tmp_path / "out")
    finish(evaluation(data, tmp_path / "evaluated"))
    metrics = (tmp_path / "evaluated" / "metrics.csv").read_text(encoding="utf-8").splitlines()
    row = dict(zip(metrics[0].split(","), metrics[1].split(",")))
    measured = next(float(value) for name, value in row.items() if "dice" in name and "disc" in name)
    assert measured == pytest.approx(dice(mask > 0, whole.disc), abs=2e-3)


def test_check_evaluation_and_inference_agree_on_a_picture_of_something_else(whole, tmp_path, capsys):
    data = data_set(tmp_path / "data", whole, other=True)
    words = "case other: no optic disc was found"
    for config in (["inference"], ["train", "evaluate"]):
        problems = check(str(BUNDLE.folder), config, dataset_dir=str(data), output_dir=str(tmp_path / "checked"))
        assert [problem.startswith(words) for problem in problems] == [True]
    assert input_error(finish, evaluation(data, tmp_path / "evaluated")).startswith(words)
    places = {"dataset_dir": str(data), "output_dir": str(tmp_path / "out"), "overlays": False}
    line = input_error(finish, BUNDLE.workflow("inference", **places))
    assert line.splitlines()[0] == "1 of 2 cases failed"
    assert "other: no optic disc was found" in line.splitlines()[1]
    assert not (tmp_path / "out" / "other").exists()
    assert (tmp_path / "out" / "eye" / "eye_seg.png").is_file()
    alone = BUNDLE.workflow("inference", input=str(data / "other.png"), output_dir=str(tmp_path / "alone"))
    assert input_error(finish, alone).startswith("case ")


def test_training_crops_picture_and_label_alike(whole, tmp_path):
    data = data_set(tmp_path / "data", whole, other=False)
    flow = BUNDLE.workflow("train", dataset_dir=str(data), output_dir=str(tmp_path / "out"))
    chain = flow.parser.get_parsed_content("train#deterministic_transforms")
    (item,) = expand_datalist(data / "dataset.json", "testing")
    for transform in chain:
        item = transform(item)
    share = (item["label"] > 0).float().mean()
    assert 0.08 < share < 0.25  # a crop of 2.4 disc diameters
    inside = item["image"][:, item["label"][0] > 0].mean()
    assert inside > item["image"].mean()


def test_other_structures_than_the_disc_are_never_searched_for():
    options = {"structures": {"polyp": [255]}, "structure_values": [1], "sentences": ["bowel", "polyp"]}
    for config in ("train", "inference"):
        assert BUNDLE.workflow(config, **options).parser.get_parsed_content("fitting")[0].prepare == "none"


def test_a_label_server_puts_the_mask_into_the_whole_photograph(whole, tmp_path, monkeypatch):
    from shared.serving.label_app import set_up

    with_sample_app(monkeypatch, tmp_path / "sample")
    folder = set_up(tmp_path / "app", ["emclip"])["emclip"]
    assert [file.name for file in (folder / "models").iterdir()] == ["model.pt"]
    mask = LabelInfer(folder)(save(whole.image, tmp_path / "eye.png"))
    assert dice(mask.T > 0, whole.disc) > 0.85


@pytest.mark.skipif(not REAL, reason="set BUNDLES_REAL_DATA to the folder of real images")
class TestRealPhotographs:
    def test_crops_of_another_camera_stay_as_they_are(self, find):
        pictures = [load_picture(item["image"], "case a") for item in self.items("fundus")[::5]]
        discs = [(find(picture), picture.shape[1:]) for picture in pictures]
        assert sum(disc is None or disc.is_in_whole_photograph(*shape) for disc, shape in discs) <= 1

    def test_the_disc_is_found_in_whole_photographs(self, find):
        near = 0
        for item in self.items("fundus_whole"):
            label = np.asarray(Image.open(item["label"])) > 0
            disc, middle = find(load_picture(item["image"], "case a")), np.argwhere(label).mean(0)
            if disc is not None and disc.is_in_whole_photograph(*label.shape):
                away = np.hypot(*np.subtract((disc.row, disc.column), middle))
                near += away < np.sqrt(label.sum() / np.pi) / 2
        assert near >= 26

    @staticmethod
    def items(name: str) -> list[dict]:
        return expand_datalist(Path(REAL) / name / "dataset.json", "testing")
