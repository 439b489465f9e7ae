"""Ctrl-C and SIGTERM during a training end in one line that says how to go on."""

from __future__ import annotations

import multiprocessing
import os
import shlex
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import ignite.distributed as idist
from ignite.engine import Engine, Events

from shared.core.processes import is_command_line
from shared.engine.run_folder import LAST

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopLine:
    """When a signal stops the training, print how to resume it, end its worker processes, and end this process.

    The signal handlers are in place only while the trainer runs, and only in a process that
    ``python -m monai.bundle run`` started: a program that runs a bundle keeps its own handlers. Of several processes
    the first one prints. There a thread receives the signal, because the main thread may wait for a process that has
    already ended.

    Args:
        ckpt_dir: folder of ``last.pt``.
    """

    def __init__(self, ckpt_dir: Path) -> None:
        self.ckpt_dir = ckpt_dir
        self.before: dict[int, Any] = {}

    def attach(self, trainer: Engine) -> None:
        """Register on the trainer."""
        self.trainer = trainer
        trainer.add_event_handler(Events.STARTED, self.install)
        trainer.add_event_handler(Events.COMPLETED, self.restore)

    def install(self) -> None:
        """Put the signal handlers in place."""
        main_thread = threading.current_thread() is threading.main_thread()
        if not (is_command_line() and main_thread):
            return
        if idist.get_world_size() == 1:
            self.before = {number: signal.signal(number, self.stop) for number in SIGNALS}
        else:
            self.before = {number: signal.signal(number, _no_action) for number in SIGNALS}
            receiver, sender = os.pipe()
            os.set_blocking(sender, False)
            signal.set_wakeup_fd(sender, warn_on_full_buffer=False)
            threading.Thread(target=self.wait, args=(receiver,), daemon=True).start()

    def restore(self) -> None:
        """Put back the signal handlers that were there before."""
        if not self.before:
            return
        for number, handler in self.before.items():
            signal.signal(number, handler)
        self.before = {}
        if (sender := signal.set_wakeup_fd(-1)) >= 0:
            os.close(sender)  # ends the thread, which reads the other end

    def stop(self, number: int, frame: FrameType | None) -> None:
        """Handle the signal."""
        os.write(2, f"\n{self.line()}\n".encode())  # `print` fails if the signal interrupted another `print`
        if hasattr(signal, "SIGCHLD"):
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # else torch reports the ended workers as crashed
        for child in multiprocessing.active_children():
            child.terminate()
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    def wait(self, receiver: int) -> None:
        """Wait in a thread for the number of a signal, and end the process."""
        with open(receiver, "rb", buffering=0) as numbers:
            while received := numbers.read(1):
                if received[0] not in SIGNALS:
                    continue
                if idist.get_rank() == 0:
                    os.write(2, f"\n{self.line()}\n".encode())
                for child in multiprocessing.active_children():
                    child.terminate()
                os._exit(128 + received[0])  # as a shell reports a process that the signal ended

    def line(self) -> str:
        """Return the line for the user."""
        state = self.trainer.state
        where = f"stopped in epoch {state.epoch} of {state.max_epochs}"
        if not (self.ckpt_dir / LAST).exists():
            return f"{where}: nothing was saved yet"
        if idist.get_world_size() > 1:
            return f"{where}; to go on: the same torchrun command with --resume true"
        return f"{where}; to go on: {resume_command()}"


def _no_action(number: int, frame: FrameType | None) -> None:
    """Stand in place of the default handler, which would end the process before the line is printed."""


def resume_command(words: Sequence[str] | None = None) -> str:
    """Return the command of this process with ``--resume true``.

    Args:
        words: the command's words, default those that started this process.
    """
    given = list(sys.orig_argv if words is None else words)
    kept: list[str] = []
    while given:
        word = given.pop(0)
        if word == "--resume" and given and not given[0].startswith("--"):
            given.pop(0)
        elif word != "--resume" and not word.startswith("--resume="):
            kept.append(word)
    return shlex.join(["python", *kept[1:], "--resume", "true"])
