"""Format JSON configs: short lists and small components on one line, everything else one entry per line.

``python -m shared.options.config_format FILES`` rewrites the files, with ``--check`` it only names those that differ.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

WIDTH = 120
INDENT = 4
SHORT = 40  # entries of at most this width, such as numbers and names, share a line
COMPONENT = "_target_"  # key that makes an object a component of MONAI


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return 1 if ``--check`` finds a file to format."""
    parser = argparse.ArgumentParser(prog="python -m shared.options.config_format", description="Format JSON configs.")
    parser.add_argument("--check", action="store_true", help="name the files that are not formatted, change none")
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
    options = parser.parse_args(arguments)
    status = 0
    for file in options.files:
        text = file.read_text(encoding="utf-8")
        try:
            formatted = format_config(text)
        except ValueError as error:
            parser.error(f"{file}: {error}")
        if formatted != text:
            if options.check:
                status = 1
            else:
                file.write_text(formatted, encoding="utf-8")
            print(f"{file}: {'is not formatted' if options.check else 'formatted'}")
    return status


def format_config(text: str) -> str:
    """Format the text of a JSON file.

    Args:
        text: one JSON value.

    Returns:
        The same value with the same order of keys. The outermost entries always stand on lines of their own, a nested
        list or object on one line where it fits in `WIDTH` columns.

    Raises:
        ValueError: the text is not JSON, or an object has the same key twice.
    """
    return _expanded(json.loads(text, object_pairs_hook=_unique), 0) + "\n"


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Build an object from its entries; `json` itself silently keeps the last one of equal keys."""
    result: dict[str, Any] = {}
    for key, value in pairs:
        if key in result:
            raise ValueError(f"key {json.dumps(key)} stands twice in one object: keep one of them")
        result[key] = value
    return result


def _expanded(value: Any, depth: int) -> str:
    """Write a list or object over several lines; any other value as it is.

    The arguments of a component share lines, as in a call that does not fit on one line, and so do the words and
    numbers of a list. Every entry of another list or object begins a line.
    """
    if not value or not isinstance(value, (list, dict)):
        return _one_line(value)
    indent = " " * INDENT * (depth + 1)
    if isinstance(value, dict):
        lines = [_fitted(f"{indent}{_one_line(key)}: ", entry, depth + 1) for key, entry in value.items()]
        lines = _filled(lines) if COMPONENT in value else lines
    else:
        lines = [_element(indent, entry, depth + 1) for entry in value]
        lines = _filled(lines) if all(map(_is_short, value)) else lines
    opening, closing = "{}" if isinstance(value, dict) else "[]"
    return opening + "\n" + ",\n".join(lines) + "\n" + indent[INDENT:] + closing


def _fitted(start: str, value: Any, depth: int) -> str:
    """Write `value` behind `start`: on the same line if it fits there with a comma, else expanded."""
    line = start + _one_line(value)
    return line if len(line) < WIDTH else start + _expanded(value, depth)


def _element(indent: str, value: Any, depth: int) -> str:
    """Write an element of a list; the braces of a component with simple arguments share the lines of its arguments."""
    text = _fitted(indent, value, depth)
    if "\n" in text and isinstance(value, dict) and COMPONENT in value:
        arguments = [f"{indent} {_one_line(key)}: {_one_line(entry)}" for key, entry in value.items()]
        if max(map(len, arguments)) < WIDTH - 1:
            return indent + "{" + ",\n".join(_filled(arguments, WIDTH - 1)).lstrip() + "}"
    return text


def _filled(lines: list[str], width: int = WIDTH) -> list[str]:
    """Join neighbours that fit on one line together, with a comma at its end."""
    result = lines[:1]
    for line in lines[1:]:
        joined = f"{result[-1]}, {line.lstrip()}"
        if "\n" not in joined and len(joined) < width:
            result[-1] = joined
        else:
            result.append(line)
    return result


def _is_short(value: Any) -> bool:
    """Return whether a value is a number or a short text, and not a list or an object."""
    return not isinstance(value, (list, dict)) and len(_one_line(value)) <= SHORT


def _one_line(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


if __name__ == "__main__":
    raise SystemExit(main())
