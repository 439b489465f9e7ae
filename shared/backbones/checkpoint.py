"""Weights from files: read without running any code of the file, compared with the network, then loaded."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from shared.backbones.torchscript import is_torchscript, read_torchscript
from shared.core.errors import InputError
from shared.core.messages import reason

Network = TypeVar("Network", bound=nn.Module)

WRAPPERS = ("network", "model", "state_dict")  # keys under which training programs keep a state_dict


def load_weights(
    network: nn.Module,
    path: str | os.PathLike,
    remedy: str = "give --ckpt_dir the folder of a model.pt, or train first",
) -> None:
    """Load a file of weights into a network; every name and shape must agree.

    Args:
        network: may be wrapped for training on several devices (`DataParallel`, `DistributedDataParallel`).
        path: ``model.pt`` or ``last.pt`` of a training, or another file that `read_checkpoint` reads.
        remedy: what to do if there is no such file, for the error message.

    Raises:
        InputError: the file is missing, cannot be read, belongs to another network, or holds NaN or infinity.
    """
    if not Path(path).is_file():
        raise InputError(f"weights {path} not found: {remedy}")
    weights = read_checkpoint(path, "weights")
    own = getattr(network, "module", network)
    wrong = misfits(own.state_dict(), weights)
    if wrong:
        raise InputError(f"weights {path} belong to another network ({wrong}): give the options they were trained with")
    check_finite(weights, f"weights {path}")
    own.load_state_dict(weights)


def load_initial(network: nn.Module, path: str | os.PathLike | None = None) -> None:
    """Load the weights from which a training starts; without a file the network keeps its random ones.

    Raises:
        InputError: as `load_weights`.
    """
    if path is not None:
        load_weights(network, path, "give --weights the path of a file, or leave it out")


def load_strictly(
    module: nn.Module, weights: Mapping[str, Tensor], label: str, path: str | Path | None, ignore: tuple[str, ...] = ()
) -> None:
    """Load the weights of a pretrained encoder; every name and shape must agree.

    Args:
        module: the encoder.
        weights: by name, as `read_checkpoint` returns them.
        label: the encoder's name, for the error message.
        path: the file, for the error message.
        ignore: beginnings of names that the file may hold in addition.

    Raises:
        InputError: names or shapes differ, or the weights hold NaN or infinity.
    """
    own = module.state_dict()
    kept = {name: value for name, value in weights.items() if name in own or not (ignore and name.startswith(ignore))}
    wrong = misfits(own, kept)
    if wrong:
        raise InputError(f"checkpoint {path} does not fit {label}: {wrong}")
    check_finite(kept, f"checkpoint {path}")
    module.load_state_dict(kept)


def load_trained(network: Network, path: Path, label: str) -> Network:
    """Load weights of our own, which are stored as float16; return the network in evaluation mode.

    Args:
        network: any network.
        path: the file.
        label: what the network is, for the error message.

    Raises:
        InputError: the file is missing or does not fit.
    """
    tensors = {name: tensor.float() for name, tensor in read_checkpoint(path, "weights").items()}
    load_strictly(network, tensors, label, path)
    return network.eval()


def read_checkpoint(path: str | os.PathLike, kind: str = "checkpoint") -> dict[str, Tensor]:
    """Read the tensors of a file onto the CPU.

    Nothing in the file is executed: torch files are read with ``weights_only``, of a TorchScript archive only the
    tensors are read, and safetensors files hold nothing else. A state_dict inside {"model": ...} or a similar
    dictionary is unwrapped, and the prefix ``module.`` that `DistributedDataParallel` adds is removed.

    Args:
        path: a torch file, a TorchScript archive, or a safetensors file (by its ending).
        kind: the first word of error messages.

    Raises:
        InputError: the file is missing or empty, is not one of these, or holds no tensors.
    """
    path = Path(path)
    if path.is_dir():
        raise InputError(f"{kind} {path}: a folder, not a file")
    if not path.is_file():
        raise InputError(f"{kind} {path}: no such file")
    with path.open("rb") as file:
        head = file.read(512).lstrip().lower()
    if not head:
        raise InputError(f"{kind} {path}: the file is empty, download it again")
    if head.startswith((b"<!doctype", b"<html", b"<?xml")):
        raise InputError(f"{kind} {path}: an HTML page, not weights; download the file itself")
    content = _read(path, kind)
    for key in WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict):
        raise InputError(f"{kind} {path}: holds a {type(content).__name__}, not a dictionary of tensors")
    tensors = {str(name).removeprefix("module."): value for name, value in content.items() if torch.is_tensor(value)}
    if not tensors:
        raise InputError(f"{kind} {path}: holds no tensors")
    return tensors


def _read(path: Path, kind: str) -> Any:
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        try:
            return load_file(path)
        except Exception as error:  # safetensors' own errors have no common class
            raise InputError(f"{kind} {path}: not a safetensors file, or cut short ({reason(error)})") from error
    try:
        if is_torchscript(path):
            return read_torchscript(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a file that it did not write
        hint = "save the state_dict alone: torch.save(network.state_dict(), ...)"
        detail = type(error).__name__
        raise InputError(
            f"{kind} {path}: not a torch file of plain tensors, or cut short ({detail}); download it again, or {hint}"
        ) from error


def check_finite(weights: Mapping[str, Tensor], source: str) -> None:
    """Refuse weights with NaN or infinity: a network with them finds nothing, which looks like a healthy patient.

    Args:
        weights: tensors by name; integers always pass.
        source: where they come from, the beginning of the error message.

    Raises:
        InputError: a tensor holds NaN or infinity.
    """
    broken = [name for name, value in weights.items() if value.is_floating_point() and not value.isfinite().all()]
    if broken:
        count = f"{len(broken)} of {len(weights)} tensors hold NaN or infinity, such as {broken[0]}"
        raise InputError(f"{source}: {count}: the file is damaged or its training diverged; use other weights")


def misfits(wanted: Mapping[str, Tensor], found: Mapping[str, Any]) -> str:
    """Say in a few words how two state_dicts differ; an empty string if they fit.

    Args:
        wanted: the network's own state_dict.
        found: the file's.
    """
    missing = sorted(wanted.keys() - found.keys())
    unknown = sorted(found.keys() - wanted.keys())
    shapes = {
        name: (tuple(getattr(found[name], "shape", ())), tuple(wanted[name].shape)) for name in wanted if name in found
    }
    other = [f"{name}: {given} in place of {own}" for name, (given, own) in sorted(shapes.items()) if given != own]
    parts = (("missing", missing), ("unknown", unknown), ("of another shape", other))
    return "; ".join(f"{len(names)} {what}, e.g. {names[0]}" for what, names in parts if names)
