from __future__ import annotations

import numpy as np
import pytest

from shared.preparation.bias import correct_bias, field_strength
from shared.preparation.scan import Scan
from tests.preparation.heads import head, place_of


def smooth_field(scan: Scan, strength: float = 0.4) -> np.ndarray:
    x, y, z = np.moveaxis(place_of(scan), -1, 0) / 80
    return np.exp(strength * (0.7 * x - 0.5 * y + 0.6 * z * x)).astype(np.float32)


@pytest.fixture(scope="module")
def plain() -> tuple[Scan, np.ndarray]:
    scan = head("t1")
    return scan, np.linalg.norm(place_of(scan) / (56, 75, 52), axis=-1) < 1


@pytest.fixture(scope="module")
def shaded(plain) -> tuple[Scan, np.ndarray, np.ndarray]:
    scan, mask = plain
    field = smooth_field(scan)
    return scan._replace(voxels=scan.voxels * field), mask, field


@pytest.fixture(scope="module")
def corrected(shaded) -> tuple[Scan, dict[str, float]]:
    scan, mask, _ = shaded
    return correct_bias(scan, mask)


def unevenness(voxels: np.ndarray, truth: np.ndarray, mask: np.ndarray) -> float:
    """Standard deviation of the logarithm of what multiplies the true image."""
    inside = mask & (truth > 5)
    return float(np.std(np.log(voxels[inside] / truth[inside])))


def test_smooth_field_is_reduced(plain, shaded, corrected):
    scan, mask = plain
    field = shaded[2]
    before = unevenness(shaded[0].voxels, scan.voxels, mask)
    assert before == pytest.approx(np.std(np.log(field[mask])), rel=0.1)
    assert unevenness(corrected[0].voxels, scan.voxels, mask) < 0.5 * before


def test_strength_tells_a_shaded_scan_from_an_even_one(plain, shaded):
    scan, mask = plain
    strong = field_strength(shaded[0], mask)
    assert strong == pytest.approx(np.std(np.log(shaded[2][mask])), rel=0.4)
    assert field_strength(scan, mask) < 0.5 * strong


def test_figures_agree_with_the_strength(shaded, corrected):
    scan, mask, field = shaded
    figures = corrected[1]
    assert figures["strength"] == field_strength(scan, mask)
    assert figures["lowest"] < 1 < figures["highest"]
    true_range = np.ptp(np.log(field[mask]))
    assert np.log(figures["highest"] / figures["lowest"]) == pytest.approx(true_range, rel=0.5)


def test_result_is_finite_and_not_negative_and_zeros_stay(shaded):
    scan, mask, _ = shaded
    voxels = scan.voxels.copy()
    voxels[:20] = 0
    voxels[50:52] = -7
    corrected, _ = correct_bias(scan._replace(voxels=voxels), mask)
    assert np.isfinite(corrected.voxels).all()
    assert (corrected.voxels >= 0).all()
    assert (corrected.voxels[voxels <= 0] == 0).all()
    assert (corrected.voxels[voxels > 0] > 0).all()


def test_median_of_the_mask_keeps_its_value(shaded, corrected):
    scan, mask, _ = shaded
    assert np.median(corrected[0].voxels[mask]) == pytest.approx(np.median(scan.voxels[mask]), rel=1e-3)


def test_constant_factor_passes_through(shaded, corrected):
    (scan, mask, _), (once, figures), factor = shaded, corrected, 0.037
    scaled, scaled_figures = correct_bias(scan._replace(voxels=scan.voxels * np.float32(factor)), mask)
    np.testing.assert_allclose(scaled.voxels, once.voxels * factor, rtol=1e-2)
    assert scaled_figures["strength"] == pytest.approx(figures["strength"], rel=0.02)


def test_same_input_gives_the_same_voxels(shaded, corrected):
    scan, mask, _ = shaded
    np.testing.assert_array_equal(correct_bias(scan, mask)[0].voxels, corrected[0].voxels)


def test_sheared_scan_is_corrected_on_its_own_grid(plain, shaded):
    sheared = shaded[0]._replace(
        affine=shaded[0].affine @ np.array([[1, 0, 0, 0], [0, 1, 0.2, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    )
    corrected, _ = correct_bias(sheared, plain[1])
    before = unevenness(shaded[0].voxels, plain[0].voxels, plain[1])
    np.testing.assert_array_equal(corrected.affine, sheared.affine)
    assert unevenness(corrected.voxels, plain[0].voxels, plain[1]) < 0.6 * before


@pytest.mark.parametrize("case", ["empty mask", "empty scan", "constant scan", "tiny mask"])
def test_nothing_to_estimate_from_leaves_the_scan(plain, case):
    scan, mask = plain
    if case == "empty mask":
        mask = np.zeros_like(mask)
    elif case == "tiny mask":
        mask = np.zeros_like(mask)
        mask[30, 35, 20:23] = True
    else:
        scan = scan._replace(voxels=np.full_like(scan.voxels, 0 if case == "empty scan" else 5))
    corrected, figures = correct_bias(scan, mask)
    np.testing.assert_array_equal(corrected.voxels, scan.voxels)
    assert figures["strength"] == 0
