"""Ctrl-C and SIGTERM in a training of the command line: one line that says how to go on, and no process is left."""

from __future__ import annotations

import re
import shlex
import signal
import time
from pathlib import Path

import pytest

from tests.bundles.facts import BUNDLES
from tests.bundles.running import PLAIN, ROOT, environment, options
from tests.warm import Program, module, run_module

BUNDLE = BUNDLES["tmca"]


TORCHRUN = ("torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m")


def start(folder: Path, *launcher: str, configs: tuple[str, ...] = ("train",), **settings) -> Program:
    places = {"dataset_dir": folder / "data", "output_dir": folder / "out"}
    files = str([str(BUNDLE.configs / f"{name}.json") for name in configs]).replace(" ", "")
    words = [*launcher, "monai.bundle", "run", "--config_file", files]
    words += options({**places, **BUNDLE.train_options, **BUNDLE.quiet, **settings})
    return Program(module, *words, cwd=ROOT, environment=environment())


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


def assert_gone(session: int) -> None:
    """No process of the session is left; a loader worker may take a moment to see that its parent has ended."""
    end = time.monotonic() + 5
    while processes_of_session(session) and time.monotonic() < end:
        time.sleep(0.02)
    assert processes_of_session(session) == []


def wait_for(condition, process: Program) -> None:
    while not condition():
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="reads /proc")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_one_line_names_the_command_that_goes_on(tmp_path, number):
    BUNDLE.write_cases(tmp_path / "data")
    process = start(tmp_path, **PLAIN, num_workers=2, epochs=1000)
    wait_for((tmp_path / "out" / "models" / "last.pt").exists, process)
    assert len(processes_of_session(process.pid)) > 1  # loader workers
    process.send_signal(number)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == -number
    assert "Traceback" not in errors
    line = errors.strip().splitlines()[-1]
    assert line.startswith("stopped in epoch ") and " of 1000; to go on: python -m monai.bundle run " in line
    assert_gone(process.pid)

    command = shlex.split(line.partition("to go on: ")[2])
    assert command[-2:] == ["--resume", "true"]
    assert command[:3] == ["python", "-m", "monai.bundle"]
    epochs = int(re.search(r"stopped in epoch (\d+)", line)[1]) + 1
    done = run_module(*command[2:], "--epochs", str(epochs), cwd=ROOT, environment=environment())
    assert "resuming after epoch" in done.stdout


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="reads /proc")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_of_several_processes_the_first_prints_the_line(tmp_path, number):
    BUNDLE.make_data(tmp_path / "data")
    process = start(tmp_path, *TORCHRUN, configs=("train", "multi_gpu_train"), amp=False, num_workers=1, epochs=1000)
    wait_for((tmp_path / "out" / "models" / "last.pt").exists, process)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    lines = [line for line in errors.splitlines() if line.startswith("stopped in epoch ")]
    assert len(lines) == 1
    assert lines[0].endswith(" of 1000; to go on: the same torchrun command with --resume true")
    assert "shared/" not in errors and "ignite/" not in errors  # of tracebacks there is only that of torchrun itself
    assert_gone(process.pid)
