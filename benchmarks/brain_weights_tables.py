"""The tables of `brain_weights`, made from its rows: one per case and choice of sequences."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from shared.results.operating_curve import DRAWS, INTERVAL
from shared.results.tables import markdown

Rows = Sequence[dict[str, Any]]
ENOUGH = 8  # cases, from which on a mean gets an interval
SIZES = {"< 0.1 mL": (0, 0.1), "0.1 to 1 mL": (0.1, 1), "> 1 mL": (1, np.inf)}  # from the first up to the second
RULES = f"""A lesion is a 26-connected piece of the label. It is found if any voxel of the mask lies in it. A piece of
the mask that overlaps no lesion is a false lesion. A case is touched if any of its lesions is found. Means have a 95 %
bootstrap interval over cases where there are at least {ENOUGH}.

Phantoms are skull-stripped heads with voxels of 1 x 1 x 3 mm, made from held-out label maps and lesion masks; half of
those with MS, strokes or no lesion have artefacts. The whole heads have the anatomy of the MNI template and drawn
lesions. Strokes in slices were outlined on diffusion images, and white-matter disease is not labelled there."""


def report(result: dict[str, Any]) -> str:
    """Return the tables as Markdown.

    Args:
        result: ``settings``, ``seen`` (names of MS patients on which the weights were trained), and ``parts``, which
            holds the rows of each part that was measured.
    """
    seen, parts = result["seen"], result["parts"]
    lines = ["# BrainSegDMLF: the weights on held-out data", "", RULES, ""]
    lines += [", ".join(f"{key} {value}" for key, value in result["settings"].items()) + ".", ""]
    if seen:
        lines += [f"The weights were trained on {' and '.join(seen)} (marked *): these rows are no test.", ""]
    rows = [mark(row, seen) for part in ("patients", "slices", "phantoms", "chronic") for row in parts.get(part, [])]
    tables = [("Each source", per_source(rows)), ("Size of lesions", per_size(rows))]
    tables.append(("All sequences, and each alone", per_sequence(rows)))
    tables.append(("Whole heads", whole_heads(parts.get("skull", []))))
    tables.append(("A raw study of two visits", raw_study(parts.get("raw", []))))
    tables.append(("Heads without lesions", without_lesions(parts.get("healthy", []))))
    for title, table in tables:
        if len(table) > 1:
            lines += [f"## {title}", "", *markdown(table), ""]
    return "\n".join(lines)


def mark(row: dict[str, Any], seen: Sequence[str]) -> dict[str, Any]:
    """Return a row whose source has an asterisk if the weights were trained on its case."""
    return {**row, "source": f"{row['source']} *"} if row["case"] in seen else row


def mean(values: Sequence[float], digits: int = 3) -> str:
    """Return a mean, with a bootstrap interval if there are enough values."""
    text = f"{np.mean(values):.{digits}f}"
    if len(values) < ENOUGH:
        return text
    drawn = np.random.default_rng(0).choice(np.asarray(values, float), (DRAWS, len(values))).mean(1)
    low, high = np.quantile(drawn, INTERVAL)
    return f"{text} [{low:.{digits}f}, {high:.{digits}f}]"


def grouped(rows: Rows) -> dict[tuple[str, str], Rows]:
    """Group rows by source and sequences, in their order."""
    return {
        key: [row for row in rows if (row["source"], row["sequences"]) == key]
        for key in dict.fromkeys((row["source"], row["sequences"]) for row in rows)
    }


def recall(rows: Rows, low: float = 0, high: float = np.inf) -> str:
    """Return how many lesions of a size, in mL, were found."""
    found = [hit for row in rows for ml, hit in row["lesions"] if low <= ml < high]
    return f"{sum(found)} of {len(found)} ({np.mean(found):.2f})" if found else "-"


def touched(rows: Rows) -> str:
    """Return in how many cases any lesion was found."""
    return f"{sum(any(hit for _, hit in row['lesions']) for row in rows)} of {len(rows)}"


def per_source(rows: Rows) -> list[list[str]]:
    """Return Dice and detection of each source, from all sequences that it has."""
    table = [["source", "sequences", "cases", "Dice", "lesion F1", "touched", "lesions found"]]
    for (source, sequences), group in main_choice(rows).items():
        scores = [mean([row[key] for row in group]) for key in ("dice", "lesion_f1")]
        table.append([source, sequences, str(len(group)), *scores, touched(group), recall(group)])
    return table


def per_size(rows: Rows) -> list[list[str]]:
    """Return the lesions found by their size, and the false ones; volumes only."""
    table = [["source", *SIZES, "false lesions per scan", "their mL per scan"]]
    for (source, _), group in main_choice(rows).items():
        if "slices" not in source:
            sizes = [recall(group, *limits) for limits in SIZES.values()]
            table.append([source, *sizes, *false_lesions(group, np.mean)])
    return table


def main_choice(rows: Rows) -> dict[tuple[str, str], Rows]:
    """Return the groups with all sequences of their source: those of slices have FLAIR alone."""
    return {key: group for key, group in grouped(rows).items() if key[1] == "all" or "slices" in key[0]}


def false_lesions(rows: Rows, summary: Callable[..., Any]) -> list[str]:
    """Return number and volume (mL) of the false lesions of each case, summarised by a function such as the mean."""
    counts = [len(row["false_ml"]) for row in rows]
    return [f"{summary(counts):.1f}", f"{summary([sum(row['false_ml']) for row in rows]):.2f}"]


def per_sequence(rows: Rows) -> list[list[str]]:
    """Return the figures of each choice of sequences for the sources that have several."""
    groups = grouped([row for row in rows if "slices" not in row["source"]])
    table = [["source", "sequences", "Dice", "touched", "lesions found", "false lesions per scan", "their mL per scan"]]
    for (source, sequences), group in groups.items():
        dice = mean([row["dice"] for row in group])
        table.append([source, sequences, dice, touched(group), recall(group), *false_lesions(group, np.mean)])
    return table


def whole_heads(rows: Rows) -> list[list[str]]:
    """Return Dice and the lesions outside the brain, with the bundle's own preparation (first) and a perfect one."""
    table = [["preparation", "heads", "Dice", "worst", "lesions found", "mL outside the brain", "worst"]]
    for (source, _), group in grouped(rows).items():
        dice, outside = ([row[key] for row in group] for key in ("dice", "outside_ml"))
        cells = [source, str(len(group)), mean(dice), f"{min(dice):.3f}", recall(group)]
        table.append([*cells, f"{np.mean(outside):.3f}", f"{max(outside):.3f}"])
    if len(table) == 3:
        own, perfect = ([row["dice"] for row in group] for group in grouped(rows).values())
        losses = np.subtract(perfect, own)
        table.append(["loss by the preparation", str(len(losses)), mean(losses), f"{max(losses):.3f}", "", "", ""])
    return table


def raw_study(rows: Rows) -> list[list[str]]:
    """Return lesion volumes with the bundle's preparation and with the publishers'."""
    table = [["visit", "own preparation", "publishers' transforms and brain mask", "mL outside their mask"]]
    for row in rows:
        ours, theirs = (f"{row[f'{key}_ml']:.2f} mL in {row[f'{key}_count']}" for key in ("ours", "published"))
        table.append([row["visit"], ours, theirs, f"{row['outside_ml']:.3f}"])
    return table


def without_lesions(rows: Rows) -> list[list[str]]:
    """Return number and volume of false lesions in heads that have none: mean and worst."""
    table = [["heads", "number", "false lesions, mean", "mL, mean", "false lesions, worst", "mL, worst"]]
    groups = {source: group for (source, _), group in grouped(rows).items()}
    for name, group in {**groups, "all": rows}.items() if rows else ():
        table.append([name, str(len(group)), *false_lesions(group, np.mean), *false_lesions(group, np.max)])
    return table
