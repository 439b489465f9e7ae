"""Run programs in processes that were forked from one that has torch and MONAI imported.

The import takes longer than most programs of the tests. A process has the folder, the environment and the paths of a
fresh one, leads a session of its own, and has nothing of this repository imported. Where a test looks at what a program
imports, it starts Python anew.
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
from subprocess import CompletedProcess, TimeoutExpired

PRELOADED = ["torch", "monai.bundle", "open_clip", "peft", "SimpleITK", "fire"]
OURS = ("tests", "shared")

Start = Callable[[str], None]


class Program:
    """A program that runs; its methods are those of `subprocess.Popen`.

    Args:
        start: `module` or `code`.
        text: the module's name, or the code.
        words: of the command line.
        cwd: its folder.
        environment: its variables.
    """

    def __init__(self, start: Start, text: str, *words: str, cwd: Path, environment: Mapping[str, str]) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.printed = [os.path.join(self.folder.name, name) for name in ("out", "error")]
        arguments = (start, text, words, os.fspath(cwd), dict(environment), *self.printed)
        self.process = _forkserver().Process(target=_become, args=arguments)
        self.process.start()
        self.pid = self.process.pid

    @property
    def returncode(self) -> int | None:
        return self.process.exitcode

    def poll(self) -> int | None:
        return self.process.exitcode

    def send_signal(self, number: int) -> None:
        os.kill(self.process.pid, number)

    def kill(self) -> None:
        self.process.kill()

    def wait(self, timeout: float | None = None) -> int:
        self.process.join(timeout)
        if self.process.exitcode is None:
            raise TimeoutExpired("the program", timeout or 0)
        return self.process.exitcode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Wait for its end; what it printed."""
        self.wait(timeout)
        out, error = (Path(file).read_text(encoding="utf-8") for file in self.printed)
        return out, error


def run_module(name: str, *words: str, cwd: Path, environment: Mapping[str, str]) -> CompletedProcess:
    """Run ``python -m name words`` and capture what it prints."""
    return _completed(Program(module, name, *words, cwd=cwd, environment=environment), name, *words)


def run_code(text: str, *words: str, cwd: Path, environment: Mapping[str, str]) -> CompletedProcess:
    """Run ``python -W ignore -c text words`` and capture what it prints."""
    return _completed(Program(code, text, *words, cwd=cwd, environment=environment), text, *words)


def module(name: str) -> None:
    """Run ``python -m name``."""
    sys.orig_argv[:] = [sys.executable, "-m", name, *sys.argv[1:]]
    runpy.run_module(name, run_name="__main__", alter_sys=True)


def code(text: str) -> None:
    """Run ``python -W ignore -c text``."""
    warnings.simplefilter("ignore")
    sys.argv[0] = "-c"
    sys.modules["__main__"] = main = types.ModuleType("__main__")
    exec(compile(text, "<string>", "exec"), vars(main))


def _completed(program: Program, *words: str) -> CompletedProcess:
    texts = program.communicate()
    return CompletedProcess(words, program.returncode or 0, *texts)


@cache
def _forkserver() -> multiprocessing.context.ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    return context


def _become(
    start: Start, text: str, words: tuple[str, ...], cwd: str, environment: dict[str, str], out: str, error: str
) -> None:
    """Become the program: its session, streams, environment, folder and paths."""
    os.setsid()
    for number, file in ((1, out), (2, error)):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT), number)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    multiprocessing.set_start_method(None, force=True)  # else its own processes would start as this one did
    sys.argv = [text, *words]
    added = [part for part in environment.get("PYTHONPATH", "").split(os.pathsep) if part]
    sys.path[:] = [cwd, *added, *(part for part in sys.path if part.startswith((sys.prefix, sys.base_prefix)))]
    sys.path_importer_cache.clear()  # its finder for "." keeps the folder in which the server started
    for name in [name for name in sys.modules if name.split(".")[0] in OURS]:
        del sys.modules[name]
    try:
        start(text)
    except SystemExit:
        raise
    except BaseException as caught:
        sys.excepthook(*sys.exc_info())
        if isinstance(caught, KeyboardInterrupt):  # Python ends by the signal, so that a shell sees it
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            signal.raise_signal(signal.SIGINT)
        raise SystemExit(1) from None
    finally:
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
