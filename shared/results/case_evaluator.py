"""Inference over many cases that goes on after a case that fails."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from monai.engines import SupervisedEvaluator

from shared.core.errors import InputError, OutputError, find_input_error
from shared.core.messages import reason
from shared.datasets.faults import faults


@dataclass
class UnreadBatch:
    """Stands for a batch that cannot be read."""

    case_ids: list[str]
    error: Exception


class CaseLoader:
    """Iterate over a torch `DataLoader`, and yield an `UnreadBatch` where reading fails, or an item is marked.

    Args:
        loader: unshuffled, over a dataset with ``data``, the list of its items. An item that is marked as one that
            cannot be used (see `shared.datasets.faults`) never reaches the network, even if its files can be read.

    """

    def __init__(self, loader: torch.utils.data.DataLoader) -> None:
        self.loader = loader

    def __len__(self) -> int:
        """Return the number of batches."""
        return len(self.loader)

    def __iter__(self) -> Iterator[Any]:
        """Yield every batch, or an `UnreadBatch` in its place."""
        batches, size = iter(self.loader), self.loader.batch_size or 1
        items = getattr(self.loader.dataset, "data", [])
        for number in range(len(self)):
            part = items[number * size : (number + 1) * size]
            case_ids = [str(item.get("case_id", number)) for item in part] or [str(number)]
            fault = next(iter(faults(part)), None)
            try:
                batch = next(batches)
            except StopIteration:
                return
            except Exception as error:
                yield UnreadBatch(case_ids, error if fault is None else InputError(fault))
            else:
                yield batch if fault is None else UnreadBatch(case_ids, InputError(fault))


class CaseEvaluator(SupervisedEvaluator):
    """A `SupervisedEvaluator` that goes on with the next batch when one fails, and remembers why it failed.

    A run over a single batch raises the error, as does one that cannot write its results: every other case would fail
    as well. Errors other than `InputError` are printed with their traceback.

    Attributes:
        failures: ``case_id`` -> one line that says what is wrong.

    """

    def __init__(self, device: Any, val_data_loader: Any, network: torch.nn.Module, **options: Any) -> None:
        self.failures: dict[str, str] = {}
        super().__init__(device, CaseLoader(val_data_loader), network, **options)

    def _iteration(self, engine: Any, batchdata: Any) -> Any:
        """Compute one batch; a batch that fails has no output."""
        try:
            if isinstance(batchdata, UnreadBatch):
                raise batchdata.error
            return super()._iteration(engine, batchdata)
        except Exception as error:
            if len(self.data_loader) == 1 or isinstance(find_input_error(error), OutputError):  # type: ignore[arg-type]
                raise
            self._remember(_case_ids(batchdata), error)
            engine.state.batch = []
            return []

    def _remember(self, case_ids: list[str], error: Exception) -> None:
        found = find_input_error(error)
        if found is None:
            print(file=sys.stderr)  # ends the line of a progress bar
            traceback.print_exception(error)
        line = str(found) if found else f"{type(error).__name__}: {reason(error)}"
        for case_id in case_ids:
            self.failures[case_id] = line.removeprefix(f"case {case_id}: ")


def _case_ids(batch: Any) -> list[str]:
    return batch.case_ids if isinstance(batch, UnreadBatch) else [str(case_id) for case_id in batch["case_id"]]
