"""The words that were typed after ``python -m monai.bundle run``."""

from __future__ import annotations

import ast
import sys
from collections.abc import Sequence
from pathlib import Path

from monai.bundle import ConfigParser
from monai.utils import ensure_tuple


def given_words(words: Sequence[str] | None = None) -> dict[str, str]:
    """Return the options of a command line with the words that were typed for them.

    Args:
        words: the command line after the program's name, default `sys.argv`; ``--name value`` and ``--name=value``.
    """
    given = list(sys.argv[1:] if words is None else words)
    found = {}
    for word, following in zip(given, [*given[1:], "--"]):
        name, equals, value = word.partition("=")
        if not name.startswith("--") or len(name) < 3:
            continue
        if equals:
            found[name[2:]] = value
        elif not following.startswith("--"):
            found[name[2:]] = following
    return found


def config_files(words: Sequence[str] | None = None) -> tuple[str, ...]:
    """Return the config files that a command line names, in order; none where it names none.

    Args:
        words: the command line after the program's name, default `sys.argv`.
    """
    given = given_words(words)
    value, arguments = given.get("config_file"), given.get("args_file")
    if value is None and arguments is not None and Path(arguments).is_file():
        return tuple(map(str, ensure_tuple(ConfigParser.load_config_file(arguments).get("config_file") or ())))
    if value is None:
        return ()
    try:
        return tuple(map(str, ensure_tuple(ast.literal_eval(value))))
    except (ValueError, SyntaxError):
        return (value,)
