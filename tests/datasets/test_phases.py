"""Every phase of a cine is an item of its own; check and run take the same cases for cines."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from shared.datasets.faults import fault_of, mark
from shared.datasets.phases import PHASES, PhaseDataset
from shared.datasets.preflight import preflight
from shared.preparation.cine_load import PHASE
from tests.bundles.running import input_error
from tests.making import make_cine

IMAGE, LABEL = make_cine()
CHANNELS = ["cine MR"]


def save(folder: Path, name: str, array: np.ndarray) -> dict[str, str]:
    nib.save(nib.Nifti1Image(array, np.diag([1.5, 1.5, 8, 1])), folder / f"{name}.nii.gz")
    return {"image": str(folder / f"{name}.nii.gz"), "case_id": name}


def test_phases_stand_in_the_place_of_their_cine(tmp_path):
    cases = [
        save(tmp_path, "frame", IMAGE[..., 0]),
        save(tmp_path, "cine", IMAGE),
        save(tmp_path, "two", IMAGE[..., :2]),
    ]
    mark(faulty := save(tmp_path, "faulty", IMAGE), ["it is damaged"])
    items = PhaseDataset([*cases, faulty], lambda item: item, CHANNELS)
    assert [item["case_id"] for item in items] == ["frame", *["cine"] * 8, "two", "faulty"]
    assert [item.get(PHASE) for item in items] == [None, *range(8), None, None]
    assert {item[PHASES] for item in items if PHASE in item} == {8}
    assert fault_of(items[10]) == "it is damaged" and items[0] == cases[0]


def test_several_channels_are_no_cine(tmp_path):
    items = PhaseDataset([save(tmp_path, "channels", IMAGE)], lambda item: item, [str(n) for n in range(8)])
    assert len(items) == 1 and PHASE not in items[0]
    preflight([items.data], [str(n) for n in range(8)], tmp_path / "out", cines=True, strict=True)


@pytest.mark.parametrize("cines", [False, True])
def test_a_training_takes_single_frames_only(tmp_path, cines):
    item = {**save(tmp_path, "cine", IMAGE), "label": save(tmp_path, "label", LABEL[..., 0])["image"]}
    line = input_error(preflight, [[item]], CHANNELS, tmp_path / "out", [0, 1, 2, 3], cines=cines)
    words = (
        "a cine of 8 phases: training and evaluation take single frames" if cines else "8 channels where 1 are declared"
    )
    assert line.startswith("case cine: ") and words in line and "\n" not in line
