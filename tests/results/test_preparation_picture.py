"""The picture of a preparation: brain, result and the edges of each registered sequence on the reference."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.colors import to_rgb
from PIL import Image

from shared.results.preparation_picture import BRAIN, EDGES, RESULT, save_preparation_picture

SHAPE, AFFINE = (60, 70, 40), np.diag([3.0, 3, 4, 1])
PIXELS_PER_INCH = 90
LEGEND = 27  # pixels at the bottom, whose samples have the colours of the lines


def ball(radius: float, shift: tuple[int, int, int] = (0, 0, 0)) -> np.ndarray:
    """A ball in the middle of the grid, radius in mm, shift in voxels."""
    index = np.moveaxis(np.indices(SHAPE), 0, -1) - (np.array(SHAPE) - 1) / 2 - shift
    return (np.linalg.norm(index * [3, 3, 4], axis=-1) < radius).astype(np.float32)


def draw(path: Path, registered: dict[str, np.ndarray], result: bool = True, warnings: tuple = ()) -> np.ndarray:
    """Draw a head whose brain is a ball of 50 mm; return the picture without its legend, (rows, columns, 3)."""
    found = ball(10) if result else np.zeros(SHAPE)
    reference = 100 * ball(50) + 40 * ball(70)
    save_preparation_picture(path, reference, registered, ball(50), found, AFFINE, "a", warnings)
    return np.asarray(Image.open(path).convert("RGB"))[:-LEGEND]


def sequence(shift: tuple[int, int, int] = (0, 0, 0)) -> np.ndarray:
    """A registered sequence, cut by the brain mask, with a ball of 25 mm in its middle."""
    return 100 * ball(50) + 80 * ball(25, shift)


def painted(picture: np.ndarray, colour: str) -> np.ndarray:
    """The pixels of a colour: bool (rows, columns)."""
    return np.abs(picture / 255 - to_rgb(colour)).max(axis=-1) < 0.12


def test_every_sequence_has_a_row_of_its_edges(tmp_path):
    alone = draw(tmp_path / "alone.png", {})
    one = draw(tmp_path / "one.png", {"t1": sequence()})
    two = draw(tmp_path / "two.png", {"t1": sequence(), "t2": sequence()})
    assert len(two) - len(one) == len(one) - len(alone) > 100
    assert not painted(alone, EDGES).any()
    assert painted(alone, BRAIN).any() and painted(alone, RESULT).any()
    added = len(one) - len(alone)
    assert painted(one[-added:], EDGES).sum() > 100 and not painted(one[-added:], BRAIN).any()


def middle_edges(path: Path, registered: np.ndarray) -> tuple[np.ndarray, float]:
    """Columns of the edges in the middle axial slice, 158 mm wide with its margin; pixels per mm."""
    picture = draw(path, {"t1": registered})
    second = painted(picture[len(picture) // 2 :], EDGES)
    width = second.shape[1] / 5
    return np.nonzero(second[:, round(width) : round(2 * width)])[1], width / 158


def test_a_shifted_sequence_has_its_edges_elsewhere(tmp_path):
    """By 6 voxels of 3 mm to the patient's left, which is the right of the picture."""
    (here, scale), (there, _) = (middle_edges(tmp_path / "a.png", sequence((shift, 0, 0))) for shift in (0, -6))
    assert np.isclose(there.mean() - here.mean(), 18 * scale, rtol=0.15)


def test_the_border_that_the_brain_mask_cuts_is_no_edge(tmp_path):
    columns, scale = middle_edges(tmp_path / "a.png", sequence())
    assert 40 * scale < np.ptp(columns) < 60 * scale  # the inner ball has 50 mm, the brain 100
    assert not len(middle_edges(tmp_path / "b.png", 100 * ball(50))[0])


def test_the_brain_and_the_result_may_be_empty(tmp_path):
    picture = draw(tmp_path / "a.png", {}, result=False)
    assert painted(picture, BRAIN).any() and not painted(picture, RESULT).any()
    empty = np.zeros(SHAPE, np.float32)
    path = save_preparation_picture(tmp_path / "b.png", empty, {"t1": empty}, empty, empty, AFFINE)
    assert not painted(np.asarray(Image.open(path).convert("RGB"))[:-LEGEND], BRAIN).any()


def test_warnings_stand_under_the_title(tmp_path):
    calm = draw(tmp_path / "calm.png", {})
    warned = draw(tmp_path / "warned.png", {}, warnings=("the scan cuts the brain off: 5 $ and 6 $", "t2 is left out"))
    added = len(warned) - len(calm)
    assert added > 20 and painted(warned[: added + 20], EDGES).sum() > 50
