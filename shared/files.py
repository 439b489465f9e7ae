"""Files that are either complete or absent."""

from __future__ import annotations

import os
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
