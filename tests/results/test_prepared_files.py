"""What a prepared case leaves beside its mask: each file on the reference's grid, with the reference's header."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from shared.io.masks import SPACE
from shared.io.sources import load_volume
from shared.preparation.cache import write_case
from shared.preparation.load import META
from shared.preparation.prepare import VERSION
from shared.preparation.scan import Scan
from shared.results.prepared_files import left_out, record_of, save_prepared_files, share_of_brain
from tests.making import oblique

SHAPE = (20, 24, 10)


@pytest.fixture
def case(tmp_path) -> dict[str, Any]:
    """A case as `LoadPreparedd` leaves it: the reference on disk, the prepared sequences in their folder."""
    random = np.random.default_rng(0)
    image = nib.Nifti1Image(random.integers(1, 900, SHAPE).astype(np.int16), None)
    image.header.set_xyzt_units("mm")
    image.set_qform(oblique(), 2)
    image.set_sform(oblique(), 3)
    image.header["pixdim"][1:4] *= 1.0000001  # as scanners' rounding leaves it
    source = tmp_path / "flair.nii.gz"
    nib.save(image, source)
    loaded = load_volume(source, "a")
    affine = np.asarray(loaded.affine, float)
    brain = np.zeros(SHAPE, bool)
    brain[4:16, 5:20, 2:9] = True
    scans = {name: Scan(np.where(brain, random.uniform(1, 700, SHAPE), 0).astype(np.float32), affine) for name in "ft"}
    record = {"version": VERSION, "reference": "f", "steps": ["register t"], "warnings": ["the brain is cut off"]}
    folder = tmp_path / "prepared" / "0123"
    write_case(folder, scans, brain, record)
    pred = MetaTensor(torch.from_numpy(brain[None] & (random.random(SHAPE) > 0.9)).to(torch.uint8), meta=loaded.meta)
    files = save_prepared_files(
        {**record, "folder": str(folder)}, source, pred, tmp_path / "out" / "a" / "a_seg.nii.gz", "a", sequences=True
    )
    return {"files": files, "source": nib.load(source), "brain": brain, "scans": scans, "record": record}


def test_every_file_lies_beside_the_mask(case, tmp_path):
    assert list(case["files"]) == ["preparation", "brain", "preparation_picture", "f", "t"]
    assert {path.parent for path in case["files"].values()} == {tmp_path / "out" / "a"}
    assert all(path.name.startswith("a_") and path.stat().st_size for path in case["files"].values())


def test_images_have_the_header_of_the_reference_bit_for_bit(case):
    for kind in ("brain", "f", "t"):
        header = nib.load(case["files"][kind]).header
        for field in SPACE:
            assert header[field].tobytes() == case["source"].header[field].tobytes(), (kind, field)
        assert header["pixdim"][:4].tobytes() == case["source"].header["pixdim"][:4].tobytes()


def test_brain_and_sequences_are_those_of_the_preparation(case):
    assert np.array_equal(nib.load(case["files"]["brain"]).get_fdata() > 0, case["brain"])
    for name, scan in case["scans"].items():
        written = nib.load(case["files"][name]).get_fdata()
        assert np.abs(written - scan.voxels).max() <= scan.voxels.max() / 30000
        assert not written[~case["brain"]].any()


def test_the_record_can_be_read_and_names_no_folder_of_the_machine(case):
    written = json.loads(case["files"]["preparation"].read_text(encoding="utf-8"))
    assert written == case["record"]


def test_a_cache_that_was_removed_leaves_no_files(tmp_path):
    record = {"folder": str(tmp_path / "gone"), "reference": "f", "warnings": []}
    assert save_prepared_files(record, Path("f.nii"), MetaTensor(torch.zeros(1, 2, 2, 2)), tmp_path / "p", "a") == {}


def test_a_volume_is_given_as_a_share_of_the_brain():
    measures: dict[str, Any] = {"lesion_count": 3, "lesion_volume_ml": 3.0, "largest_volume_ml": 2.0}
    found = share_of_brain({"brain": {"volume_ml": 1200}}, measures)
    assert found == {"brain_volume_ml": 1200, "percent_of_brain": 0.25}
    assert share_of_brain({"brain": {"volume_ml": 1200}}, {"area_px": 5}) == {"brain_volume_ml": 1200}
    assert share_of_brain({"steps": []}, measures) == {}


def test_a_sequence_that_could_not_be_registered_counts_as_missing():
    assert left_out({"sequences": ["flair", "t2"]}, ["flair", "t1", "t2"]) == ["t1"]
    assert left_out({"steps": []}, ["flair", "t1"]) is None


def test_an_item_without_preparation_has_an_empty_record():
    assert record_of({"image": MetaTensor(torch.zeros(1))}) == record_of({}) == {}
    assert record_of({"image": MetaTensor(torch.zeros(1), meta={META: '{"steps": []}'})}) == {"steps": []}
