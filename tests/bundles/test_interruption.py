"""Ctrl-C and SIGTERM in a training of the command line: one line that says how to go on, and no process is left."""

from __future__ import annotations

import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.bundles.facts import BUNDLES
from tests.bundles.running import PLAIN, ROOT, environment, options

BUNDLE = BUNDLES["tmca"]
SETTINGS = {**PLAIN, **BUNDLE.train_options, **BUNDLE.quiet, "num_workers": 2}


def start(folder: Path, **more) -> subprocess.Popen:
    BUNDLE.write_cases(folder / "data")
    places = {"dataset_dir": folder / "data", "output_dir": folder / "out"}
    command = [sys.executable, "-m", "monai.bundle", "run", "--config_file", "bundles/tmca/configs/train.json"]
    command += options({**places, **SETTINGS, **more})
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, cwd=ROOT, env=environment(), text=True, start_new_session=True, **pipes)


def processes_of_session(session: int) -> list[int]:
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            after_name = status.read_text(encoding="utf-8").rpartition(")")[2].split()
        except OSError:
            continue
        if int(after_name[3]) == session and after_name[0] != "Z":
            found.append(int(status.parent.name))
    return found


def wait_for(condition, process: subprocess.Popen) -> None:
    while not condition():
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="reads /proc")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_one_line_names_the_command_that_goes_on(tmp_path, number):
    process = start(tmp_path, epochs=1000)
    wait_for((tmp_path / "out" / "models" / "last.pt").exists, process)
    assert len(processes_of_session(process.pid)) > 1  # loader workers
    process.send_signal(number)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == -number
    assert "Traceback" not in errors
    line = errors.strip().splitlines()[-1]
    assert line.startswith("stopped in epoch ") and " of 1000; to go on: python -m monai.bundle run " in line
    assert processes_of_session(process.pid) == []

    command = shlex.split(line.partition("to go on: ")[2])
    assert command[-2:] == ["--resume", "true"]
    done = subprocess.run(
        [sys.executable, *command[1:], "--epochs", "20"], cwd=ROOT, env=environment(), capture_output=True, text=True
    )
    assert "resuming after epoch" in done.stdout
