"""The folder of a training's checkpoints: the files that a training wrote, what may be moved, the space they need."""

from __future__ import annotations

import os
import time
import zipfile
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import torch

from shared.core.errors import InputError, require
from shared.core.files import check_output_dir, sweep_drafts, whole
from shared.core.locks import locked

LAST = "last.pt"
BEST = "model.pt"
SIGNATURE = "written_by_training"  # name of an entry in the zip archive that `torch.save` writes
OPTIMISER_VALUES = 2  # per trained parameter: AdamW keeps two moving averages


def save_checkpoint(state: Any, path: Path, run: str | None = None) -> None:
    """Write `state` with `torch.save`; whoever opens `path` finds the old file or the new one, complete.

    ignite's `Checkpoint` removes the old file before it writes the new one.

    Args:
        state: tensors and plain Python types.
        path: file to write or replace; its folder is created.
        run: id of the training that writes the file, see `run_of`. `torch.load` ignores it.
    """
    with whole(path) as draft:
        torch.save(state, draft)
        if run is not None:
            with zipfile.ZipFile(draft, "a") as archive:
                archive.writestr(f"{archive.namelist()[0].partition('/')[0]}/{SIGNATURE}", run)


def run_of(path: Path) -> str | None:
    """Return the id of the training that wrote a file; None for every other file, such as shipped weights."""
    try:
        with zipfile.ZipFile(path) as archive:
            entry = next(name for name in archive.namelist() if name.endswith(f"/{SIGNATURE}"))
            return archive.read(entry).decode("utf-8")
    except (OSError, zipfile.BadZipFile, StopIteration):
        return None


def clear_folder(folder: Path) -> None:
    """Move the checkpoints of an earlier training into a folder of their own inside `folder`.

    The files are moved one by one: `folder` may be a mount point, or hold files of other programs.

    Raises:
        InputError: a file that would be overwritten was not written by a training.
    """
    found = [folder / name for name in (BEST, LAST) if (folder / name).exists()]
    for path in found:
        refuse_foreign(path)
    if found:
        written = time.strftime("%Y%m%d-%H%M%S", time.localtime(found[-1].stat().st_mtime))
        names = (f"run_{written}{suffix}" for suffix in ("", *(f"-{i}" for i in range(2, 1000))))
        # A move that was interrupted after its first file goes on in the same folder.
        aside = next(
            path for path in map(folder.joinpath, names) if not any((path / old.name).exists() for old in found)
        )
        aside.mkdir(exist_ok=True)
        for path in found:
            path.rename(aside / path.name)
        print(f"checkpoints of an earlier run moved to {aside} (to go on from them: --ckpt_dir {aside} --resume true)")


def refuse_foreign(path: Path) -> None:
    """Raise if a training did not write `path`, which would be moved or overwritten.

    Raises:
        InputError: names the file and the remedy.
    """
    if run_of(path) is None:
        raise InputError(f"{path} was not written by a training: give another --ckpt_dir, or move the file away")


def check_ckpt_dir(
    ckpt_dir: str | os.PathLike,
    network: torch.nn.Module,
    resume: bool = False,
    output_dir: str | os.PathLike | None = None,
) -> None:
    """Check before a training that its checkpoints can be written; drafts of killed processes are removed.

    Args:
        ckpt_dir: folder for checkpoints; it and its parents need not exist.
        network: network to train; its size gives the size of a checkpoint.
        resume: the training goes on from the checkpoints in the folder, and replaces them.
        output_dir: folder of the training's reports and curves; None for none.

    Raises:
        InputError: the folder cannot be written, is too small, or holds a file that would be overwritten though no
            training wrote it; or another process uses one of the folders.
    """
    if idist.get_rank() != 0:
        return
    folder = Path(ckpt_dir).expanduser().absolute()
    sweep_drafts(folder)
    found = [path for path in (folder / BEST, folder / LAST) if path.is_file()]
    replaced = sum(path.stat().st_size for path in found) if resume else 0
    require(check_output_dir(folder, (needed_bytes(network) - replaced) / 1e6, "--ckpt_dir"))
    for used in (folder, *([] if output_dir is None else [Path(output_dir).expanduser()])):
        if used.is_dir():
            with locked(used, "training"):
                pass
    if not (resume and (folder / LAST).exists()):
        for path in found:
            refuse_foreign(path)


def needed_bytes(network: torch.nn.Module) -> int:
    """Return the space that a training's checkpoints take at most: `model.pt`, `last.pt` and the draft of the next."""
    weights = sum(value.numel() * value.element_size() for value in network.state_dict().values())
    trained = sum(value.numel() * value.element_size() for value in network.parameters() if value.requires_grad)
    last = weights + OPTIMISER_VALUES * trained
    return weights + 2 * last
