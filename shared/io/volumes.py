"""Loading transforms for volumes: the sequences of a case, any of which may be missing, and its label map."""

from __future__ import annotations

import os
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform

from shared.core.errors import InputError
from shared.core.missing import is_missing
from shared.io.affine import check_same_grid
from shared.io.labels import load_label
from shared.io.sources import load_volume


class LoadSequencesd(MapTransform):
    """Load the sequences of a case as one multi-channel volume; a missing sequence becomes a channel of zeros.

    Args:
        keys: keys whose value is a list with one path per channel, in order, None (or ``""``, ``"None"``) for a missing
            sequence; or the path of one 4-D volume (X, Y, Z, M), also 5-D (X, Y, Z, 1, M); or with a single channel the
            path of a 3-D volume. A path is what `shared.io.sources.load_volume` reads: a NIfTI file, the folder of a
            DICOM series, or a DICOM file of several frames.
        channels: names of the channels in order; they appear in messages.
        case_key: key of the case's identifier, for messages.
        allow_missing_keys: skip absent keys instead of raising.

    Returns (per key):
        MetaTensor float32 (M, X, Y, Z) with the affine (RAS, mm) of the first present sequence and its path as meta
        ``filename_or_obj``; intensities as in the files. A sequence whose voxels are all zero counts as missing.

    Raises:
        InputError: one line with case, file and remedy, for what `load_volume` refuses, a wrong number of channels,
            sequences on different grids (see `check_same_grid`), and a case with every sequence missing.
    """

    other_way = ""  # remedy that a subclass adds to the message about different grids

    def __init__(
        self,
        keys: KeysCollection,
        channels: Sequence[str],
        case_key: str = "case_id",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.channels = list(channels)
        self.case_key = case_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a copy of `data` with loaded volumes."""
        result = dict(data)
        for key in self.key_iterator(result):
            case = f"case {data.get(self.case_key, 'without id')}"
            result[key] = self._load(data[key], case)
        return result

    def _load(self, paths: Any, case: str) -> MetaTensor:
        if isinstance(paths, (str, os.PathLike)):
            volume = load_volume(paths, case)
            check_channels(len(volume), self.channels, f"{case}: {paths}")
        else:
            volume = self._stack(list(paths or []), case)
        if not volume.any():
            raise InputError(f"{case}: every sequence is missing or all zero: give at least one of {self._names()}")
        return volume

    def _stack(self, paths: list, case: str) -> MetaTensor:
        check_channels(len(paths), self.channels, case)
        loaded: dict[int, MetaTensor] = {}
        for index, (name, path) in enumerate(zip(self.channels, paths)):
            if is_missing(path):
                continue
            volume = load_volume(path, f"{case}: {name}")
            if len(volume) != 1:
                raise InputError(f"{case}: {name}: {path} holds {len(volume)} volumes: give one volume per sequence")
            if loaded:
                first = next(iter(loaded))
                check_same_grid(
                    (self.channels[first], tuple(loaded[first].shape[1:]), loaded[first].affine),
                    (name, tuple(volume.shape[1:]), volume.affine),
                    case,
                    self.other_way,
                )
            if not loaded or volume.any():
                loaded[index] = volume
        if not loaded:
            raise InputError(f"{case}: every sequence is missing: give at least one of {self._names()}")
        reference = next((volume for volume in loaded.values() if volume.any()), next(iter(loaded.values())))
        stacked = torch.zeros(len(paths), *reference.shape[1:])
        for index, volume in loaded.items():
            stacked[index] = volume.as_tensor()[0]
        return MetaTensor(stacked, meta=reference.meta)

    def _names(self) -> str:
        return ", ".join(self.channels)


class LoadLabeld(MapTransform):
    """Load a label map and check it against the image it belongs to.

    Args:
        keys: keys whose value is the path of a label map, or of a DICOM SEG, see `shared.io.labels.load_label`.
        reference: key of the loaded image (MetaTensor) whose shape and affine the label map must share; None to skip
            this check.
        labels: values that may occur.
        case_key: key of the case's identifier, for messages.
        allow_missing_keys: skip absent keys instead of raising.

    Returns (per key):
        MetaTensor uint8 (int32 if a declared value exceeds 255) (1, X, Y, Z) with its affine and ``filename_or_obj``.

    Raises:
        InputError: one line with case, file and remedy, for what `load_label` refuses.
    """

    def __init__(
        self,
        keys: KeysCollection,
        reference: str | None = "image",
        labels: Sequence[int] = (0, 1),
        case_key: str = "case_id",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.reference = reference
        self.labels = list(labels)
        self.case_key = case_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a copy of `data` with loaded label maps."""
        result = dict(data)
        for key in self.key_iterator(result):
            where = f"case {data.get(self.case_key, 'without id')}: {key}"
            image = data.get(self.reference)
            result[key] = load_label(data[key], self.labels, where, image, str(self.reference))
        return result


def check_channels(found: int, channels: Sequence[str], where: str) -> None:
    """Raise InputError unless `found` channels are as many as declared."""
    if found != len(channels):
        plural = "channel" if found == 1 else "channels"
        raise InputError(
            f"{where}: {found} {plural} where {len(channels)} are declared ({', '.join(channels)}): "
            "give null for a missing sequence"
        )
