"""Tables of domain generalisation: one source domain, all others unseen, one row per domain and class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from shared.core.errors import InputError
from shared.results.case_report import WIDTH, CaseReport
from shared.results.tables import aligned, fitting, markdown

Rows = Sequence[Mapping[str, Any]]
FORMATS = {"dice": ".2f", "hd95": ".1f"}
MEAN = "mean of unseen"


def domain_table(rows: Rows, class_names: Sequence[str], source: str) -> pd.DataFrame:
    """Return one row per domain and class: the source first, then the unseen domains by name; classes in their order.

    Args:
        rows: one per case: ``case_id``, ``domain``, ``dice_<class>`` and ``hd95_mm_<class>`` or ``hd95_px_<class>``
            (for a single class: ``dice``, ``hd95_mm``, ``hd95_px``); NaN where the structure was not annotated.
        class_names: the classes.
        source: domain of the training cases. A domain without cases, this one too, is absent from the table.

    Returns:
        Columns ``domain``, ``role`` ("source" or "unseen"), ``class``, ``n`` (annotated cases), ``dice_mean``,
        ``dice_std``, ``hd95_mean``, ``hd95_std``. Means without a case and deviations (n - 1) of one case are NaN.

    Raises:
        InputError: there are no rows, a case has no domain, or a class has no columns.

    """
    frame = case_frame(rows, class_names)
    lines = []
    for domain in sorted(set(frame.index), key=lambda name: (name != source, name)):
        cases = frame[frame.index == domain]
        for name in class_names:
            line = {"domain": domain, "role": "source" if domain == source else "unseen", "class": name}
            line["n"] = cases["dice", name].count()
            for metric in FORMATS:
                line[f"{metric}_mean"] = cases[metric, name].mean()
                line[f"{metric}_std"] = cases[metric, name].std()
            lines.append(line)
    return pd.DataFrame(lines)


def case_frame(rows: Rows, class_names: Sequence[str]) -> pd.DataFrame:
    """Return one row per case with its domain as index and columns (metric of `FORMATS`, class).

    Arguments and errors: see `domain_table`.
    """
    if not rows:
        raise InputError("no cases to report by domain: the list of cases is empty")
    cases, report = pd.DataFrame([dict(row) for row in rows]), CaseReport(class_names)
    metrics = {"dice": "dice", "hd95": "hd95_mm"}
    if report.column("hd95_px", class_names[0]) in cases:
        metrics["hd95"] = "hd95_px"
    columns = {(m, name): report.column(metric, name) for m, metric in metrics.items() for name in class_names}
    for column in ("domain", *columns.values()):
        if column not in cases:
            raise InputError(f"the cases have no column {column!r}, they have: {', '.join(map(str, cases.columns))}")
    if cases["domain"].isna().any():
        raise without_domain(cases["case_id"][cases["domain"].isna()].iloc[0])
    values = {pair: cases[column].astype(float) for pair, column in columns.items()}
    return pd.DataFrame(values).set_index(pd.Index(cases["domain"].astype(str)))


def without_domain(case_id: str) -> InputError:
    """Return the error for a case without a domain."""
    return InputError(f'case {case_id} has no domain: give it a "domain" in the data list')


def mean_of_unseen(table: pd.DataFrame) -> pd.DataFrame:
    """Return ``dice_mean`` and ``hd95_mean``, one row per class: means over the unseen domains that have it annotated.

    Every domain counts the same, however many cases it has. Empty without an unseen domain.
    """
    unseen = table[table["role"] == "unseen"]
    return unseen.groupby("class", sort=False)[[f"{metric}_mean" for metric in FORMATS]].mean()


def domain_text(table: pd.DataFrame, unit: str = "mm", title: str = "domains") -> str:
    """Return the table for the terminal, at most 100 characters wide unless names are longer.

    It has one line per domain, or, where that is too wide, one line per domain and class.

    Args:
        table: as `domain_table` returns it.
        unit: unit of HD95, "mm" or "px".
        title: heading of the first column.

    """
    classes, lines = list(table["class"].unique()), domain_lines(table)
    wide = [[title, "n", *headings(unit) * len(classes)]]
    wide += [[f"  {line.name}", line.counts, *line.cells] for line in lines]
    widths = fitting(wide)
    groups = " " * (widths[0] + 2 + widths[1])
    for index, name in enumerate(classes, start=1):
        widths[2 * index + 1] = max(widths[2 * index + 1], len(name) - 2 - widths[2 * index])
        groups += "  " + name.rjust(widths[2 * index] + 2 + widths[2 * index + 1])
    if len(groups) <= WIDTH:
        return "\n".join([*([groups] if len(classes) > 1 else []), *aligned(wide, widths)])
    first = max(map(len, classes))
    long = [[title, "class".ljust(first), "n", *headings(unit)]]
    for line in lines:
        pairs = zip(line.cells[::2], line.cells[1::2])
        for index, (name, count, pair) in enumerate(zip(classes, line.n, pairs)):
            long.append(["" if index else f"  {line.name}", name.ljust(first), count, *pair])
    return "\n".join(aligned(long))


def domain_markdown(table: pd.DataFrame, unit: str = "mm") -> str:
    """Return the Markdown table, one line per domain with Dice and HD95 of each class, and a note that explains it.

    Args:
        table: as `domain_table` returns it.
        unit: unit of HD95, "mm" or "px".

    """
    lines = domain_lines(table)
    heading = ["domain", "n", *(f"{name} {metric}" for name in table["class"].unique() for metric in headings(unit))]
    rows = markdown([heading, *([line.name, line.counts, *line.cells] for line in lines)])
    order = ", in the order of the structures where it differs" if any("," in line.counts for line in lines) else ""
    note = (
        f'Mean ± standard deviation over the n annotated cases of a domain{order}; HD95 in {unit}; "-": nothing '
        f"annotated. The {MEAN} counts every domain once.\n"
    )
    return "\n".join([*rows, "", note])


class DomainLine(NamedTuple):
    """The cells of a domain, or of the mean of the unseen ones: n for each class, Dice and HD95 for each class."""

    name: str
    n: list[str]
    cells: list[str]

    @property
    def counts(self) -> str:
        """Return n once if all classes have the same."""
        return ", ".join(self.n if len(set(self.n)) > 1 else self.n[:1])


def domain_lines(table: pd.DataFrame) -> list[DomainLine]:
    """Return the cells of every domain and, at the end, of the mean of the unseen ones."""
    lines = []
    for domain, part in table.groupby("domain", sort=False):
        name = f"{domain} (source)" if part["role"].iloc[0] == "source" else str(domain)
        cells = [mean_cell(metric, line) for _, line in part.iterrows() for metric in FORMATS]
        lines.append(DomainLine(name, list(map(str, part["n"])), cells))
    means = mean_of_unseen(table)
    if not means.empty:
        cells = [mean_cell(metric, line) for _, line in means.iterrows() for metric in FORMATS]
        lines.append(DomainLine(MEAN, [""] * len(means), cells))
    return lines


def headings(unit: str) -> list[str]:
    """Return the headings of the two metrics."""
    return ["Dice", f"HD95 {unit}"]


def mean_cell(metric: str, line: pd.Series) -> str:
    """Return "0.91 ± 0.04", or "0.91" without a deviation, or "-" without a mean."""
    mean, std, form = line[f"{metric}_mean"], line.get(f"{metric}_std", np.nan), FORMATS[metric]
    if np.isnan(mean):
        return "-"
    return format(mean, form) + ("" if np.isnan(std) else f" ± {std:{form}}")
