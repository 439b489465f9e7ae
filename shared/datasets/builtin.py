"""How a folder of made cases is written: jobs over all cores, the data list last, nothing foreign overwritten."""

from __future__ import annotations

import json
import multiprocessing
import os
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from tqdm import tqdm

from shared.core.errors import InputError
from shared.core.files import write_atomic
from shared.core.processes import end_with_parent


def already_made(target: Path, recipe: dict[str, Any], entries: Collection[str] | None = None) -> bool:
    """Whether the data list `target` was made with `recipe`, so that nothing is left to do.

    Args:
        target: path of a ``dataset.json``, written last.
        recipe: what determines the data; plain JSON types.
        entries: names that an interrupted run may leave in the folder; anything else there (but hidden files) counts as
            somebody's data. None does not look.

    Raises:
        InputError: the list is of another recipe or was not made here, or there is no list but foreign data.

    """
    if target.exists():
        try:
            found = json.loads(target.read_text()).get("recipe")
        except (ValueError, AttributeError):
            found = None
        if found != recipe:
            what = "phantoms of another recipe" if found else "a dataset that was not made here"
            raise InputError(f"{target} exists and holds {what}: choose another folder or remove it")
        return True
    if entries is not None and target.parent.is_dir():
        names = sorted(entry.name for entry in target.parent.iterdir())
        if foreign := [name for name in names if name not in entries and not name.startswith(".")]:
            raise InputError(
                f"{target.parent} holds {foreign[0]!r}, which was not made here: choose an empty or a new folder"
            )
    return False


def write_datalist(target: Path, content: dict[str, Any]) -> None:
    """Write `content` as JSON in one step, so that `target` is whole or absent whenever the process dies."""
    write_atomic(target, json.dumps(content, indent=1))


def run_jobs(
    function: Callable[..., None],
    jobs: Sequence[tuple[Any, ...]],
    workers: int | None = None,
    progress: bool = True,
    description: str = "making phantoms",
    threads: bool = False,
) -> None:
    """Call ``function(*job)`` for every job, on several cores if that pays, with a bar.

    Args:
        function: at module level, so that a fresh process finds it.
        jobs: arguments of each call.
        workers: processes or threads; None takes the number of usable cores. A data loader's worker may have no
            children: there, and with fewer than two workers, jobs run one after the other in this process.
        progress: show a bar.
        description: text before the bar.
        threads: use threads, for functions that spend their time in numpy, scipy and Pillow, which leave the
            interpreter free: no start-up time.

    Raises:
        Exception: what `function` raises, from the first job that fails.

    """
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    number = min(workers or usable, len(jobs))
    with tqdm(total=len(jobs), desc=description, disable=not progress) as bar:
        if number < 2 or (not threads and multiprocessing.current_process().daemon):
            for job in jobs:
                function(*job)
                bar.update()
            return
        pool: Executor = (
            ThreadPoolExecutor(number)
            if threads
            else ProcessPoolExecutor(
                number, mp_context=multiprocessing.get_context("spawn"), initializer=end_with_parent
            )
        )
        with pool:
            try:
                for done in as_completed([pool.submit(function, *job) for job in jobs]):
                    done.result()
                    bar.update()
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)  # do not work through the rest before saying so
                raise
