"""The loading transform of cines: one phase at a time, as a volume of its own."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.utils import MetaKeys, SpaceKeys

from shared.core.errors import InputError
from shared.core.missing import present
from shared.io.volumes import LoadSequencesd
from shared.preparation.cine import Cine, find_cine, read_cine

PHASE = "cine_phase"  # key of an item that stands for one phase of a cine: its number, from 0


class LoadPhased(LoadSequencesd):
    """Load one phase of a cine; load the sequences of any other case as `LoadSequencesd` does.

    A case with `PHASE` is a phase, as `shared.datasets.phases.PhaseDataset` makes them; a cine without it is refused.

    Args:
        keys, channels, case_key, allow_missing_keys: see `LoadSequencesd`.

    Returns (per key):
        MetaTensor float32 (1, X, Y, Z) of a phase, with the affine of the cine and as ``filename_or_obj`` the file that
        a mask takes its header from.

    Raises:
        InputError: what `find_cine`, `read_cine` and `LoadSequencesd` refuse; one line with the case.
    """

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a copy of `data` with loaded volumes."""
        result, case = dict(data), f"case {data.get(self.case_key, 'without id')}"
        if PHASE not in data:
            for key in self.key_iterator(result):
                opened = find_cine(data[key], case) if len(self.channels) == 1 else None
                if opened is not None:
                    raise InputError(
                        f"{case}: a cine of {opened.shape[3]} phases: segment it with the bundle's inference.json, or "
                        "give one phase"
                    )
            return super().__call__(data)
        for key in self.key_iterator(result):
            cine = load_cine(data[key], case)
            volume = torch.from_numpy(np.ascontiguousarray(cine.voxels[..., int(data[PHASE])]))[None]
            meta = {
                MetaKeys.ORIGINAL_AFFINE: cine.affine.copy(),
                MetaKeys.SPATIAL_SHAPE: np.asarray(volume.shape[1:]),
                MetaKeys.SPACE: SpaceKeys.RAS,
                MetaKeys.ORIGINAL_CHANNEL_DIM: 0,
                "filename_or_obj": cine.source,
            }
            result[key] = MetaTensor(volume, affine=torch.from_numpy(cine.affine), meta=meta)
        return result


def load_cine(image: Any, case: str) -> Cine:
    """Return a cine with its voxels; the last one is kept, so that its phases are read together.

    Args:
        image: ``image`` of a case, see `find_cine`.
        case: begins the message.

    Raises:
        InputError: it cannot be used, or is no cine.
    """
    with _LOCK:
        asked = case, image, _state(image)
        if _KEPT.get("of") != asked:
            _KEPT.clear()
            _KEPT.update(of=asked, cine=_loaded(image, case))
        cine = _KEPT["cine"]
    if isinstance(cine, InputError):
        raise cine
    return cine


def _state(image: Any) -> list[tuple[str, int, int]]:
    """Return name, size and time of all files of a case, to see whether one of them changed."""
    found = []
    for path in present(image):
        source = Path(path).expanduser()
        for file in sorted(source.iterdir()) if source.is_dir() else [source]:
            if file.exists():
                state = file.stat()
                found.append((str(file), state.st_size, state.st_mtime_ns))
    return found


def _loaded(image: Any, case: str) -> Cine | InputError:
    try:
        opened = find_cine(image, case)
        if opened is None:
            return InputError(f"{case}: {image} is no cine: correct the path, or give one volume")
        return read_cine(opened, case)
    except InputError as error:
        return error


_LOCK = Lock()
_KEPT: dict[str, Any] = {}  # the cine that was read last, or why it cannot be used
