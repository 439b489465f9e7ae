"""Run a program in a process that was forked from one that has torch and MONAI imported.

The import takes longer than most programs of the tests. The new process has the folder, the environment and the paths
of a fresh one, and nothing of this repository imported. Where a test looks at signals, or at what a program imports, it
starts Python anew.
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import runpy
import signal
import sys
import tempfile
import types
import warnings
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from subprocess import CompletedProcess

PRELOADED = ["torch", "monai.bundle", "open_clip", "peft", "SimpleITK", "fire"]
OURS = ("tests", "shared")


def run_module(module: str, *words: str, cwd: Path, environment: Mapping[str, str]) -> CompletedProcess:
    """Run ``python -m module words`` and capture what it prints."""
    return _run(_module, module, words, cwd, environment)


def run_code(code: str, *words: str, cwd: Path, environment: Mapping[str, str]) -> CompletedProcess:
    """Run ``python -W ignore -c code words`` and capture what it prints."""
    return _run(_code, code, words, cwd, environment)


@cache
def _forkserver() -> multiprocessing.context.ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    return context


def _run(
    start: Callable[[str], None], program: str, words: tuple[str, ...], cwd: Path, environment: Mapping[str, str]
) -> CompletedProcess:
    with tempfile.TemporaryDirectory() as folder:
        printed = [os.path.join(folder, name) for name in ("out", "error")]
        arguments = (start, program, words, os.fspath(cwd), dict(environment), *printed)
        process = _forkserver().Process(target=_become, args=arguments)
        process.start()
        process.join()
        texts = [Path(file).read_text(encoding="utf-8") for file in printed]
    return CompletedProcess([program, *words], process.exitcode or 0, *texts)


def _become(
    start: Callable[[str], None],
    program: str,
    words: tuple[str, ...],
    cwd: str,
    environment: dict[str, str],
    out: str,
    error: str,
) -> None:
    """Become the program: its streams, environment, folder and paths."""
    for number, file in ((1, out), (2, error)):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT), number)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    multiprocessing.set_start_method(None, force=True)  # else its own processes would start as this one did
    sys.argv = [program, *words]
    added = [part for part in environment.get("PYTHONPATH", "").split(os.pathsep) if part]
    sys.path[:] = [cwd, *added, *(part for part in sys.path if part.startswith((sys.prefix, sys.base_prefix)))]
    for name in [name for name in sys.modules if name.split(".")[0] in OURS]:
        del sys.modules[name]
    try:
        start(program)
    except SystemExit:
        raise
    except BaseException as error:
        sys.excepthook(*sys.exc_info())
        if isinstance(error, KeyboardInterrupt):  # Python ends by the signal, so that a shell sees it
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            signal.raise_signal(signal.SIGINT)
        raise SystemExit(1) from None
    finally:
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()


def _module(name: str) -> None:
    runpy.run_module(name, run_name="__main__", alter_sys=True)


def _code(text: str) -> None:
    warnings.simplefilter("ignore")
    sys.argv[0] = "-c"
    sys.modules["__main__"] = main = types.ModuleType("__main__")
    exec(compile(text, "<string>", "exec"), vars(main))
