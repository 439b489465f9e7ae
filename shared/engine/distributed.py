"""Several processes started by torchrun: one per GPU, or on CPUs with gloo."""

from __future__ import annotations

import os
from typing import Any

import ignite.distributed as idist
import torch
from monai.data import partition_dataset
from torch.nn.parallel import DistributedDataParallel

from shared.core.errors import InputError


def start_processes() -> torch.device:
    """Join the process group that torchrun describes.

    Returns:
        The device of this process.

    Raises:
        InputError: torchrun did not start this process.
    """
    if "LOCAL_RANK" not in os.environ:
        raise InputError("this config runs under torchrun: torchrun --nproc_per_node=2 -m monai.bundle run ...")
    if idist.backend() is None:
        idist.initialize("nccl" if torch.cuda.is_available() else "gloo")
    return idist.device()


def wrap(network: torch.nn.Module, device: str | torch.device) -> DistributedDataParallel:
    """Move a network to `device` and average its gradients over all processes.

    `ignite.distributed.auto_model` would wrap a single process on a machine with several GPUs in `DataParallel`.
    """
    device = torch.device(device)
    return DistributedDataParallel(network.to(device), device_ids=[device] if device.type == "cuda" else None)


def own_share(items: list[Any], even: bool) -> list[Any]:
    """Return the part of `items` that belongs to this process.

    Args:
        items: cases of all processes.
        even: repeat some cases so that all parts have the same length.

    Raises:
        InputError: there are more processes than items; a process without items would keep the others waiting.
    """
    processes = idist.get_world_size()
    if len(items) < processes:
        count = f"{len(items)} {'case' if len(items) == 1 else 'cases'}"
        raise InputError(
            f"{count} for {processes} processes: each process needs a case of every list; start at most {len(items)}"
        )
    share = partition_dataset(items, num_partitions=processes, even_divisible=even)
    return list(share[idist.get_rank()])


def send_weights(network: torch.nn.Module) -> None:
    """Send the weights of the first process to all others."""
    for value in network.state_dict().values():
        value.copy_(idist.broadcast(value, src=0))


def stop_processes() -> None:
    """Leave the process group."""
    idist.finalize()
