"""Float32 inside a network that runs under autocast."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor


def full_precision(x: Tensor) -> AbstractContextManager:
    """Switch autocast off for a block of code, so that products of float32 tensors stay float32.

    ``x.float()`` alone is not enough: autocast casts the operands of the next matrix product back.

    Args:
        x: a tensor on the device in question.
    """
    kind = x.device.type
    return torch.autocast(kind, enabled=False) if torch.is_autocast_enabled(kind) else nullcontext()
