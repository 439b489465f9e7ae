"""The report: Dice, IoU and HD95 by sentence (its own, none, another image's) and by size of the target."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import numpy as np
import pandas as pd
import torch
from ignite.engine import Engine
from monai.metrics import compute_iou
from monai.utils import convert_to_numpy

from shared.core.files import write_atomic
from shared.results.batch_items import case_name
from shared.results.case_report import CaseReport
from shared.results.metrics import dice, surface_metrics
from shared.results.overlays import save_overlay
from shared.results.report import ReportHandler
from shared.results.tables import aligned, csv_text, markdown

from .data import TEXT
from .variants import KEYS

ALL = "all"
SIZES = {  # share of the image; the quartiles of QaTa are 5, 11 and 19 %
    "under 5 %": (0.0, 0.05),
    "5 to 15 %": (0.05, 0.15),
    "over 15 %": (0.15, math.inf),
}
CASE_TABLE = {"dice": ("Dice", ".2f"), "hd95_px": ("HD95 px", ".1f")}
COLUMNS = {
    "n": ("n", ".0f"),
    "dice": ("Dice", ".3f"),
    "micro_dice": ("micro Dice", ".3f"),
    "iou": ("IoU", ".3f"),
    "micro_iou": ("micro IoU", ".3f"),
    "hd95_px": ("HD95 px", ".1f"),
}
NOTE = (
    "Dice, IoU and HD95 are means over images (both masks empty: 1, 1 and 0; one empty: 0, 0 and the image's "
    "diagonal); micro Dice and IoU count the pixels of all images together. Sentences: the image's own (right), none, "
    "another image's (shuffled)."
)


def mask_metrics(pred: np.ndarray, label: np.ndarray, hd95: bool = True) -> dict[str, float]:
    """Compare two masks.

    Args:
        pred: predicted mask (H, W).
        label: true mask (H, W).
        hd95: compute HD95, which takes longer than everything else.

    Returns:
        ``dice`` and ``iou`` in [0, 1], 1 if both masks are empty; ``hd95_px`` as in
        `shared.results.metrics.surface_metrics`, or NaN; ``pred_px`` and ``common_px``, the areas in pixels of the
        prediction and of its overlap with the label.

    """
    pred, label = pred > 0, label > 0
    common = int((pred & label).sum())
    a, b = (torch.from_numpy(mask)[None, None].double() for mask in (pred, label))
    return {
        "dice": dice(pred, label),
        "iou": compute_iou(a, b, ignore_empty=False).item(),
        "hd95_px": surface_metrics(pred, label, [1.0, 1.0])[0] if hd95 else math.nan,
        "pred_px": int(pred.sum()),
        "common_px": common,
    }


class SentenceReport(CaseReport):
    """A `CaseReport` whose classes are variants of the sentence, with one row per variant and size of the target.

    Args:
        variants: as `choose_variants` returns them.

    """

    def __init__(self, variants: Sequence[str]) -> None:
        super().__init__(variants, CASE_TABLE)

    def sentence_table(self) -> pd.DataFrame:
        """Return the means: columns ``sentence``, ``target`` ("all" or a key of `SIZES`) and those of `COLUMNS`.

        Sizes without a case are left out.
        """
        frame = self.frame()
        groups = {ALL: frame}
        for name, (low, high) in SIZES.items():
            part = frame[frame["share"].between(low, high, inclusive="left")]
            groups |= {name: part} if len(part) else {}
        return pd.DataFrame([self._line(v, name, part) for v in self.class_names for name, part in groups.items()])

    def _line(self, variant: str, group: str, cases: pd.DataFrame) -> dict[str, Any]:
        values = {metric: cases[self.column(metric, variant)] for metric in ("dice", "iou", "hd95_px")}
        common = cases[self.column("common_px", variant)].sum()
        both = cases[self.column("pred_px", variant)].sum() + cases["label_px"].sum()
        return {
            "sentence": variant,
            "target": group,
            "n": len(cases),
            **{metric: column.mean() for metric, column in values.items()},
            "micro_dice": 2 * common / both if both else 1.0,
            "micro_iou": common / (both - common) if both else 1.0,
        }

    def tables(self) -> dict[str, Any]:
        """Return the table for ``metrics.json``."""
        return {"sentences": self.sentence_table().to_dict("records")}

    def write(
        self, output_dir: str | os.PathLike, seed: int | None = None, seconds: float | None = None
    ) -> tuple[Path, ...]:
        """Write ``sentences.csv`` and ``sentences.md`` beside the files of `CaseReport.write`; return all paths."""
        folder = Path(output_dir)
        parts = ["\n".join(markdown(lines)) for lines in self._tables()]
        own = (
            write_atomic(folder / "sentences.csv", csv_text(self.sentence_table())),
            write_atomic(folder / "sentences.md", "\n\n".join([*parts, NOTE]) + "\n"),
        )
        return (*own, *super().write(output_dir, seed, seconds))

    def text(self, title: str = "validation") -> str:
        """Return the tables of cases, of variants and of Dice by size for the terminal."""
        indented = ([lines[0], *(["  " + name, *cells] for name, *cells in lines[1:])] for lines in self._tables())
        return "\n".join([super().text(title), *(line for lines in indented for line in aligned(lines))])

    def _tables(self) -> list[list[list[str]]]:
        """Return the cells of two tables: one line per variant; Dice with one line per size of the target."""
        table = self.sentence_table()
        whole = [["sentence", *(heading for heading, _ in COLUMNS.values())]]
        for _, line in table[table["target"] == ALL].iterrows():
            cells = ("-" if math.isnan(line[name]) else format(line[name], form) for name, (_, form) in COLUMNS.items())
            whole.append([line["sentence"], *cells])
        sizes = [["Dice by area of the target", "n", *self.class_names]]
        for group, part in table[table["target"] != ALL].groupby("target", sort=False):
            sizes.append([f"{group} of the image", str(part["n"].iloc[0]), *(f"{value:.3f}" for value in part["dice"])])
        return [whole, sizes]


class SentenceReportHandler(ReportHandler):
    """A `ReportHandler` that reports by variant of the sentence.

    ``pred`` (V, H, W) of the engine's output holds one mask per variant, ``label`` is (1, H, W). It writes
    ``sentences.csv`` and ``sentences.md`` beside ``metrics.csv`` and ``metrics.json``. Overlays show the first variant
    and its sentence.

    Args:
        output_dir: folder of all these files.
        variants: as `choose_variants` returns them.
        target: name of what is segmented.
        all_hd95: compute HD95 for every variant; otherwise for the first one.
        options: other arguments of `ReportHandler`.

    """

    def __init__(
        self,
        output_dir: str | os.PathLike,
        variants: Sequence[str],
        target: str = "target",
        all_hd95: bool = False,
        **options: Any,
    ) -> None:
        self.variants = list(variants)
        self.all_hd95 = all_hd95
        super().__init__(output_dir, [target], **options)

    def _start(self) -> None:
        super()._start()
        self.report = SentenceReport(self.variants)

    def _collect(self, engine: Engine) -> None:
        state: Any = engine.state
        for item, output in zip(state.batch, state.output):
            case_id = case_name(item, len(self.report.rows))
            masks, label = convert_to_numpy(output["pred"]), convert_to_numpy(output["label"])[0]
            found = {
                variant: mask_metrics(mask, label, hd95=self.all_hd95 or variant == self.variants[0])
                for variant, mask in zip(self.variants, masks)
            }
            texts = {key: item[key] for variant, key in KEYS.items() if variant in self.variants and variant != "none"}
            area = int((label > 0).sum())
            self.report.add(case_id, found, **texts, label_px=area, share=area / label.size)
            if idist.get_rank() == 0 and len(self.pictures) < self.overlays:
                path = self.output_dir / "overlays" / f"{case_id}.png"
                sentence = item[TEXT] if self.variants[0] == "right" else ""
                self.pictures.append(
                    save_overlay(
                        path, output["image"], masks[0], label, title=case_id, names=self.class_names, caption=sentence
                    )
                )
