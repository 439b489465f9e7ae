"""Files that are either complete or absent, on a disk that may be full and in a process that may be killed."""

from __future__ import annotations

import errno
import itertools
import math
import os
import platform
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from shared.core.errors import OutputError, causes

DRAFT = re.compile(r"\.draft-(?P<host>.+)-(?P<pid>\d+)-\d+(\..*)?")
FOREIGN_DRAFT_S = 24 * 3600  # how long to keep drafts of another machine, whose processes are not visible here
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
DENIED = (errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.ENOTDIR, errno.EEXIST)
FULL_MB = 1.0  # libraries that hide the system's error leave less than this free on a full disk

_numbers = itertools.count()


@contextmanager
def whole(path: str | os.PathLike) -> Iterator[Path]:
    """Yield a hidden path in the folder of `path` to write to, and rename it to `path` at the end.

    A reader sees the old file or the new one, never a part, even after a power failure. If writing fails, the draft is
    removed and the old file stays.

    Args:
        path: file to write; its folder and its parents are created if absent.

    Yields:
        The draft's path, with the file name extension of `path`, from which libraries choose the format.

    Raises:
        OutputError: the disk is full or cannot be written.

    """
    target = Path(path)
    draft = target.with_name(_draft_name(target))
    try:
        with writing(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            yield draft
            _sync(draft)
            os.replace(draft, target)
            _sync(target.parent)
    finally:
        with suppress(OSError):
            draft.unlink()


@contextmanager
def writing(path: str | os.PathLike) -> Iterator[None]:
    """Turn the errors of a full or read-only disk into one line that names `path`.

    Raises:
        OutputError: the disk is full or cannot be written.

    """
    target = Path(path)
    try:
        yield
    except Exception as error:
        if reason := _unwritable(error, target.parent):
            raise OutputError(f"{target} cannot be written: {reason}") from error
        raise


def write_atomic(path: str | os.PathLike, content: str | bytes) -> Path:
    """Write text (as UTF-8) or bytes through `whole` and return the path."""
    with whole(path) as draft:
        draft.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)
    return Path(path)


def sweep_drafts(folder: str | os.PathLike) -> list[Path]:
    """Remove the drafts that killed processes left in a folder and below it.

    Drafts of running processes stay. Those of another machine are removed when they are a day old.

    Returns:
        The removed files.

    """
    if os.name == "nt":  # asking whether a process runs would end it there
        return []
    removed = []
    for parent, _, names in os.walk(Path(folder)):
        for match in filter(None, (DRAFT.fullmatch(name) for name in names)):
            draft = Path(parent, match[0])
            if _is_left_over(draft, match["host"], int(match["pid"])):
                draft.unlink(missing_ok=True)
                removed.append(draft)
    return removed


def check_output_dir(path: str | os.PathLike, needed_mb: float = 0, option: str = "--output_dir") -> list[str]:
    """Check by writing a temporary file that results can be written.

    Args:
        path: output folder; it and its parents need not exist.
        needed_mb: free space that the run needs, in MB (10^6 bytes).
        option: option that names another folder.

    Returns:
        An empty list, or one line that names the folder and the remedy.

    """
    target = Path(path).expanduser().absolute()
    remedy = f"give another {option}"
    try:
        existing = next(folder for folder in (target, *target.parents) if folder.exists())
        if not existing.is_dir():
            return [f"output folder {target}: {existing} is a file: {remedy}"]
        # Permission bits do not answer this: root ignores them, and a read-only disk has them too.
        with tempfile.NamedTemporaryFile(dir=existing) as probe:
            probe.write(b"0")
            probe.flush()
    except OSError as error:
        return [f"output folder {target} cannot be written ({error.strerror}): {remedy}"]
    free_mb = shutil.disk_usage(existing).free / 1e6
    if free_mb < needed_mb:
        free, needed = math.floor(free_mb), math.ceil(needed_mb)
        return [f"output folder {target} has {free} MB free where {needed} MB are needed: {remedy}"]
    return []


def _draft_name(target: Path) -> str:
    """Return a short name: that of `target` may be as long as the file system allows."""
    extension = ".nii.gz" if target.name.lower().endswith(".nii.gz") else target.suffix
    return f".draft-{_host()}-{os.getpid()}-{next(_numbers)}{extension}"


def _host() -> str:
    return re.sub(r"\W", "_", platform.node())[:64] or "localhost"


def _is_left_over(draft: Path, host: str, pid: int) -> bool:
    try:
        if host != _host():
            return time.time() - draft.stat().st_mtime > FOREIGN_DRAFT_S
        os.kill(pid, 0)  # signal 0 only asks whether the process exists
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):
        return False
    return False


def _sync(path: Path) -> None:
    """Flush a file's content, or the list of files in a folder, to the disk."""
    if os.name == "nt" and path.is_dir():
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network file systems cannot sync a folder
            raise
    finally:
        os.close(descriptor)


def _unwritable(error: Exception, folder: Path) -> str:
    """Return why no file can be written to `folder` and what to do; empty if `error` has another cause."""
    numbers = {cause.errno or 0 for cause in causes(error) if isinstance(cause, OSError) and not _reads(cause, folder)}
    free_mb = shutil.disk_usage(folder).free / 1e6 if folder.is_dir() else FULL_MB
    if numbers.intersection(FULL) or free_mb < FULL_MB:
        return "the disk is full or its quota is used up: free some space, or choose an output folder on another disk"
    if denied := numbers.intersection(DENIED):
        return f"{os.strerror(min(denied))}: choose another output folder, or change its permissions"
    return ""


def _reads(error: OSError, folder: Path) -> bool:
    """Tell whether the error names a file elsewhere: one that was read while the draft was written."""
    if error.filename is None:
        return False
    named = Path(os.fsdecode(error.filename))
    return named != folder and folder not in named.parents and named not in folder.parents
