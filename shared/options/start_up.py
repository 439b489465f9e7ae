"""How a bundle starts: its code becomes importable, its options are checked, errors of a command line are one line."""

from __future__ import annotations

import atexit
import threading
import warnings
from multiprocessing.dummy import DummyProcess
from pathlib import Path

from monai.bundle import ConfigWorkflow

import shared
from shared.core.errors import InputError, install_one_line_errors, require
from shared.core.processes import is_command_line, main_module
from shared.options.overrides import wrong_overrides
from shared.options.typed_words import altered_texts, read_texts, read_words

LABEL_TRAINING = "monailabel.interfaces.utils.app"  # the module that MONAI Label's training processes run


def prepare(home: Path) -> None:
    """Check the release of `shared` and, in a process that runs one config, set up errors and exit.

    The bundle's ``prepare.py`` calls it each time a component of a config needs the bundle's code.

    Args:
        home: the folder that holds the bundle's `shared`.

    Raises:
        InputError: another release of `shared` is loaded.
    """
    if is_command_line() or main_module() == LABEL_TRAINING:
        install_one_line_errors()
        warnings.filterwarnings("ignore", category=FutureWarning, module="monai")
        atexit.unregister(end_caching)
        atexit.register(end_caching)
    check_release(home)


def start(workflow: ConfigWorkflow | None, bundle_root: str) -> None:
    """Check the options of a workflow before it runs; every config calls this first in ``initialize``.

    Args:
        workflow: the workflow that reads the config, or None where a bare `ConfigParser` does.
        bundle_root: the bundle's folder.

    Raises:
        InputError: an option is unknown, or its value cannot be used.
    """
    if workflow is not None:
        configs = Path(bundle_root) / "configs"
        if is_command_line():
            require(read_texts(workflow.parser, configs))
        else:
            require(altered_texts(workflow.parser.get(), configs))
        read_words(workflow.parser, configs)
        require(wrong_overrides(workflow.parser.get(), configs))


def end_caching() -> None:
    """Wait for the threads in which MONAI's `CacheDataset` loads: after an error they still finish their case.

    CPython stops such threads at exit, and a thread stopped inside torch aborts the process with exit code 134.
    """
    for thread in threading.enumerate():
        if isinstance(thread, DummyProcess):
            thread.join(timeout=30)


def check_release(home: Path) -> None:
    """Refuse a second release of `shared` in one process: modules of two releases would mix silently.

    Args:
        home: the folder that holds the wanted `shared`.

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
