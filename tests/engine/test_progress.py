"""Progress bars and the heading of a run."""

from __future__ import annotations

import torch
from ignite.engine import Engine

from shared.engine.progress import TrainingProgress, heading, mean_loss


def test_loss_of_a_dictionary_or_a_list():
    assert mean_loss({"loss": torch.tensor(2.0)}) == mean_loss([{"loss": 2.0}]) == {"loss": 2.0}


def test_the_bar_shows_the_loss(capsys):
    trainer = Engine(lambda engine, batch: {"loss": 0.5})
    TrainingProgress(loss=True).attach(trainer)
    trainer.run([0, 1], max_epochs=1)
    assert "loss=0.5" in capsys.readouterr().err


def test_heading_names_data_device_and_size(capsys):
    network = torch.nn.Linear(1000, 100)
    heading("Method", "cases", {"train": 4, "validation": 2}, "cpu", False, network, "vit_tiny")
    expected = "Method  6 cases (4 train, 2 validation)  cpu, float32  0.1 M parameters, encoder vit_tiny\n"
    assert capsys.readouterr().out == expected
