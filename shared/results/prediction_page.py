"""``report.html`` of an inference: all cases of the output folder, of this run and of earlier ones."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from shared.core.files import write_atomic
from shared.core.locks import locked
from shared.results.prediction_index import INDEX, TABLE
from shared.results.report_page import About, page_path, write_report
from shared.results.report_records import prediction_records

FAILED = "failed.json"
LOCK, WAIT_S = ".report.lock", 600
TITLE = "Segmentation results"


def write_prediction_page(
    output_dir: str | os.PathLike,
    done: Collection[str],
    failures: Mapping[str, str],
    about: About | None = None,
    stopped: str = "",
) -> Path | None:
    """Write the page of an output folder from its ``predictions.json``.

    Failed cases are kept in ``failed.json`` (case -> reason), so that a later run that adds cases does not hide them.
    One that is segmented later leaves the list; the file is removed when it is empty.

    Args:
        output_dir: folder of the run.
        done: cases that this run segmented, by their ``case_id`` in its data list.
        failures: cases that failed in this run -> what is wrong with them.
        about: bundle and weights of this run.
        stopped: why the run ended early; empty for a run that did not.

    Returns:
        The page, or None where the folder holds neither a result nor a failed case.

    Raises:
        OutputError: the page cannot be written.

    """
    folder = Path(output_dir)
    with locked(folder, "another run that writes its report", wait_s=WAIT_S, name=LOCK):
        failed = _remembered(folder, done, failures)
        entries = json.loads((folder / INDEX).read_text(encoding="utf-8")) if (folder / INDEX).is_file() else []
        if not entries and not failed:
            return None
        return write_report(
            page_path(folder, TITLE),
            TITLE,
            prediction_records(entries, failed),
            about,
            remarks=_remarks(len(entries), len(done), stopped),
            files={"table of the figures (CSV)": TABLE, "index (JSON)": INDEX, "failed cases (JSON)": FAILED},
        )


def _remembered(folder: Path, done: Collection[str], failures: Mapping[str, str]) -> dict[str, str]:
    """Return the failed cases of all runs, and write their list."""
    file = folder / FAILED
    try:
        earlier = {str(case_id): str(why) for case_id, why in json.loads(file.read_text(encoding="utf-8")).items()}
    except (OSError, ValueError, AttributeError):
        earlier = {}
    failed = {case_id: why for case_id, why in earlier.items() if case_id not in done} | dict(failures)
    if failed and failed != earlier:
        write_atomic(file, json.dumps(failed, indent=2) + "\n")
    elif not failed:
        file.unlink(missing_ok=True)
    return failed


def _remarks(count: int, done: int, stopped: str) -> Sequence[str]:
    remarks = [f"The last run stopped before its end: {stopped}."] if stopped else []
    if count > done:
        earlier = f"{count - done} of the {count} segmented cases are" if done else "All segmented cases are"
        remarks.append(f"{earlier} from earlier runs into this folder, which may have used other weights or options.")
    return remarks
