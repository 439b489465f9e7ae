"""The line of a stopped training, and whose signal handlers are in place."""

from __future__ import annotations

import shlex
import signal

import pytest
from ignite.engine import Events

from shared.engine import interruption
from shared.engine.interruption import SIGNALS, StopLine, resume_command
from tests.engine.short_run import Run


def handlers():
    return [signal.getsignal(number) for number in SIGNALS]


@pytest.mark.parametrize("command_line", [True, False])
def test_handlers_are_in_place_only_while_a_training_of_the_command_line_runs(tmp_path, monkeypatch, command_line):
    monkeypatch.setattr(interruption, "is_command_line", lambda: command_line)
    before = handlers()
    run = Run(tmp_path, epochs=1)
    during = []
    run.trainer.add_event_handler(Events.EPOCH_STARTED, lambda: during.extend(handlers()))
    assert handlers() == before
    run.go()
    assert (during != before) == command_line
    assert handlers() == before


def test_the_line_says_whether_something_was_saved(tmp_path):
    run = Run(tmp_path, epochs=2)
    stop = StopLine(tmp_path)
    stop.attach(run.trainer)
    lines = []
    run.trainer.add_event_handler(Events.EPOCH_STARTED, lambda: lines.append(stop.line()))
    run.go()
    assert lines[0] == "stopped in epoch 1 of 2: nothing was saved yet"
    assert lines[1].startswith("stopped in epoch 2 of 2; to go on: python ") and lines[1].endswith("--resume true")


@pytest.mark.parametrize("given", ["", "--resume false", "--resume=false", "--resume", "--resume true"])
def test_the_command_that_goes_on_resumes_once(given):
    words = ["/venv/bin/python", "-m", "monai.bundle", "run", *given.split(), "--text", "left $lung"]
    expected = "python -m monai.bundle run --text 'left $lung' --resume true"
    assert resume_command(words) == expected
    assert shlex.split(expected)[-3] == "left $lung"
