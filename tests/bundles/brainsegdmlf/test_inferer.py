"""Slices of one plane or of three."""

from __future__ import annotations

import pytest
import torch
from brainsegdmlf.inferer import PlaneInferer
from monai.data import MetaTensor

from shared.core.errors import InputError

OPTIONS = {"roi_size": (4, 4), "sw_batch_size": 3, "overlap": 0.25, "mode": "gaussian"}


def volume(spacing: tuple[float, float, float], batch: int = 1) -> MetaTensor:
    affine = torch.diag(torch.tensor([*spacing, 1.0]))
    affine = affine if batch == 1 else affine.expand(batch, 4, 4)
    return MetaTensor(torch.rand(batch, 2, 6, 5, 7), affine=affine)


def rows(x: torch.Tensor) -> torch.Tensor:
    """A network that knows what its rows are: running sums along them. One class."""
    return x.sum(1, keepdim=True).cumsum(2)


def mean_channel(x: torch.Tensor) -> torch.Tensor:
    return x.mean(1, keepdim=True)


def infer(planes: str, image: torch.Tensor, network) -> torch.Tensor:
    return PlaneInferer(planes, "cpu", **{**OPTIONS, "roi_size": (8, 8)})(image, network)


def test_what_knows_no_direction_is_the_same_in_all_planes():
    image = volume((1, 1, 1))
    for planes in ("axial", "all", "auto"):
        torch.testing.assert_close(infer(planes, image, mean_channel).as_tensor(), image.as_tensor().mean(1, True))


def test_all_is_the_mean_of_the_three_planes():
    image = volume((1, 1, 1))
    plain = image.as_tensor().sum(1, keepdim=True)
    # rows of a window run along the first axis that a slice keeps: x, x, y; zeros pad it at both ends
    expected = (plain.cumsum(2) + plain.cumsum(2) + plain.cumsum(3)) / 3
    torch.testing.assert_close(infer("all", image, rows).as_tensor(), expected)
    torch.testing.assert_close(infer("axial", image, rows).as_tensor(), plain.cumsum(2))


@pytest.mark.parametrize(
    ("image", "planes"),
    [
        (volume((1, 1, 1.2)), "all"),
        (volume((1, 1, 3)), "axial"),
        (volume((3, 1, 1)), "axial"),
        (volume((1, 1, 1), batch=2), "all"),
        (torch.rand(1, 2, 6, 5, 7), "axial"),
    ],
)
def test_auto_looks_at_the_voxels(image, planes):
    torch.testing.assert_close(infer("auto", image, rows), infer(planes, image, rows))


def test_one_thick_volume_makes_a_batch_thick():
    image = volume((1, 1, 1), batch=2)
    image.affine[1, 2, 2] = 5.0
    torch.testing.assert_close(infer("auto", image, rows), infer("axial", image, rows))


def test_geometry_is_kept():
    image = volume((1, 1, 1))
    result = infer("all", image, mean_channel)
    assert isinstance(result, MetaTensor) and torch.equal(result.affine, image.affine)


def test_unknown_planes():
    with pytest.raises(InputError, match="planes 'oblique' is unknown: choose axial, all or auto"):
        PlaneInferer("oblique", "cpu", **OPTIONS)
