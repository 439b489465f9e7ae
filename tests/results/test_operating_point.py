"""Temperature and threshold of a region, its table and its picture."""

import numpy as np
import pytest
from scipy.special import expit

from shared.core.errors import InputError
from shared.results.calibration import BINS, CENTRES
from shared.results.operating_curve import RegionCounts
from shared.results.operating_point import GRID, USUAL, curve_records, fit_operating_point, point_lines
from shared.results.operating_point_picture import save_operating_point_picture

BEST = 6  # index of GRID


def case(patient: str, factor: float = 2.0) -> RegionCounts:
    """Logits `factor` times too large; Dice is best at one threshold, false lesions vanish above it."""
    right, voxels = expit(CENTRES / factor), 1000 * np.exp(-(((CENTRES + 4) / 4) ** 2))
    dice = 0.8 - 0.03 * np.abs(np.arange(len(GRID)) - BEST)
    found, false = np.linspace(6, 1, len(GRID)).round(), np.linspace(9, 0, len(GRID)).round()
    return RegionCounts(patient, dice, found, false, 6, np.stack([voxels * (1 - right), voxels * right]))


@pytest.fixture(scope="module")
def point():
    return fit_operating_point("lesion", [case("a"), case("b")], "dice", draws=50)


def test_the_threshold_belongs_to_the_probabilities_after_the_temperature(point):
    """The same voxels: a threshold t before is expit(logit(t) / T) after."""
    assert point.temperature == pytest.approx(2, rel=0.01) and point.chosen == BEST
    odds = (GRID[BEST] / (1 - GRID[BEST])) ** (1 / point.temperature)
    assert point.threshold == pytest.approx(odds / (1 + odds), abs=1e-4)
    assert point.thresholds[GRID.tolist().index(USUAL)] == USUAL


def test_thresholds_stay_off_zero_and_one():
    sharp = fit_operating_point("lesion", [case("a", 0.3)], "dice", draws=5)
    assert sharp.thresholds.min() > 0 and sharp.thresholds.max() < 1 and (np.diff(sharp.thresholds) > 0).all()


def test_the_table_marks_the_usual_and_the_chosen_threshold(point):
    title, heading, *rows = point_lines(point)
    assert title.startswith("lesion  temperature 2") and "calibration error" in title
    assert heading.split("  ")[1] == "threshold" and "false lesions per scan" in heading
    (chosen,) = [row for row in rows if row.endswith("chosen")]
    assert chosen.split()[0] == f"{point.threshold:g}" and "0.800 [0.800, 0.800]" in chosen
    assert [row.split()[0] for row in rows if row.endswith("default")] == ["0.5"]


def test_the_record_has_every_threshold(point):
    records = curve_records(point.thresholds, point.curve)
    assert len(records) == len(GRID) and records[BEST]["dice"] == 0.8
    assert records[BEST]["threshold"] == point.threshold
    assert records[0].keys() >= {"recall_low", "recall_high", "false_lesions", "false_lesions_high"}


def test_the_picture_is_written(point, tmp_path):
    path = save_operating_point_picture(tmp_path / "out" / "picture.png", [point, point])
    assert path.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("row, word", [(1, "is marked in none"), (0, "fills every voxel")])
def test_a_region_that_is_nowhere_or_everywhere_gets_one_line(row, word):
    counts = case("a")
    counts.histogram = np.zeros((2, BINS))
    counts.histogram[1 - row] = 5
    with pytest.raises(InputError, match=f"lesion {word} of the 1 labelled cases"):
        fit_operating_point("lesion", [counts], "dice")
