"""The cases of a run: a data set on disk, or the built-in brain phantoms."""

from __future__ import annotations

from functools import partial

from brainsegdmlf.phantoms.dataset import make_brain_phantoms
from shared.datasets import cases
from shared.datasets.preflight import preflight as preflight

dataset_file = partial(cases.dataset_file, maker=make_brain_phantoms)
load_split = partial(cases.load_split, maker=make_brain_phantoms)
load_input = partial(cases.load_input, maker=make_brain_phantoms)
