"""``python -m shared check``: everything that a run checks before it begins, and all problems at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigWorkflow

from shared.core.bundles import find_bundles
from shared.core.errors import InputError, find_input_error
from shared.core.messages import nearest
from shared.options.overrides import config_paths, wrong_overrides
from shared.options.typed_words import as_typed, read_words, wrong_texts

HOMES = (".", "bundles")  # folders in which a bundle's name is looked up
# Steps of a run before it trains or segments, in order; steps that the config's lists do not name are skipped.
STEPS = ("preflight", "network_def", "check_ckpt_dir", "load_initial", "load_weights")


def check(
    bundle: str, config_files: Sequence[str] = ("train",), words: Sequence[str] = (), /, **overrides: Any
) -> list[str]:
    """Run the checks that come before training or segmentation, and collect every problem.

    Checked are the overrides (names, types, ranges), the data (files, channels, geometry, labels, sentences), the
    output folder and the free space in it, the device, the network's options and the weights that it loads.

    Args:
        bundle: a folder, or its name in the current folder or in ``bundles``.
        config_files: names of the bundle's configs ("train", "inference"), or paths of files; several are merged.
        words: the command line from which the overrides come, if there is one.
        overrides: as of ``monai.bundle run``.

    Returns:
        One line per problem.
    """
    try:
        root = find_bundle(bundle)
        files = [find_config(root, name) for name in config_files or [""]]
    except InputError as error:
        return str(error).splitlines()
    kind = "infer" if any(Path(file).stem == "inference" for file in files) else "train"
    configs = root / "configs"

    def workflow(options: dict[str, Any]) -> ConfigWorkflow:
        return ConfigWorkflow(config_file=files, workflow_type=kind, **{"logging_file": False} | options)

    overrides = as_typed(overrides, configs, words)
    problems = wrong_texts(overrides, configs)
    if problems:
        return problems  # reading the config would evaluate these texts
    given = workflow(overrides).parser
    read_words(given, configs)
    problems = wrong_overrides(given.get(), configs)
    wrong = [key for key in overrides if any(f"override '{key}'" in problem for problem in problems)]
    rest = workflow({key: value for key, value in overrides.items() if key not in wrong})  # to see what else is wrong
    named_steps = str([rest.parser.get("initialize"), rest.parser.get("run")])
    rest.parser["initialize"] = ["$@start()"]
    problems += _attempt(rest.initialize)
    steps = STEPS[1:] if problems and "dataset_dir" not in overrides else STEPS  # no built-in data for a wrong command
    for step in steps:
        if step == "network_def" or f"@{step}()" in named_steps:
            problems += _attempt(partial(_do, rest, step))
    return list(dict.fromkeys(problems))


def find_bundle(bundle: str) -> Path:
    """Return the folder of a bundle.

    Raises:
        InputError: there is none of that name; names the nearest one.
    """
    for home in HOMES:
        if (Path(home) / bundle / "configs" / "metadata.json").is_file():
            return Path(home) / bundle
    known = sorted(name for home in HOMES for name in find_bundles(home))
    raise InputError(f"no bundle {bundle!r} in the current folder or in bundles: {nearest(bundle, known)}")


def find_config(root: Path, name: str) -> str:
    """Return the path of a config: a file, or the name of one of the bundle's.

    Raises:
        InputError: there is no such file.
    """
    for path in (Path(name), root / "configs" / name, root / "configs" / f"{name}.json"):
        if name and path.is_file():
            return str(path)
    known = [file.stem for file in config_paths(root / "configs")]
    raise InputError(f"no config {name!r} in {root}: it has {', '.join(known)}")


def _do(flow: ConfigWorkflow, step: str) -> None:
    content = flow.parser.get_parsed_content(step)
    if step == "preflight":
        # Reads every image to its end and refuses every bad case; inference does so case by case, and leaves it out.
        content(whole=True, strict=True)
    elif callable(content) and not isinstance(content, torch.nn.Module):
        content()


def _attempt(step: Callable[[], Any]) -> list[str]:
    """Run a step and return one line per problem that it finds."""
    try:
        step()
    except Exception as error:  # whatever it is, the user should see the rest too
        found = find_input_error(error)
        if found is not None:
            return found.problems
        return (f"{type(error).__name__}: {error}".splitlines() or [type(error).__name__])[:1]
    return []
