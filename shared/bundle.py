"""What a bundle does before anything else: one release of `shared`, clear errors, no override that nobody reads."""

from __future__ import annotations

import atexit
import inspect
import json
import re
import threading
import warnings
from collections.abc import Mapping
from multiprocessing.dummy import DummyProcess
from pathlib import Path
from typing import Any

from monai.bundle import ConfigWorkflow

import shared
from shared.check import require, unknown_keys
from shared.errors import InputError, install_one_line_errors

# Names that MONAI itself adds to a config.
MONAI_KEYS = ("_meta_", "network_def", "bundle_root", "workflow_type", "meta_file", "logging_file")


def start(root: Path, home: Path) -> None:
    """Called by ``prepare.py`` of a bundle, each time a config is read.

    Args:
        root: the bundle's folder.
        home: the folder that holds the bundle's `shared`.

    Raises:
        InputError: another release of `shared` is loaded already, or an override is unknown.
    """
    install_one_line_errors()
    atexit.unregister(end_caching)
    atexit.register(end_caching)
    warnings.filterwarnings("ignore", category=FutureWarning, module="monai")
    check_release(home)
    config = running_config()
    if config is not None:
        require(unknown_overrides(config, root / "configs"))


def end_caching() -> None:
    """Wait for the threads in which MONAI's `CacheDataset` loads: after an error they still finish their case.

    CPython stops such threads at its end, and one that is stopped inside torch aborts the process: exit code 134.
    """
    for thread in threading.enumerate():
        if isinstance(thread, DummyProcess):
            thread.join(timeout=30)


def check_release(home: Path) -> None:
    """Refuse a second release of `shared` in one process: modules of two releases would mix silently.

    Raises:
        InputError: the `shared` that is loaded has another version than the one in `home`.
    """
    lines = (home / "shared" / "__init__.py").read_text(encoding="utf-8").splitlines()
    wanted = next(line.split('"')[1] for line in lines if line.startswith("__version__"))
    if wanted != shared.__version__:
        raise InputError(
            f"this bundle needs shared {wanted}; {shared.__version__} is loaded from {Path(shared.__file__).parent}: "
            "run bundles of different releases in different processes"
        )


def running_config() -> Mapping[str, Any] | None:
    """Return the config of the MONAI workflow that is being evaluated, or None outside of one."""
    for frame in inspect.stack():
        owner = frame.frame.f_locals.get("self")
        if isinstance(owner, ConfigWorkflow):
            return owner.parser.get()
    return None


def unknown_overrides(config: Mapping[str, Any], configs_dir: Path) -> list[str]:
    """Find top-level names that no file of the bundle defines and nothing in the config refers to.

    MONAI accepts any name, so a mistyped ``--output_dirr`` would be silently without effect.

    Args:
        config: the merged config.
        configs_dir: folder of the bundle's config files.

    Returns:
        One line each, with the nearest known name.
    """
    known = set(MONAI_KEYS)
    for file in configs_dir.glob("*.json"):
        if file.name != "metadata.json":
            known |= json.loads(file.read_text(encoding="utf-8")).keys()
    text = json.dumps(config, default=str)
    used = {key for key in config if re.search(rf"[@%]{re.escape(key)}(?!\w)", text)}  # @epochs is no use of epoch
    return unknown_keys([key for key in config if key not in used], known)
