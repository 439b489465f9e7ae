"""Federated learning with MONAI's own client: two hospitals, their own data and folders, one network."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from ignite.engine import Events
from monai.fl.client import MonaiAlgo
from monai.fl.utils.constants import ExtraItems, ModelType, WeightType
from monai.fl.utils.exchange_object import ExchangeObject

from tests.bundles.running import PLAIN, Bundle, files

ROUNDS = 2  # of one epoch
DERIVED = {"texts.learned"}  # of EM-CLIP: computed anew from the averaged context wherever there is a text tower
Weights = dict[str, torch.Tensor]


def client(bundle: Bundle, folder: Path, number: int) -> MonaiAlgo:
    """A hospital; the second one trains on the cases that the first one keeps for validation and testing."""
    bundle.write_cases(folder / "data")
    if number:
        file = folder / "data" / "dataset.json"
        lists = json.loads(file.read_text(encoding="utf-8"))
        lists = {"training": lists["validation"] + lists["testing"], "validation": lists["training"], "testing": []}
        file.write_text(json.dumps(lists), encoding="utf-8")
    settings = {**PLAIN, **bundle.train_options, **bundle.quiet, "epochs": ROUNDS, "dataset_dir": str(folder / "data")}
    evaluate = {**settings, **bundle.whole, "initialize": ["$@code"], "output_dir": str(folder / "evaluate")}
    algo = MonaiAlgo(
        bundle_root=str(bundle.folder),
        train_kwargs={**settings, "output_dir": str(folder / "train")},
        eval_kwargs=evaluate,
        best_model_filepath=str(folder / "train" / "models" / "model.pt"),
        final_model_filepath=str(folder / "train" / "models" / "last.pt"),
        save_dict_key="network",
    )
    algo.initialize({ExtraItems.CLIENT_NAME: f"hospital_{number}"})
    return algo


def held(network: torch.nn.Module) -> Weights:
    return {name: value.clone() for name, value in network.state_dict().items()}


def differing(a: Weights, b: Weights) -> set[str]:
    assert a.keys() == b.keys()
    return {name for name in a if not torch.equal(a[name], b[name])}


def averaged(weights: Weights, changes: list[Weights]) -> Weights:
    """FedAvg with equal shares."""
    mean = {name: torch.stack([change[name].double() for change in changes]).mean(0) for name in weights}
    return {name: (value + mean[name]).to(value.dtype) for name, value in weights.items()}


def test_two_hospitals_train_one_network(bundle, tmp_path):
    shipped = files(bundle.folder / "models")
    folders = [tmp_path / "a", tmp_path / "b"]
    for folder in folders:
        folder.mkdir()
    hospitals = [client(bundle, folder, number) for number, folder in enumerate(folders)]
    began: list[Weights] = []
    for hospital in hospitals:
        hospital.trainer.add_event_handler(Events.STARTED, lambda engine: began.append(held(engine.network)))
    everyones = held(hospitals[0].trainer.network)
    for number in range(ROUNDS):
        before = everyones
        changes = []
        for hospital in hospitals:
            hospital.train(ExchangeObject(weights=before))
            sent = hospital.get_weights()
            assert sent.weight_type == WeightType.WEIGHT_DIFF
            assert sent.statistics["num_executed_iterations"] == 2 // bundle.training.get("batch_size", 1)
            changes.append(sent.weights)
        assert differing(*began[-2:]) == set() and differing(began[-1], before) <= DERIVED
        assert differing(*changes)
        everyones = averaged(before, changes)
        for hospital in hospitals:
            assert hospital.trainer.state.epoch == number + 1
            metrics = hospital.evaluate(ExchangeObject(weights=everyones)).metrics
            assert 0 <= metrics["val_mean_dice"] <= 1
        first, second = (held(hospital.evaluator.network) for hospital in hospitals)
        assert differing(first, second) == set() and differing(first, everyones) <= DERIVED
        assert differing(everyones, before)
    for hospital, folder in zip(hospitals, folders):
        hospital.finalize()
        assert [path.name for path in (folder / "train").glob("models*")] == ["models"]
        last = hospital.get_weights({ExtraItems.MODEL_TYPE: ModelType.FINAL_MODEL}).weights
        assert differing(last, held(hospital.trainer.network)) == set()
        assert hospital.get_weights({ExtraItems.MODEL_TYPE: ModelType.BEST_MODEL}).weights.keys() == everyones.keys()
    assert files(bundle.folder / "models") == shipped
