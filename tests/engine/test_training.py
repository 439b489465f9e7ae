"""Checkpoints of a run: whole at any moment, resumed exactly, refused in one line where they do not fit."""

from pathlib import Path

import pytest
import torch
from ignite.engine import Engine, Events
from monai.engines import SupervisedEvaluator, SupervisedTrainer
from monai.handlers import LrScheduleHandler
from monai.optimizers import WarmupCosineSchedule
from torch import nn
from torch.utils.data import DataLoader

from shared.core.errors import InputError
from shared.engine.training import (
    BEST,
    LAST,
    RunCheckpoint,
    TrainingProgress,
    Validation,
    ValidationLine,
    load_weights,
    machines_agree,
    mean_loss,
    misfits,
    prepare_run_dir,
    report_best,
)

SCORES = [0.5, 0.3, 0.7, 0.6, 0.8, 0.1]  # of the validations after epochs 1, 2, ...


class Run:
    """A run of MONAI's trainer that is a second long: linear network, two steps an epoch, scores by the list."""

    def __init__(
        self,
        folder,
        resume=False,
        epochs=3,
        scores=SCORES,
        inputs=3,
        samples=4,
        interval=1,
        optimizer=torch.optim.AdamW,
    ):
        torch.manual_seed(0)
        generator = torch.Generator().manual_seed(1)
        data = [{"image": torch.randn(inputs, generator=generator), "label": torch.randn(1)} for _ in range(samples)]
        self.loader = DataLoader(data, batch_size=2)
        self.network = nn.Linear(inputs, 1)
        self.optimizer = torch.optim.AdamW(self.network.parameters(), lr=0.1)
        self.scheduler = WarmupCosineSchedule(self.optimizer, 1, len(self.loader) * epochs)
        self.evaluator = SupervisedEvaluator(torch.device("cpu"), self.loader, self.network)
        self.evaluator.add_event_handler(Events.COMPLETED, self.score, scores)
        self.epochs: list[int] = []
        self.validated: list[int] = []
        self.rates: list[float] = []
        checkpoint = RunCheckpoint(folder, self.network, self.optimizer, self.scheduler, self.evaluator, resume)
        self.trainer = SupervisedTrainer(
            torch.device("cpu"),
            epochs,
            self.loader,
            self.network,
            self.optimizer,
            nn.MSELoss(),
            train_handlers=[
                Validation(interval, self.evaluator),
                LrScheduleHandler(self.scheduler, print_lr=False, epoch_level=False),
                checkpoint,
            ],
        )
        self.trainer.add_event_handler(Events.EPOCH_STARTED, lambda engine: self.epochs.append(engine.state.epoch))
        self.trainer.add_event_handler(
            Events.ITERATION_COMPLETED, lambda engine: self.rates.append(self.optimizer.param_groups[0]["lr"])
        )

    def score(self, evaluator, scores):
        """What MONAI's metric handler does at the end of a validation."""
        value = scores[evaluator.state.epoch - 1]
        self.validated.append(evaluator.state.epoch)
        if value > evaluator.state.best_metric:
            evaluator.state.best_metric, evaluator.state.best_metric_epoch = value, evaluator.state.epoch

    def go(self, die_after=None):
        """Run; with `die_after`, as if the process were killed when that epoch is done."""
        if die_after:

            def die(engine):
                if engine.state.epoch == die_after:
                    raise KeyboardInterrupt

            self.trainer.add_event_handler(Events.EPOCH_COMPLETED, die)
            with pytest.raises(KeyboardInterrupt):
                self.trainer.run()
        else:
            self.trainer.run()
        return self


def one_line(error) -> str:
    text = str(error.value)
    assert "\n" not in text and len(text) < 400
    return text


def test_resumed_run_equals_one_that_was_never_cut(tmp_path):
    whole = Run(tmp_path / "whole", epochs=5).go()
    Run(tmp_path / "cut", epochs=5).go(die_after=2)
    resumed = Run(tmp_path / "cut", resume=True, epochs=5).go()
    assert resumed.epochs == [3, 4, 5]
    assert resumed.rates == pytest.approx(whole.rates[4:])
    for ours, theirs in zip(resumed.network.parameters(), whole.network.parameters()):
        torch.testing.assert_close(ours, theirs, atol=0, rtol=0)
    moments = [run.optimizer.state_dict()["state"][0] for run in (resumed, whole)]
    torch.testing.assert_close(moments[0]["exp_avg_sq"], moments[1]["exp_avg_sq"], atol=0, rtol=0)
    assert moments[0]["step"] == moments[1]["step"] == 10
    assert resumed.scheduler.last_epoch == whole.scheduler.last_epoch
    assert resumed.trainer.state.iteration == whole.trainer.state.iteration == 10
    state = resumed.evaluator.state
    assert (state.best_metric, state.best_metric_epoch) == (0.8, 5)


def test_best_weights_are_plain_and_those_of_the_best_epoch(tmp_path):
    seen = []
    run = Run(tmp_path, epochs=4)  # 0.5, 0.3, 0.7, 0.6
    run.trainer.add_event_handler(
        Events.EPOCH_COMPLETED, lambda _: seen.append({k: v.clone() for k, v in run.network.state_dict().items()})
    )
    run.go()
    best = torch.load(tmp_path / BEST, weights_only=True)
    assert list(best) == ["weight", "bias"]
    torch.testing.assert_close(best["weight"], seen[2]["weight"])
    assert not torch.equal(best["weight"], seen[3]["weight"])
    fresh = nn.Linear(3, 1)
    load_weights(fresh, tmp_path / BEST)
    assert torch.equal(fresh.weight, best["weight"])


@pytest.mark.parametrize(("scores", "replaced"), [([0.9, 0.1, 0.5], False), ([0.4, 0.1, 0.5], True)])
def test_only_a_better_validation_replaces_the_best_also_after_resuming(tmp_path, scores, replaced):
    Run(tmp_path, scores=scores).go(die_after=2)
    before = (tmp_path / BEST).read_bytes()
    resumed = Run(tmp_path, resume=True, scores=scores).go()
    assert ((tmp_path / BEST).read_bytes() != before) == replaced
    assert resumed.evaluator.state.best_metric == max(scores)


@pytest.mark.parametrize(
    ("epochs", "interval", "validated"), [(5, 2, [2, 4, 5]), (4, 2, [2, 4]), (2, 9, [2]), (3, 1, [1, 2, 3])]
)
def test_the_last_epoch_is_validated_once_whatever_the_interval(tmp_path, epochs, interval, validated):
    assert Run(tmp_path, epochs=epochs, interval=interval).go().validated == validated


def test_weights_of_a_last_epoch_that_is_best_are_kept(tmp_path):
    run = Run(tmp_path, epochs=5, interval=2).go()  # 0.3, 0.6, then 0.8 after the fifth
    assert torch.equal(torch.load(tmp_path / BEST, weights_only=True)["weight"], run.network.weight)
    longer = Run(tmp_path, resume=True, epochs=6, interval=4).go()
    assert longer.validated == [6] and longer.evaluator.state.best_metric == 0.8


def test_epochs_without_validation_write_no_best(tmp_path):
    Run(tmp_path, epochs=3, interval=2).go(die_after=1)
    assert (tmp_path / LAST).exists() and not (tmp_path / BEST).exists()
    Run(tmp_path, resume=True, epochs=3, interval=2).go(die_after=2)
    assert (tmp_path / BEST).exists()


def test_a_metric_that_is_no_number_leaves_the_last_weights(tmp_path):
    run = Run(tmp_path, scores=[float("nan")] * 3).go()
    assert torch.equal(torch.load(tmp_path / BEST, weights_only=True)["weight"], run.network.weight)


def test_longer_training_after_the_last_epoch_follows_the_new_schedule(tmp_path):
    Run(tmp_path, epochs=2).go()
    longer = Run(tmp_path, resume=True, epochs=6).go()
    never_cut = Run(tmp_path / "other", epochs=6).go()
    assert longer.epochs == [3, 4, 5, 6]
    assert longer.rates == pytest.approx(never_cut.rates[4:])
    assert all(before >= after for before, after in zip(longer.rates, longer.rates[1:]))


def test_resumed_with_more_data_an_epoch_is_all_of_it(tmp_path):
    Run(tmp_path, epochs=4, samples=4).go(die_after=2)
    steps = len(Run(tmp_path, resume=True, epochs=4, samples=10).go().rates)
    assert steps == 2 * 5


def test_without_resume_an_earlier_run_is_set_aside(tmp_path, capsys):
    contents = []
    for number in range(4):  # within one second: the folders' names must differ all the same
        Run(tmp_path / "models", epochs=1 + number).go()
        contents.append({f.name: f.read_bytes() for f in (tmp_path / "models").iterdir()})
    kept = [{f.name: f.read_bytes() for f in folder.iterdir()} for folder in tmp_path.iterdir()]
    assert len(kept) == 4 and all(content in kept for content in contents)
    assert "moved to" in capsys.readouterr().out
    assert torch.load(tmp_path / "models" / LAST, weights_only=True)["trainer"]["iteration"] == 8


def test_weights_without_a_run_are_not_overwritten_either(tmp_path):
    """A bundle's shipped models/model.pt has no last.pt beside it."""
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / BEST).write_bytes(b"shipped")
    Run(tmp_path / "models", epochs=1).go()
    assert b"shipped" in [f.read_bytes() for f in tmp_path.glob(f"models_*/{BEST}")]


def test_nothing_to_set_aside(tmp_path):
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "notes.txt").write_text("mine")
    assert prepare_run_dir(tmp_path / "models", resume=False) == tmp_path / "models"
    assert (tmp_path / "models" / "notes.txt").exists()
    assert prepare_run_dir(tmp_path / "a" / "b", resume=True).is_dir()


def test_nothing_to_resume_starts_from_the_beginning(tmp_path, capsys):
    assert Run(tmp_path / "new", resume=True).go().epochs == [1, 2, 3]
    assert "nothing to resume" in capsys.readouterr().out


def test_resuming_what_one_machine_of_two_sees_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("ignite.distributed.all_reduce", lambda seen: seen + 1)
    monkeypatch.setattr("ignite.distributed.get_world_size", lambda: 2)
    with pytest.raises(InputError) as error:
        machines_agree(tmp_path / LAST)
    assert "last.pt is not on every machine: give --ckpt_dir" in one_line(error)
    (tmp_path / LAST).touch()
    machines_agree(tmp_path / LAST)


def test_a_trainer_that_runs_again_goes_on_in_its_folder(tmp_path):
    """As in the rounds of federated learning."""
    run = Run(tmp_path / "models", epochs=1).go()
    run.trainer.state.max_epochs = 2
    run.trainer.run()
    assert run.epochs == [1, 2]
    assert [path.name for path in tmp_path.iterdir()] == ["models"]


def test_resuming_a_complete_run_is_refused(tmp_path):
    Run(tmp_path).go()
    with pytest.raises(InputError, match="all of 3 epochs") as error:
        Run(tmp_path, resume=True).go()
    assert "--epochs" in one_line(error)


def test_resuming_another_network_is_refused(tmp_path):
    Run(tmp_path).go(die_after=1)
    with pytest.raises(InputError, match="of another shape, e.g. weight") as error:
        Run(tmp_path, resume=True, inputs=5).go()
    assert LAST in one_line(error) and "options" in one_line(error)


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", None])
def test_resuming_from_a_broken_file_is_refused(tmp_path, content):
    Run(tmp_path).go(die_after=1)
    data = (tmp_path / LAST).read_bytes()
    (tmp_path / LAST).write_bytes(data[: len(data) // 2] if content is None else content)
    with pytest.raises(InputError, match=LAST) as error:
        Run(tmp_path, resume=True).go()
    one_line(error)


def test_resuming_from_what_is_no_run(tmp_path):
    torch.save(nn.Linear(3, 1).state_dict(), tmp_path / LAST)
    with pytest.raises(InputError, match=LAST) as error:
        Run(tmp_path, resume=True).go()
    one_line(error)


@pytest.mark.parametrize("moment", ["save", "replace"])
def test_killed_while_saving_the_last_whole_file_stands(tmp_path, monkeypatch, moment):
    """Whatever is interrupted - writing, or just before renaming - last.pt exists and is the epoch before."""
    run = Run(tmp_path, epochs=3)
    real = torch.save
    there = []

    def dying_save(state, file, *args, **kwargs):
        assert Path(file).name not in (LAST, BEST)  # never written in place
        there.append((tmp_path / LAST).exists())
        if isinstance(state, dict) and state.get("trainer", {}).get("iteration") == 4:
            if moment == "save":
                with open(file, "wb") as handle:
                    handle.write(b"half a fi")
            else:
                real(state, file, *args, **kwargs)
            raise KeyboardInterrupt
        real(state, file, *args, **kwargs)

    monkeypatch.setattr(torch, "save", dying_save)
    with pytest.raises(KeyboardInterrupt):
        run.trainer.run()
    monkeypatch.undo()
    assert there[-1]  # the old file stood while the new one was being written
    assert torch.load(tmp_path / LAST, weights_only=True)["trainer"]["iteration"] == 2
    (tmp_path / f".{LAST}.1").write_bytes(b"left over by a kill -9")
    assert Run(tmp_path, resume=True, epochs=3).go().epochs == [2, 3]


def test_report_takes_the_best_weights(tmp_path):
    run = Run(tmp_path, epochs=2).go()

    class Report:
        def attach(self, engine):
            self.engine = engine

    report = Report()
    report_best(run.network, run.evaluator, report, tmp_path)
    assert report.engine is run.evaluator
    assert run.evaluator.state.epoch == run.evaluator.state.best_metric_epoch > 0
    assert torch.equal(run.network.weight, torch.load(tmp_path / BEST, weights_only=True)["weight"])


def test_weights_that_are_not_there(tmp_path):
    with pytest.raises(InputError, match=r"model\.pt not found") as error:
        load_weights(nn.Linear(2, 2), tmp_path / BEST)
    assert "--ckpt_dir" in one_line(error)


@pytest.mark.parametrize("content", ["empty", "text", "half", "tensor", "list"])
def test_weights_that_are_none(tmp_path, content):
    path = tmp_path / BEST
    torch.save({"tensor": torch.zeros(3), "list": [1]}.get(content, nn.Linear(200, 20).state_dict()), path)
    data = path.read_bytes()
    path.write_bytes({"empty": b"", "text": b"<html>", "half": data[: len(data) // 2]}.get(content, data))
    with pytest.raises(InputError, match=r"model\.pt") as error:
        load_weights(nn.Linear(2, 2), path)
    one_line(error)


@pytest.mark.parametrize("other", [nn.Linear(3, 2), nn.Linear(2, 2, bias=False), nn.Sequential(nn.Linear(2, 2))])
def test_weights_of_another_network(tmp_path, other):
    torch.save(other.state_dict(), tmp_path / BEST)
    network = nn.Linear(2, 2)
    before = network.weight.clone()
    with pytest.raises(InputError, match="another network") as error:
        load_weights(network, tmp_path / BEST)
    one_line(error)
    assert torch.equal(network.weight, before)


@pytest.mark.parametrize("wrapper", ["network", "model", None])
def test_weights_may_be_wrapped(tmp_path, wrapper):
    source, network = nn.Linear(2, 2), nn.Linear(2, 2)
    torch.save({wrapper: source.state_dict()} if wrapper else source.state_dict(), tmp_path / BEST)
    load_weights(network, tmp_path / BEST)
    assert torch.equal(network.weight, source.weight)
    load_weights(nn.DataParallel(network), tmp_path / BEST)


def test_misfits_in_a_few_words():
    wanted = {name: torch.zeros(2) for name in ("a", "b", "c")}
    assert misfits(wanted, dict(wanted)) == ""
    found = {"b": torch.zeros(3), "c": torch.zeros(2), "y": torch.zeros(1), "x": torch.zeros(1)}
    assert misfits(wanted, found) == "1 missing, e.g. a; 2 unknown, e.g. x; 1 of another shape, e.g. b"
    assert "of another shape" in misfits({"a": torch.zeros(2)}, {"a": 3})


def test_loss_of_either_output():
    assert mean_loss({"loss": torch.tensor(2.0)}) == mean_loss([{"loss": 2.0}]) == {"loss": 2.0}


def test_lines_and_bars(tmp_path, capsys):
    evaluator = Engine(lambda engine, batch: {"loss": 0.5})
    ValidationLine("dice").attach(evaluator)
    TrainingProgress(loss=True).attach(evaluator)
    evaluator.add_event_handler(Events.STARTED, lambda engine: setattr(engine.state, "best_metric_epoch", 1))
    evaluator.add_event_handler(Events.EPOCH_COMPLETED, lambda engine: engine.state.metrics.update(dice=0.81))
    evaluator.run([0, 1], max_epochs=1)
    out = capsys.readouterr()
    assert "epoch 1  validation Dice 0.8100  best so far" in out.out and "loss=0.5" in out.err
