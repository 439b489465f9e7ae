"""Weights that a server trained take the place of those it used; none are lost."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import ignite.distributed as idist

from shared.core.files import whole
from shared.engine.training import BEST


def publish_weights(ckpt_dir: str | os.PathLike, models_dir: str | os.PathLike) -> Path | None:
    """Put a run's best weights where the server looks for them; those before stay as ``model_<time of writing>.pt``.

    Args:
        ckpt_dir: folder with the run's ``model.pt``.
        models_dir: folder of the ``model.pt`` that is served; at every moment the old or the new one, whole.

    Returns:
        Path of the weights before; None if there were none, and in all but the first process.
    """
    if idist.get_rank() != 0:
        return None
    served, kept = Path(models_dir) / BEST, None
    if served.exists():
        written = time.strftime("%Y%m%d-%H%M%S", time.localtime(served.stat().st_mtime))
        names = (f"{served.stem}_{written}{suffix}.pt" for suffix in ("", *(f"-{i}" for i in range(2, 1000))))
        kept = next(path for path in map(served.with_name, names) if not path.exists())
        shutil.copy2(served, kept)
    with whole(served) as draft:
        shutil.copyfile(Path(ckpt_dir) / BEST, draft)
    print(f"inference uses the new weights {served}{f'; those before are in {kept.name}' if kept else ''}", flush=True)
    return kept
