"""Cases of a list that cannot be used, each with its reason, so that an inference can go on with the others.

Whatever reads a list marks such a case: an entry without an image when the list is read, a missing or damaged file when
the headers are checked. A marked case stays in the list until the end of the run, which names it there again.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping, Sequence
from typing import Any

from shared.core.errors import require

FAULT = "fault"  # key of a marked case; its value is one line


def mark(item: MutableMapping[str, Any], problems: Sequence[str]) -> None:
    """Mark a case as one that cannot be used.

    Args:
        item: the case.
        problems: one line each, at least one; the mark shows the first.
    """
    more = f" (and {len(problems) - 1} more: python -m shared check lists them)" if len(problems) > 1 else ""
    item[FAULT] = problems[0] + more


def fault_of(item: Mapping[str, Any]) -> str | None:
    """Return the line that says why a case cannot be used, or None for a case that can."""
    return item.get(FAULT)


def faults(items: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the lines of all marked cases, in their order."""
    return [line for item in items if (line := fault_of(item)) is not None]


def name_left_out(items: Sequence[Mapping[str, Any]]) -> None:
    """Print the marked cases before a run, which leaves them out.

    Raises:
        InputError: no case is left, as where the only one is marked; one line per case.
    """
    lines = faults(items)
    if len(lines) == len(items):
        require(lines)
    if lines:
        count = f"{len(lines)} of {len(items)} cases"
        print("\n".join([f"{count} cannot be used and are left out:", *(f"  {line}" for line in lines)]), flush=True)
