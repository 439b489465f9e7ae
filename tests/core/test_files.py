"""A file is complete or absent, whatever happens while it is written; an output folder is checked beforehand."""

from __future__ import annotations

import errno
import os
import platform
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from shared.core.errors import OutputError
from shared.core.files import check_output_dir, sweep_drafts, whole, write_atomic
from shared.datasets.builtin import write_datalist

ROOT = Path(__file__).resolve().parents[2]
HANG = """
import sys, time
from shared.core.files import whole
with whole(sys.argv[1]) as draft:
    draft.write_text("half")
    print("writing", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def killed(tmp_path):
    """Kill a process in the middle of replacing ``a/model.pt`` and return the draft that it leaves."""
    target = write_atomic(tmp_path / "a" / "model.pt", "old")
    process = subprocess.Popen([sys.executable, "-c", HANG, str(target)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "writing\n"
    yield process
    process.kill()
    process.communicate()


def drafts(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.name.startswith(".draft-")]


@pytest.mark.parametrize("content", ["größer\n", b"\x00\xff"])
def test_the_whole_content_is_written(tmp_path, content):
    path = write_atomic(tmp_path / "new" / "deep" / "file.txt", content)
    assert path.read_bytes() == (content.encode("utf-8") if isinstance(content, str) else content)
    assert list(path.parent.iterdir()) == [path]


def test_the_longest_file_name_can_be_written(tmp_path):
    path = write_atomic(tmp_path / ("x" * 248 + ".nii.gz"), "")
    assert path.is_file()


def test_a_draft_has_the_extension_of_its_file(tmp_path):
    for name, extension in (("p.1.nii.gz", ".nii.gz"), ("p.png", ".png"), ("README", "")):
        with whole(tmp_path / name) as draft:
            draft.touch()
            assert "".join(draft.suffixes) == extension and draft.parent == tmp_path


def test_an_error_while_writing_leaves_the_old_file(tmp_path):
    path = write_atomic(tmp_path / "file", "old")
    with pytest.raises(KeyError), whole(path) as draft:
        draft.write_text("half", encoding="utf-8")
        raise KeyError
    assert path.read_text(encoding="utf-8") == "old" and list(tmp_path.iterdir()) == [path]


def test_content_reaches_the_disk_before_its_name(tmp_path, monkeypatch):
    steps = []
    synced, replaced = os.fsync, os.replace
    monkeypatch.setattr(
        os, "fsync", lambda file: (steps.append(Path(os.readlink(f"/proc/self/fd/{file}"))), synced(file))
    )
    monkeypatch.setattr(os, "replace", lambda *paths: (steps.append("replace"), replaced(*paths)))
    path = write_atomic(tmp_path / "file.txt", "content")
    draft, renaming, folder = steps
    assert draft.suffix == ".txt" and draft.parent == tmp_path
    assert renaming == "replace" and folder == tmp_path and path.is_file()


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_is_one_line_that_names_the_file(tmp_path, code):
    with pytest.raises(OutputError) as caught, whole(tmp_path / "mask.png"):
        raise OSError(code, os.strerror(code))
    line = str(caught.value)
    assert "mask.png" in line and "disk is full" in line and "\n" not in line
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_found_behind_the_error_of_a_library(tmp_path):
    with pytest.raises(OutputError, match="disk is full"), whole(tmp_path / "model.pt"):
        try:
            raise OSError(errno.ENOSPC, "No space left on device")
        except OSError:
            raise RuntimeError("unexpected pos 576 vs 534")  # noqa: B904 - as torch raises it


def test_a_full_disk_is_found_where_the_library_hides_it(tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=0))
    with pytest.raises(OutputError, match="disk is full"), whole(tmp_path / "model.pt"):
        raise RuntimeError("unexpected pos 576 vs 534")


@pytest.mark.skipif(sys.platform != "linux", reason="needs RLIMIT_FSIZE")
def test_a_process_that_may_not_write_so_much_ends_with_one_line(tmp_path):
    code = f"""
import resource, signal
from shared.core.errors import install_one_line_errors
from shared.core.files import write_atomic
install_one_line_errors()
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
write_atomic({str(tmp_path / "mask.png")!r}, b"x" * 2000)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert done.stderr.startswith("error: ") and "disk is full" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_cannot_be_read_meanwhile_keeps_its_own_error(tmp_path):
    with pytest.raises(PermissionError), whole(tmp_path / "mask.png"):
        raise PermissionError(errno.EACCES, "Permission denied", "/elsewhere/scan.nii.gz")


def test_a_file_in_place_of_the_folder_is_one_line(tmp_path):
    write_atomic(tmp_path / "file", "")
    with pytest.raises(OutputError, match="mask.png cannot be written: .*choose another output folder"):
        write_atomic(tmp_path / "file" / "mask.png", "")


def test_the_draft_of_a_killed_process_is_swept(tmp_path, killed):
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    (left,) = drafts(tmp_path / "a")
    assert sweep_drafts(tmp_path) == [left] and not left.exists()
    assert (tmp_path / "a" / "model.pt").read_text(encoding="utf-8") == "old"


def test_the_draft_of_a_running_process_stays(tmp_path, killed):
    assert sweep_drafts(tmp_path) == []
    assert len(drafts(tmp_path / "a")) == 1


@pytest.mark.parametrize(("hours", "swept"), [(1, False), (48, True)])
def test_a_draft_of_another_machine_is_swept_when_it_is_old(tmp_path, monkeypatch, hours, swept):
    monkeypatch.setattr(platform, "node", lambda: "elsewhere")
    with whole(tmp_path / "model.pt") as draft:
        draft.touch()
        name = draft.name
    monkeypatch.undo()
    left = tmp_path / name
    left.touch()
    os.utime(left, (left.stat().st_mtime - hours * 3600,) * 2)
    assert sweep_drafts(tmp_path) == ([left] if swept else [])


def test_no_other_file_is_swept(tmp_path):
    for name in (".draft", ".draft-x", ".1234_model.pt", "draft-h-1-0.pt", ".draft-h-1-0-copy"):
        (tmp_path / name).touch()
    assert sweep_drafts(tmp_path) == [] and len(list(tmp_path.iterdir())) == 5


def test_a_finished_data_set_has_no_drafts_of_killed_processes(tmp_path, killed):
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    write_datalist(tmp_path / "dataset.json", {"training": []})
    assert drafts(tmp_path / "a") == []


def test_output_dir(tmp_path):
    assert check_output_dir(tmp_path / "new" / "deep", needed_mb=1) == []
    assert list(tmp_path.iterdir()) == []
    (full,) = check_output_dir(tmp_path, needed_mb=1e12)
    assert "MB free where 1000000000000 MB are needed" in full and str(tmp_path) in full


def test_output_dir_below_a_file(tmp_path):
    (tmp_path / "file").write_text("", encoding="utf-8")
    (line,) = check_output_dir(tmp_path / "file" / "run")
    assert f"{tmp_path / 'file'} is a file" in line and "--output_dir" in line


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs a folder that even root cannot write")
def test_output_dir_that_root_cannot_write():
    (line,) = check_output_dir("/proc/self/run")
    assert "cannot be written" in line
