"""The cases of a run in which every phase of a cine is a case of its own, so that phases are segmented one by one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

from torch.utils.data import Dataset

from shared.core.errors import InputError
from shared.datasets.datalist import Items
from shared.datasets.faults import fault_of
from shared.preparation.cine import find_cine
from shared.preparation.cine_load import PHASE

PHASES = "cine_phases"  # key of the same items: the number of phases


class PhaseDataset(Dataset):
    """A data set of single frames and of the phases of cines, in the order of the list.

    All phases of a cine share its ``case_id``; `PHASE` and `PHASES` say which one it is. The headers of cines are read
    when the list is first used, after the check before the run has marked the cases that cannot be used.

    Args:
        data: the cases.
        transform: loads and prepares one item.
        channels: names of the channels; only a single one can be a cine.

    """

    def __init__(
        self, data: Sequence[dict[str, Any]], transform: Callable[[dict[str, Any]], Any], channels: Sequence[str]
    ) -> None:
        self.cases = data
        self.transform = transform
        self.may_be_cines = len(channels) == 1

    @cached_property
    def data(self) -> Items:
        """The list of all items."""
        return [item for case in self.cases for item in (_phases(case) if self.may_be_cines else [case])]

    def __len__(self) -> int:
        """Return the number of single frames and phases."""
        return len(self.data)

    def __getitem__(self, index: int) -> Any:
        """Return one item, loaded."""
        return self.transform(self.data[index])


def _phases(case: dict[str, Any]) -> Items:
    if fault_of(case) is not None:
        return [case]
    try:
        cine = find_cine(case["image"], f"case {case['case_id']}")
    except InputError:  # loading the case says why, and the run goes on
        return [case]
    if cine is None:
        return [case]
    count = cine.shape[3]
    return [{**case, PHASE: phase, PHASES: count} for phase in range(count)]
