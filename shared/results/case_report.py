"""The metrics of a run's cases: one row per case, with a summary, as files and as a table for the terminal."""

from __future__ import annotations

import json
import math
import os
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from numbers import Real
from pathlib import Path
from typing import Any

import pandas as pd

from shared.core.files import write_atomic
from shared.results.tables import aligned, csv_text

Metrics = dict[str, dict[str, float]]
TABLE = {  # metric: (heading, number format)
    "dice": ("Dice", ".2f"),
    "hd95_mm": ("HD95 mm", ".1f"),
    "hd95_px": ("HD95 px", ".1f"),
    "lesion_f1": ("lesion F1", ".2f"),
}
PACKAGES = ("monai", "torch", "numpy", "scipy", "nibabel")
WIDTH, FIRST, NUMBER = 100, 20, 8  # characters: the table, and at least the column of names and a column of numbers
MEAN = "mean over classes "
MAX_ROWS, WORST, BEST = 12, 5, 3  # of more than 12 cases, the terminal shows the 5 worst and the 3 best


class CaseReport:
    """Collect the metrics of cases and write them.

    Args:
        class_names: names of the classes. With several, columns are called ``dice_WT``, ``dice_TC`` and so on.
        table: metrics to show in the terminal: name -> (heading, number format). Metrics that the cases do not have are
            left out: volumes have ``hd95_mm``, photographs ``hd95_px``.

    """

    def __init__(self, class_names: Sequence[str], table: Mapping[str, tuple[str, str]] = TABLE) -> None:
        self.class_names = list(class_names)
        self.table = dict(table)
        self.rows: dict[str, dict[str, Any]] = {}

    def add(self, case_id: str, metrics: Metrics, **extra: Any) -> None:
        """Add a case, or replace it.

        Args:
            case_id: name of the case.
            metrics: values for each class, as `case_metrics` returns them; NaN for a class that was not annotated.
            extra: further columns, e.g. ``domain="rim_one"``.

        """
        names = dict.fromkeys(key for values in metrics.values() for key in values)
        columns = {self.column(name, key): metrics[key][name] for name in names for key in self.class_names}
        self.rows[case_id] = {"case_id": case_id, **extra, **columns}

    def column(self, metric: str, class_name: str) -> str:
        """Return the column of a metric of a class."""
        return metric if len(self.class_names) == 1 else f"{metric}_{class_name}"

    def frame(self) -> pd.DataFrame:
        """Return one row per case, sorted by ``case_id`` so that the order is the same for any number of processes."""
        return pd.DataFrame([self.rows[case_id] for case_id in sorted(self.rows)])

    def headings(self) -> dict[str, tuple[str, str]]:
        """Return the columns of the metrics in `table` that the cases have: column -> (heading, number format)."""
        columns = {column for row in self.rows.values() for column in row}
        several = len(self.class_names) > 1
        return {
            column: (f"{heading} {name}" if several else heading, form)
            for metric, (heading, form) in self.table.items()
            for name in self.class_names
            if (column := self.column(metric, name)) in columns
        }

    def summary(self) -> dict[str, dict[str, float]]:
        """Return mean, standard deviation (n - 1; 0 for a single case), median and n of every numeric column.

        NaN is left out; with n = 0 the other three are NaN.
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
        """Return entries for the beginning of ``metrics.json``; subclasses override this."""
        return {}

    def write(
        self, output_dir: str | os.PathLike, seed: int | None = None, seconds: float | None = None
    ) -> tuple[Path, ...]:
        """Write ``metrics.csv`` (one row per case) and ``metrics.json`` (summary, cases, versions, seed, wall seconds).

        NaN becomes an empty cell in the CSV file and null in the JSON file.
        """
        folder = Path(output_dir)
        content = {
            **self.tables(),
            "summary": self.summary(),
            "cases": [self.rows[case_id] for case_id in sorted(self.rows)],
            "versions": {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
            "seed": seed,
            "wall_seconds": None if seconds is None else round(seconds, 3),
        }
        return (
            write_atomic(folder / "metrics.csv", csv_text(self.frame())),
            write_atomic(folder / "metrics.json", json.dumps(_without_nan(content), indent=2, default=float) + "\n"),
        )

    def text(self, title: str = "validation") -> str:
        """Return the table for the terminal, at most 100 characters wide unless names are longer.

        Up to 12 cases are listed in the order in which they were added; of more, the 5 worst and 3 best by the first
        metric (mean over classes). Each class has its own columns, of as many metrics as fit; if not even the first one
        fits, every metric is averaged over the classes of a case. NaN is shown as "-" and left out of means; a case
        whose values of the first metric are all NaN is neither among the worst nor among the best.
        """
        columns, frame = self._shown()
        means = [f"  mean of {len(self.rows)}", *(_cell(frame[column].mean(), form) for column, _, form in columns)]
        cases = [
            [f"  {row['case_id']}", *(_cell(row[column], form) for column, _, form in columns)]
            for _, row in frame.iterrows()
        ]
        if len(cases) > MAX_ROWS:
            cases = [*cases[:WORST], ["  ..."], *cases[-BEST:]]
        first = max(FIRST, len(title), *(len(line[0]) for line in [*cases, means]))
        widths = [max(NUMBER, len(heading)) for _, heading, _ in columns]
        heading = [title, *(heading for _, heading, _ in columns)]
        return "\n".join(aligned([heading, *cases, means], [first, *widths]))

    def _shown(self) -> tuple[list[tuple[str, str, str]], pd.DataFrame]:
        """Return the columns of the terminal table (name, heading, number format) and the rows in its order."""
        frame = pd.DataFrame(list(self.rows.values()))
        table = {m: shown for m, shown in self.table.items() if self.column(m, self.class_names[0]) in frame}
        several = len(self.class_names) > 1
        room = WIDTH - max(FIRST, 2 + frame["case_id"].str.len().max())
        columns: list[tuple[str, str, str]] = []
        for metric, (heading, form) in table.items():
            names = [self.column(metric, name) for name in self.class_names]
            frame[MEAN + metric] = frame[names].mean(axis=1)
            headings = [f"{heading} {name}" if several else heading for name in self.class_names]
            room -= sum(2 + max(len(heading), NUMBER) for heading in headings)
            columns += [(name, head, form) for name, head in zip(names, headings) if room >= 0]
        if not columns:
            columns = [(MEAN + metric, heading, form) for metric, (heading, form) in table.items()]
        if len(frame) > MAX_ROWS:
            metric = next(iter(table))
            frame = frame.dropna(subset=MEAN + metric)
            frame = frame.sort_values(MEAN + metric, ascending=not metric.startswith("hd95"), kind="stable")
        return columns, frame


def _cell(value: float, form: str) -> str:
    return "-" if math.isnan(value) else format(value, form)


def _without_nan(content: Any) -> Any:
    """Return nested dicts and lists with None in place of NaN, which JSON does not have."""
    if isinstance(content, dict):
        return {key: _without_nan(value) for key, value in content.items()}
    if isinstance(content, list):
        return [_without_nan(value) for value in content]
    return None if isinstance(content, Real) and math.isnan(content) else content
