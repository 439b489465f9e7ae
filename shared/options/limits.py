"""What an option can be, beyond its type: a range, a length, a device that is there, classes of known labels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from numbers import Real
from typing import Any

import torch

from shared.core.messages import reason

LEAST = {  # inclusive
    **dict.fromkeys(("epochs", "batch_size", "val_batch_size", "val_interval", "patches_per_volume", "lora_rank"), 1),
    **dict.fromkeys(("patch_size", "image_size", "encoder_size", "feature_stride", "max_length", "channels"), 1),
    **dict.fromkeys(("num_workers", "overlays", "seed", "deep_supervision", "guidance_layers", "em_iterations"), 0),
    **dict.fromkeys(("num_context", "num_free", "cluster_pictures", "attention_pictures", "learning_rate"), 0),
    "colour_range": 0,
}
SHARES = (  # 0 to 1
    *("cache_rate", "modality_drop", "null_share", "balance"),
    *("flip_prob", "rephrase_prob", "colour_prob", "nested_prob"),
)
PARTS = ("overlap", "dropout")  # from 0, below 1
ABOVE_ZERO = ("temperature", "target_temperature", "nested_gamma")
LENGTHS = {"patch_size": 2, "image_size": 2, "pixdim": 3, "nested_gamma": 2}  # of those that are lists
CLASSES = (("regions", "region_values"), ("structures", "structure_values"))


def impossible_overrides(config: Mapping[str, Any]) -> list[str]:
    """Find top-level values that no run can have.

    Args:
        config: the merged config; names that it lacks and values that MONAI makes are left aside.

    Returns:
        One line each, e.g. ``override 'epochs' is 0: it must be at least 1``.
    """
    checks = (_out_of_range, _of_another_length, _device, _classes, _nested)
    return [line for check in checks for line in check(config)]


def _out_of_range(config: Mapping[str, Any]) -> Iterator[str]:
    for key, value in config.items():
        numbers = [n for n in (value if isinstance(value, (list, tuple)) else [value]) if _is_number(n)]
        if key in LEAST and any(n < LEAST[key] for n in numbers):
            yield f"override '{key}' is {value}: it must be at least {LEAST[key]}"
        elif key in SHARES and any(not 0 <= n <= 1 for n in numbers):
            yield f"override '{key}' is {value}: it must lie between 0 and 1"
        elif key in PARTS and any(not 0 <= n < 1 for n in numbers):
            yield f"override '{key}' is {value}: it must be at least 0 and below 1"
        elif key in ABOVE_ZERO and any(n <= 0 for n in numbers):
            yield f"override '{key}' is {value}: it must be above 0"


def _of_another_length(config: Mapping[str, Any]) -> Iterator[str]:
    for key, length in LENGTHS.items():
        value = config.get(key)
        if isinstance(value, (list, tuple)) and len(value) != length:
            yield f"override '{key}' is {list(value)}: it takes {length} numbers"


def _device(config: Mapping[str, Any]) -> Iterator[str]:
    device = config.get("device")
    if isinstance(device, torch.device) or (isinstance(device, str) and not _expression(device)):
        try:
            torch.zeros(1, device=device)
        except Exception as error:  # of many kinds: no driver, no such index, unknown word
            yield f"override 'device' is '{device}', which cannot be used ({reason(error)}): try --device cpu"


def _classes(config: Mapping[str, Any]) -> Iterator[str]:
    labels = config.get("labels")
    for classes, painted in CLASSES:
        named, values = config.get(classes), config.get(painted)
        if not isinstance(named, Mapping):
            continue
        if not named:
            yield f"override '{classes}' is empty: name at least one class and its label values"
        if isinstance(values, list) and len(values) != len(named):
            count = f"{len(values)} values for {len(named)} classes ({', '.join(map(str, named))})"
            yield f"override '{painted}' has {count}: give one a class"
        for name, made_of in named.items():
            unknown = [v for v in made_of if v not in labels] if isinstance(labels, list) and _plain(made_of) else []
            if unknown:
                declared = ", ".join(map(str, labels or []))
                yield f"override '{classes}': '{name}' is made of {unknown[0]}, which is no label ({declared}): add it"


def _nested(config: Mapping[str, Any]) -> Iterator[str]:
    nested, labels = config.get("nested_labels"), config.get("labels")
    if nested is None or _expression(nested) or not isinstance(labels, list):
        return
    if not (_plain(nested) and set(nested) <= set(labels)):
        declared = ", ".join(map(str, labels))
        yield f"override 'nested_labels' is {nested}: give a list of labels (of {declared}), or null for none"


def _expression(value: Any) -> bool:
    return isinstance(value, str) and value.startswith(("$", "@", "%"))


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _plain(values: Any) -> bool:
    return isinstance(values, (list, tuple)) and all(map(_is_number, values))
