"""A training that was stopped and resumed ends with the weights of one that ran undisturbed."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from ignite.engine import Events

from tests.bundles.facts import BUNDLES, NAMES
from tests.bundles.running import Bundle


def train(
    bundle: Bundle, data: Path, output: Path, workers: int, resume: bool = False, stop_after: int | None = None
) -> None:
    settings = {**bundle.quiet, "epochs": 3, "augmentation": 1, "num_workers": workers, "resume": resume}
    if stop_after is None:
        bundle.train(data, output, **settings)
        return
    places = {"dataset_dir": str(data), "output_dir": str(output)}
    flow = bundle.workflow("train", **places, **{**bundle.train_options, **settings})
    flow.initialize()
    trainer = flow.parser.get_parsed_content("train#trainer")

    @trainer.on(Events.EPOCH_COMPLETED)
    def stop(engine):
        if engine.state.epoch == stop_after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trainer.run()


@pytest.mark.parametrize(("name", "workers"), [(name, 1) for name in NAMES] + [("tmca", 0)])
def test_interrupted_and_undisturbed_trainings_end_with_the_same_weights(name, workers, tmp_path):
    bundle = BUNDLES[name]
    bundle.write_cases(tmp_path / "data")
    train(bundle, tmp_path / "data", tmp_path / "whole", workers)
    train(bundle, tmp_path / "data", tmp_path / "cut", workers, stop_after=1)
    train(bundle, tmp_path / "data", tmp_path / "cut", workers, resume=True)
    whole, cut = (torch.load(tmp_path / run / "models" / "last.pt", weights_only=True) for run in ("whole", "cut"))
    assert whole["trainer"]["iteration"] == cut["trainer"]["iteration"]
    unlike = [key for key, value in whole["network"].items() if not torch.equal(value, cut["network"][key])]
    assert unlike == []
