"""The protocol of domain generalisation, one source domain and tests on unseen ones: a table, a figure, a handler."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import ignite.distributed as idist
import numpy as np
import pandas as pd
from ignite.engine import Engine
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from emclip.sizes import size_notes
from shared.core.errors import InputError
from shared.core.files import write_atomic
from shared.results.report import WIDTH, CaseReport, ReportHandler, case_name
from shared.results.tables import aligned, fitting, markdown

Rows = Sequence[Mapping[str, Any]]
METRICS = {"dice": ("dice", ".2f"), "hd95": ("hd95_mm", ".1f")}  # name in the table: column of the cases, format
MEAN = "mean of unseen"
INK = "#333333"
COLOURS = {"source": "#0072b2", "unseen": "#d55e00", MEAN: INK}  # Okabe and Ito's blue and vermilion
DASHED = (0, (3, 2))
SPREAD, GOLDEN = 0.5, 0.618034  # dots of a domain step by the golden ratio through so much of a line's height
FAR_OUT = 3  # interquartile ranges outside the quartiles (Tukey, Exploratory Data Analysis, 1977)


def domain_table(rows: Rows, class_names: Sequence[str], source: str) -> pd.DataFrame:
    """Return a line a domain and class: the source first, then the unseen domains by name; classes in their order.

    Args:
        rows: a case each: ``case_id``, ``domain`` and ``dice_<class>``, ``hd95_mm_<class>`` (of one class alone:
            ``dice``, ``hd95_mm``); NaN where the structure was not annotated.
        class_names: the classes.
        source: domain of the training cases. A domain without a case, this one too, is absent from the table.

    Returns:
        Columns ``domain``, ``role`` ("source" or "unseen"), ``class``, ``n`` (annotated cases), ``dice_mean``,
        ``dice_std``, ``hd95_mean``, ``hd95_std``. A mean of nothing and a deviation (n - 1) of one case are NaN.

    Raises:
        InputError: no rows, a case without a domain or a class without columns.

    """
    frame = _frame(rows, class_names)
    lines = []
    for domain in sorted(set(frame.index), key=lambda name: (name != source, name)):
        cases = frame[frame.index == domain]
        for name in class_names:
            line = {"domain": domain, "role": "source" if domain == source else "unseen", "class": name}
            line["n"] = cases["dice", name].count()
            for metric in METRICS:
                line[f"{metric}_mean"] = cases[metric, name].mean()
                line[f"{metric}_std"] = cases[metric, name].std()
            lines.append(line)
    return pd.DataFrame(lines)


def mean_of_unseen(table: pd.DataFrame) -> pd.DataFrame:
    """Return ``dice_mean`` and ``hd95_mean``, a row a class: means over those unseen domains that have it annotated.

    Every domain counts the same, however many cases it has. Empty without an unseen domain.
    """
    unseen = table[table["role"] == "unseen"]
    return unseen.groupby("class", sort=False)[[f"{metric}_mean" for metric in METRICS]].mean()


def domain_text(table: pd.DataFrame, unit: str = "mm", title: str = "domains") -> str:
    """Return the table for the terminal, at most 100 characters wide unless names are longer.

    A line a domain; where that is too wide, a line a domain and class.

    Args:
        table: as `domain_table` returns it.
        unit: of HD95, "mm" or "px".
        title: heading of the first column.

    """
    classes, lines = list(table["class"].unique()), _lines(table)
    wide = [[title, "n", *_headings(unit) * len(classes)]]
    wide += [[f"  {line.name}", line.counts, *line.cells] for line in lines]
    widths = fitting(wide)
    groups = " " * (widths[0] + 2 + widths[1])
    for index, name in enumerate(classes, start=1):
        widths[2 * index + 1] = max(widths[2 * index + 1], len(name) - 2 - widths[2 * index])
        groups += "  " + name.rjust(widths[2 * index] + 2 + widths[2 * index + 1])
    if len(groups) <= WIDTH:
        return "\n".join([*([groups] if len(classes) > 1 else []), *aligned(wide, widths)])
    first = max(map(len, classes))
    long = [[title, "class".ljust(first), "n", *_headings(unit)]]
    for line in lines:
        pairs = zip(line.cells[::2], line.cells[1::2])
        for index, (name, count, pair) in enumerate(zip(classes, line.n, pairs)):
            long.append(["" if index else f"  {line.name}", name.ljust(first), count, *pair])
    return "\n".join(aligned(long))


def domain_markdown(table: pd.DataFrame, unit: str = "mm") -> str:
    """Return the Markdown table, domains as lines, Dice and HD95 a class, and a sentence that says what it holds.

    Args:
        table: as `domain_table` returns it.
        unit: of HD95, "mm" or "px".

    """
    lines = _lines(table)
    headings = ["domain", "n", *(f"{name} {metric}" for name in table["class"].unique() for metric in _headings(unit))]
    rows = markdown([headings, *([line.name, line.counts, *line.cells] for line in lines)])
    order = ", in the order of the structures where it differs" if any("," in line.counts for line in lines) else ""
    note = (
        f'Mean ± standard deviation over the n annotated cases of a domain{order}; HD95 in {unit}; "-": nothing '
        f"annotated. The {MEAN} counts every domain once.\n"
    )
    return "\n".join([*rows, "", note])


def save_domain_figure(
    path: str | os.PathLike, rows: Rows, class_names: Sequence[str], source: str, unit: str = "mm"
) -> Path:
    """Write the figure: a column of panels a class, Dice above and HD95 below, a line a domain.

    A light dot is a case, the bar the mean of a domain, with its value on the right; the dashed line goes down from the
    source's mean, so that the eye sees what the unseen domains lose. Cases far out (Tukey: 3 interquartile ranges
    outside the quartiles of their domain) do not stretch the axis: an arrow at its end stands for each.

    Args:
        path: PNG to write; folders are made.
        rows, class_names, source: see `domain_table`.
        unit: of HD95, "mm" or "px".

    Returns:
        The path written.

    """
    frame, table = _frame(rows, class_names), domain_table(rows, class_names, source)
    names = [line.name for line in _lines(table)]
    inches = 0.29 * len(names) + 0.65  # height of a panel
    width = 0.3 + 0.085 * max(map(len, names)) + 2.9 * len(class_names)
    figure = Figure(figsize=(max(width, 4.8), 2 * inches + 0.4), dpi=200, layout="constrained")
    panels = figure.subplots(2, len(class_names), squeeze=False, sharex="row", sharey=True)
    beyond = False
    for axes, metric, heading in zip(panels, METRICS, _headings(unit)):
        low, high = _limits(frame[metric], table[f"{metric}_mean"])
        axes[0].set_xlim(low, high)
        beyond |= bool(((frame[metric] < low) | (frame[metric] > high)).any(axis=None))
        for axis, name in zip(axes, class_names):
            _panel(axis, metric, frame[metric, name].dropna(), table[table["class"] == name])
            axis.set_xlabel(heading, fontsize=9, labelpad=2)
        axes[0].set_yticks(range(len(names)), names, fontsize=9.5)
        for label, role in zip(axes[0].get_yticklabels(), [*table.drop_duplicates("domain")["role"], MEAN]):
            label.set_color(COLOURS[role])
    for axis, name in zip(panels[0], class_names):
        axis.set_title(name, fontsize=11, fontweight="bold", loc="left")
    panels[0, 0].set_ylim(len(names) - 0.5, -0.5)
    _legend(figure, beyond, "source" in set(table["role"]))
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(target, format="png")
    return target


def write_domains(
    output_dir: str | os.PathLike, rows: Rows, class_names: Sequence[str], source: str, unit: str = "mm"
) -> tuple[Path, Path, Path]:
    """Write ``domains.csv``, ``domains.md`` and ``domains.png`` (arguments: see `domain_table`); return their paths."""
    folder, table = Path(output_dir), domain_table(rows, class_names, source)
    text = domain_markdown(table, unit) + "".join(f"\n- {note}\n" for note in size_notes(rows, class_names))
    return (
        write_atomic(folder / "domains.csv", table.to_csv(index=False)),
        write_atomic(folder / "domains.md", text),
        save_domain_figure(folder / "domains.png", rows, class_names, source, unit),
    )


class DomainReport(CaseReport):
    """A `CaseReport` whose cases have a ``domain``: it also writes the tables by domain, and shows that one.

    Args:
        class_names: names of the classes.
        source: domain of the training cases.
        unit: of HD95, "mm" or "px".

    """

    def __init__(self, class_names: Sequence[str], source: str, unit: str = "mm") -> None:
        super().__init__(class_names)
        self.source = source
        self.unit = unit

    def write(
        self, output_dir: str | os.PathLike, seed: int | None = None, seconds: float | None = None
    ) -> tuple[Path, ...]:
        """Write the files of `write_domains` and of `CaseReport.write`; return their paths."""
        rows = list(self.rows.values())
        tables = write_domains(output_dir, rows, self.class_names, self.source, self.unit)
        return (*tables, *super().write(output_dir, seed, seconds))

    def text(self, title: str = "domains") -> str:
        """Return the table by domain for the terminal, see `domain_text`, and the lines of `size_notes`."""
        rows = list(self.rows.values())
        table = domain_table(rows, self.class_names, self.source)
        absent = [] if "source" in set(table["role"]) else [f"no case of {self.source} (source)"]
        return "\n  ".join([domain_text(table, self.unit, title), *absent, *size_notes(rows, self.class_names)])


class DomainReportHandler(ReportHandler):
    """A `ReportHandler` that reports by domain; every item of the batch needs a ``domain``.

    It writes ``domains.csv``, ``.md`` and ``.png`` beside ``metrics.csv`` and ``metrics.json`` (where the columns
    ``hd95_mm`` are in `unit`), pictures as ``overlays/<domain>/<case_id>.png``, and prints the table by domain.

    Args:
        output_dir: folder of all these.
        class_names: names of the channels or, without `channel_wise`, of the label values 1, 2, ...
        source: domain of the training cases; all others are unseen.
        unit: of HD95: "px" where images have no physical size, else "mm".
        channel_wise: ``pred`` and ``label`` are masks, one channel a class (a channel more is the background).
        overlays: pictures of the first so many cases of each domain, of the first process; 0 for none.
        title: heading of the table.
        extra_keys: further keys of the batch that become columns of ``metrics.csv``.
        options: other arguments of `ReportHandler`, e.g. ``channel=None`` for colour pictures.

    """

    def __init__(
        self,
        output_dir: str | os.PathLike,
        class_names: Sequence[str],
        source: str,
        unit: str = "px",
        channel_wise: bool = True,
        overlays: int = 2,
        title: str = "domains",
        extra_keys: Sequence[str] = (),
        **options: Any,
    ) -> None:
        self.source = source
        self.unit = unit
        self.overlays_per_domain = overlays
        keys = ["domain", *extra_keys]
        super().__init__(output_dir, class_names, channel_wise, overlays=0, title=title, extra_keys=keys, **options)

    def _start(self) -> None:
        super()._start()
        self.report = DomainReport(self.class_names, self.source, self.unit)
        self.shown: Counter[str] = Counter()

    def _collect(self, engine: Engine) -> None:
        state: Any = engine.state
        names = [case_name(item, number) for number, item in enumerate(state.batch, len(self.report.rows))]
        for case_id, item in zip(names, state.batch):
            if not item.get("domain"):
                raise _without_domain(case_id)
        super()._collect(engine)
        if idist.get_rank() != 0 or not self._wanted(engine):
            return
        for case_id, item, output in zip(names, state.batch, state.output):
            folder = re.sub(r"[^\w-]+", "_", str(item["domain"]))
            if self.shown[folder] < self.overlays_per_domain:
                self.shown[folder] += 1
                image = output.get("image", item.get("image"))
                self.pictures.append(self._picture(f"{folder}/{case_id}", image, output["pred"], output["label"]))


def _frame(rows: Rows, class_names: Sequence[str]) -> pd.DataFrame:
    """Return the values of a case in a row, its domain as index, columns (metric of the table, class)."""
    if not rows:
        raise InputError("no cases to report by domain: the list of cases is empty")
    cases, report = pd.DataFrame([dict(row) for row in rows]), CaseReport(class_names)
    columns = {(m, name): report.column(METRICS[m][0], name) for m in METRICS for name in class_names}
    for column in ("domain", *columns.values()):
        if column not in cases:
            raise InputError(f"the cases have no column {column!r}, they have: {', '.join(map(str, cases.columns))}")
    if cases["domain"].isna().any():
        raise _without_domain(cases["case_id"][cases["domain"].isna()].iloc[0])
    values = {pair: cases[column].astype(float) for pair, column in columns.items()}
    return pd.DataFrame(values).set_index(pd.Index(cases["domain"].astype(str)))


def _without_domain(case_id: str) -> InputError:
    return InputError(f'case {case_id} has no domain: give it a "domain" in the data list')


def _headings(unit: str) -> list[str]:
    return ["Dice", f"HD95 {unit}"]


def _cell(metric: str, line: pd.Series) -> str:
    """Return "0.91 ± 0.04", without a deviation "0.91", without a mean "-"."""
    mean, std, form = line[f"{metric}_mean"], line.get(f"{metric}_std", np.nan), METRICS[metric][1]
    if np.isnan(mean):
        return "-"
    return format(mean, form) + ("" if np.isnan(std) else f" ± {std:{form}}")


class _Line(NamedTuple):
    """Cells of a domain or of the mean of the unseen: n a class, Dice and HD95 a class."""

    name: str
    n: list[str]
    cells: list[str]

    @property
    def counts(self) -> str:
        """Say n once if it is the same for all classes."""
        return ", ".join(self.n if len(set(self.n)) > 1 else self.n[:1])


def _lines(table: pd.DataFrame) -> list[_Line]:
    lines = []
    for domain, part in table.groupby("domain", sort=False):
        name = f"{domain} (source)" if part["role"].iloc[0] == "source" else str(domain)
        cells = [_cell(metric, line) for _, line in part.iterrows() for metric in METRICS]
        lines.append(_Line(name, list(map(str, part["n"])), cells))
    means = mean_of_unseen(table)
    if not means.empty:
        cells = [_cell(metric, line) for _, line in means.iterrows() for metric in METRICS]
        lines.append(_Line(MEAN, [""] * len(means), cells))
    return lines


def _limits(cases: pd.DataFrame, means: pd.Series) -> tuple[float, float]:
    """Return the ends of an axis that holds all means and all cases but those far out of their domain."""
    quartiles = [cases.groupby(level=0).transform("quantile", q) for q in (0.25, 0.75)]
    reach = FAR_OUT * (quartiles[1] - quartiles[0])
    usual = cases.where((cases >= quartiles[0] - reach) & (cases <= quartiles[1] + reach))
    shown = np.concatenate([usual.to_numpy().ravel(), means])
    shown = shown[np.isfinite(shown)]
    low, high = (shown.min(), shown.max()) if shown.size else (0.0, 1.0)
    margin = 0.06 * max(high - low, 0.1)
    return float(low - margin), float(high + margin)


def _panel(axis: Axes, metric: str, cases: pd.Series, table: pd.DataFrame) -> None:
    """Draw a metric of one class: `cases` indexed by domain, its lines of the table from top to bottom."""
    left, right = axis.get_xlim()
    ends = left + 0.02 * (right - left), right - 0.02 * (right - left)
    numbers: dict[str, Any] = {"transform": axis.get_yaxis_transform(), "va": "center_baseline", "fontsize": 8.5}
    for y, (_, line) in enumerate(table.iterrows()):
        colour, mean = COLOURS[line["role"]], line[f"{metric}_mean"]
        values = cases[cases.index == line["domain"]].to_numpy()
        heights = y + SPREAD * ((np.arange(len(values)) * GOLDEN + 0.5) % 1 - 0.5)
        for marker, part in (("o", (values >= left) & (values <= right)), ("<", values < left), (">", values > right)):
            alpha = np.clip(10 / max(len(values), 1), 0.1, 0.35) if marker == "o" else 0.7
            axis.plot(np.clip(values[part], *ends), heights[part], marker, ms=4.5, mew=0, color=colour, alpha=alpha)
        axis.plot(mean, y, "|", ms=15, mew=3.4, color="white")
        axis.plot(mean, y, "|", ms=14, mew=2.4, color=colour)
        axis.text(1.04, y, _cell(metric, line), color=colour, **numbers)
        if line["role"] == "source":
            axis.plot([mean, mean], [y, len(table) + 1], color=colour, ls=DASHED, lw=0.9, zorder=0)
    for _, line in mean_of_unseen(table).iterrows():
        axis.axhline(len(table) - 0.5, color=INK, lw=0.6)
        axis.plot(line[f"{metric}_mean"], len(table), "D", ms=5.5, mew=0, color=INK)
        axis.text(1.04, len(table), _cell(metric, line), color=INK, fontweight="bold", **numbers)
    axis.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
    axis.grid(axis="x", color="#e4e4e4", lw=0.6)
    axis.set_axisbelow(True)
    axis.tick_params(length=0, labelsize=8.5)
    axis.spines[["top", "right", "left"]].set_visible(False)


def _legend(figure: Figure, beyond: bool, source: bool) -> None:
    dot: dict[str, Any] = {"color": INK, "ls": "", "ms": 4.5, "mew": 0}
    entries = [
        (True, Line2D([], [], marker="o", label="case", alpha=0.4, **dot)),
        (beyond, Line2D([], [], marker=">", label="case beyond the axis", alpha=0.7, **dot)),
        (True, Line2D([], [], color=INK, marker="|", ls="", ms=11, mew=2.4, label="mean")),
        (source, Line2D([], [], color=COLOURS["source"], ls=DASHED, lw=0.9, label="mean of the source")),
    ]
    handles = [line for wanted, line in entries if wanted]
    style: dict[str, Any] = {"frameon": False, "fontsize": 8.5, "handletextpad": 0.4, "columnspacing": 1.2}
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), **style)
