"""A radiograph, or a photograph, as DICOM: in, and as DICOM SEG out, with the shipped weights."""

from __future__ import annotations

import json
from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest
from PIL import Image

from shared.io.picture_files import load_picture_label
from tests.bundles.facts import BUNDLES
from tests.bundles.running import finish

FILES = Path(pydicom.__file__).parent / "data" / "test_files"
CASES = [
    ("tmca", "dicomdirtests/77654033/CR1/6154", [1], ["opacity"]),
    ("emclip", "examples_rgb_color.dcm", [1, 2], ["optic disc", "optic cup"]),
]


@pytest.mark.parametrize(("bundle", "image", "values", "names"), CASES, ids=[case[0] for case in CASES])
def test_in_and_out(bundle, image, values, names, tmp_path):
    options = {"input": str(FILES / image), "output_dir": str(tmp_path)}
    finish(BUNDLES[bundle].workflow("inference", **options))
    (entry,) = json.loads((tmp_path / "predictions.json").read_text(encoding="utf-8"))
    mask = np.asarray(Image.open(tmp_path / entry["prediction"]))
    source = pydicom.dcmread(FILES / image, stop_before_pixels=True)
    assert mask.shape == (source.Rows, source.Columns)
    found = highdicom.seg.segread(tmp_path / entry["dicom_seg"])
    assert [found.get_segment_description(n).segment_label for n in values] == names
    frames = found.get_pixels_by_source_instance([source.SOPInstanceUID], ignore_spatial_locations=True)[0]
    for number, value in enumerate(values):
        assert np.array_equal(frames[..., number], mask >= value)  # the disc holds the cup
    again = load_picture_label(tmp_path / entry["dicom_seg"], [0, *values], "case a")
    assert np.array_equal(again[0], mask)
