"""Fundus phantoms: the same from the same seed, plausible, the same eye for every camera, on disk as a data set."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from emclip.phantoms import dataset as fundus
from emclip.phantoms.appearance import texture
from emclip.phantoms.dataset import CAMERAS, LABELS, SOURCE, UNSEEN, make_fundus_case, make_fundus_phantoms
from emclip.phantoms.eye import draw_eye
from emclip.phantoms.vessels import paint_vessels
from PIL import Image
from scipy import ndimage

from shared.core.errors import InputError
from shared.datasets.datalist import expand_datalist

SIZE = 72  # side in pixels, small to save time
DISC, CUP = LABELS["optic disc"], LABELS["optic cup"]


def unit_grid(size: int = 160, reach: float = 1.6):
    """Return points (x, y) within `reach` disc radii of the disc's centre, and the matrix from them to pixels."""
    scale = (size - 1) / (2 * reach)
    y, x = (np.indices((size, size), np.float32) - (size - 1) / 2) / scale
    return x, -y, np.array([[scale, 0, (size - 1) / 2], [0, -scale, (size - 1) / 2]])


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return 2 * (a & b).sum() / (a.sum() + b.sum())


@pytest.fixture
def quick(monkeypatch):
    """Make the photographs of a data set small ones and record the calls."""
    calls = []

    def small(seed, camera):
        calls.append((seed, camera))
        return make_fundus_case(seed, camera, size=24)

    monkeypatch.setattr(fundus, "make_fundus_case", small)
    return calls


def test_a_seed_gives_one_photograph_and_another_seed_another():
    case, again, other = (make_fundus_case(seed, size=SIZE) for seed in (5, 5, 6))
    assert np.array_equal(case.image, again.image) and np.array_equal(case.label, again.label)
    assert np.array_equal(case.pixel_from_eye, again.pixel_from_eye)
    assert not np.array_equal(case.image, other.image) and not np.array_equal(case.label, other.label)


@pytest.mark.parametrize("camera", CAMERAS)
def test_image_and_label_have_the_size_of_the_camera(camera):
    case = make_fundus_case(1, camera)
    size = CAMERAS[camera].size
    assert case.image.shape == (size, size, 3) and case.image.dtype == np.uint8
    assert case.label.shape == (size, size) and case.label.dtype == np.uint8
    assert set(np.unique(case.label)) == {0, DISC, CUP}
    assert 10 < case.image.mean() < 235 and case.image.std() > 5


@pytest.mark.parametrize("camera", CAMERAS)
def test_disc_and_cup_are_whole_and_nested(camera):
    for seed in range(4):
        label = make_fundus_case(seed, camera, size=SIZE).label
        disc, cup = label > 0, label == CUP
        assert ndimage.label(disc)[1] == 1 and ndimage.label(cup)[1] == 1
        assert not ndimage.binary_fill_holes(cup)[label == DISC].any()
        border = disc & ~ndimage.binary_erosion(np.pad(disc, 1))[1:-1, 1:-1]
        assert (cup & border).sum() < 0.1 * border.sum()  # in places the rim is thinner than a pixel
        edges = np.concatenate([label[0], label[-1], label[:, 0], label[:, -1]])
        assert not edges.any()  # the picture shows the whole disc
        assert 0.25 < np.ptp(np.nonzero(disc)[0]) / SIZE < 0.8


def test_cup_to_disc_ratios_span_what_clinics_see():
    x, y, _ = unit_grid()
    ratios, outside = [], 0
    for seed in range(60):
        eye = draw_eye(np.random.default_rng([seed, 0]))
        disc, cup = eye.disc.rho(x, y) < 1, eye.cup_rho(x, y) < 1
        outside += (cup & ~disc).sum()
        ratios.append(np.ptp(np.nonzero(cup)[0]) / np.ptp(np.nonzero(disc)[0]))
    assert outside == 0
    assert 0.17 < min(ratios) < 0.35 and 0.75 < max(ratios) < 0.95
    assert 0.45 < np.median(ratios) < 0.65 and np.std(ratios) > 0.1


def test_vessels_are_darker_than_their_surroundings():
    darker = []
    for seed in range(4):
        case = make_fundus_case(seed, size=160)
        eye = draw_eye(np.random.default_rng([seed, 0]))
        blood, _ = paint_vessels(eye.vessels, case.pixel_from_eye, 160)
        green = case.image[..., 1].astype(float)
        for place in (
            ndimage.binary_erosion(case.label > 0, iterations=3),
            ndimage.binary_dilation(case.label > 0) == 0,
        ):
            vessel = place & (blood > 0.5)
            beside = place & (blood == 0) & ndimage.binary_dilation(vessel, iterations=5)
            darker.append(np.median(green[vessel]) / np.median(green[beside]))
    assert max(darker) < 0.95 and np.mean(darker) < 0.75


def test_vessels_enter_in_the_disc_and_leave_the_picture():
    for seed in range(6):
        eye = draw_eye(np.random.default_rng([seed, 0]))
        main = [vessel for vessel in eye.vessels if vessel.half_width[0] > 0.03 and vessel.half_width.size > 30]
        roots = np.array([vessel.points[0] for vessel in main if np.hypot(*vessel.points[0]) < 0.8])
        assert len(roots) >= 4 and len(eye.vessels) > 15
        assert roots[:, 0].mean() < 0.1  # on the nasal side
        widest = [vessel.half_width.max() for vessel in eye.vessels]
        assert widest == sorted(widest) and widest[-1] < 0.12


def test_the_disc_is_brighter_than_the_retina_and_the_cup_than_the_rim():
    cases = [make_fundus_case(seed, size=SIZE) for seed in range(12)]
    grey = [case.image.mean(2) for case in cases]
    means = np.array([[g[case.label == value].mean() for value in (0, DISC, CUP)] for g, case in zip(grey, cases)])
    assert (means[:, 1] > means[:, 0]).mean() > 0.8
    assert (means[:, 2] > means[:, 1]).mean() > 0.8


def test_all_cameras_see_the_same_eye():
    x, y, _ = unit_grid(96, 1.3)
    for seed in range(2):
        seen = []
        for camera in CAMERAS:
            case = make_fundus_case(seed, camera, size=160)
            to = case.pixel_from_eye
            places = [to[1, 0] * x + to[1, 1] * y + to[1, 2], to[0, 0] * x + to[0, 1] * y + to[0, 2]]  # row, column
            seen.append(ndimage.map_coordinates(case.label, places, order=0))
        for other in seen[1:]:
            assert dice(seen[0] > 0, other > 0) > 0.97
            assert dice(seen[0] == CUP, other == CUP) > 0.92


def test_colours_differ_more_between_cameras_than_within_one():
    colours = {}
    for camera in CAMERAS:
        images = np.stack([make_fundus_case(seed, camera, size=32).image for seed in range(10)]).astype(float)
        share = images.mean((1, 2)) / images.mean((1, 2, 3))[:, None]  # colour, independent of brightness
        colours[camera] = share
    for camera in UNSEEN:
        gap = np.abs(colours[camera].mean(0) - colours[SOURCE].mean(0))
        spread = (colours[camera].std(0) + colours[SOURCE].std(0)) / 2
        assert (gap / spread).max() > 0.8, camera
    assert len({camera.size for camera in CAMERAS.values()}) == 4


def test_another_size_shows_the_same_picture():
    small, large = (make_fundus_case(2, size=size) for size in (64, 128))
    assert np.allclose(large.pixel_from_eye[:, :2], 2 * small.pixel_from_eye[:, :2])
    halved = np.asarray(Image.fromarray(large.image).resize((64, 64), Image.Resampling.BOX), float)
    assert np.corrcoef(halved.ravel(), small.image.ravel().astype(float))[0, 1] > 0.97
    assert dice(large.label[::2, ::2] > 0, small.label > 0) > 0.93


def test_texture_depends_only_on_the_random_stream_and_the_point():
    x, y, _ = unit_grid(32)
    whole, part = (texture(np.random.default_rng(3), x[cut], y[cut], 0.2) for cut in (np.s_[:], np.s_[8:16, 4:20]))
    assert np.array_equal(whole[8:16, 4:20], part)
    assert not np.allclose(whole, texture(np.random.default_rng(4), x, y, 0.2))
    many = [texture(np.random.default_rng(seed), x, y, 0.1) for seed in range(20)]
    assert abs(np.mean(many)) < 0.1 and 0.85 < np.std(many) < 1.1


@pytest.mark.parametrize("bad", [{"camera": "camera_x"}, {"size": 8}])
def test_bad_arguments_raise_one_line(bad):
    with pytest.raises(InputError) as caught:
        make_fundus_case(0, **bad)
    assert "\n" not in str(caught.value)


def test_data_set_on_disk(tmp_path, quick):
    path = make_fundus_phantoms(tmp_path / "set", 3, 1, 2, workers=2, progress=False)
    content = json.loads(path.read_text(encoding="utf-8"))
    assert "synthetic, not clinical data" in content["description"] and content["licence"] and content["name"]
    assert content["labels"] == {"0": "background", "100": "optic disc", "200": "optic cup"}
    assert content["domains"] == {"source": ["camera_a"], "unseen": ["camera_b", "camera_c", "camera_d"]}
    parts = {part: expand_datalist(path, part) for part in ("training", "validation", "testing")}
    assert {part: len(items) for part, items in parts.items()} == {"training": 3, "validation": 1, "testing": 6}
    for part, items in parts.items():
        assert {item["domain"] for item in items} == ({SOURCE} if part != "testing" else set(UNSEEN))
        for item in items:
            image, label = np.asarray(Image.open(item["image"])), np.asarray(Image.open(item["label"]))
            assert image.shape == (24, 24, 3) and label.shape == (24, 24)
            assert set(np.unique(label)) == {0, DISC, CUP} and item["labelled"] == ["optic disc", "optic cup"]
    every = [item for items in parts.values() for item in items]
    assert len({item["case_id"] for item in every}) == len(every)
    eyes = {part: {Path(item["image"]).stem for item in items} for part, items in parts.items()}
    assert not eyes["training"] & eyes["validation"] and not eyes["testing"] & (eyes["training"] | eyes["validation"])
    assert len(eyes["testing"]) == 2  # photographed by each unseen camera
    assert len({seed for seed, camera in quick if camera != SOURCE}) == 2


def test_monai_reads_the_list_and_its_pictures(tmp_path, quick):
    from monai.data import load_decathlon_datalist
    from monai.transforms import LoadImage

    path = make_fundus_phantoms(tmp_path, 1, 0, 0, workers=1, progress=False)
    item = load_decathlon_datalist(path, True, "training")[0]
    assert LoadImage(image_only=True)(item["image"]).shape == (24, 24, 3)
    assert LoadImage(image_only=True)(item["label"]).shape == (24, 24)


def test_the_number_of_workers_changes_no_file(tmp_path, quick):
    for workers in (1, 3):
        make_fundus_phantoms(tmp_path / str(workers), 2, 1, 1, workers=workers, progress=False)
    files = [
        {p.relative_to(top): p.read_bytes() for p in top.rglob("*.png")} for top in (tmp_path / "1", tmp_path / "3")
    ]
    assert files[0] == files[1] and len(files[0]) == 2 * (3 + 3)


def test_a_case_that_fails_in_a_thread_leaves_no_list(tmp_path, monkeypatch):
    def fail(seed, camera):
        raise OSError("disk full")

    monkeypatch.setattr(fundus, "make_fundus_case", fail)
    with pytest.raises(OSError, match="disk full"):
        make_fundus_phantoms(tmp_path, 3, 0, 0, workers=2, progress=False)
    assert not (tmp_path / "dataset.json").exists()
