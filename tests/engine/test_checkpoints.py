"""Checkpoints of a training: complete at any moment, resumed exactly, refused in one line where they do not fit."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
import torch
from ignite.engine import Events
from torch import nn

from shared.backbones.checkpoint import load_weights
from shared.core.errors import InputError
from shared.engine.checkpoints import machines_agree
from shared.engine.run_folder import BEST, LAST, run_of, save_checkpoint
from tests.engine.short_run import Run, one_line
from tests.warm import run_code

ROOT = Path(__file__).resolve().parents[2]


def test_resumed_run_equals_an_uninterrupted_one(tmp_path):
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


def test_model_pt_is_a_plain_state_dict_of_the_best_epoch(tmp_path):
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


def test_without_a_finite_metric_the_last_weights_are_saved(tmp_path):
    run = Run(tmp_path, scores=[float("nan")] * 3).go()
    assert torch.equal(torch.load(tmp_path / BEST, weights_only=True)["weight"], run.network.weight)


def test_longer_training_after_the_last_epoch_follows_the_new_schedule(tmp_path):
    Run(tmp_path, epochs=2).go()
    longer = Run(tmp_path, resume=True, epochs=6).go()
    never_cut = Run(tmp_path / "other", epochs=6).go()
    assert longer.epochs == [3, 4, 5, 6]
    assert longer.rates == pytest.approx(never_cut.rates[4:])
    assert all(before >= after for before, after in zip(longer.rates, longer.rates[1:]))


def test_resumed_epochs_have_the_length_of_the_present_data(tmp_path):
    Run(tmp_path, epochs=4, samples=4).go(die_after=2)
    steps = len(Run(tmp_path, resume=True, epochs=4, samples=10).go().rates)
    assert steps == 2 * 5


def test_nothing_to_resume_starts_from_the_beginning(tmp_path, capsys):
    assert Run(tmp_path / "new", resume=True).go().epochs == [1, 2, 3]
    assert "nothing to resume" in capsys.readouterr().out


def test_resuming_from_the_disk_of_one_machine_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("ignite.distributed.all_reduce", lambda seen: seen + 1)
    monkeypatch.setattr("ignite.distributed.get_world_size", lambda: 2)
    with pytest.raises(InputError) as error:
        machines_agree(tmp_path / LAST)
    assert "last.pt is not on every machine: give --ckpt_dir" in one_line(error)
    (tmp_path / LAST).touch()
    machines_agree(tmp_path / LAST)


def test_a_trainer_that_runs_again_goes_on_in_its_folder(tmp_path):
    run = Run(tmp_path / "models", epochs=1).go()  # one round of federated learning
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


def test_resuming_from_a_plain_state_dict_is_refused(tmp_path):
    torch.save(nn.Linear(3, 1).state_dict(), tmp_path / LAST)
    with pytest.raises(InputError, match=LAST) as error:
        Run(tmp_path, resume=True).go()
    one_line(error)


@pytest.mark.parametrize("moment", ["save", "replace"])
def test_a_kill_while_saving_leaves_the_checkpoint_of_the_epoch_before(tmp_path, monkeypatch, moment):
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


def test_last_pt_and_model_pt_of_two_trainings_never_mix(tmp_path):
    Run(tmp_path / "one").go(die_after=1)
    Run(tmp_path / "other").go(die_after=1)
    (tmp_path / "other" / BEST).rename(tmp_path / "one" / BEST)
    with pytest.raises(InputError, match="does not belong to the training of last.pt") as error:
        Run(tmp_path / "one", resume=True).go()
    assert "move it away" in one_line(error)


def test_a_resumed_training_goes_on_with_the_files_of_the_first(tmp_path):
    Run(tmp_path, epochs=3).go(die_after=1)
    Run(tmp_path, resume=True, epochs=3).go(die_after=2)
    assert Run(tmp_path, resume=True, epochs=3).go().epochs == [3]
    assert run_of(tmp_path / LAST) == run_of(tmp_path / BEST) is not None


def test_checkpoints_of_earlier_releases_are_resumed(tmp_path):
    Run(tmp_path).go(die_after=1)
    for name in (LAST, BEST):  # as releases without the signature wrote them
        torch.save(torch.load(tmp_path / name, weights_only=True), tmp_path / name)
    assert Run(tmp_path, resume=True).go().epochs == [2, 3]


def test_a_full_disk_is_one_line_and_the_checkpoint_before_is_kept(tmp_path, monkeypatch):
    run = Run(tmp_path, epochs=3)
    real = torch.save

    def full(state, file, *args, **kwargs):
        if isinstance(state, dict) and state.get("trainer", {}).get("iteration") == 4:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(state, file, *args, **kwargs)

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(InputError, match="the disk is full") as error:
        run.trainer.run()
    assert LAST in one_line(error) and "--resume true" in one_line(error)
    assert torch.load(tmp_path / LAST, weights_only=True)["trainer"]["iteration"] == 2
    monkeypatch.undo()
    assert Run(tmp_path, resume=True, epochs=3).go().epochs == [2, 3]


def go_in_another_process(folder, output) -> str:
    """Start a training in a process of its own and return what it prints of the error that ends it."""
    program = (
        "import sys; from tests.engine.short_run import Run\n"
        "from shared.core.errors import InputError\n"
        "try: Run(sys.argv[1], output=sys.argv[2]).go()\n"
        "except InputError as error: print(error)"
    )
    return run_code(program, str(folder), str(output), cwd=ROOT, environment=os.environ).stdout


@pytest.mark.parametrize("other", [("models", "other"), ("other", "out")])
def test_a_second_process_cannot_train_in_the_same_folder(tmp_path, other):
    models, output = tmp_path / "models", tmp_path / "out"
    running = Run(models, epochs=2, output=output)
    messages = []
    running.trainer.add_event_handler(
        Events.EPOCH_COMPLETED(once=1),
        lambda: messages.append(go_in_another_process(*(tmp_path / name for name in other))),
    )
    running.go()
    folder = models if other[0] == "models" else output
    assert f"{folder} is in use by training (process {os.getpid()} on" in messages[0] and messages[0].count("\n") == 1
    assert torch.load(models / LAST, weights_only=True)["trainer"]["iteration"] == 4
    assert sorted(path.name for path in models.iterdir()) == [LAST, BEST]
    assert list(output.iterdir()) == [] and list((tmp_path / "other").glob("*")) == []


def test_the_folder_is_free_after_an_error(tmp_path):
    Run(tmp_path).go(die_after=1)
    assert sorted(path.name for path in tmp_path.iterdir()) == [LAST, BEST]


def test_resuming_from_weights_with_nan_is_refused(tmp_path):
    Run(tmp_path).go(die_after=1)
    state = torch.load(tmp_path / LAST, weights_only=True)
    next(iter(state["network"].values())).fill_(float("nan"))
    save_checkpoint(state, tmp_path / LAST, run_of(tmp_path / LAST))
    (tmp_path / BEST).unlink(missing_ok=True)
    with pytest.raises(InputError, match="last.pt: .* hold NaN or infinity") as error:
        Run(tmp_path, resume=True).go()
    assert LAST in one_line(error)
