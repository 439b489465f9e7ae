"""Replace the weights that a server uses, and keep the earlier ones."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path

import ignite.distributed as idist
import torch
from torch import Tensor

from shared.backbones.checkpoint import check_finite, misfits, read_checkpoint
from shared.core.errors import InputError
from shared.core.files import whole
from shared.engine.run_folder import BEST


def publish_weights(ckpt_dir: str | os.PathLike, models_dir: str | os.PathLike) -> Path | None:
    """Serve the best weights of a training.

    Args:
        ckpt_dir: folder with the training's ``model.pt``.
        models_dir: folder of the ``model.pt`` that is served.

    Returns:
        Path of the earlier weights; None if there were none, and in all processes but the first.
    """
    if idist.get_rank() != 0:
        return None
    served = Path(models_dir) / BEST
    kept = keep(served)
    with whole(served) as draft:
        shutil.copyfile(Path(ckpt_dir) / BEST, draft)
    note = f"; the earlier ones are in {kept.name}" if kept else ""
    print(f"inference uses the new weights {served}{note}", flush=True)
    return kept


def publish_upload(upload: str | os.PathLike, served: str | os.PathLike, network: Mapping[str, Tensor]) -> Path | None:
    """Serve weights that a client sent, if the network can load them; only their tensors are kept.

    Args:
        upload: the file as it was received.
        served: path of the weights that are served.
        network: the state_dict of the network that is served.

    Returns:
        Path of the earlier weights; None if there were none.

    Raises:
        InputError: the file holds more than plain tensors, is cut short, belongs to another network, or holds NaN or
            infinity. The served weights stay as they are.
    """
    weights = read_checkpoint(upload, "uploaded weights")
    wrong = misfits(network, weights)
    if wrong:
        raise InputError(f"uploaded weights belong to another network ({wrong}): send weights of this model")
    check_finite(weights, "uploaded weights")
    kept = keep(served)
    with whole(served) as draft:
        torch.save(weights, draft)
    return kept


def keep(served: str | os.PathLike) -> Path | None:
    """Copy the served weights to ``<name>_<time of writing>.pt`` beside them.

    Returns:
        Path of the copy; None if nothing is served yet.
    """
    served = Path(served)
    if not served.exists():
        return None
    written = time.strftime("%Y%m%d-%H%M%S", time.localtime(served.stat().st_mtime))
    names = (f"{served.stem}_{written}{suffix}.pt" for suffix in ("", *(f"-{i}" for i in range(2, 1000))))
    kept = next(path for path in map(served.with_name, names) if not path.exists())
    with whole(kept) as draft:
        shutil.copy2(served, draft)
    return kept
