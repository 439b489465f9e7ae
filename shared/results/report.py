"""The handler that reports an evaluation: tables on disk and in the terminal, overlays of some cases."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import ignite.distributed as idist
from ignite.engine import Engine, Events

from shared.core.files import sweep_drafts
from shared.core.locks import locked
from shared.results.batch_items import case_name, spacing_of
from shared.results.case_report import TABLE, CaseReport
from shared.results.metrics import case_metrics
from shared.results.overlays import save_overlay
from shared.results.report_page import page_path, write_report
from shared.results.report_records import about_bundle, evaluation_records


class ReportHandler:
    """Report the run of a MONAI evaluator: attach it, or list it among the evaluator's handlers.

    It reads ``pred`` and ``label`` of ``engine.state.output`` after postprocessing (decollated) and ``case_id`` and
    ``image`` of the batch. With several processes, each computes its own cases and the first one writes and prints.
    While the evaluator runs, no other process can train or evaluate into the folder.

    Args:
        output_dir: folder of ``metrics.csv``, ``metrics.json`` and ``overlays/<case_id>.png``.
        class_names: names of the label values 1, 2, ... or, with `channel_wise`, of the channels.
        channel_wise: ``pred`` and ``label`` are masks, one channel per class; one additional first channel is the
            background.
        overlays: number of overlays, for the first cases of the first process.
        channel: image channel in the overlays; None for colour.
        title: heading of the table.
        table: see `CaseReport`.
        unit: unit of distances, "mm" or "px"; None takes "mm" for volumes and "px" for pictures.
        extra_keys: keys of the batch that become columns, e.g. ``["domain"]``.
        weights: path to name under the table.
        next_command: command to name under the table.
        seed: written to ``metrics.json``.
        epoch: report only when the evaluator runs for this epoch of a training; None for always.
        report_page: write ``report.html`` as well.
        bundle_root: folder of the bundle, whose metadata the page names; None names no bundle.

    """

    def __init__(
        self,
        output_dir: str | os.PathLike,
        class_names: Sequence[str],
        channel_wise: bool = False,
        overlays: int = 6,
        channel: int | None = 0,
        title: str = "validation",
        table: Mapping[str, tuple[str, str]] = TABLE,
        unit: str | None = None,
        extra_keys: Sequence[str] = (),
        weights: str | os.PathLike | None = None,
        next_command: str | None = None,
        seed: int | None = None,
        epoch: int | None = None,
        report_page: bool = False,
        bundle_root: str | os.PathLike | None = None,
    ) -> None:
        self.output_dir = Path(output_dir)
        self.class_names = list(class_names)
        self.channel_wise = channel_wise
        self.overlays = overlays
        self.channel = channel
        self.title = title
        self.table = table
        self.unit = unit
        self.extra_keys = list(extra_keys)
        self.weights = weights
        self.next_command = next_command
        self.seed = seed
        self.epoch = epoch
        self.report_page = report_page
        self.bundle_root = bundle_root
        self.held = ExitStack()
        self._start()

    def attach(self, engine: Engine) -> None:
        """Register the handler's events."""
        engine.add_event_handler(Events.STARTED, self._hold)
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._collect)
        engine.add_event_handler(Events.COMPLETED, self._finish)
        engine.add_event_handler(Events.COMPLETED, self.held.close)
        engine.add_event_handler(Events.EXCEPTION_RAISED, self._stop)

    def _hold(self) -> None:
        if idist.get_rank() == 0:
            self.held.enter_context(locked(self.output_dir, "an evaluation"))
            sweep_drafts(self.output_dir)

    def _stop(self, engine: Engine, error: Exception) -> None:
        self.held.close()
        raise error  # ignite leaves that to the handlers of this event

    def _start(self) -> None:
        self.report = CaseReport(self.class_names, self.table)
        self.pictures: list[Path] = []
        self.began = time.perf_counter()

    def _wanted(self, engine: Engine) -> bool:
        return self.epoch is None or engine.state.epoch == self.epoch

    def _collect(self, engine: Engine) -> None:
        if not self._wanted(engine):
            return
        state: Any = engine.state
        for item, output in zip(state.batch, state.output):
            case_id = case_name(item, len(self.report.rows))
            pred, label = output["pred"], output["label"]
            found = case_metrics(pred, label, self._spacing(label), self.class_names, self.channel_wise)
            self.report.add(case_id, found, **{key: item[key] for key in self.extra_keys})
            if idist.get_rank() == 0 and len(self.pictures) < self.overlays:
                image = output.get("image", item.get("image"))
                self.pictures.append(self._picture(case_id, image, pred, label))

    def _spacing(self, label: Any) -> list[float] | None:
        """Return the voxel size in mm, or None where distances are measured in pixels."""
        unit = self.unit or ("mm" if label.ndim == 4 else "px")
        return spacing_of(label) if unit == "mm" else None

    def _picture(self, case_id: str, image: Any, pred: Any, label: Any) -> Path:
        path = self.output_dir / "overlays" / f"{case_id}.png"
        return save_overlay(path, image, pred, label, self.channel, case_id, self.class_names, self.channel_wise)

    def _finish(self, engine: Engine) -> None:
        if not self._wanted(engine):
            return
        gathered: Any = idist.all_gather(self.report.rows) if idist.get_world_size() > 1 else [self.report.rows]
        self.report.rows = {case_id: row for rows in gathered for case_id, row in rows.items()}
        if idist.get_rank() != 0 or not self.report.rows:
            return
        others = len(earlier_cases(self.output_dir) - self.report.rows.keys())
        tables = self.report.write(self.output_dir, self.seed, time.perf_counter() - self.began)
        print(self.report.text(self.title))
        if others:
            print(f"replaced  the tables of an earlier run in {self.output_dir}, which had {others} other cases")
        page = self._write_page(tables) if self.report_page else None
        print(closing_lines(self.pictures, tables, self.weights, self.next_command, page), flush=True)

    def _write_page(self, tables: Sequence[Path]) -> Path:
        columns = self.report.headings()
        title = f"Evaluation: {self.title}"
        return write_report(
            page_path(self.output_dir, title),
            title,
            evaluation_records(self.report, self.pictures, self.output_dir),
            about_bundle(self.bundle_root, self.weights),
            formats=dict(columns.values()),
            tables={heading: rows for heading, rows in self.report.tables().items() if isinstance(rows, list)},
            files={path.name: path.name for path in tables},
        )


def earlier_cases(output_dir: str | os.PathLike) -> set[str]:
    """Return the names of the cases in ``metrics.json`` of a folder."""
    try:
        content = json.loads((Path(output_dir) / "metrics.json").read_text(encoding="utf-8"))
        return {str(case["case_id"]) for case in content["cases"]}
    except (OSError, ValueError, KeyError, TypeError):
        return set()


def closing_lines(
    pictures: Sequence[str | os.PathLike] = (),
    tables: Sequence[str | os.PathLike] = (),
    weights: str | os.PathLike | None = None,
    next_command: str | None = None,
    page: str | os.PathLike | None = None,
) -> str:
    """Return the lines that say where the results are; a line without content is left out."""
    shown = f"{pictures[0]}{' ...' if len(pictures) > 1 else ''} ({len(pictures)})" if pictures else ""
    entries = {
        "pictures": shown,
        "tables": "  ".join(str(table) for table in tables),
        "page": str(page or ""),
        "weights": str(weights or ""),
        "next": next_command or "",
    }
    return "\n".join(f"{name:<10}{value}" for name, value in entries.items() if value)
