"""When a training validates, what it prints, and the weights that its report takes."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch
from ignite.engine import Engine, Events

from shared.engine.run_folder import BEST
from shared.engine.validation import ValidationLine, report_best
from tests.engine.short_run import Run


@pytest.mark.parametrize(
    ("epochs", "interval", "validated"), [(5, 2, [2, 4, 5]), (4, 2, [2, 4]), (2, 9, [2]), (3, 1, [1, 2, 3])]
)
def test_the_last_epoch_is_validated_once_whatever_the_interval(tmp_path, epochs, interval, validated):
    assert Run(tmp_path, epochs=epochs, interval=interval).go().validated == validated


@pytest.mark.parametrize(("best_epoch", "ending"), [(1, "validation Dice 0.8100  best so far"), (3, "Dice 0.8100")])
def test_line_of_a_validation(capsys, best_epoch, ending):
    evaluator = Engine(lambda engine, batch: None)
    ValidationLine("dice").attach(evaluator)
    evaluator.add_event_handler(Events.STARTED, lambda engine: setattr(engine.state, "best_metric_epoch", best_epoch))
    evaluator.add_event_handler(Events.EPOCH_COMPLETED, lambda engine: engine.state.metrics.update(dice=0.81))
    evaluator.run([0, 1], max_epochs=1)
    line = capsys.readouterr().out.rstrip()
    assert line.startswith("epoch 1  ") and line.endswith(ending)


def test_report_takes_the_best_weights(tmp_path):
    run = Run(tmp_path, epochs=2).go()

    class Report:
        def attach(self, engine):
            self.engine = engine

    report = Report()
    report_best(run.network, run.evaluator, report, run.checkpoint)
    assert report.engine is run.evaluator
    assert run.evaluator.state.epoch == run.evaluator.state.best_metric_epoch > 0
    assert torch.equal(run.network.weight, torch.load(tmp_path / BEST, weights_only=True)["weight"])


@pytest.mark.parametrize("broken", [False, True])
def test_the_folders_are_held_until_the_report_is_written(tmp_path, broken):
    folders = [tmp_path / "models", tmp_path / "out"]
    held: list[list[bool]] = []

    def look(engine):
        held.append([(folder / ".lock").exists() for folder in folders])
        if broken and len(held) > 1:
            raise RuntimeError("a broken report")

    class Report:
        def attach(self, engine):
            engine.add_event_handler(Events.COMPLETED, look)

    run = Run(folders[0], output=folders[1], epochs=1)
    run.trainer.run()
    look(run.trainer)
    with pytest.raises(RuntimeError, match="a broken report") if broken else nullcontext():
        report_best(run.network, run.evaluator, Report(), run.checkpoint)
    assert held == [[True, True], [True, True]]
    assert not any((folder / ".lock").exists() for folder in folders)
