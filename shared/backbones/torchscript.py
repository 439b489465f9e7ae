"""Tensors of a TorchScript archive, without running its code.

`torch.jit.load` executes what an archive contains. Here torch's restricted reader (``weights_only``) reads a copy of
the archive without its code; each scripted class becomes an empty class that only keeps its attributes.
"""

from __future__ import annotations

import io
import os
import pickletools
import zipfile
from typing import Any

import torch
from torch import Tensor

SCRIPTED = "__torch__."  # the module of every scripted class
CODE = ("code/", "constants", "traced_inputs", "extra/")  # parts of an archive that are left out


class _Scripted:
    """Attributes of one scripted object: tensors and other scripted objects among them."""


def _same(values: list[Any]) -> list[Any]:
    return values


def is_torchscript(path: str | os.PathLike) -> bool:
    """Return whether a file is an archive that `torch.jit.save` wrote."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def read_torchscript(path: str | os.PathLike) -> dict[str, Tensor]:
    """Read parameters and buffers by name onto the CPU; other tensor attributes are included.

    Args:
        path: an archive for which `is_torchscript` is true.

    Raises:
        Exception: as `torch.load` for a damaged file, or for one that asks for anything but tensors.
    """
    plain = io.BytesIO()
    with zipfile.ZipFile(path) as archive, zipfile.ZipFile(plain, "w") as copy:
        for name in archive.namelist():
            if not name.partition("/")[2].startswith(CODE):
                copy.writestr(name, archive.read(name))
        program = archive.read(next(name for name in archive.namelist() if name.endswith("/data.pkl")))
    plain.seek(0)
    calls = (str(arg).replace(" ", ".") for code, arg, _ in pickletools.genops(program) if code.name == "GLOBAL")
    classes = [(type("Scripted", (_Scripted,), {}), name) for name in set(calls) if name.startswith(SCRIPTED)]
    lists = [(_same, f"torch.jit._pickle.build_{kind}list") for kind in ("int", "double", "bool", "tensor")]
    with torch.serialization.safe_globals([*classes, *lists]):
        root = torch.load(plain, map_location="cpu", weights_only=True)
    return dict(_tensors(root, ""))


def _tensors(scripted: Any, prefix: str) -> list[tuple[str, Tensor]]:
    found: list[tuple[str, Tensor]] = []
    for name, value in vars(scripted).items():
        if torch.is_tensor(value):
            found.append((prefix + name, value))
        elif isinstance(value, _Scripted):
            found += _tensors(value, f"{prefix}{name}.")
    return found
