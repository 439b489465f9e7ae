"""Inference on pictures: the same mask from every kind of file, in the picture's own size."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from tests.bundles.facts import BUNDLES
from tests.bundles.running import Bundle, mask_of


@pytest.fixture(scope="session", params=[name for name, bundle in BUNDLES.items() if bundle.pictures])
def bundle(request) -> Bundle:
    return BUNDLES[request.param]


@pytest.mark.parametrize("kind", ["bmp", "tif", "rgb.png", "rgba.png"])
def test_other_files_of_the_same_picture(bundle, data_dir, weights_dir, tmp_path, kind):
    case = bundle.one_case(data_dir)
    image = Image.open(case["input"])
    (image.convert(kind[:-4].upper()) if kind.startswith("rgb") else image).save(tmp_path / f"p.{kind}")
    for name, path in (("one", case["input"]), ("other", str(tmp_path / f"p.{kind}"))):
        bundle.infer(tmp_path / name, weights_dir, **{**case, "input": path}, overlays=False)
    assert np.array_equal(mask_of(tmp_path / "other"), mask_of(tmp_path / "one"))


def test_a_wide_picture_keeps_its_size(bundle, data_dir, weights_dir, tmp_path):
    case = bundle.one_case(data_dir)
    Image.open(case["input"]).resize((150, 61)).save(tmp_path / "wide.jpg")
    bundle.infer(tmp_path / "out", weights_dir, **{**case, "input": str(tmp_path / "wide.jpg")})
    assert mask_of(tmp_path / "out").shape == (61, 150)
