"""The folder of checkpoints: only files of earlier trainings move; a full or foreign folder is named before a run."""

from __future__ import annotations

import os
import shutil
import subprocess
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from shared.core.errors import InputError
from shared.core.files import _host
from shared.engine import run_folder
from shared.engine.recipes import ship
from shared.engine.run_folder import BEST, LAST, check_ckpt_dir, clear_folder, needed_bytes, run_of, save_checkpoint
from tests.bundles.running import files
from tests.engine.short_run import Run, one_line
from tests.holding import hold


def test_a_signed_file_is_read_like_any_other(tmp_path):
    state = {"a": torch.randn(5), "b": torch.arange(3)}
    save_checkpoint(state, tmp_path / BEST, "1234")
    read = torch.load(tmp_path / BEST, weights_only=True, mmap=True)
    assert run_of(tmp_path / BEST) == "1234"
    assert read.keys() == state.keys() and torch.equal(read["a"], state["a"])


def test_only_a_training_signs_its_files(tmp_path):
    torch.save({"a": torch.zeros(1)}, tmp_path / "plain.pt")
    save_checkpoint({"a": torch.zeros(1)}, tmp_path / "trained.pt", "1234")
    ship(tmp_path / "trained.pt", tmp_path / "shipped.pt")
    (tmp_path / "text.pt").write_text("text", encoding="utf-8")
    for name in ("plain.pt", "shipped.pt", "text.pt", "absent.pt"):
        assert run_of(tmp_path / name) is None


def test_an_earlier_training_moves_into_a_folder_beside_the_new_one(tmp_path, capsys):
    contents = []
    for number in range(4):  # within one second: the folders need different names
        Run(tmp_path, epochs=1 + number).go()
        contents.append({name: (tmp_path / name).read_bytes() for name in (LAST, BEST)})
    kept = [files(folder) for folder in tmp_path.glob("run_*")]
    assert len(kept) == 3 and all(content in kept for content in contents[:-1])
    assert "moved to" in capsys.readouterr().out
    assert torch.load(tmp_path / LAST, weights_only=True)["trainer"]["iteration"] == 8


def test_a_training_that_was_moved_can_be_resumed(tmp_path):
    Run(tmp_path, epochs=3).go(die_after=1)
    Run(tmp_path, epochs=1).go()
    (aside,) = tmp_path.glob("run_*")
    assert Run(aside, resume=True, epochs=3).go().epochs == [2, 3]


def test_an_interrupted_move_ends_in_one_folder(tmp_path):
    Run(tmp_path, epochs=1).go()
    before = {name: (tmp_path / name).read_bytes() for name in (LAST, BEST)}
    written = (tmp_path / LAST).stat().st_mtime
    os.utime(tmp_path / BEST, (written, written))
    clear_folder(tmp_path)
    (aside,) = tmp_path.glob("run_*")
    (aside / LAST).rename(tmp_path / LAST)
    clear_folder(tmp_path)
    assert files(tmp_path) == {f"{aside.name}/{name}": content for name, content in before.items()}


@pytest.mark.parametrize("resume", [False, True])
def test_shipped_weights_are_neither_moved_nor_overwritten(tmp_path, resume):
    torch.save({"weight": torch.zeros(1)}, tmp_path / BEST)
    (tmp_path / "thesis.tex").write_text("mine", encoding="utf-8")
    before = files(tmp_path)
    with pytest.raises(InputError, match="was not written by a training") as error:
        Run(tmp_path, resume=resume, epochs=1).go()
    assert BEST in one_line(error) and "give another --ckpt_dir, or move the file away" in one_line(error)
    assert files(tmp_path) == before


def test_files_of_other_programs_stay(tmp_path):
    (tmp_path / "thesis.tex").write_text("mine", encoding="utf-8")
    for _ in range(2):
        Run(tmp_path, epochs=1).go()
    assert (tmp_path / "thesis.tex").read_text(encoding="utf-8") == "mine"


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root mounts")
def test_an_earlier_training_on_a_mount_point_is_moved(tmp_path):
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", tmp_path]).returncode:
        pytest.skip("cannot mount here")
    try:
        for _ in range(2):
            Run(tmp_path, epochs=1).go()
        assert len(list(tmp_path.glob("run_*"))) == 1
    finally:
        subprocess.run(["umount", tmp_path], check=True)


def test_the_size_of_checkpoints_is_known_before_the_training(tmp_path):
    network = nn.Sequential(nn.Linear(300, 300), nn.Linear(300, 100))
    network[1].requires_grad_(False)  # its weights are saved, without optimiser state
    optimizer = torch.optim.AdamW([p for p in network.parameters() if p.requires_grad])
    network(torch.ones(1, 300)).sum().backward()
    optimizer.step()
    save_checkpoint(network.state_dict(), tmp_path / BEST)
    save_checkpoint({"network": network.state_dict(), "optimizer": optimizer.state_dict()}, tmp_path / LAST)
    written = (tmp_path / BEST).stat().st_size + 2 * (tmp_path / LAST).stat().st_size
    assert needed_bytes(network) == pytest.approx(written, rel=0.02)


def free_space(monkeypatch, n_bytes):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=n_bytes))


def test_a_folder_that_is_too_small_is_named_before_the_training(tmp_path, monkeypatch):
    network = nn.Linear(500, 500)
    free_space(monkeypatch, 6e6)
    with pytest.raises(InputError, match=r"has 6 MB free where 8 MB are needed: give another --ckpt_dir") as error:
        check_ckpt_dir(tmp_path / "new", network)
    one_line(error)
    assert not (tmp_path / "new").exists()
    free_space(monkeypatch, 8e6)
    check_ckpt_dir(tmp_path / "new", network)


def test_resuming_reuses_the_space_of_its_own_files(tmp_path, monkeypatch):
    network = nn.Linear(500, 500)
    for name in (LAST, BEST):
        save_checkpoint(network.state_dict(), tmp_path / name, "1234")
    free_space(monkeypatch, 6e6)
    check_ckpt_dir(tmp_path, network, resume=True)
    with pytest.raises(InputError, match="MB are needed"):
        check_ckpt_dir(tmp_path, network, resume=False)


def test_a_folder_that_cannot_be_written_is_named_before_the_training(tmp_path):
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(InputError, match="give another --ckpt_dir") as error:
        check_ckpt_dir(tmp_path / "file" / "models", nn.Linear(1, 1))
    one_line(error)


@pytest.mark.parametrize("held", ["models", "out"])
def test_a_folder_in_use_is_named_before_the_training(tmp_path, held):
    with hold(tmp_path / held) as holder:
        with pytest.raises(InputError, match=f"is in use by training .process {holder.pid} ") as error:
            check_ckpt_dir(tmp_path / "models", nn.Linear(1, 1), output_dir=tmp_path / "out")
        holder.communicate()
    assert str(tmp_path / held) in one_line(error)
    check_ckpt_dir(tmp_path / "models", nn.Linear(1, 1), output_dir=tmp_path / "out")


def test_other_processes_than_the_first_leave_the_folder_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(run_folder.idist, "get_rank", lambda: 1)
    (tmp_path / "file").write_text("", encoding="utf-8")
    check_ckpt_dir(tmp_path / "file" / "models", nn.Linear(1, 1))


def test_drafts_of_killed_trainings_are_removed_before_the_space_is_measured(tmp_path):
    with subprocess.Popen(["true"]) as ended:
        pass
    draft = tmp_path / f".draft-{_host()}-{ended.pid}-0.pt"
    draft.write_bytes(b"half a checkpoint")
    check_ckpt_dir(tmp_path, nn.Linear(1, 1))
    assert not draft.exists()
