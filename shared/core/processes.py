"""Worker processes that never outlive the program that started them."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading


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
