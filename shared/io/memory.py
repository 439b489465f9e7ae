"""Memory that an image will need, estimated from its header before anything is loaded."""

from __future__ import annotations

import os
from pathlib import Path

from shared.core.errors import InputError

BYTES_PER_VALUE = 16  # float32 four times: the file's values, the network's input and output, and the mask
MOST_PIXELS = 2**30 // 12  # 89 million, where Pillow warns of a decompression bomb
CGROUP = Path("/sys/fs/cgroup")  # limits of a container


def check_memory(values: int) -> None:
    """Check that an image fits into the memory that is free.

    Args:
        values: number of voxels or pixels, times channels.

    Raises:
        InputError: it does not fit.
    """
    needed, free = values * BYTES_PER_VALUE, free_memory()
    if free is not None and needed > free:
        raise InputError(
            f"its {values:.3g} values need about {needed / 1e9:.3g} GB of memory where {free / 1e9:.3g} GB are free: "
            "crop or resample it"
        )


def check_picture_size(rows: int, columns: int) -> None:
    """Check that a picture is not a decompression bomb (a small file with very many pixels) and fits into memory.

    Raises:
        InputError: it has more than 89 million pixels, or does not fit.
    """
    if rows * columns > MOST_PIXELS:
        raise InputError(
            f"it has {columns} x {rows} pixels where at most {MOST_PIXELS // 10**6} million are read: crop or shrink it"
        )
    check_memory(rows * columns * 3)


def free_memory() -> int | None:
    """Return the bytes of memory that this process may still take; None where the system does not say."""
    found = [value for value in (_free_in_system(), _free_in_container()) if value is not None]
    return min(found, default=None)


def _free_in_system() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        pass
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return None


def _free_in_container() -> int | None:
    """Return the bytes that the limit of a control group (version 2) leaves free; its file cache counts as free."""
    try:
        limit = int((CGROUP / "memory.max").read_text(encoding="utf-8"))
        used = int((CGROUP / "memory.current").read_text(encoding="utf-8"))
        statistics = (CGROUP / "memory.stat").read_text(encoding="utf-8").split()
        return limit - used + int(statistics[statistics.index("file") + 1])
    except (OSError, ValueError):
        return None
