"""The program that this process runs, and worker processes that end with their parent."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading

COMMANDS = ("monai.bundle.__main__", "shared.__main__")  # modules of MONAI's command line and of ours


def main_module() -> str | None:
    """Return the module that ``python -m`` runs in this process, or None."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return None if spec is None else spec.name


def is_command_line() -> bool:
    """Tell whether this is ``python -m monai.bundle`` or ``python -m shared``, not a program that reads a config."""
    return main_module() in COMMANDS


def end_with_parent() -> None:
    """Make this worker process end as soon as its parent has ended, and leave Ctrl-C to the parent.

    For ``initializer`` of `concurrent.futures.ProcessPoolExecutor`, whose workers otherwise wait for ever if the parent
    is killed.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_watch, daemon=True).start()


def _watch() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
