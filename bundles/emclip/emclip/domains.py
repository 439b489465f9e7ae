"""The report of domain generalisation: train on one source domain, test on unseen ones."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ignite.distributed as idist
from ignite.engine import Engine

from emclip.domain_figure import save_domain_figure
from emclip.domain_table import Rows, domain_markdown, domain_table, domain_text, without_domain
from emclip.sizes import size_notes
from shared.core.files import write_atomic
from shared.results.batch_items import case_name
from shared.results.case_report import CaseReport
from shared.results.report import ReportHandler
from shared.results.tables import csv_text


def write_domains(
    output_dir: str | os.PathLike, rows: Rows, class_names: Sequence[str], source: str, unit: str = "mm"
) -> tuple[Path, Path, Path]:
    """Write ``domains.csv``, ``domains.md`` and ``domains.png``; return their paths. Arguments: see `domain_table`."""
    folder, table = Path(output_dir), domain_table(rows, class_names, source)
    text = domain_markdown(table, unit) + "".join(f"\n- {note}\n" for note in size_notes(rows, class_names))
    return (
        write_atomic(folder / "domains.csv", csv_text(table)),
        write_atomic(folder / "domains.md", text),
        save_domain_figure(folder / "domains.png", rows, class_names, source, unit),
    )


class DomainReport(CaseReport):
    """A `CaseReport` of cases with a ``domain``: it also writes the tables by domain, and shows the one by domain.

    Args:
        class_names: names of the classes.
        source: domain of the training cases.
        unit: unit of HD95, "mm" or "px".

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

    It writes ``domains.csv``, ``.md`` and ``.png`` beside ``metrics.csv`` and ``metrics.json``, overlays as
    ``overlays/<domain>/<case_id>.png``, and prints the table by domain.

    Args:
        output_dir: folder of all these.
        class_names: names of the channels or, without `channel_wise`, of the label values 1, 2, ...
        source: domain of the training cases; all others are unseen.
        unit: unit of HD95: "px" where pixels have no known size, as in photographs, otherwise "mm".
        channel_wise: ``pred`` and ``label`` are masks, one channel per class; one additional first channel is the
            background.
        overlays: number of overlays per domain, for the first cases of the first process.
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
        self.overlays_per_domain = overlays
        keys = ["domain", *extra_keys]
        options = {"unit": unit, "title": title, "extra_keys": keys, **options}
        super().__init__(output_dir, class_names, channel_wise, overlays=0, **options)

    def _start(self) -> None:
        super()._start()
        self.report = DomainReport(self.class_names, self.source, self.unit or "px")
        self.shown: Counter[str] = Counter()

    def _collect(self, engine: Engine) -> None:
        state: Any = engine.state
        names = [case_name(item, number) for number, item in enumerate(state.batch, len(self.report.rows))]
        for case_id, item in zip(names, state.batch):
            if not item.get("domain"):
                raise without_domain(case_id)
        super()._collect(engine)
        if idist.get_rank() != 0 or not self._wanted(engine):
            return
        for case_id, item, output in zip(names, state.batch, state.output):
            folder = re.sub(r"[^\w-]+", "_", str(item["domain"]))
            if self.shown[folder] < self.overlays_per_domain:
                self.shown[folder] += 1
                image = output.get("image", item.get("image"))
                self.pictures.append(self._picture(f"{folder}/{case_id}", image, output["pred"], output["label"]))
