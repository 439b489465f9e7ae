"""``python -m shared options BUNDLE``: the options of a bundle with their help and defaults."""

from __future__ import annotations

import json
import shutil
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from shared.options.schema import is_computed, kind_of, load_schema, types_of
from shared.results.tables import markdown

HEADING = ("option", "takes", "default", "meaning")
BASES = ("train", "inference")


def option_rows(configs_dir: Path) -> list[tuple[str, str, str, str]]:
    """Return the cells of one row per option: name, type, default and meaning.

    Args:
        configs_dir: folder of the bundle's config files.
    """
    schema = load_schema(configs_dir)
    files = {base: json.loads((configs_dir / f"{base}.json").read_text(encoding="utf-8")) for base in BASES}
    return [(name, _takes(option), _default(name, files), option["description"]) for name, option in schema.items()]


def option_table(configs_dir: Path) -> str:
    """Return the options as a table for a terminal, as wide as it."""
    rows = option_rows(configs_dir)
    name_width = max(len(row[0]) for row in rows) + 2
    width = max(60, shutil.get_terminal_size().columns)
    lines = []
    for name, takes, default, meaning in rows:
        facts = f"[{takes}{f'; default {default}' if default else ''}]"
        text = textwrap.wrap(f"{meaning} {facts}", width - name_width, break_long_words=False, break_on_hyphens=False)
        lines += [f"{name if i == 0 else '':{name_width}}{part}" for i, part in enumerate(text)]
    return "\n".join(lines)


def option_markdown(configs_dir: Path) -> str:
    """Return the options as a Markdown table."""
    rows = [
        (f"`{name}`", takes, f"`{default}`" if default else "", text)
        for name, takes, default, text in option_rows(configs_dir)
    ]
    return "\n".join(line.replace("---:", "---") for line in markdown([HEADING, *rows])) + "\n"


def _takes(option: Mapping[str, Any]) -> str:
    words = ", ".join(option["enum"]) if "enum" in option else kind_of(option)
    return f"{words} or null" if "null" in types_of(option) else words


def _default(name: str, files: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the default of training and, where it differs, of inference; empty where MONAI computes it."""
    found = {
        base: json.dumps(file[name]) for base, file in files.items() if name in file and not is_computed(file[name])
    }
    if len(set(found.values())) > 1:
        return ", ".join(f"{value} ({base})" for base, value in found.items())
    return next(iter(found.values()), "")
