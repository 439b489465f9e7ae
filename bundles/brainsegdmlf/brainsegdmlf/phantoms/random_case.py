"""Random cases for the training of ``make_weights.py``."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from brainsegdmlf.phantoms.dataset import BrainCase, make_brain_case

HARD_SHARE = ROUGH_SHARE = 0.75  # the other cases are those of the built-in data set


def random_case(
    seed: int,
    heads_dir: str | os.PathLike[str] | None = None,
    lesion_dir: str | os.PathLike[str] | None = None,
    strokes: Sequence[str] | None = None,
    **options: Any,
) -> BrainCase:
    """Make the training case of a seed on one thread, for use in one worker process per core.

    Head label maps (about 30 MB each) are read once per process. Call `label_map.load_head` before the workers
    start, so that they share the memory.

    Args:
        seed: decides everything that the arguments leave open; the same arguments give the same case.
        heads_dir: folder of head label maps; None draws all heads from the MNI template.
        lesion_dir: folder of lesion masks; None draws all lesions.
        strokes: patients of its folder ``stroke`` that may be used; None for all.
        options: other arguments of `make_brain_case`, such as ``exclude``, ``sequences`` or ``rough``.

    Raises:
        InputError: see `make_brain_case`.
    """
    hard, rough = np.random.default_rng([seed, 1]).random(2) < (HARD_SHARE, ROUGH_SHARE)
    settings = {"hard": bool(hard), "rough": bool(rough), **options}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return make_brain_case(seed, heads_dir=heads_dir, lesion_dir=lesion_dir, strokes=strokes, **settings)
    finally:
        torch.set_num_threads(threads)
