"""Files that are either complete or absent."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole(path: str | os.PathLike) -> Iterator[Path]:
    """Give a hidden path beside `path` to write to; it becomes `path` in one step, and vanishes if writing fails.

    A reader sees the old file or the new one, never a part; folders are made. The draft has the ending of `path`, as
    writers tell formats by it.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = target.with_name(f".{os.getpid()}_{target.name}")
    try:
        yield draft
        os.replace(draft, target)
    finally:
        draft.unlink(missing_ok=True)


def write_atomic(path: str | os.PathLike, content: str | bytes) -> Path:
    """Write text (UTF-8) or bytes, see `whole`."""
    with whole(path) as draft:
        draft.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)
    return Path(path)


def check_output_dir(path: str | os.PathLike, needed_mb: float = 0, option: str = "--output_dir") -> list[str]:
    """Check that results can be written, by writing; nothing stays behind.

    Args:
        path: the folder; it and its parents need not exist.
        needed_mb: free space the run needs, in MB (10^6 bytes).
        option: option that names another folder.

    Returns:
        No line, or one that names the folder and the remedy.

    """
    target = Path(path).expanduser().absolute()
    remedy = f"give another {option}"
    try:
        existing = next(folder for folder in (target, *target.parents) if folder.exists())
        if not existing.is_dir():
            return [f"output folder {target}: {existing} is a file: {remedy}"]
        # permission bits are not asked: root may write against them, and nobody may on a read-only disk
        with tempfile.NamedTemporaryFile(dir=existing) as probe:
            probe.write(b"0")
            probe.flush()
    except OSError as error:
        return [f"output folder {target} cannot be written ({error.strerror}): {remedy}"]
    free_mb = shutil.disk_usage(existing).free / 1e6
    if free_mb < needed_mb:
        return [f"output folder {target} has {free_mb:.0f} MB free where {needed_mb:.0f} MB are needed: {remedy}"]
    return []
