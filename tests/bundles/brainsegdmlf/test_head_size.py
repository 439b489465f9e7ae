"""A scan that has not the size of a head is refused before anything runs."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
from brainsegdmlf.data import preflight

from shared.io import sources
from tests.bundles.brainsegdmlf.facts import BUNDLE
from tests.bundles.running import input_error


@pytest.mark.parametrize("unit", ["micron", "meter"])
def test_a_head_in_the_wrong_unit_is_refused_before_the_run(tmp_path, unit):
    path = tmp_path / "flair.nii.gz"
    image = nib.Nifti1Image(np.ones((40, 48, 6), np.int16), np.diag([1, 1, 3, 1]))
    image.header.set_xyzt_units(unit)
    nib.save(image, path)
    paths = [str(path), None, None, None]
    flow = BUNDLE.workflow("inference", output_dir=str(tmp_path / "out"), input=paths)
    line = input_error(flow.parser.get_parsed_content("preflight"))
    assert "it covers" in line and "correct the unit or the voxel size in its header" in line


def test_each_header_is_read_once(tmp_path, monkeypatch):
    paths = [str(tmp_path / f"{name}.nii.gz") for name in ("flair", "t1")]
    for path in paths:
        nib.save(nib.Nifti1Image(np.ones((40, 48, 6), np.int16), np.diag([1, 1, 3, 1])), path)
    opened = []
    real = sources.open_nifti
    monkeypatch.setattr(sources, "open_nifti", lambda file: opened.append(str(file)) or real(file))
    items = [{"case_id": "p1", "image": [*paths, None, None]}]
    preflight([items], ["flair", "t1", "t1ce", "t2"], tmp_path / "out", (30, 600), "off")
    assert opened == paths
