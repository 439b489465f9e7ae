"""Training of every bundle: what it leaves behind, what it keeps, and how it goes on."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from ignite.engine import Events

from tests.bundles.running import finish, input_error


def test_no_property_is_missing(trained):
    assert not trained.missing


def test_products(trained):
    output = trained.output
    assert json.loads((output / "metrics.json").read_text(encoding="utf-8"))["seed"] == 0
    assert sorted(path.name for path in (output / "models").iterdir()) == ["last.pt", "model.pt"]
    assert list((output / "tensorboard").glob("events.*"))


def test_text(bundle, trained):
    lines = [line for line in trained.text.splitlines() if line.strip()]
    assert lines[0].startswith(f"{bundle.cases}  cpu, float32")
    assert bundle.best in trained.text
    assert tuple(line.split()[0] for line in lines[-len(bundle.next_words) :]) == bundle.next_words


def test_weights_are_a_plain_state_dict_of_the_network(trained):
    state = torch.load(trained.output / "models" / "model.pt", weights_only=True)
    network = trained.flow.parser.get_parsed_content("network_def")
    assert state.keys() == network.state_dict().keys() and all(torch.is_tensor(value) for value in state.values())


def test_training_leaves_the_shipped_weights(trained):
    before, after = trained.shipped
    assert before == after


def test_loss_falls(bundle, data_dir, tmp_path):
    places = {"dataset_dir": str(data_dir), "output_dir": str(tmp_path)}
    flow = bundle.workflow("train", **places, **{**bundle.train_options, **bundle.steady})
    flow.initialize()
    batch = next(iter(flow.parser.get_parsed_content("train#dataloader")))
    network, loss, optimizer = (flow.parser.get_parsed_content(key) for key in ("network", "loss", "optimizer"))
    for group in optimizer.param_groups:
        group["lr"] = bundle.rate
    network.train()
    values = []
    for _ in range(12):
        optimizer.zero_grad()
        value = loss(network(*(batch[key] for key in bundle.inputs)), batch["label"])
        value.backward()
        optimizer.step()
        values.append(value.item())
    assert sum(values[-3:]) / 3 < 0.9 * values[0], values


def test_resumed_training_starts_from_the_checkpoint(bundle, data_dir, trained, tmp_path, capfd):
    """Epoch, best metric, weights and the optimizer's state; the schedule follows the new number of epochs."""
    shutil.copytree(trained.output / "models", tmp_path / "models")
    saved = torch.load(tmp_path / "models" / "last.pt", weights_only=True)
    places = {"dataset_dir": str(data_dir), "output_dir": str(tmp_path)}
    settings = {**places, **bundle.train_options, **bundle.quiet, "epochs": 3, "resume": True}
    flow = bundle.workflow("train", **settings)
    flow.initialize()
    trainer, evaluator, optimizer, network = (
        flow.parser.get_parsed_content(key) for key in ("train#trainer", "validate#evaluator", "optimizer", "network")
    )
    began = {}

    @trainer.on(Events.EPOCH_STARTED)
    def look(engine):
        if not began:
            began.update(epoch=engine.state.epoch, best=evaluator.state.best_metric)
            began["weights"] = {key: value.clone() for key, value in network.state_dict().items()}
            began["betas"] = [tuple(group["betas"]) for group in optimizer.param_groups]
            state = optimizer.state_dict()["state"]
            began["moments"] = {key: value["exp_avg"].clone() for key, value in state.items()}

    flow.run()
    flow.finalize()
    assert began["epoch"] == 3 == trainer.state.epoch
    assert began["best"] == pytest.approx(saved["best"]["metric"])
    assert began["betas"] == [tuple(group["betas"]) for group in saved["optimizer"]["param_groups"]]
    for key, value in began["moments"].items():
        assert torch.equal(value, saved["optimizer"]["state"][key]["exp_avg"])
    for key, value in began["weights"].items():
        torch.testing.assert_close(value, saved["network"][key], rtol=0, atol=bundle.tolerance)
    assert "resuming after epoch 2 of 3" in capfd.readouterr().out
    assert (tmp_path / "metrics.csv").is_file()
    complete = input_error(finish, bundle.workflow("train", **settings))
    assert "has all of 3 epochs" in complete and "--epochs" in complete


def test_fine_tuning_starts_from_the_weights_given(bundle, data_dir, weights_dir, tmp_path):
    """At learning rate 0, in which only statistics move."""
    start = weights_dir / "model.pt"
    flow = bundle.train(data_dir, tmp_path, **bundle.quiet, weights=str(start), learning_rate=0.0)
    wanted, found = torch.load(start, weights_only=True), flow.parser.get_parsed_content("network").state_dict()
    same = {"rtol": 0, "atol": bundle.tolerance}
    moved = [key for key, value in found.items() if not torch.allclose(value, wanted[key], **same)]
    assert [key for key in moved if not any(part in key for part in bundle.moving)] == []
