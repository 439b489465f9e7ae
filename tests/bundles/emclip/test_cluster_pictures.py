"""Pictures of the clusters: colours, owner map, legend, heat maps."""

from __future__ import annotations

import matplotlib
import numpy as np
import pytest
import torch
from emclip.cluster_pictures import COLOURS, TINT, draw_clusters, show_clusters
from emclip.phantoms.dataset import LABELS, make_fundus_case
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from PIL import Image

from shared.core.errors import InputError

# Machado, Oliveira, Fernandes 2009, severity 1, on linear RGB.
VISION = {
    "normal": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
}
XYZ = np.array([[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.072175], [0.0193339, 0.119192, 0.9503041]])


def lab(linear: np.ndarray) -> np.ndarray:
    """CIELAB (N, 3) of linear sRGB (N, 3), white D65."""
    xyz = linear @ XYZ.T / np.array([0.95047, 1, 1.08883])
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], 1)


@pytest.mark.parametrize("vision", VISION)
def test_any_two_of_sixteen_colours_differ_for_every_vision(vision):
    assert len(COLOURS) == 16
    rgb = np.array([to_rgb(colour) for colour in COLOURS])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    seen = lab(np.clip(linear @ np.array(VISION[vision]).T, 0, 1))
    apart = np.linalg.norm(seen[:, None] - seen[None], axis=-1) + 1000 * np.eye(16)
    assert apart.min() > 19.5


def one_hot(owner: list[list[int]], centres: int) -> np.ndarray:
    return np.eye(centres, dtype=np.float32)[np.array(owner)].transpose(2, 0, 1)


def names_of(centres: int) -> list[str]:
    return ["background", "optic disc", "optic cup", *(f"free {n}" for n in range(1, centres))][:centres]


def drawn(image, responsibilities, names, title="") -> Axes:
    figure = draw_clusters(image, responsibilities, names, title)
    figure.draw_without_rendering()
    return figure.axes[0]


def pictures(page: Axes) -> list[np.ndarray]:
    """Return the image, the owner map, the scale and the heat maps of a page."""
    return [np.asarray(image.get_array()) for image in page.images]


def texts(page: Axes) -> list[str]:
    return [text.get_text() for text in page.texts]


GREY = np.full((1, 40, 60), 0.5, np.float32)


def test_owner_map_legend_and_numbers():
    page = drawn(GREY, one_hot([[0, 0, 0], [0, 1, 1]], 3), names_of(3), "eye 7")
    owners = pictures(page)[1]
    assert owners.shape == (40, 60, 3)
    for row, column, index in ((2, 2, 0), (38, 2, 0), (38, 58, 1)):
        assert list(owners[row, column]) == pytest.approx(tinted(COLOURS[index]))
    written = texts(page)
    first, second = (float(text[:-1]) for text in written if text.endswith("%"))
    assert first + second == pytest.approx(100, abs=0.11) and abs(first - 200 / 3) < 3
    assert written.count("none") == 1 and "eye 7" in written

    left, right, bottom, top = page.images[1].get_extent()
    places = [(text.get_text(), *text.get_position()) for text in page.texts]
    numbers = [(name, x, y) for name, x, y in places if left < x < right and top < y < bottom]
    assert [name for name, _, _ in numbers] == ["1", "2"]
    for name, x, y in numbers:
        row, column = int((y - top) / (bottom - top) * 40), int((x - left) / (right - left) * 60)
        assert list(owners[row, column]) == pytest.approx(tinted(COLOURS[int(name) - 1])), "a number lies in its region"


def tinted(colour: str) -> list[float]:
    return [(1 - TINT) * 0.5 + TINT * value for value in to_rgb(colour)]


def test_each_centre_has_a_heat_map_that_shows_where_it_is():
    page = drawn(GREY, one_hot([[0, 0, 0], [0, 1, 1]], 3), names_of(3))
    scale, background, disc, cup = pictures(page)[2:]
    left, right = (2, 2), (38, 58)
    assert list(background[right]) == list(disc[left]) == [0.5] * 3, "only the image"
    assert list(background[left]) == pytest.approx(list(disc[right]))
    assert list(background[left]) == pytest.approx(list(scale[0, -1]), abs=0.03)
    assert np.abs(cup - 0.5).max() < 1e-6


@pytest.mark.parametrize("centres, note", [(12, None), (13, "the 1 centre with"), (21, "the 9 centres with")])
def test_the_twelve_centres_with_most_responsibility_have_heat_maps(centres, note):
    rng = np.random.default_rng(0)
    weights = rng.random((centres, 8, 8)) * np.arange(1, centres + 1)[:, None, None] ** 2
    page = drawn(GREY, weights / weights.sum(0), names_of(centres))
    assert len(page.images) == 3 + 12
    written, most = texts(page), names_of(centres)[-12:]
    assert [name for name in written if written.count(name) == 2 and name in most] == 2 * most
    assert all(written.count(name) == 1 for name in names_of(centres)[:-12])
    assert [text.split(": ")[1][: len(note)] for text in written if "left out" in text] == ([note] if note else [])


@pytest.mark.parametrize("shape", [(40, 60), (90, 30), (30, 90)])
@pytest.mark.parametrize("centres", [1, 3, 16, 24])
def test_texts_and_pictures_do_not_overlap(shape, centres):
    names = [f"left ventricular myocardium and papillary muscles {n}" for n in range(centres)]
    uniform = np.full((centres, 4, 4), 1 / centres)
    page = drawn(np.full((3, *shape), 0.5), uniform, names, "case")
    edge, maps = page.get_window_extent(), [image.get_window_extent() for image in page.images]
    boxes = [text.get_window_extent() for text in page.texts]
    outside = [box.shrunk(0.9, 0.9) for box in boxes if not box.overlaps(maps[1])]
    assert len(boxes) - len(outside) <= 1, "among equal centres the first owns all pixels"
    for index, box in enumerate(outside):
        assert edge.x0 <= box.x0 and box.x1 <= edge.x1 and edge.y0 <= box.y0 and box.y1 <= edge.y1
        assert not any(box.overlaps(other) for other in [*outside[index + 1 :], *maps])


def test_images_outside_0_to_1_are_scaled():
    image = np.random.default_rng(0).random((3, 40, 60)).astype(np.float32)

    def shown(array: np.ndarray) -> np.ndarray:
        return pictures(drawn(array, np.ones((1, 2, 2)), ["all"]))[0]

    np.testing.assert_allclose(shown(image), image.transpose(1, 2, 0))
    scaled = shown(image * 4000 - 1000)
    assert (scaled.min(), scaled.max()) == (0, 1) and np.abs(scaled - shown(image)).mean() < 0.02
    assert np.isfinite(shown(np.full((1, 8, 8), -3.0))).all()


class FixedClusters(torch.nn.Module):
    """Stand in for `EMCLIP`: an anchored clustering that is the same for every image."""

    em = anchors = True

    def __init__(self, responsibilities: torch.Tensor) -> None:
        super().__init__()
        self.responsibilities = responsibilities

    def clusters(self, image: torch.Tensor) -> torch.Tensor:
        return self.responsibilities[None]


def test_one_picture_per_domain_is_written(tmp_path, capsys):
    case = make_fundus_case(3)
    image = torch.from_numpy(case.image.transpose(2, 0, 1))
    labels = torch.from_numpy(np.stack([case.label == value for value in LABELS.values()])).float()
    soft = torch.nn.functional.adaptive_avg_pool2d(labels, 16).to(torch.bfloat16).requires_grad_()
    items = [
        {"image": image, "case_id": name, "domain": domain} for domain, name in (("a", "1"), ("a", "2"), ("b", "3"))
    ]

    paths = show_clusters(FixedClusters(soft), items, dict, tmp_path / "new", list(LABELS))

    assert paths == [tmp_path / "new" / "clusters" / name for name in ("a_1.png", "b_3.png")]
    assert sorted(paths[0].parent.iterdir()) == paths
    assert capsys.readouterr().out == f"clusters  {paths[0]} ... (2)\n"
    picture = np.asarray(Image.open(paths[0]).convert("RGB")).astype(int)
    assert picture.shape[1] == 1560
    for colour in COLOURS[1:3]:
        reference = np.array(to_rgb(colour)) * 255
        assert (np.abs(picture - reference).sum(-1) < 20).sum() > 100, "badges in the colours of disc and cup"
    assert "matplotlib.pyplot" not in matplotlib.__dict__ or not matplotlib.pyplot.get_fignums()


@pytest.mark.parametrize(
    "image, responsibilities, names, message",
    [
        (np.zeros((2, 8, 8)), np.ones((1, 2, 2)), ["a"], "image must be"),
        (np.zeros((8, 8)), np.ones((1, 2, 2)), ["a"], "image must be"),
        (np.zeros((1, 8, 8)), np.ones((4, 1)), ["a"], "must be \\(K, h, w\\)"),
        (np.zeros((1, 8, 8)), np.ones((1, 2, 2)), ["a", "b"], "2 names for 1 centres: give one name per centre"),
        (np.zeros((1, 8, 8)), np.ones((2, 2, 2)), ["a", "b"], "sum to 1"),
        (
            np.zeros((1, 8, 8)),
            np.stack([np.full((2, 2), 2.0), np.full((2, 2), -1.0)]),
            ["a", "b"],
            "must be positive",
        ),
        (np.zeros((1, 8, 8)), np.full((1, 2, 2), np.nan), ["a"], "sum to 1"),
    ],
)
def test_bad_input(image, responsibilities, names, message):
    with pytest.raises(InputError, match=message) as error:
        draw_clusters(image, responsibilities, names)
    assert "\n" not in str(error.value)
