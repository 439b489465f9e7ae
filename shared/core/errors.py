"""One clear line for bad input: what is wrong, where, and what to do."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from types import TracebackType

MAX_LINES = 20


class InputError(ValueError):
    """Something the user gave cannot be used; the message is one line that names the thing and the remedy."""


def require(problems: Sequence[str]) -> None:
    """Raise what was found.

    Args:
        problems: a line each, as the functions of `shared.datasets.preflight` return them.

    Raises:
        InputError: there is a problem; its message is the line, or of several the first 20 lines and a count.

    """
    if problems:
        rest = len(problems) - MAX_LINES
        raise InputError("\n".join([*problems[:MAX_LINES], *([f"... and {rest} more"] if rest > 0 else [])]))


def find_input_error(error: BaseException | None) -> InputError | None:
    """Return the first `InputError` in the chain of causes of `error`, or None.

    MONAI wraps what a transform raises into a ``RuntimeError``; the line that a user needs is its cause.
    """
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        if isinstance(error, InputError):
            return error
        # torch passes on what a loader's worker raised as text: the line is in it, the cause is not.
        worker = re.search(r"^shared\.core\.errors\.InputError: (.+)$", str(error), re.MULTILINE)
        if worker:
            return InputError(worker[1])
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return None


def install_one_line_errors() -> None:
    """Make the interpreter print an uncaught `InputError` as one line on stderr, exit code 1, without a traceback.

    Every other error keeps its traceback. Calling it twice is harmless.
    """
    previous = sys.excepthook
    if getattr(previous, "prints_input_errors", False):
        return

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        found = find_input_error(error)
        if found is None:
            previous(kind, error, trace)
        else:
            print(f"error: {found}", file=sys.stderr)

    hook.prints_input_errors = True  # type: ignore[attr-defined]
    sys.excepthook = hook
