"""Write a folder of synthetic cases: on all cores, ``dataset.json`` last, and never over other data."""

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
from shared.core.files import sweep_drafts, write_atomic
from shared.core.processes import end_with_parent
from shared.datasets.datalist import read_datalist


def already_made(target: Path, recipe: dict[str, Any], entries: Collection[str] | None = None) -> bool:
    """Tell whether the data set was written completely by an earlier call with the same recipe.

    Args:
        target: path of its ``dataset.json``, which is written last.
        recipe: what determines the data, in plain JSON types.
        entries: names that an interrupted call may have left in the folder; any other entry (except hidden files)
            counts as the user's data. None skips this check.

    Raises:
        InputError: `target` has another recipe or none, or the folder holds other data.
    """
    if target.exists():
        try:
            found = read_datalist(target).get("recipe")
        except InputError:
            found = None
        if found != recipe:
            what = "phantoms of another recipe" if found else "a data set that this program did not write"
            raise InputError(f"{target} holds {what}: choose another folder or remove it")
        return True
    if entries is not None and target.parent.is_dir():
        names = sorted(entry.name for entry in target.parent.iterdir())
        if foreign := [name for name in names if name not in entries and not name.startswith(".")]:
            raise InputError(
                f"{target.parent} holds {foreign[0]!r}, which this program did not write: choose an empty or new folder"
            )
    return False


def write_datalist(target: Path, content: dict[str, Any]) -> None:
    """Write `content` to `target` as JSON, complete or not at all, and remove the drafts of killed processes."""
    sweep_drafts(target.parent)
    write_atomic(target, json.dumps(content, indent=1))


def run_jobs(
    function: Callable[..., None],
    jobs: Sequence[tuple[Any, ...]],
    workers: int | None = None,
    progress: bool = True,
    description: str = "making phantoms",
    threads: bool = False,
) -> None:
    """Call ``function(*job)`` for every job, on several cores, with a progress bar.

    Args:
        function: defined at module level, so that other processes can import it.
        jobs: arguments of each call.
        workers: number of processes or threads; None takes the number of usable cores. With one worker, and in a
            data loader's worker (which may not start processes), the jobs run in this process.
        progress: show the bar.
        description: text in front of the bar.
        threads: use threads instead of processes; they start at once, and suit functions that spend their time in
            numpy, scipy and Pillow, which release the interpreter's lock.

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
                pool.shutdown(wait=False, cancel_futures=True)  # the error should not wait for the other jobs
                raise
