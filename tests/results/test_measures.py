"""Voxel sizes: their product is the determinant of the affine, whatever the directions of its axes."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from shared.results.measures import voxel_spacing

steps = arrays(float, (3, 3), elements=st.floats(-5, 5)).filter(lambda m: abs(np.linalg.det(m)) > 1e-3)


def test_a_tilted_gantry_has_the_distance_of_its_slices():
    tilted = np.diag([0.5, 0.5, 5.0])
    tilted[1, 2] = 5 * math.tan(math.radians(15))
    assert voxel_spacing(tilted) == pytest.approx([0.5, 0.5, 5.0])


def test_turned_and_mirrored_axes_keep_their_lengths():
    turned = np.array([[0, -2.0, 0], [0.5, 0, 0], [0, 0, -3]])
    assert voxel_spacing(turned) == pytest.approx([0.5, 2, 3])


@given(steps)
def test_the_product_is_the_size_of_a_voxel(matrix):
    assert math.prod(voxel_spacing(matrix)) == pytest.approx(abs(np.linalg.det(matrix)), rel=1e-6)
