"""One number per region, as a tensor that fits masks (R, ...)."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from shared.core.errors import InputError

Numbers = float | Sequence[float]


def per_region(name: str, numbers: Numbers, masks: torch.Tensor) -> torch.Tensor:
    """Return numbers in a shape that broadcasts over masks.

    Args:
        name: the option that gives the numbers, for messages.
        numbers: one for all regions, or one per region.
        masks: (R, ...), floating point.

    Returns:
        (1, 1, ...) or (R, 1, ...), of the type and on the device of `masks`.

    Raises:
        InputError: the count of numbers is neither 1 nor R.
    """
    values = torch.as_tensor(numbers, dtype=masks.dtype, device=masks.device).reshape(-1)
    if len(values) not in (1, len(masks)):
        raise InputError(f"--{name} has {len(values)} numbers for {len(masks)} regions: give one, or one per region")
    return values.reshape(-1, *[1] * (masks.ndim - 1))
