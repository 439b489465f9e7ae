"""What a bundle does before anything else: one release of `shared`, clear errors, overrides that can be meant."""

from __future__ import annotations

import atexit
import inspect
import threading
import warnings
from multiprocessing.dummy import DummyProcess
from pathlib import Path

from monai.bundle import ConfigParser, ConfigWorkflow

import shared
from shared.core.errors import InputError, install_one_line_errors, require
from shared.options.overrides import read_words, wrong_overrides


def start(root: Path, home: Path) -> None:
    """Called by ``prepare.py`` of a bundle, each time a config is read.

    Args:
        root: the bundle's folder.
        home: the folder that holds the bundle's `shared`.

    Raises:
        InputError: another release of `shared` is loaded already, or an override is unknown or cannot be meant.
    """
    install_one_line_errors()
    atexit.unregister(end_caching)
    atexit.register(end_caching)
    warnings.filterwarnings("ignore", category=FutureWarning, module="monai")
    check_release(home)
    parser = running_parser()
    if parser is not None:
        configs = root / "configs"
        read_words(parser, configs)
        require(wrong_overrides(parser.get(), configs))


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


def running_parser() -> ConfigParser | None:
    """Return the parsed config of the MONAI workflow that is being evaluated, or None outside of one."""
    for frame in inspect.stack():
        owner = frame.frame.f_locals.get("self")
        if isinstance(owner, ConfigWorkflow):
            return owner.parser
    return None
