"""What was typed after ``python -m monai.bundle run``."""

from __future__ import annotations

import ast
import sys
from collections.abc import Sequence
from pathlib import Path

from monai.bundle import ConfigParser
from monai.utils import ensure_tuple


def config_files(words: Sequence[str] | None = None) -> tuple[str, ...]:
    """Return the config files that the command line names, in order; none where it names none.

    Args:
        words: the command line after the program's name, default `sys.argv`.
    """
    given = sys.argv[1:] if words is None else list(words)
    value = _value(given, "config_file")
    arguments = _value(given, "args_file")
    if value is None and arguments is not None and Path(arguments).is_file():
        return tuple(map(str, ensure_tuple(ConfigParser.load_config_file(arguments).get("config_file") or ())))
    if value is None:
        return ()
    try:
        return tuple(map(str, ensure_tuple(ast.literal_eval(value))))
    except (ValueError, SyntaxError):
        return (value,)


def _value(words: Sequence[str], name: str) -> str | None:
    """Return the value of ``--name value`` or ``--name=value``."""
    for word, following in zip(words, [*words[1:], None]):
        if word in (f"--{name}", f"-{name}"):
            return following
        if word.startswith(f"--{name}="):
            return word.partition("=")[2]
    return None
