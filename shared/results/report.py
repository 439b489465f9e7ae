"""The report of a run: a row a case, tables on disk, a table in the terminal, pictures of some cases."""

from __future__ import annotations

import json
import math
import os
import platform
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from numbers import Real
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import pandas as pd
import torch
from ignite.engine import Engine, Events
from monai.data import MetaTensor
from monai.utils import convert_to_numpy

from shared.core.files import write_atomic
from shared.results.metrics import case_metrics
from shared.results.overlays import save_overlay

Metrics = dict[str, dict[str, float]]
TABLE = {"dice": ("Dice", ".2f"), "hd95_mm": ("HD95 mm", ".1f"), "lesion_f1": ("lesion F1", ".2f")}
PACKAGES = ("monai", "torch", "numpy", "scipy", "nibabel")
WIDTH, FIRST, NUMBER = 100, 20, 8  # characters: terminal line, least widths of the names and of a number
MEAN = "mean over classes "
MAX_ROWS = 12  # more cases than this: the worst and the best
WORST, BEST = 5, 3


class CaseReport:
    """Collects the metrics of cases and writes them.

    Args:
        class_names: names of the classes; with several, columns are called ``dice_WT``, ``dice_TC`` and so on.
        table: metrics to show in the terminal: name -> (heading, number format), e.g. ``("HD95 px", ".1f")`` for
            pictures, whose pixels have no size.

    """

    def __init__(self, class_names: Sequence[str], table: Mapping[str, tuple[str, str]] = TABLE) -> None:
        self.class_names = list(class_names)
        self.table = dict(table)
        self.rows: dict[str, dict[str, Any]] = {}

    def add(self, case_id: str, metrics: Metrics, **extra: Any) -> None:
        """Add a case, or replace it.

        Args:
            case_id: name of the case.
            metrics: per class, as `case_metrics` returns them; NaN for a class that nobody annotated.
            extra: further columns, e.g. ``domain="rim_one"``.

        """
        names = dict.fromkeys(key for values in metrics.values() for key in values)
        columns = {self.column(name, key): metrics[key][name] for name in names for key in self.class_names}
        self.rows[case_id] = {"case_id": case_id, **extra, **columns}

    def column(self, metric: str, class_name: str) -> str:
        """Return the column of a metric of a class."""
        return metric if len(self.class_names) == 1 else f"{metric}_{class_name}"

    def frame(self) -> pd.DataFrame:
        """Return a row a case, sorted by ``case_id`` so that it does not depend on the number of processes."""
        return pd.DataFrame([self.rows[case_id] for case_id in sorted(self.rows)])

    def summary(self) -> dict[str, dict[str, float]]:
        """Return mean, standard deviation (n - 1; 0 for one case), median and n of every numeric column.

        Cases without a number there count nowhere; with n = 0 the others are NaN.
        """
        numbers = self.frame().select_dtypes("number")
        return {
            str(name): {
                "mean": float(values.mean()),
                "std": 0.0 if values.count() == 1 else float(values.std()),
                "median": float(values.median()),
                "n": int(values.count()),
            }
            for name, values in numbers.items()
        }

    def tables(self) -> dict[str, Any]:
        """Return what else ``metrics.json`` says at its beginning; for subclasses."""
        return {}

    def write(
        self, output_dir: str | os.PathLike, seed: int | None = None, seconds: float | None = None
    ) -> tuple[Path, ...]:
        """Write ``metrics.csv`` (a row a case) and ``metrics.json`` (summary, cases, versions, seed, wall seconds).

        What is NaN is an empty cell in the one and null in the other.
        """
        folder = Path(output_dir)
        frame = self.frame()
        content = {
            **self.tables(),
            "summary": self.summary(),
            "cases": [self.rows[case_id] for case_id in sorted(self.rows)],
            "versions": {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
            "seed": seed,
            "wall_seconds": None if seconds is None else round(seconds, 3),
        }
        return (
            write_atomic(folder / "metrics.csv", frame.to_csv(index=False)),
            write_atomic(folder / "metrics.json", json.dumps(_without_nan(content), indent=2, default=float) + "\n"),
        )

    def text(self, title: str = "validation") -> str:
        """Return the table for the terminal, at most 100 characters wide unless names are longer.

        Up to 12 cases in the order they came; of more the 5 worst and 3 best of the first metric (mean over classes).
        Several classes have a column each, of as many metrics as fit; if not even the first fits, every metric is
        averaged over the classes of a case. NaN is shown as "-" and left out of means; a case with nothing but NaN is
        neither among the worst nor the best.
        """
        columns, frame = self._shown()
        means = [f"mean of {len(self.rows)}", *(_cell(frame[column].mean(), form) for column, _, form in columns)]
        lines: list[list[str]] = []
        for _, row in frame.iterrows():
            lines.append([str(row["case_id"]), *(_cell(row[column], form) for column, _, form in columns)])
        if len(lines) > MAX_ROWS:
            lines = [*lines[:WORST], ["..."], *lines[-BEST:]]
        first = max(len(title), *(2 + len(line[0]) for line in [*lines, means]), FIRST)
        widths = [max(len(heading), NUMBER) for _, heading, _ in columns]

        def aligned(name: str, cells: Sequence[str]) -> str:
            return (name.ljust(first) + "".join("  " + cell.rjust(w) for cell, w in zip(cells, widths))).rstrip()

        return "\n".join(
            [
                aligned(title, [heading for _, heading, _ in columns]),
                *(aligned("  " + line[0], line[1:]) for line in lines),
                aligned("  " + means[0], means[1:]),
            ]
        )

    def _shown(self) -> tuple[list[tuple[str, str, str]], pd.DataFrame]:
        """Return the columns of the terminal table (name, heading, format) and the rows in its order."""
        frame = pd.DataFrame(list(self.rows.values()))
        several = len(self.class_names) > 1
        room = WIDTH - max(FIRST, 2 + frame["case_id"].str.len().max())
        columns: list[tuple[str, str, str]] = []
        for metric, (heading, form) in self.table.items():
            names = [self.column(metric, name) for name in self.class_names]
            frame[MEAN + metric] = frame[names].mean(axis=1)
            headings = [f"{heading} {name}" if several else heading for name in self.class_names]
            room -= sum(2 + max(len(heading), NUMBER) for heading in headings)
            columns += [(name, head, form) for name, head in zip(names, headings) if room >= 0]
        if not columns:
            columns = [(MEAN + metric, heading, form) for metric, (heading, form) in self.table.items()]
        if len(frame) > MAX_ROWS:
            metric = next(iter(self.table))
            frame = frame.dropna(subset=MEAN + metric)
            frame = frame.sort_values(MEAN + metric, ascending=metric != "hd95_mm", kind="stable")
        return columns, frame


def _cell(value: float, form: str) -> str:
    return "-" if math.isnan(value) else format(value, form)


def _without_nan(content: Any) -> Any:
    """Return nested dicts and lists with None for NaN, which is no JSON."""
    if isinstance(content, dict):
        return {key: _without_nan(value) for key, value in content.items()}
    if isinstance(content, list):
        return [_without_nan(value) for value in content]
    return None if isinstance(content, Real) and math.isnan(content) else content


def closing_lines(
    pictures: Sequence[str | os.PathLike] = (),
    tables: Sequence[str | os.PathLike] = (),
    weights: str | os.PathLike | None = None,
    next_command: str | None = None,
) -> str:
    """Return the lines that say where results are, each only if there is something to say."""
    shown = f"{pictures[0]}{' ...' if len(pictures) > 1 else ''} ({len(pictures)})" if pictures else ""
    entries = {
        "pictures": shown,
        "tables": "  ".join(str(table) for table in tables),
        "weights": str(weights or ""),
        "next": next_command or "",
    }
    return "\n".join(f"{name:<10}{value}" for name, value in entries.items() if value)


class ReportHandler:
    """Ignite-style handler that reports an evaluator's run: attach it to a MONAI evaluator or put it in its handlers.

    It reads ``pred`` and ``label`` of ``engine.state.output`` after postprocessing (decollated) and ``case_id`` and
    ``image`` of the batch. With several processes every one computes its own cases and the first writes and prints.

    Args:
        output_dir: folder of ``metrics.csv``, ``metrics.json`` and ``overlays/<case_id>.png``.
        class_names: names of the label values 1, 2, ... or, with `channel_wise`, of the channels.
        channel_wise: ``pred`` and ``label`` are masks, one channel a class (a channel more is the background).
        overlays: pictures of the first so many cases of the first process; 0 for none.
        channel: image channel in the pictures; None for colour.
        title: heading of the table.
        table: see `CaseReport`.
        extra_keys: keys of the batch that become columns, e.g. ``["domain"]``.
        weights: path to name under the table.
        next_command: command to name under the table.
        seed: written to ``metrics.json``.
        epoch: report only when the evaluator runs for this epoch (of training); None for always.

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
        extra_keys: Sequence[str] = (),
        weights: str | os.PathLike | None = None,
        next_command: str | None = None,
        seed: int | None = None,
        epoch: int | None = None,
    ) -> None:
        self.output_dir = Path(output_dir)
        self.class_names = list(class_names)
        self.channel_wise = channel_wise
        self.overlays = overlays
        self.channel = channel
        self.title = title
        self.table = table
        self.extra_keys = list(extra_keys)
        self.weights = weights
        self.next_command = next_command
        self.seed = seed
        self.epoch = epoch
        self._start()

    def attach(self, engine: Engine) -> None:
        """Register the handler's events."""
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._collect)
        engine.add_event_handler(Events.COMPLETED, self._finish)

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
            found = case_metrics(pred, label, spacing_of(label), self.class_names, self.channel_wise)
            self.report.add(case_id, found, **{key: item[key] for key in self.extra_keys})
            if idist.get_rank() == 0 and len(self.pictures) < self.overlays:
                image = output.get("image", item.get("image"))
                self.pictures.append(self._picture(case_id, image, pred, label))

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
        tables = self.report.write(self.output_dir, self.seed, time.perf_counter() - self.began)
        print(self.report.text(self.title))
        print(closing_lines(self.pictures, tables, self.weights, self.next_command), flush=True)


def case_name(item: Mapping[str, Any], number: int) -> str:
    """Return ``case_id`` of a decollated item, else the name of its image file, else a number."""
    if "case_id" in item:
        return str(item["case_id"])
    source = getattr(item.get("image"), "meta", {}).get("filename_or_obj")
    return Path(str(source)).name.split(".")[0] if source else f"case_{number:03d}"


def spacing_of(array: Any) -> list[float]:
    """Return the voxel size (mm) of a channel-first MetaTensor, one value a spatial axis; 1 for what has no affine."""
    axes = convert_to_numpy(array).ndim - 1
    if not isinstance(array, MetaTensor):
        return [1.0] * axes
    return torch.as_tensor(array.pixdim).flatten()[:axes].tolist()
