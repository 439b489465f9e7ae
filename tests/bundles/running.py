"""How the tests of every bundle run it: in this process, or as a user does, in a process of its own."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigWorkflow

from shared.core.errors import InputError, find_input_error

ROOT = Path(__file__).resolve().parents[2]
PLAIN: dict[str, Any] = {"device": "cpu", "amp": False}


def workflow(configs: Path, kind: str, names: str | list[str], **override: Any) -> ConfigWorkflow:
    """A MONAI workflow of a bundle from its configs' names; `kind` is "train" or "infer"."""
    files = [str(configs / f"{name}.json") for name in ([names] if isinstance(names, str) else names)]
    return ConfigWorkflow(workflow_type=kind, config_file=files, **{**PLAIN, **override})


def finish(flow: ConfigWorkflow) -> ConfigWorkflow:
    """What `python -m monai.bundle run` does with a workflow."""
    flow.initialize()
    flow.run()
    flow.finalize()
    return flow


@dataclass
class Run:
    """A finished training: its text, what `check_properties` missed, the shipped weights' hash before and after."""

    flow: ConfigWorkflow
    output: Path
    text: str
    missing: list[str] | None
    shipped: tuple[str | None, str | None]


def recorded(flow: ConfigWorkflow, output: Path, shipped: Path) -> Run:
    """Run a workflow that writes to `output` and should leave the weights at `shipped` as they are."""

    def digest() -> str | None:
        return hashlib.sha1(shipped.read_bytes()).hexdigest() if shipped.exists() else None

    before = digest()
    with contextlib.redirect_stdout(io.StringIO()) as text:
        flow.initialize()
        missing = flow.check_properties()
        flow.run()
        flow.finalize()
    return Run(flow, output, text.getvalue(), missing, (before, digest()))


def train_and_kill(configs: Path, settings: dict[str, Any]) -> Path:
    """Kill a training, in a process of its own, once its first checkpoint is there; the path of that."""
    command = [sys.executable, "-m", "monai.bundle", "run", "--config_file", str(configs / "train.json")]
    command += options({**settings, **PLAIN})
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(command, cwd=ROOT, env=environment(), stdout=quiet, stderr=quiet)
    last = Path(settings["output_dir"]) / "models" / "last.pt"
    try:
        while process.poll() is None and not last.exists():
            time.sleep(0.01)
    finally:
        process.kill()
    assert process.wait() == -signal.SIGKILL, "it ended before it could be killed"
    return last


def options(values: dict[str, Any]) -> list[str]:
    """The same overrides as a command line has them."""
    return [word for key, value in values.items() for word in (f"--{key}", str(value).replace(" ", ""))]


def environment() -> dict[str, str]:
    """Without the paths that pytest adds, and one thread a process: the machine has other work."""
    kept = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    return {**kept, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


def run_bundle(*arguments: str, cwd: Path = ROOT, check: bool = True) -> subprocess.CompletedProcess:
    """Run `python -m monai.bundle run` with `arguments` in a process of its own."""
    command = [sys.executable, "-m", "monai.bundle", "run", *map(str, arguments)]
    done = subprocess.run(command, cwd=cwd, env=environment(), capture_output=True, text=True)
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done


def torchrun(*arguments: Any, cwd: Path = ROOT, nodes: int = 1) -> str:
    """Run two processes, as one has them on two GPUs of a machine; what they print.

    With two `nodes`, as on two machines: two launches, of a process each, that meet at the loopback address.
    """
    if nodes == 1:
        launches = [["--standalone"]]
    else:
        meeting = [f"--nnodes={nodes}", "--master_addr=127.0.0.1", f"--master_port={free_port()}"]
        launches = [[*meeting, f"--node_rank={rank}"] for rank in range(nodes)]
    start = [sys.executable, "-m", "torch.distributed.run", f"--nproc_per_node={2 // nodes}"]
    how: dict[str, Any] = {"cwd": cwd, "env": environment(), "text": True, "stdout": subprocess.PIPE}
    began = [
        subprocess.Popen([*start, *launch, *map(str, arguments)], stderr=subprocess.STDOUT, **how)
        for launch in launches
    ]
    try:
        texts = [process.communicate(timeout=500)[0] for process in began]
    finally:
        for process in began:
            process.kill()
    assert [process.returncode for process in began] == [0] * nodes, "\n".join(texts)
    return "".join(texts)


def free_port() -> int:
    """A port of the loopback address that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def train_in_two(configs: Path, data: Path, output: Path, settings: dict[str, Any], nodes: int = 1) -> str:
    """Train a bundle with two processes; what they print. Of two machines the second sees no checkpoint of the first.

    Both hold the same weights after training, and again when the best ones are back; the first alone writes.
    """
    steps = json.loads((configs / "train.json").read_text(encoding="utf-8"))["run"]
    keep = "$torch.save(@network.module.state_dict(), '{}_' + os.environ['RANK'] + '.pt')"
    for step in ("$@train#trainer.run()", "$@report_best()"):
        steps.insert(steps.index(step) + 1, keep.format(output.with_name("trained" if "trainer" in step else "best")))
    extra = output.with_name("keep_weights.json")
    own_disk = {"ckpt_dir": "$@output_dir + ('/models' if os.environ['RANK'] == '0' else '/of_another_machine')"}
    extra.write_text(json.dumps({"run": steps, **(own_disk if nodes > 1 else {})}), encoding="utf-8")
    files = [str(configs / "train.json"), str(configs / "multi_gpu_train.json"), str(extra)]
    places = {"dataset_dir": data, "output_dir": output, **settings, "amp": False}
    command = ["-m", "monai.bundle", "run", "--config_file", str(files).replace(" ", ""), *options(places)]
    text = torchrun(*command, nodes=nodes)
    for when in ("trained", "best"):
        first, second = (torch.load(output.with_name(f"{when}_{rank}.pt"), weights_only=True) for rank in range(2))
        assert first.keys() == second.keys()
        unlike = [name for name, value in first.items() if not torch.equal(value, second[name])]
        assert unlike == [], when
    assert sorted(path.name for path in (output / "models").iterdir()) == ["last.pt", "model.pt"]
    assert not (output / "of_another_machine").exists()
    assert len(list((output / "tensorboard").iterdir())) == 2  # of training and of validation: one process's
    return text


def input_error(function: Any, *arguments: Any, **named: Any) -> str:
    """The line that a user sees of what `function` raises; an error without such a line fails the test."""
    try:
        function(*arguments, **named)
    except BaseException as error:
        found = find_input_error(error)
        if found is None:
            raise
        return str(found)
    raise AssertionError(f"no {InputError.__name__}")


def copy_bundle(source: Path, target: Path) -> None:
    """A packaged bundle: `shared` inside its folder, no checkout around it."""
    left_out = shutil.ignore_patterns("__pycache__", "data", "output", "models")
    shutil.copytree(source, target, ignore=left_out)
    shutil.copytree(ROOT / "shared", target / "shared", ignore=shutil.ignore_patterns("__pycache__"))


def files(folder: Path) -> dict[str, bytes]:
    """The content of every file of a folder by its path in it."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def assert_one_line(line: str, parts: list[str]) -> None:
    """One line that a terminal can show, with these parts."""
    assert "\n" not in line and len(line) < 500
    for part in parts:
        assert part in line, line


def assert_lines(text: str, parts: list[Any]) -> None:
    """A line a problem: one with these parts, or of a list of lists as many lines, in that order."""
    wanted = parts if isinstance(parts[0], list) else [parts]
    lines = text.splitlines()
    assert len(lines) == len(wanted), text
    for line, some in zip(lines, wanted):
        assert_one_line(line, some)
