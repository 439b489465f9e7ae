"""Loading transforms: several sequences of a case, any of which may be missing, and its label map."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Hashable, Mapping, Sequence
from copy import copy
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import ImageReader, MetaTensor
from monai.transforms import LoadImage, MapTransform

from shared.core.errors import InputError
from shared.core.messages import reason
from shared.core.missing import is_missing
from shared.io.dicom import DicomSeriesReader
from shared.io.dicom_frames import FramesReader, find_frames
from shared.io.dicom_labels import find_dicom_seg, load_dicom_seg

AFFINE_TOLERANCE = 1e-3  # largest difference of any entry of two affines, mm (our choice)
FORMATS = "give NIfTI (.nii, .nii.gz), the folder of one DICOM series, or a volume in one DICOM file"
VOLUME_SHAPES = "volumes are (X, Y, Z) or (X, Y, Z, M), a single slice is (X, Y, 1)"


class LoadSequencesd(MapTransform):
    """Load the sequences of a case as one multi-channel volume; a missing sequence becomes a channel of zeros.

    Args:
        keys: keys whose value is a list with one path per channel, in order, None (or ``""``, ``"None"``) for a missing
            sequence; or the path of one 4-D volume (X, Y, Z, M), also 5-D (X, Y, Z, 1, M); or with a single channel the
            path of a 3-D volume. A path is what `monai.transforms.LoadImage` reads, or the folder of a DICOM series,
            or a DICOM file of several frames.
        channels: names of the channels in order; they appear in messages.
        case_key: key of the case's identifier, for messages.
        allow_missing_keys: skip absent keys instead of raising.

    Returns (per key):
        MetaTensor float32 (M, X, Y, Z) with the affine (RAS, mm) of the first present sequence and its path as meta
        ``filename_or_obj``; intensities as in the files. A sequence whose voxels are all zero counts as missing.

    Raises:
        InputError: one line with case, file and remedy, for a file that is absent or unreadable, a wrong number of
            channels, 2-D data, NaN or infinite voxels, sequences that do not share shape and affine (every entry within
            1e-3 mm), and a case with every sequence missing.

    """

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
                raise InputError(f"{case}: {name}: {path} holds {len(volume)} volumes: give one volume a sequence")
            if loaded:
                first = next(iter(loaded))
                check_same_grid(
                    (self.channels[first], tuple(loaded[first].shape[1:]), loaded[first].affine),
                    (name, tuple(volume.shape[1:]), volume.affine),
                    case,
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
        keys: keys whose value is the path of a label map; of a DICOM SEG, whose segments' numbers are the values and
            which needs no frame where nothing is segmented.
        reference: key of the loaded image (MetaTensor) whose shape and affine the label map must share; None to skip.
        labels: values that may occur.
        case_key: key of the case's identifier, for messages.
        allow_missing_keys: skip absent keys instead of raising.

    Returns (per key):
        MetaTensor uint8 (int32 if a declared value exceeds 255) (1, X, Y, Z) with its affine and ``filename_or_obj``.

    Raises:
        InputError: one line with case, file and remedy, for a file that is absent or unreadable, more than one channel,
            NaN, values outside `labels`, and a shape or affine other than the reference's.

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
            label = self._load(data[key], data.get(self.reference), where)
            self._check(label, data.get(self.reference), f"{where}: {data[key]}")
            whole = torch.uint8 if max(self.labels) < 256 else torch.int32
            result[key] = MetaTensor(label.as_tensor().to(whole), meta=label.meta)
        return result

    def _load(self, path: Any, image: Any, where: str) -> MetaTensor:
        segmentation = find_dicom_seg(path) if image is not None else None
        return load_dicom_seg(segmentation, image, where) if segmentation else load_volume(path, where)

    def _check(self, label: MetaTensor, image: Any, where: str) -> None:
        if len(label) != 1:
            raise InputError(f"{where}: {len(label)} channels where a label map has one: merge them into one label map")
        found = torch.unique(label.as_tensor())
        if not torch.isin(found, torch.tensor(self.labels, dtype=found.dtype)).all():
            values = ", ".join(f"{value:g}" for value in found[:10].tolist()) + (", ..." if len(found) > 10 else "")
            declared = ", ".join(map(str, self.labels))
            raise InputError(f"{where}: holds the values {values} where {declared} are declared: remap them")
        if image is not None:
            check_same_grid(
                (str(self.reference), tuple(image.shape[1:]), image.affine),
                ("label", tuple(label.shape[1:]), label.affine),
                where,
            )


def load_volume(path: str | os.PathLike, where: str) -> MetaTensor:
    """Read one file or DICOM folder.

    Args:
        path: the file; 3-D (X, Y, Z), 4-D (X, Y, Z, M) or 5-D (X, Y, Z, 1, M). A slice is (X, Y, 1).
        where: case and role of the file, begins the message.

    Returns:
        MetaTensor float32 (M, X, Y, Z), finite.

    Raises:
        InputError: absent, unreadable, not a volume, or NaN or infinite voxels.

    """
    source = Path(str(path)).expanduser()
    if not source.exists():
        raise InputError(f"{where}: {path} not found: correct the path, or give null for a missing sequence")
    try:
        volume = _loader()(source, reader=_reader(source))
    except Exception as error:
        if isinstance(error, MemoryError):
            raise
        raise InputError(f"{where}: {path} cannot be read ({reason(error)}): {FORMATS}") from error
    if volume.ndim == 5 and volume.shape[3] == 1:
        volume = volume.squeeze(3)
    if volume.ndim == 3:
        volume = volume.unsqueeze(-1)
    if volume.ndim != 4:
        raise InputError(f"{where}: {path} has shape {_shape(volume.shape)}: {VOLUME_SHAPES}")
    wrong = int((~torch.isfinite(volume.as_tensor())).sum())
    if wrong:
        raise InputError(
            f"{where}: {path} holds {wrong} NaN or infinite voxels: replace them, e.g. by 0 outside the head"
        )
    channel_first = torch.movedim(volume.as_tensor(), -1, 0).contiguous()
    return MetaTensor(channel_first, meta=dict(volume.meta, original_channel_dim=0))


@cache
def _loader() -> LoadImage:
    """Build MONAI's loader once, without its warning that a GPU decoder for DICOM is not installed."""
    log = logging.getLogger("monai.data.nvimgcodec_pydicom_plugin")
    level = log.level
    log.setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loader = LoadImage()
    log.setLevel(level)
    return loader


def _reader(source: Path) -> ImageReader:
    """Return a reader for this call only: MONAI's readers keep state, and CacheDataset loads in threads."""
    if file := find_frames(source):
        return FramesReader(file)
    if source.is_dir():
        return DicomSeriesReader()
    return copy(next(reader for reader in _loader().readers[::-1] if reader.verify_suffix(str(source))))


def check_channels(found: int, channels: Sequence[str], where: str) -> None:
    """Raise InputError unless `found` channels are as many as declared."""
    if found != len(channels):
        plural = "channel" if found == 1 else "channels"
        raise InputError(
            f"{where}: {found} {plural} where {len(channels)} are declared ({', '.join(channels)}): "
            "give null for a missing sequence"
        )


def check_same_grid(first: tuple[str, tuple, Any], other: tuple[str, tuple, Any], where: str) -> None:
    """Raise InputError unless two volumes lie on the same grid.

    Args:
        first: name, spatial shape and 4 x 4 affine (mm) of the volume to compare with.
        other: the same of the volume to check.
        where: case, begins the message.

    Raises:
        InputError: shapes differ, or any entry of the affines differs by more than 1e-3 mm.

    """
    (name, shape, affine), (other_name, other_shape, other_affine) = first, other
    if shape != other_shape:
        raise InputError(
            f"{where}: {other_name} has shape {_shape(other_shape)}, {name} has {_shape(shape)}: "
            f"resample {other_name} to {name}'s grid"
        )
    difference = float(np.abs(np.asarray(affine, float) - np.asarray(other_affine, float)).max())
    if difference > AFFINE_TOLERANCE:
        raise InputError(
            f"{where}: {other_name} and {name} lie differently in space (affines differ by {difference:.3g} mm): "
            f"register {other_name} to {name} and resample it to the same grid"
        )


def _shape(shape: Sequence[int]) -> str:
    return " x ".join(str(int(size)) for size in shape)
