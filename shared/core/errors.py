"""One clear line for bad input: what is wrong, where, and what to do."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from types import TracebackType

MAX_LINES = 20


class InputError(ValueError):
    """Something the user gave cannot be used; the message is one line that names the thing and the remedy.

    Args:
        message: the text for the user; several problems are one line each.
        problems: all problems, where the message names only the first ones; None takes the lines of the message.
    """

    def __init__(self, message: str = "", problems: Sequence[str] | None = None) -> None:
        super().__init__(message)
        self.problems = message.splitlines() if problems is None else list(problems)


class OutputError(InputError):
    """Results cannot be written, as on a full disk; the next case would fail as well."""


def require(problems: Sequence[str]) -> None:
    """Raise an error if there are problems.

    Args:
        problems: one line each, as the functions of `shared.datasets.preflight` return them.

    Raises:
        InputError: there is a problem; the message holds the first 20 lines and the number of further ones, and its
            ``problems`` all of them.

    """
    if problems:
        rest = len(problems) - MAX_LINES
        lines = [*problems[:MAX_LINES], *([f"... and {rest} more"] if rest > 0 else [])]
        raise InputError("\n".join(lines), problems)


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield `error`, the error that caused it or was being handled when it was raised, and so on."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        yield error
        seen.add(id(error))
        error = error.__cause__ or error.__context__


def find_input_error(error: BaseException | None) -> InputError | None:
    """Return the first `InputError` in the chain of causes of `error`, or None.

    MONAI wraps what a transform raises into a ``RuntimeError``; the line for the user is in its cause. An error in a
    worker of torch's `DataLoader` arrives as the text of its traceback; the line is in that text.
    """
    for cause in causes(error):
        worker = re.search(r"^shared\.core\.errors\.(?:Input|Output)Error: (.+)$", str(cause), re.MULTILINE)
        if worker:
            return InputError(worker[1])
        if isinstance(cause, InputError):
            return cause
    return None


def install_one_line_errors() -> None:
    """Make the interpreter print an uncaught `InputError` as one line on stderr, with exit code 1.

    Ctrl-C is one line, too, and ends the process as usual. Every other error keeps its traceback. It changes the
    process, so only a command line entry calls it; a second call has no effect.
    """
    previous = sys.excepthook
    if getattr(previous, "prints_input_errors", False):
        return

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        found = find_input_error(error)
        if isinstance(error, KeyboardInterrupt):
            print("\nstopped", file=sys.stderr)
        elif found is None:
            previous(kind, error, trace)
        else:
            print(f"error: {found}", file=sys.stderr)

    hook.prints_input_errors = True  # type: ignore[attr-defined]
    sys.excepthook = hook
