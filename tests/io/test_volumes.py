from __future__ import annotations

import gzip
import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import CacheDataset, DataLoader, MetaTensor
from monai.transforms import Compose

from shared.core.errors import InputError
from shared.datasets.datalist import expand_datalist
from shared.io.volumes import LoadLabeld, LoadSequencesd
from tests.io.loading import load_dicom
from tests.making import AFFINE, SHAPE, oblique, save, save_series, volume

CHANNELS = ["flair", "t1", "t1ce", "t2"]
REAL = os.environ.get("BUNDLES_REAL_DATA")


def four(folder: Path) -> list:
    return [save(folder / f"{name}.nii.gz", volume(index)) for index, name in enumerate(CHANNELS)]


def in_world(image: MetaTensor) -> dict:
    """Map world position (rounded to 0.01 mm) to intensity: equal for equal images in whatever axis order."""
    array = image.as_tensor()[0].numpy()
    index = np.stack(np.meshgrid(*map(np.arange, array.shape), indexing="ij"), -1).reshape(-1, 3)
    points = index @ image.affine[:3, :3].numpy().T + image.affine[:3, 3].numpy()
    return dict(zip(map(tuple, np.round(points, 2) + 0.0), array.ravel()))


def test_list_of_paths(tmp_path):
    paths = four(tmp_path)
    image = LoadSequencesd("image", CHANNELS)({"image": paths, "case_id": "p01"})["image"]
    assert isinstance(image, MetaTensor) and image.dtype == torch.float32 and image.shape == (4, *SHAPE)
    assert np.allclose(image.affine, AFFINE)
    assert image.meta["filename_or_obj"] == paths[0]
    for index in range(4):
        assert np.array_equal(image[index].as_tensor().numpy(), volume(index))


@pytest.mark.parametrize("nothing", [None, "", "None", "null"])
def test_missing_sequence_is_zeros(tmp_path, nothing):
    paths = four(tmp_path)
    item = {"image": [nothing, paths[1], nothing, paths[3]]}
    image = LoadSequencesd("image", CHANNELS)(item)["image"]
    assert not image[0].any() and not image[2].any()
    assert np.array_equal(image[3].as_tensor().numpy(), volume(3))
    assert image.meta["filename_or_obj"] == paths[1]
    assert item["image"][1] == paths[1], "the item itself must not change"


def test_all_zero_file_counts_as_missing(tmp_path):
    paths = [save(tmp_path / "flair.nii.gz", np.zeros(SHAPE, np.int16)), save(tmp_path / "t1.nii.gz", volume(1))]
    image = LoadSequencesd("image", CHANNELS[:2])({"image": paths})["image"]
    assert image.meta["filename_or_obj"] == paths[1]


@pytest.mark.parametrize("shape", [(*SHAPE, 4), (*SHAPE, 1, 4), (6, 5, 1, 4)])
def test_one_file_channels_last(tmp_path, shape):
    array = volume(0, shape)
    image = LoadSequencesd("image", CHANNELS)({"image": save(tmp_path / "a.nii.gz", array)})["image"]
    assert image.shape == (4, *shape[:3])
    assert np.array_equal(image[2].as_tensor().numpy(), array[..., 2].reshape(shape[:3]))


@pytest.mark.parametrize("shape", [SHAPE, (*SHAPE, 1), (6, 5, 1)])
@pytest.mark.parametrize("listed", [False, True])
def test_single_channel(tmp_path, shape, listed):
    path = save(tmp_path / "a.nii", volume(0, shape))
    image = LoadSequencesd("image", ["flair"])({"image": [path] if listed else path})["image"]
    assert image.shape == (1, *shape[:3])


def broken(folder: Path) -> list:
    paths = four(folder)
    Path(paths[1]).write_bytes(Path(paths[1]).read_bytes()[:200])
    return paths


def replaced(folder: Path, array: np.ndarray, affine: np.ndarray = AFFINE) -> list:
    paths = four(folder)
    save(Path(paths[2]), array, affine)
    return paths


def nan() -> np.ndarray:
    array = volume(2).astype(np.float32)
    array[0, 0, 0], array[1, 1, 1] = np.nan, np.inf
    return array


def nonsense(folder: Path) -> list:
    paths = four(folder)
    Path(paths[1]).write_bytes(gzip.compress(b"not an image"))
    return paths


BAD_IMAGES = {
    "not found": (lambda d: [*four(d)[:3], str(d / "x.nii.gz")], ["t2", "x.nii.gz not found", "null"]),
    "truncated": (broken, ["t1", "t1.nii.gz cannot be read", "NIfTI"]),
    "no image": (nonsense, ["t1.nii.gz cannot be read"]),
    "text file": (lambda d: [__file__, None, None, None], ["flair", "cannot be read"]),
    "three paths": (lambda d: four(d)[:3], ["3 channels where 4 are declared (flair, t1, t1ce, t2): give null"]),
    "3-D where 4-D": (lambda d: four(d)[0], ["flair.nii.gz: 1 channel where 4 are declared"]),
    "three volumes": (lambda d: save(d / "a.nii.gz", volume(0, (*SHAPE, 3))), ["3 channels where 4"]),
    "4-D in a list": (lambda d: replaced(d, volume(0, (*SHAPE, 2))), ["t1ce", "holds 2 volumes"]),
    "other shape": (
        lambda d: replaced(d, volume(0, (6, 5, 7))),
        ["t1ce has shape 6 x 5 x 7, flair has 6 x 5 x 4"],
    ),
    "other affine": (
        lambda d: replaced(d, volume(2), AFFINE + np.eye(4)[:, [3, 0, 1, 2]] * 0.01),
        ["t1ce", "register"],
    ),
    "NaN": (lambda d: replaced(d, nan()), ["t1ce", "2 NaN or infinite voxels"]),
    "all missing": (lambda d: [None] * 4, ["every sequence is missing", "flair, t1, t1ce, t2"]),
    "all zero": (
        lambda d: save(d / "a.nii.gz", np.zeros((*SHAPE, 4), np.uint8)),
        ["every sequence is missing or all zero"],
    ),
    "2-D": (lambda d: replaced(d, volume(2, (6, 5))), ["t1ce", "shape 6 x 5", "(X, Y, 1)"]),
    "empty folder": (lambda d: [str((d / "dicom").mkdir() or d / "dicom"), None, None, None], ["no DICOM file"]),
}


@pytest.mark.parametrize("name", BAD_IMAGES)
def test_bad_image_is_one_line(tmp_path, name):
    make, parts = BAD_IMAGES[name]
    with pytest.raises(InputError) as caught:
        LoadSequencesd("image", CHANNELS)({"image": make(tmp_path), "case_id": "p03"})
    message = str(caught.value)
    assert message.startswith("case p03: ") and "\n" not in message
    for part in parts:
        assert part in message


def test_affines_within_tolerance_are_equal(tmp_path):
    paths = replaced(tmp_path, volume(2), AFFINE + 5e-4 * np.eye(4)[:, [3, 0, 1, 2]])
    assert LoadSequencesd("image", CHANNELS)({"image": paths})["image"].shape == (4, *SHAPE)


@pytest.mark.parametrize("affine", [AFFINE, oblique()], ids=["axial", "oblique"])
@pytest.mark.parametrize("numbers", [[1, 2, 3, 4], [4, 3, 2, 1], [2, 4, 1, 3], [1, 1, 1, 1], None], ids=str)
def test_dicom_series_lies_where_the_nifti_lies(tmp_path, affine, numbers):
    array = volume(7)
    series = load_dicom(save_series(tmp_path / "series", array, affine, numbers))
    assert in_world(series) == in_world(load_dicom(save(tmp_path / "a.nii.gz", array, affine)))
    back = load_dicom(save_series(tmp_path / "back", array[:, :, ::-1], affine @ flip_z(SHAPE[2]), numbers))
    assert torch.equal(back.as_tensor(), series.as_tensor())
    assert torch.allclose(back.affine, series.affine, atol=1e-6)


def flip_z(slices: int) -> np.ndarray:
    flip = np.diag([1.0, 1, -1, 1])
    flip[2, 3] = slices - 1
    return flip


def two_series(folder: Path) -> str:
    save_series(folder, volume(0), AFFINE)
    return save_series(folder, volume(1), AFFINE)


@pytest.mark.parametrize(
    "make, part",
    [
        (lambda d: save_series(d, volume(0), AFFINE, skip=(1,)), "slices missing or doubled"),
        (two_series, "2 series"),
        (lambda d: save_series(d, volume(0)[:, :, :1], AFFINE), "single DICOM file"),
    ],
    ids=["gap", "two series", "one slice"],
)
def test_bad_dicom(tmp_path, make, part):
    with pytest.raises(InputError, match=part):
        load_dicom(make(tmp_path / "series"))


def test_mixed_dicom_and_nifti(tmp_path):
    series = save_series(tmp_path / "series", volume(0), oblique())
    nifti = save(tmp_path / "t1.nii.gz", volume(1), oblique())
    image = LoadSequencesd("image", ["flair", "t1"])({"image": [series, nifti]})["image"]
    assert np.array_equal(image[1].as_tensor().numpy(), volume(1))


def load_label(path: str, labels: list[int], image: MetaTensor | None = None) -> MetaTensor:
    item = {"label": path, "case_id": "p03"} | ({"image": image} if image is not None else {})
    return LoadLabeld("label", labels=labels)(item)["label"]


def test_label(tmp_path):
    array = np.zeros(SHAPE, np.float32)
    array[2:4] = 3
    image = LoadSequencesd("image", CHANNELS)({"image": four(tmp_path)})["image"]
    label = load_label(save(tmp_path / "l.nii.gz", array), [0, 1, 2, 3], image)
    assert label.dtype == torch.uint8 and label.shape == (1, *SHAPE)
    assert np.array_equal(label[0].as_tensor().numpy(), array)
    assert np.allclose(label.affine, AFFINE)


def test_a_label_stored_with_a_slope_keeps_its_values(tmp_path):
    """nibabel writes float labels into uint8 with a slope of 1/255: a 1 comes back as 1.00000006."""
    array = np.arange(np.prod(SHAPE)).reshape(SHAPE) % 3
    scaled = nib.Nifti1Image(array.astype(np.float32), AFFINE)
    scaled.set_data_dtype(np.uint8)
    nib.save(scaled, tmp_path / "l.nii.gz")
    assert not np.array_equal(nib.load(tmp_path / "l.nii.gz").get_fdata(), array)
    label = load_label(str(tmp_path / "l.nii.gz"), [0, 1, 2])
    assert label.dtype == torch.uint8 and np.array_equal(label[0].as_tensor().numpy(), array)


@pytest.mark.parametrize(
    "array, affine, parts",
    [
        (np.full(SHAPE, 255, np.uint8), AFFINE, ["values 255 where 0, 1 are declared"]),
        (np.full(SHAPE, 0.5, np.float32), AFFINE, ["values 0.5 where"]),
        (np.zeros((*SHAPE, 2), np.uint8), AFFINE, ["2 channels"]),
        (np.zeros((6, 5, 3), np.uint8), AFFINE, ["label has shape 6 x 5 x 3, image has 6 x 5 x 4"]),
        (np.zeros(SHAPE, np.uint8), np.eye(4), ["lie differently in space"]),
        (np.full(SHAPE, np.nan, np.float32), AFFINE, ["NaN"]),
    ],
    ids=["values", "interpolated", "channels", "shape", "affine", "NaN"],
)
def test_bad_label(tmp_path, array, affine, parts):
    image = LoadSequencesd("image", CHANNELS)({"image": four(tmp_path)})["image"]
    with pytest.raises(InputError) as caught:
        load_label(save(tmp_path / "lesion.nii.gz", array, affine), [0, 1], image)
    for part in ["case p03: label", "lesion.nii.gz", *parts]:
        assert part in str(caught.value)


@pytest.mark.parametrize("workers", [0, 2])
def test_cache_dataset_and_workers(tmp_path, workers):
    items = [{"image": [None, *four(tmp_path / f"p{i}")[1:]], "case_id": f"p{i}"} for i in range(4)]
    load = Compose([LoadSequencesd("image", CHANNELS)])
    dataset = CacheDataset(items, load, num_workers=4, progress=False)
    batches = list(DataLoader(dataset, batch_size=2, num_workers=workers))
    assert [tuple(batch["image"].shape) for batch in batches] == [(2, 4, *SHAPE)] * 2
    names = [name for batch in batches for name in batch["image"].meta["filename_or_obj"]]
    assert [Path(name).parent.name for name in names] == ["p0", "p1", "p2", "p3"]


def test_cache_dataset_reads_dicom_in_threads(tmp_path):
    items = [{"image": [save_series(tmp_path / f"s{i}", volume(i), AFFINE)]} for i in range(6)]
    cached = CacheDataset(items, LoadSequencesd("image", ["flair"]), num_workers=6, progress=False)
    for item, got in zip(items, cached):
        assert torch.equal(got["image"].as_tensor(), load_dicom(item["image"][0]).as_tensor())


@pytest.mark.skipif(not REAL, reason="BUNDLES_REAL_DATA is not set")
def test_real_incomplete_cases():
    items = expand_datalist(Path(REAL) / "brain_lgg64" / "dataset.json", "incomplete")
    load = Compose([LoadSequencesd("image", ["flair", "t1", "t1ce"]), LoadLabeld("label")])
    for item in items:
        data = load(item)
        for channel, path in zip(data["image"], item["image"]):
            assert bool(channel.any()) == (path is not None)
        assert data["label"].any()
