"""How the tests run a bundle: in this process, or as a user does, in a process of its own."""

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
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from monai.bundle import ConfigWorkflow
from PIL import Image
from torch import nn

from shared.core.errors import InputError, find_input_error
from tests.warm import Program, module, run_module

ROOT = Path(__file__).resolve().parents[2]
PLAIN: dict[str, Any] = {"device": "cpu", "amp": False}


@dataclass(frozen=True)
class Bundle:
    """A bundle in its tests: what differs from the others, and how to run it small in this process.

    `tests/bundles/<name>/facts.py` makes one; `tests/bundles/facts.py` collects them.
    """

    name: str
    make_data: Callable[[Path], Any]  # write the data set of most tests into a folder
    write_cases: Callable[[Path], Any]  # write another four cases, in no time; `p1` is in training, `p3` in testing
    one_case: Callable[[Path], dict[str, Any]]  # options that segment one testing case of the first, by its folder
    stir: Callable[[nn.Module], Any]  # change untrained weights until the masks are neither empty nor full

    # Options
    size: dict[str, Any]  # small images
    training: dict[str, Any]  # short training, few pictures
    network: dict[str, Any] = field(default_factory=dict)  # a small network, where the usual one is not small
    whole: dict[str, Any] = field(default_factory=dict)  # inference builds what only training needs, too
    quiet: dict[str, Any] = field(default_factory=lambda: {"overlays": 0})  # no pictures
    steady: dict[str, Any] = field(default_factory=dict)  # nothing random in training
    switches: dict[str, str] = field(default_factory=dict)  # that turn a part off: option and attribute of the network
    sides: str = "image_size"  # id of the height and width that the network sees
    classes: str = "regions"  # id of the names of what is segmented
    differing: frozenset[str] = frozenset()  # options with another default in inference.json
    training_only: frozenset[str] = frozenset()  # arguments of the network that inference.json leaves out

    # The network
    channels: int = 1  # of an image
    inputs: tuple[str, ...] = ("image",)  # keys of a batch that the network takes
    script: dict[str, Any] = field(default_factory=dict)  # options of `ckpt_export`
    script_sizes: tuple[tuple[int, int, int], ...] = ()  # batch, height, width that the exported script takes
    moving: tuple[str, ...] = ()  # parts of names of weights that change at learning rate 0
    rate: float = 0.002  # learning rate at which the loss on one batch falls
    tolerance: float = 0.0  # of weights that a checkpoint restores

    # The data of `make_data`, and words on the screen
    pictures: bool = True  # rather than volumes
    predictions: int = 2  # testing cases
    missing: int = 0  # files that `one_case` leaves out
    cases: str = ""  # first line of a training
    evaluated: str = ""  # first line of an evaluation
    best: str = ""  # words of the last table, printed once
    next_words: tuple[str, ...] = ("pictures", "tables", "weights", "next")  # first words of the last lines

    def __str__(self) -> str:
        return self.name

    @property
    def folder(self) -> Path:
        return ROOT / "bundles" / self.name

    @property
    def configs(self) -> Path:
        return self.folder / "configs"

    @property
    def infer_options(self) -> dict[str, Any]:
        return {**self.network, **self.size}

    @property
    def train_options(self) -> dict[str, Any]:
        return {**self.infer_options, **self.short}

    @property
    def short(self) -> dict[str, Any]:
        """Options that make a training short, and leave images and network as they are."""
        return {**self.training, "epochs": 1, "val_interval": 1, "num_workers": 0}

    def config(self, name: str) -> dict[str, Any]:
        """A config as it stands in its file."""
        return json.loads((self.configs / f"{name}.json").read_text(encoding="utf-8"))

    def workflow(self, *names: str, configs: Path | None = None, **override: Any) -> ConfigWorkflow:
        """A MONAI workflow of these configs, on the CPU in float32."""
        files = [str((configs or self.configs) / f"{name}.json") for name in names]
        kind = "infer" if "inference" in names else "train"
        return ConfigWorkflow(workflow_type=kind, config_file=files, **{**PLAIN, **override})

    def train(self, data: Path, output: Path, *files: str, **override: Any) -> ConfigWorkflow:
        """Train on a data set; `files` are names of override files."""
        places = {"dataset_dir": str(data), "output_dir": str(output)}
        return finish(self.workflow("train", *files, **places, **{**self.train_options, **override}))

    def evaluate(self, data: Path, output: Path, weights: Path, *files: str, **override: Any) -> ConfigWorkflow:
        """Evaluate weights, given by their folder, on a data set."""
        return finish(self.evaluation(data, output, weights, *files, **override))

    def evaluation(self, data: Path, output: Path, weights: Path, *files: str, **override: Any) -> ConfigWorkflow:
        """The workflow of an evaluation, not yet run."""
        places = {"dataset_dir": str(data), "output_dir": str(output), "ckpt_dir": str(weights)}
        settings = {key: value for key, value in self.train_options.items() if key != "epochs"}
        return self.workflow("train", "evaluate", *files, **places, **{**settings, **override})

    def infer(self, output: Path, weights: Path, *files: str, **override: Any) -> ConfigWorkflow:
        """Segment with weights, given by their folder."""
        places = {"output_dir": str(output), "ckpt_dir": str(weights)}
        return finish(self.workflow("inference", *files, **places, **{**self.infer_options, **override}))

    def save_weights(self, folder: Path) -> Path:
        """Save untrained weights whose masks are neither empty nor full as ``model.pt``; the folder."""
        folder.mkdir(exist_ok=True)
        torch.manual_seed(0)
        network = self.workflow("inference", **self.network, **self.whole).parser.get_parsed_content("network_def")
        with torch.no_grad():
            self.stir(network.eval())
        torch.save(network.state_dict(), folder / "model.pt")
        return folder


def finish(flow: ConfigWorkflow) -> ConfigWorkflow:
    """What `python -m monai.bundle run` does with a workflow."""
    flow.initialize()
    flow.run()
    flow.finalize()
    return flow


@dataclass
class Run:
    """A finished run: what it printed, what `check_properties` missed, the shipped weights' hash before and after."""

    flow: ConfigWorkflow
    output: Path
    text: str
    errors: str
    missing: list[str] | None
    shipped: tuple[str | None, str | None]

    @property
    def index(self) -> list[dict[str, Any]]:
        """The entries of ``predictions.json``."""
        return predictions(self.output)


def recorded(flow: ConfigWorkflow, output: Path, shipped: Path) -> Run:
    """Run a workflow that writes to `output` and should leave the weights at `shipped` as they are."""

    def digest() -> str | None:
        return hashlib.sha1(shipped.read_bytes()).hexdigest() if shipped.exists() else None

    before = digest()
    with contextlib.redirect_stdout(io.StringIO()) as text, contextlib.redirect_stderr(io.StringIO()) as errors:
        flow.initialize()
        missing = flow.check_properties()
        flow.run()
        flow.finalize()
    return Run(flow, output, text.getvalue(), errors.getvalue(), missing, (before, digest()))


def predictions(output: Path) -> list[dict[str, Any]]:
    """The entries of an inference's ``predictions.json``."""
    return json.loads((output / "predictions.json").read_text(encoding="utf-8"))


def mask_of(output: Path) -> np.ndarray:
    """The mask of an inference of one case, as it lies in its file."""
    (entry,) = predictions(output)
    return read_mask(output / entry["prediction"])


def read_mask(file: Path) -> np.ndarray:
    """A mask, a picture or a volume."""
    if file.suffix == ".png":
        return np.asarray(Image.open(file))
    return np.asanyarray(nib.load(file).dataobj)


def train_and_kill(bundle: Bundle, settings: dict[str, Any]) -> Path:
    """Kill a training, in a process of its own, once its first checkpoint is there; the path of that."""
    words = ["run", "--config_file", str(bundle.configs / "train.json"), *options({**settings, **PLAIN})]
    process = Program(module, "monai.bundle", *words, cwd=ROOT, environment=environment())
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
    words = {key: value if isinstance(value, str) else str(value).replace(" ", "") for key, value in values.items()}
    return [word for key, value in words.items() for word in (f"--{key}", value)]


def environment() -> dict[str, str]:
    """Without the paths that pytest adds, and one thread a process: the machine has other work."""
    kept = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    return {**kept, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


def run_bundle(*arguments: str, cwd: Path = ROOT, check: bool = True) -> subprocess.CompletedProcess:
    """Run `python -m monai.bundle run` with `arguments` in a process of its own."""
    done = run_module("monai.bundle", "run", *map(str, arguments), cwd=cwd, environment=environment())
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done


def run_twice(*words: str, nodes: int = 1) -> str:
    """Run a command of `monai.bundle` in two processes, as one has them on two GPUs of a machine; what they print.

    They have the variables that torchrun sets. With two `nodes` it is torchrun itself that starts them, as on two
    machines: two launches, of a process each, that meet at the loopback address.
    """
    port = str(free_port())
    if nodes == 1:
        meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
        starts = [("monai.bundle", {**meeting, "RANK": rank, "LOCAL_RANK": rank}, list(words)) for rank in "01"]
    else:
        launch = [f"--nnodes={nodes}", "--nproc_per_node=1", "--master_addr=127.0.0.1", f"--master_port={port}"]
        rest = ["-m", "monai.bundle", *words]
        starts = [("torch.distributed.run", {}, [*launch, f"--node_rank={rank}", *rest]) for rank in range(nodes)]
    began = [
        Program(module, name, *rest, cwd=ROOT, environment={**environment(), **more}) for name, more, rest in starts
    ]
    try:
        texts = ["".join(process.communicate(timeout=500)) for process in began]
    finally:
        for process in began:
            process.kill()
    assert [process.returncode for process in began] == [0, 0], "\n".join(texts)
    return "".join(texts)


def free_port() -> int:
    """A port of the loopback address that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def train_in_two(bundle: Bundle, data: Path, output: Path, nodes: int = 1) -> str:
    """Train a bundle with two processes; what they print. Of two machines the second sees no checkpoint of the first.

    Both hold the same weights after training, and again when the best ones are back; the first alone writes.
    """
    steps = bundle.config("train")["run"]
    keep = "$torch.save(@network.module.state_dict(), '{}_' + os.environ['RANK'] + '.pt')"
    for step in ("$@train#trainer.run()", "$@report_best()"):
        steps.insert(steps.index(step) + 1, keep.format(output.with_name("trained" if "trainer" in step else "best")))
    extra = output.with_name("keep_weights.json")
    own_disk = {"ckpt_dir": "$@output_dir + ('/models' if os.environ['RANK'] == '0' else '/of_another_machine')"}
    extra.write_text(json.dumps({"run": steps, **(own_disk if nodes > 1 else {})}), encoding="utf-8")
    files = [*(str(bundle.configs / f"{name}.json") for name in ("train", "multi_gpu_train")), str(extra)]
    places = {"dataset_dir": data, "output_dir": output, **bundle.train_options, "amp": False}
    text = run_twice("run", "--config_file", str(files).replace(" ", ""), *options(places), nodes=nodes)
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


def in_ras(path: Path) -> np.ndarray:
    """A file's voxels with the axes turned to RAS."""
    return np.asanyarray(nib.as_closest_canonical(nib.load(path)).dataobj)


def assert_same_grid(mask: Path, image: Path, values: int = 1) -> None:
    """The mask lies on its image: the same size, place and axes, as whole numbers up to `values`."""
    if mask.suffix == ".png":
        found = Image.open(mask)
        assert found.size == Image.open(image).size and found.mode == "L"
    else:
        volume, source = nib.load(mask), nib.load(image)
        assert volume.shape == source.shape[:3]
        assert np.allclose(volume.affine, source.affine, atol=1e-4)
        assert nib.aff2axcodes(volume.affine) == nib.aff2axcodes(source.affine)
        assert volume.get_data_dtype() == np.uint8
    assert set(np.unique(read_mask(mask))) <= set(range(values + 1))


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
