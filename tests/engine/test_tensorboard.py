"""Curves for TensorBoard: of one process, in the run's folder."""

from __future__ import annotations

import ignite.distributed as idist
import pytest
from ignite.engine import Engine, Events
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from shared.core.errors import InputError
from shared.engine.tensorboard import TensorBoard


def run(tmp_path, loss: bool) -> EventAccumulator:
    """Run two epochs of two iterations; what TensorBoard reads afterwards."""
    engine = Engine(lambda engine, batch: {"loss": float(batch)})
    engine.state.metrics = {"val_mean_dice": 0.5}
    TensorBoard(tmp_path, loss=loss).attach(engine)
    engine.run([1, 2], max_epochs=2)
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    return events


def test_a_trainer_writes_its_loss_in_every_iteration(tmp_path):
    events = run(tmp_path, loss=True)
    assert [point.value for point in events.Scalars("train_loss")] == [1, 2, 1, 2]


def test_an_evaluator_writes_its_metrics_and_no_loss(tmp_path):
    events = run(tmp_path, loss=False)
    assert events.Tags()["scalars"] == ["val_mean_dice"]
    assert [point.value for point in events.Scalars("val_mean_dice")] == [0.5, 0.5]


@pytest.mark.parametrize("loss", [True, False])
def test_only_the_first_process_writes(tmp_path, monkeypatch, loss):
    monkeypatch.setattr(idist, "get_rank", lambda: 1)
    engine = Engine(lambda engine, batch: {"loss": 1.0})
    TensorBoard(tmp_path, loss=loss).attach(engine)
    engine.run([1])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("loss", [True, False])
def test_a_training_that_is_refused_leaves_no_file(tmp_path, loss):
    engine = Engine(lambda engine, batch: {"loss": 1.0})
    TensorBoard(tmp_path, loss=loss).attach(engine)

    @engine.on(Events.STARTED)
    def refuse():
        raise InputError("in use")

    with pytest.raises(InputError):
        engine.run([1])
    assert list(tmp_path.iterdir()) == []
