"""Weights from files: nothing in them is executed, and wrong or damaged ones are refused in one line."""

from __future__ import annotations

import os
import pickle
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from shared.backbones.checkpoint import (
    check_finite,
    load_initial,
    load_strictly,
    load_weights,
    misfits,
    read_checkpoint,
)
from shared.core.errors import InputError
from tests.warm import run_code

ROOT = Path(__file__).parents[2]


def one_line(error) -> str:
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_missing_file_of_weights_is_named(tmp_path):
    with pytest.raises(InputError, match=r"model\.pt not found") as error:
        load_weights(nn.Linear(2, 2), tmp_path / "model.pt")
    assert "--ckpt_dir" in one_line(error)
    with pytest.raises(InputError, match="give --weights the path of a file"):
        load_initial(nn.Linear(2, 2), tmp_path / "model.pt")


def test_without_a_file_training_starts_from_the_networks_own_weights():
    network = nn.Linear(2, 2)
    before = network.weight.clone()
    load_initial(network)
    assert torch.equal(network.weight, before)


@pytest.mark.parametrize("content", ["empty", "text", "half", "tensor", "list", "folder"])
def test_a_file_without_weights_is_refused(tmp_path, content):
    path = tmp_path / "model.pt"
    torch.save({"tensor": torch.zeros(3), "list": [1]}.get(content, nn.Linear(200, 20).state_dict()), path)
    data = path.read_bytes()
    path.write_bytes({"empty": b"", "text": b"<html>", "half": data[: len(data) // 2]}.get(content, data))
    with pytest.raises(InputError, match=r"model\.pt") as error:
        load_weights(nn.Linear(2, 2), path if content != "folder" else _folder(tmp_path / "models" / "model.pt"))
    one_line(error)


def _folder(path: Path) -> Path:
    path.mkdir(parents=True)
    return path


@pytest.mark.parametrize("other", [nn.Linear(3, 2), nn.Linear(2, 2, bias=False), nn.Sequential(nn.Linear(2, 2))])
def test_weights_of_another_network_are_refused_and_change_nothing(tmp_path, other):
    torch.save(other.state_dict(), tmp_path / "model.pt")
    network = nn.Linear(2, 2)
    before = network.weight.clone()
    with pytest.raises(InputError, match="another network") as error:
        load_weights(network, tmp_path / "model.pt")
    one_line(error)
    assert torch.equal(network.weight, before)


@pytest.mark.parametrize("wrapper", ["network", "model", "state_dict", None])
def test_weights_may_be_wrapped(tmp_path, wrapper):
    source, network = nn.Linear(2, 2), nn.Linear(2, 2)
    torch.save({wrapper: source.state_dict()} if wrapper else source.state_dict(), tmp_path / "model.pt")
    load_weights(network, tmp_path / "model.pt")
    assert torch.equal(network.weight, source.weight)
    load_weights(nn.DataParallel(network), tmp_path / "model.pt")


def test_weights_of_several_processes_lose_their_prefix(tmp_path):
    source, network = nn.Linear(2, 2), nn.Linear(2, 2)
    torch.save(nn.DataParallel(source).state_dict(), tmp_path / "model.pt")
    load_weights(network, tmp_path / "model.pt")
    assert torch.equal(network.weight, source.weight)


def test_safetensors_are_read(tmp_path):
    source, network = nn.Linear(2, 2), nn.Linear(2, 2)
    save_file(source.state_dict(), tmp_path / "model.safetensors")
    load_weights(network, tmp_path / "model.safetensors")
    assert torch.equal(network.weight, source.weight)


def test_misfits_say_what_is_missing_unknown_and_of_another_shape():
    wanted = {name: torch.zeros(2) for name in ("a", "b", "c")}
    assert misfits(wanted, dict(wanted)) == ""
    found = {"b": torch.zeros(3), "c": torch.zeros(2), "y": torch.zeros(1), "x": torch.zeros(1)}
    shape = "1 of another shape, e.g. b: (3,) in place of (2,)"
    assert misfits(wanted, found) == f"1 missing, e.g. a; 2 unknown, e.g. x; {shape}"
    assert "of another shape" in misfits({"a": torch.zeros(2)}, {"a": 3})


# Values that are not finite


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_weights_with_nan_or_infinity_are_refused(tmp_path, value, dtype):
    network = nn.Linear(2, 2)
    before = network.weight.clone()
    state = {name: tensor.to(dtype) for name, tensor in nn.Linear(2, 2).state_dict().items()}
    state["weight"][1, 0] = value
    torch.save(state, tmp_path / "model.pt")
    for load in (load_weights, lambda net, path: load_strictly(net, read_checkpoint(path), "encoder x", path)):
        with pytest.raises(InputError, match="1 of 2 tensors hold NaN or infinity, such as weight") as error:
            load(network, tmp_path / "model.pt")
        assert "model.pt" in one_line(error)
    assert torch.equal(network.weight, before)


def test_integers_are_always_finite():
    check_finite({"count": torch.tensor(3), "mask": torch.ones(2, dtype=torch.bool)}, "weights x")


# Files that want to run code


class Harmful:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


class Scripted(nn.Module):
    """A network whose archive holds parameters, buffers, lists, constants and code."""

    def __init__(self, width: int = 3) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(3, width), nn.BatchNorm1d(width), nn.GELU())
        self.sizes = [1, 2]
        self.scale = 1.5
        self.register_buffer("table", torch.ones(2).half())

    def forward(self, x):
        return self.body(x) * self.scale + len(self.sizes)


def archive(path: Path, network: nn.Module, traced: bool = False) -> Path:
    made = torch.jit.trace(network, torch.zeros(2, 3)) if traced else torch.jit.script(network)
    torch.jit.save(made, path)
    return path


def with_program(source: Path, path: Path, program: bytes) -> Path:
    """A copy of an archive whose data.pkl is another pickle."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            new.writestr(name, program if name.endswith("/data.pkl") else old.read(name))
    return path


@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning")
@pytest.mark.parametrize("traced", [False, True])
def test_tensors_of_a_torchscript_archive_are_read_without_torch_jit(tmp_path, traced, monkeypatch):
    source = Scripted().eval()
    path = archive(tmp_path / "model.ts", source, traced)
    monkeypatch.setattr(torch.jit, "load", None)
    found = read_checkpoint(path)
    wanted = source.state_dict()
    assert all(torch.equal(found[name], value) for name, value in wanted.items())
    assert found.keys() >= wanted.keys() and found["body.1.num_batches_tracked"].dtype == torch.int64
    network = Scripted()
    load_weights(network, path)
    assert torch.equal(network.body[0].weight, source.body[0].weight)


@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning")
@pytest.mark.parametrize("kind", ["pickle", "torch file", "archive", "scripted class"])
def test_no_code_of_a_file_is_run(tmp_path, kind):
    """Whatever asks for a function or a class of its own is refused, also inside a TorchScript archive."""
    trap, path = tmp_path / "trap", tmp_path / "model.pt"
    if kind == "pickle":
        path.write_bytes(pickle.dumps({"weight": Harmful(trap)}))
    elif kind == "torch file":
        torch.save({"weight": Harmful(trap)}, path)
    else:
        harmful = pickle.dumps(Harmful(trap), protocol=2)
        if kind == "scripted class":
            harmful = harmful.replace(b"cposix\nmkdir\n", b"c__torch__.posix\nmkdir\n")
        with_program(archive(tmp_path / "good.ts", Scripted()), path, harmful)
    with pytest.raises(InputError, match="not a torch file of plain tensors, or cut short") as error:
        read_checkpoint(path)
    assert "state_dict" in one_line(error)
    assert not trap.exists()


@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning")
def test_code_of_an_archive_that_writes_a_file_is_not_run(tmp_path):
    """`torch.jit.load` runs an archive's ``__setstate__``; the archive below writes a file in it."""

    class Writing(nn.Module):
        def __init__(self, path: str) -> None:
            super().__init__()
            self.path = path
            self.weight = nn.Parameter(torch.ones(2))

        @torch.jit.export
        def __getstate__(self) -> tuple[str, torch.Tensor, bool]:
            return self.path, self.weight, self.training

        @torch.jit.export
        def __setstate__(self, state: tuple[str, torch.Tensor, bool]) -> None:
            self.path = state[0]
            self.weight = state[1]
            self.training = state[2]
            torch.save(state[1], state[0])

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * self.weight

    trap = tmp_path / "trap.pt"
    torch.jit.save(torch.jit.script(Writing(str(trap))), tmp_path / "model.ts")
    torch.jit.load(tmp_path / "model.ts")
    assert trap.exists(), "the archive is the attack that it is meant to be"
    trap.unlink()
    with pytest.raises(InputError):
        load_weights(nn.Linear(2, 2), tmp_path / "model.ts")
    assert not trap.exists()


# Packages


@pytest.mark.parametrize(
    "module", ["emclip.network", "tmca.network", "shared.backbones.checkpoint", "shared.backbones.text"]
)
def test_segment_anything_is_needed_by_sam_alone(module):
    """EM-CLIP and TMCA work where the package segment-anything is not installed."""
    code = f"import sys; sys.modules['segment_anything'] = None; import {module}; {module}"
    places = [ROOT, *(ROOT / "bundles" / name for name in ("emclip", "tmca"))]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, places))}
    done = run_code(code, cwd=ROOT, environment=environment)
    assert done.returncode == 0, done.stderr
