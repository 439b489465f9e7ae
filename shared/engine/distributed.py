"""Several processes, started by torchrun: one a GPU, or on CPUs with gloo."""

from __future__ import annotations

import os
from typing import Any

import torch
import torch.distributed as dist
from monai.data import partition_dataset
from torch.nn.parallel import DistributedDataParallel

from shared.core.errors import InputError


def start_processes() -> torch.device:
    """Join the process group that torchrun describes and return this process's device.

    Raises:
        InputError: not started by torchrun.
    """
    if "LOCAL_RANK" not in os.environ:
        raise InputError("this config runs under torchrun: torchrun --nproc_per_node=2 -m monai.bundle run ...")
    gpu = torch.cuda.is_available()
    device = torch.device(f"cuda:{os.environ['LOCAL_RANK']}" if gpu else "cpu")
    if gpu:
        torch.cuda.set_device(device)
    if not dist.is_initialized():
        dist.init_process_group("nccl" if gpu else "gloo")
    return device


def wrap(network: torch.nn.Module, device: str | torch.device) -> DistributedDataParallel:
    """Move a network to `device` and average its gradients over all processes."""
    device = torch.device(device)
    return DistributedDataParallel(network.to(device), device_ids=[device] if device.type == "cuda" else None)


def own_share(items: list[Any], even: bool) -> list[Any]:
    """This process's part of `items`; with `even`, some repeat so that all parts are equally long.

    Raises:
        InputError: there are more processes than items; a process without any would keep the others waiting.
    """
    processes = dist.get_world_size()
    if len(items) < processes:
        count = f"{len(items)} {'case' if len(items) == 1 else 'cases'}"
        raise InputError(
            f"{count} for {processes} processes: each needs one in every list, start {len(items)} or fewer"
        )
    share = partition_dataset(items, num_partitions=processes, even_divisible=even)
    return list(share[dist.get_rank()])


def stop_processes() -> None:
    """Leave the process group."""
    if dist.is_initialized():
        dist.destroy_process_group()
