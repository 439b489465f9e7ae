"""Faults of a folder, a list or a name are reported in one line each, and no list is written."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from shared.core.errors import InputError
from shared.datasets.public import make_datalist
from tests.bundles.running import ROOT, environment, files
from tests.datasets.layouts.published import SETS, blocks, picture, volume


def remove(pattern: str):
    """Delete the first file of a pattern."""
    return lambda root: sorted(root.rglob(pattern))[0].unlink()


def overwrite(pattern: str, text: str):
    return lambda root: sorted(root.rglob(pattern))[0].write_text(text, encoding="utf-8")


def other_values(root: Path) -> None:
    volume(sorted(root.rglob("*labelsTr/*"))[0], blocks(1, 2, 7))


def cut_label(root: Path) -> None:
    path = sorted(root.rglob("*labelsTr/*"))[0]
    noise = np.random.default_rng(0).integers(0, 4, (40, 40, 9)).astype(np.int16)
    volume(path, noise)
    path.write_bytes(path.read_bytes()[:-2000])


def no_frame(root: Path) -> None:
    (path,) = root.rglob("*.csv")
    table = pd.read_csv(path)
    table["ES"] = 40
    table.to_csv(path, index=False)


def twice(root: Path) -> None:
    for path in [*root.rglob("BRATS_001.nii.gz")]:
        target = root / "copy" / path.relative_to(root)
        target.parent.mkdir(parents=True)
        target.write_bytes(path.read_bytes())


def no_code(root: Path) -> None:
    (path,) = root.rglob("*.csv")
    pd.read_csv(path).drop(columns="Vendor").to_csv(path, index=False)


CASES = [
    ("brats2021", remove("*_t1ce.nii*"), ["no ", "_t1ce.nii.gz", "complete the download"]),
    ("msd_brain", remove("labelsTr/*"), ["case BRATS_001: no labelsTr/BRATS_001.nii.gz"]),
    ("msd_brain", other_values, ["BRATS_001", "holds 7 where 0, 1, 2, 3 are published", "is it this data set?"]),
    ("msd_brain", overwrite("labelsTr/*", "no volume"), ["BRATS_001", "cannot be read", "get the file again"]),
    ("msd_brain", cut_label, ["BRATS_001", "cannot be read", "get the file again"]),
    ("msd_brain", twice, ["case BRATS_001 occurs 2 times", "one copy"]),
    ("isles2022", remove("*_adc.nii.gz"), ["no sub-strokecase0001_ses-0001_adc.nii.gz"]),
    ("wmh2017", remove("T1.nii.gz"), ["no ", "pre/T1.nii.gz"]),
    ("open_ms", remove("T2W.nii.gz"), ["patient01", "no T2W.nii.gz"]),
    ("drishti_gs", remove("*_cupsegSoftmap.png"), ["_cupsegSoftmap.png"]),
    ("drishti_gs", overwrite("*_ODsegSoftmap.png", "?"), ["_ODsegSoftmap.png cannot be read"]),
    ("rim_one_r2", remove("Im001-gs.txt"), ["Im001", "no Im001-gs.txt"]),
    ("rim_one_r2", overwrite("Im001-gs.txt", "Points\n1\n2\n"), ["Im001-gs.txt holds no outline"]),
    ("rim_one_r3", remove("*-Cup-Avg.png"), ["-Cup-Avg.png"]),
    ("refuge", remove("g0001.bmp"), ["case g0001: no g0001.bmp"]),
    ("riga_plus", remove("RIGA/*/*/*.tif"), ["no RIGA/BinRushed/BinRushed1/image1.tif"]),
    ("idrid", remove("IDRiD_01.jpg"), ["no IDRiD_01.jpg"]),
    ("mnms", remove("*.csv"), ["no table *Dataset_information*.csv"]),
    ("mnms", no_code, ["has no column 'vendor'"]),
    ("mnms", no_frame, ["has no frame 40: its shape is 10 x 6 x 3 x 4"]),
    ("qata_cov19", remove("mask_covid_1.png"), ["case covid_1: no mask of Train Set/Images/covid_1.png"]),
    ("qata_cov19", overwrite("*.xlsx", "no table"), ["Train_text.xlsx cannot be read"]),
    ("busi", remove("malignant (1)_mask.png"), ["no malignant (1)_mask.png"]),
]


@pytest.mark.parametrize("name, spoil, parts", CASES, ids=[f"{row[0]}_{number}" for number, row in enumerate(CASES)])
def test_a_spoilt_folder_is_said_in_lines(name, spoil, parts, tmp_path):
    SETS[name].make(tmp_path / "data")
    spoil(tmp_path / "data")
    with pytest.raises(InputError) as error:
        make_datalist(name, tmp_path / "data", tmp_path / "list", progress=False)
    for line in str(error.value).splitlines():
        assert len(line) < 400
    for part in parts:
        assert part in str(error.value)
    assert not (tmp_path / "list" / "dataset.json").exists()


def test_all_problems_at_once(tmp_path):
    SETS["refuge"].make(tmp_path)
    for case in ("g0001", "n0002"):
        remove(f"{case}.bmp")(tmp_path)
    with pytest.raises(InputError) as error:
        make_datalist("refuge", tmp_path, tmp_path / "list")
    assert len(str(error.value).splitlines()) == 2


@pytest.mark.parametrize(
    "layout, folder, options, parts",
    [
        ("acdc", "hearts", {"out": "foreign"}, ["foreign", "a list that this program did not write", "another --out"]),
        ("acdc", "hearts", {"out": "list/mine.json"}, ["a file of the name dataset.json"]),
        ("acdc", "hearts", {"test_share": "half"}, ["--test_share is 'half'"]),
    ],
)
def test_wrong_arguments(layout, folder, options, parts, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    SETS["acdc"].make(tmp_path / "hearts")
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "dataset.json").write_text(json.dumps({"training": []}), encoding="utf-8")
    before = files(tmp_path)
    with pytest.raises(InputError) as error:
        make_datalist(layout, folder, progress=False, **options)
    message = str(error.value)
    assert "\n" not in message and files(tmp_path) == before
    for part in parts:
        assert part in message


def test_the_command(tmp_path):
    """As a user gives it: the list stands in a folder of its layout's name, the terms are printed."""
    for n in range(4):
        picture(tmp_path / "Kvasir-SEG" / "images" / f"c{n}.jpg")
        picture(tmp_path / "Kvasir-SEG" / "masks" / f"c{n}.jpg", 0 * blocks()[..., 0] + 255)
    command = [sys.executable, "-m", "shared", "datalist"]
    where = {**environment(), "PYTHONPATH": str(ROOT)}
    run = [
        subprocess.run([*command, *words], cwd=tmp_path, env=where, capture_output=True, text=True)
        for words in (["kvasir", "Kvasir-SEG"], [], ["kvasir"], ["kvasi", "."])
    ]
    assert run[0].returncode == 0, run[0].stderr
    for part in ("4 cases of 4 patients or scans: 2 training, 1 validation, 1 testing", "licence   research", "note "):
        assert part in run[0].stdout
    assert (tmp_path / "kvasir_seg" / "dataset.json").is_file()
    assert "https://datasets.simula.no" in run[0].stdout and "train.json --dataset_dir" in run[0].stdout
    assert len(run[1].stdout.splitlines()) == 20
    for done, line in ((run[2], "error: no folder given"), (run[3], "did you mean 'kvasir_seg'?")):
        assert done.returncode == 1 and line in done.stderr and len(done.stderr.splitlines()) == 1
