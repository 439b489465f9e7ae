"""The file of weights that a run reads."""

from __future__ import annotations

import os


def weights_path(ckpt_dir: str | os.PathLike, bundle_root: str | os.PathLike, shipped: str = "model.pt") -> str:
    """Return the path of the weights in a folder.

    Args:
        ckpt_dir: folder of the weights.
        bundle_root: the bundle's folder; its subfolder ``models`` may hold the weights of several tasks.
        shipped: file in ``models`` that belongs to the task of this run. A training always writes ``model.pt``.

    Returns:
        ``<ckpt_dir>/<shipped>`` where `ckpt_dir` is the bundle's folder ``models``, ``<ckpt_dir>/model.pt`` elsewhere.
    """
    models = os.path.realpath(os.path.join(bundle_root, "models"))
    return os.path.join(ckpt_dir, shipped if os.path.realpath(ckpt_dir) == models else "model.pt")
