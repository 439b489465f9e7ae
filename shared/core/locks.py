"""One lock per folder, so that two runs never write into one folder at the same time."""

from __future__ import annotations

import errno
import json
import os
import platform
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from shared.core.errors import InputError, OutputError

try:
    import fcntl
except ImportError:  # Windows: folders are not locked there
    fcntl = None  # type: ignore[assignment]

POLL_S = 0.05
BUSY = (errno.EACCES, errno.EAGAIN)
UNSUPPORTED = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)


@dataclass
class _Hold:
    descriptor: int
    entries: int = 0


_holds: dict[tuple[int, str], _Hold] = {}  # by process id too: a forked child inherits this dict, but not the locks
_guard = threading.RLock()


@contextmanager
def locked(folder: str | os.PathLike, purpose: str, wait_s: float = 0, name: str = ".lock") -> Iterator[Path]:
    """Hold a folder for this process until the context ends.

    The operating system frees the lock when the process ends, however it ends. The process that holds a folder may
    enter it again. Where the system or the file system has no locks, the folder is not protected.

    Args:
        folder: folder to hold; it and its parents are created if absent.
        purpose: what the process does there, e.g. "training"; shown to the user of another process.
        wait_s: seconds to wait while another process holds the folder.
        name: name of the lock file. Locks of different names are independent.

    Yields:
        The absolute path of the folder.

    Raises:
        InputError: another process holds the folder; the message names its purpose, process id, host and start time.
        OutputError: the folder cannot be written.

    """
    path = Path(folder).expanduser().absolute()
    key = (os.getpid(), str(path.resolve() / name))
    _enter(key, path, purpose, time.monotonic() + wait_s)
    try:
        yield path
    finally:
        _leave(key)


def _enter(key: tuple[int, str], folder: Path, purpose: str, deadline: float) -> None:
    file = Path(key[1])
    while True:
        with _guard:
            if key not in _holds:
                descriptor = _acquire(file, folder, purpose)
                if descriptor is not None:
                    _holds[key] = _Hold(descriptor)
            if key in _holds:
                _holds[key].entries += 1
                return
        if time.monotonic() >= deadline:
            raise InputError(f"{folder} is in use by {_holder(file)}: wait until it ends, or give another --output_dir")
        time.sleep(POLL_S)


def _leave(key: tuple[int, str]) -> None:
    with _guard:
        hold = _holds[key]
        hold.entries -= 1
        if not hold.entries:
            del _holds[key]
            if fcntl:  # an open file cannot be removed on Windows
                Path(key[1]).unlink(missing_ok=True)
            os.close(hold.descriptor)


def _acquire(file: Path, folder: Path, purpose: str) -> int | None:
    """Return the descriptor of the locked file, or None while another process holds it."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise OutputError(f"{folder} cannot be written ({error.strerror}): give another --output_dir") from error
    try:
        if fcntl:
            # A record lock belongs to this process alone; one of `flock` would live on in forked workers.
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            os.close(descriptor)
            if error.errno in BUSY:
                return None
            raise
    if not _same_file(descriptor, file):  # the last holder removed it between opening and locking
        os.close(descriptor)
        return _acquire(file, folder, purpose)
    _describe(descriptor, purpose)
    return descriptor


def _same_file(descriptor: int, file: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(file))
    except FileNotFoundError:
        return False


def _describe(descriptor: int, purpose: str) -> None:
    now = time.strftime("%Y-%m-%d %H:%M:%S")
    content = {"pid": os.getpid(), "host": platform.node(), "since": now, "purpose": purpose}
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(content).encode("utf-8"), 0)
    except OSError:  # a full disk: the lock holds, its message does not say who
        return


def _holder(file: Path) -> str:
    """Return words for the process that holds `file`."""
    try:
        held = json.loads(file.read_text(encoding="utf-8"))
        return "{purpose} (process {pid} on {host}, since {since})".format(**held)
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
