"""The command after a training: it segments with the new weights and repeats the options that inference needs."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser, ConfigWorkflow

from shared.options.command_line import config_files
from shared.options.schema import is_computed
from shared.options.typed_words import NULL

# Options that inference sets for itself: folders, device, and how windows and planes overlap.
OWN = {"bundle_root", "ckpt_dir", "output_dir", "dataset_dir", "device", "amp", "num_workers", "overlays"}
OWN |= {"overlap", "window_overlap", "planes"}
BEGINNINGS = {"pretrained", "checkpoint"}  # initial weights; the trained weights replace them
TRAINING_FILES = {"train.json", "multi_gpu_train.json"}


def next_command(workflow: ConfigWorkflow | None, bundle_root: str, ckpt_dir: str) -> str:
    """Return the command that segments with the weights of the training that is being set up.

    Args:
        workflow: the workflow that trains; None gives the command of the defaults.
        bundle_root: the bundle's folder.
        ckpt_dir: folder of the weights.
    """
    config = workflow.parser.get() if workflow is not None else {}
    return inference_command(Path(bundle_root), ckpt_dir, config, config_files())


def inference_command(bundle_root: Path, ckpt_dir: str, config: Mapping[str, Any], files: Sequence[str] = ()) -> str:
    """Return the command that segments with a training's weights.

    It repeats the override files, and every option whose value in the training differs from inference's default.

    Args:
        bundle_root: the bundle's folder.
        ckpt_dir: folder of the weights.
        config: the training's merged config, before MONAI resolves it.
        files: config files that the training was given.
    """
    inference = bundle_root / "configs" / "inference.json"
    shown = [str(inference), *(file for file in files if Path(file).name not in TRAINING_FILES)]
    defaults = ConfigParser.load_config_files(shown)
    words = ["python -m monai.bundle run --config_file", quoted(shown if len(shown) > 1 else shown[0])]
    words += ["--ckpt_dir", quoted(ckpt_dir)]
    for key, default in defaults.items():
        value = config.get(key, default)
        if (
            key not in OWN | BEGINNINGS
            and value != default
            and not isinstance(default, dict)
            and not is_computed(value)
        ):
            words += [f"--{key}", quoted(value)]
    return " ".join(words)


def quoted(value: Any) -> str:
    """Format a value for the command line."""
    if value is None:
        return NULL
    if isinstance(value, bool):
        return json.dumps(value)
    text = str(value)
    if re.fullmatch(r"[\w@%+=:,./-]+", text):
        return text
    return shlex.quote(text) if re.search(r'["$`\\!]', text) else f'"{text}"'
