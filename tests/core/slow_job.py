"""A job that outlives its test if nothing ends it."""

from __future__ import annotations

import os
import time
from pathlib import Path


def sleep_with_pid(folder: str, _: int) -> None:
    """Leave the process id as a file's name, then sleep."""
    Path(folder, f"{os.getpid()}.pid").touch()
    time.sleep(20)
