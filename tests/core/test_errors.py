"""What a user sees of an `InputError`: one line on stderr and exit code 1."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest
import torch
from monai.data import DataLoader, Dataset
from monai.transforms import Compose

from shared.core.errors import InputError, find_input_error, require
from shared.io.volumes import LoadSequencesd
from tests.warm import run_code

ROOT = Path(__file__).resolve().parents[2]
START = "from shared.core.errors import InputError, install_one_line_errors\ninstall_one_line_errors()\n"
LINE = "case p03: flair: /nowhere.nii.gz not found: correct the path, or give null for a missing sequence"
LOAD = """
from monai.data import DataLoader, Dataset
from monai.transforms import Compose
from shared.io.volumes import LoadSequencesd
items = [{"image": ["/nowhere.nii.gz"], "case_id": "p03"}]
list(DataLoader(Dataset(items, Compose([LoadSequencesd("image", ["flair"])]))))
"""


def run(code: str) -> subprocess.CompletedProcess:
    return run_code(START + code, cwd=ROOT, environment=os.environ)


def test_input_error_inside_a_monai_transform_is_one_line():
    done = run(LOAD)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", f"error: {LINE}\n")


def test_input_error_from_a_loader_worker_is_found():
    dataset = Dataset([{"image": ["/nowhere.nii.gz"], "case_id": "p03"}], Compose([LoadSequencesd("image", ["flair"])]))
    with pytest.raises(RuntimeError) as caught:
        list(DataLoader(dataset, num_workers=1))
    found = find_input_error(caught.value)
    assert found is not None and str(found) == LINE


@pytest.mark.parametrize(
    "code",
    [
        "raise InputError('a: b')",
        "install_one_line_errors()\nraise InputError('a: b')",
        "try:\n    raise InputError('a: b')\nexcept InputError as e:\n    raise RuntimeError('x') from e",
        "try:\n    raise InputError('a: b')\nexcept InputError:\n    raise RuntimeError('x')",
    ],
    ids=["bare", "installed twice", "cause", "context"],
)
def test_wherever_it_stands_in_the_chain(code):
    done = run(code)
    assert (done.returncode, done.stderr) == (1, "error: a: b\n")


def test_other_errors_keep_their_traceback():
    done = run("raise RuntimeError('a bug')")
    assert done.returncode == 1
    assert "Traceback" in done.stderr and "RuntimeError: a bug" in done.stderr


def test_ctrl_c_is_one_line_and_ends_the_process_as_usual():
    done = run("raise KeyboardInterrupt")
    assert done.stderr == "\nstopped\n"
    assert done.returncode == -signal.SIGINT


class Refusing(torch.utils.data.Dataset):
    """Raises without MONAI's wrapping, so that torch reraises an `InputError` whose text is a traceback."""

    def __len__(self):
        return 1

    def __getitem__(self, index):
        raise InputError(LINE)


def test_an_unwrapped_input_error_from_a_loader_worker_is_its_line_alone():
    with pytest.raises(InputError) as caught:
        list(torch.utils.data.DataLoader(Refusing(), num_workers=1))
    assert str(find_input_error(caught.value)) == LINE


def test_require_raises_one_line_per_problem_and_counts_the_rest():
    require([])
    with pytest.raises(InputError, match="^only one$"):
        require(["only one"])
    with pytest.raises(InputError) as caught:
        require([f"problem {number}" for number in range(23)])
    lines = str(caught.value).splitlines()
    assert lines[0] == "problem 0" and lines[19] == "problem 19" and lines[20:] == ["... and 3 more"]
