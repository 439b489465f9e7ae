"""A folder is held by one process at a time, and free again as soon as that process ends."""

from __future__ import annotations

import os
import platform
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from shared.core.errors import InputError
from shared.core.locks import locked
from tests.holding import HOLD, hold

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def holder(tmp_path):
    process = hold(tmp_path)
    yield process
    process.kill()
    process.communicate()


def test_a_held_folder_is_refused_with_the_name_of_its_holder(tmp_path, holder):
    with pytest.raises(InputError) as caught, locked(tmp_path, "evaluation"):
        pass
    line = str(caught.value)
    assert "\n" not in line
    for word in (str(tmp_path), "training", str(holder.pid), platform.node(), "since 2", "--output_dir"):
        assert word in line


def test_a_killed_process_frees_its_folder(tmp_path, holder):
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    with locked(tmp_path, "evaluation"):
        pass


def test_a_forked_child_does_not_keep_the_folder(tmp_path):
    code = f"""
import os, time
from shared.core.locks import locked
with locked({str(tmp_path)!r}, "training"):
    child = os.fork()
    if child:
        print(child, flush=True)
        os._exit(0)
    os.close(1)
    time.sleep(60)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    child = int(done.stdout)
    try:
        with locked(tmp_path, "evaluation"):
            pass
    finally:
        os.kill(child, signal.SIGKILL)


def test_waits_until_the_folder_is_free(tmp_path, holder):
    with ThreadPoolExecutor(1) as pool:
        pool.submit(holder.communicate)
        with locked(tmp_path, "evaluation", wait_s=30):
            pass
    assert holder.returncode == 0


def test_a_process_enters_its_own_folder_again(tmp_path):
    with locked(tmp_path, "training"):
        with locked(tmp_path, "report"):
            pass
        other = subprocess.run([sys.executable, "-c", HOLD, str(tmp_path)], cwd=ROOT, stdin=subprocess.DEVNULL,
                               capture_output=True, text=True)  # fmt: skip
        assert other.returncode == 1 and "is in use by training" in other.stderr


def test_locks_of_other_names_are_independent(tmp_path, holder):
    with locked(tmp_path, "index", name=".index.lock"):
        pass


def test_nothing_stays_in_the_folder(tmp_path):
    with locked(tmp_path / "new" / "deep", "training") as folder:
        assert folder == tmp_path / "new" / "deep"
    assert list(folder.iterdir()) == []


def test_an_error_inside_frees_the_folder(tmp_path):
    with pytest.raises(RuntimeError), locked(tmp_path, "training"):
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_only_one_of_many_processes_writes_at_a_time(tmp_path):
    (tmp_path / "count").write_text("0", encoding="utf-8")
    code = f"""
from pathlib import Path
from shared.core.locks import locked
file = Path({str(tmp_path / "count")!r})
for _ in range(50):
    with locked(file.parent, "counting", wait_s=60):
        file.write_text(str(int(file.read_text()) + 1))
"""
    processes = [subprocess.Popen([sys.executable, "-c", code], cwd=ROOT) for _ in range(4)]
    assert [process.wait() for process in processes] == [0] * 4
    assert (tmp_path / "count").read_text(encoding="utf-8") == "200"


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(InputError, match="cannot be written .*--output_dir"), locked(tmp_path / "file", "training"):
        pass
