"""A scan that has not the size of a head is refused before anything runs."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest

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
