"""Cases as MONAI Label knows them: one file an image, one a label. The rest is found beside the image's file."""

from __future__ import annotations

import os
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform

from shared.core.errors import InputError
from shared.core.messages import meant
from shared.datasets.cases import Items
from shared.datasets.datalist import SEPARATORS


def as_cases(
    items: Sequence[Mapping[str, Any]], role: str, channels: Sequence[str] = (), domain: str | None = None
) -> Items:
    """Turn MONAI Label's list of labelled images into cases, as a ``dataset.json`` has them.

    Args:
        items: ``{"image": path, "label": path}`` each.
        role: what they are for, "training" or "validation"; for the message.
        channels: names of the sequences of a case, where it has several, see `find_sequences`.
        domain: the cases' domain; None leaves the key out.

    Returns:
        The items with ``case_id`` (the image's name), ``text`` (what stands in ``<image's name>.txt`` beside it, if
        that is there) and ``domain``; of several sequences ``image`` is their list.

    Raises:
        InputError: there is no item.
    """
    if not items:
        raise InputError(
            f"no labelled image for {role}: label and submit more images, or give another val_split (above 0, below 1)"
        )
    found = []
    for item in items:
        image = Path(item["image"])
        name = image.name[: -len(_ending(image))]
        sentence = image.with_name(f"{name}.txt")
        found.append(
            {
                **item,
                "image": find_sequences(image, channels),
                "case_id": name,
                **({"text": sentence.read_text(encoding="utf-8").strip()} if sentence.is_file() else {}),
                **({} if domain is None else {"domain": domain}),
            }
        )
    return found


def find_sequences(path: str | os.PathLike, channels: Sequence[str]) -> str | list[str | None]:
    """Find the other sequences of a case beside one of them: ``p01_flair.nii.gz`` leads to ``p01_t1.nii.gz``.

    Args:
        path: a file. If its name ends with ``_``, ``-`` or ``.`` and the name of a channel, it is that sequence; upper
            and lower case do not count (our choice).
        channels: names of the channels.

    Returns:
        One path a channel, None where no file of that name is there; or `path` itself if its name ends with no
        channel's, as that of one file with all sequences.
    """
    file = Path(path)
    ending = _ending(file)
    stem = file.name[: -len(ending)].lower()
    own = next(
        (name for name in channels if stem.endswith(tuple(f"{mark}{name.lower()}" for mark in SEPARATORS))), None
    )
    if own is None:
        return str(file)
    beside = {other.name.lower(): str(other) for other in sorted(file.parent.iterdir())}
    start = stem[: -len(own)]
    return [beside.get(f"{start}{name}{ending}".lower()) for name in channels]


def _ending(file: Path) -> str:
    """Return ``.nii.gz`` or the last suffix of a file's name."""
    return "".join(file.suffixes[-2:]) if file.suffix.lower() == ".gz" else file.suffix


class _OfSequences(MapTransform):
    """Knows the channels' names, and which of them to use: as a list or as text, ``"flair, t2"``."""

    def __init__(self, keys: KeysCollection, channels: Sequence[str], sequences: str | Sequence[str]) -> None:
        super().__init__(keys)
        self.channels = list(channels)
        self.sequences = sequences


class FindSequencesd(_OfSequences):
    """Replace the path of one sequence by a list of all of its case, see `find_sequences`.

    Args:
        keys: keys whose value is a path.
        channels: names of the channels, in order.
        sequences: those to use, as a list or as text, ``"flair, t2"``. A file of one
            volume whose name says nothing is this one sequence if only one is named.

    Returns (per key):
        What `shared.io.volumes.LoadSequencesd` takes: a path, or one path a channel with None for those that are
        missing or not to be used.

    Raises:
        InputError: `sequences` names none, or what is no channel.
    """

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a copy of `data` with the paths that were found."""
        used = named_sequences(self.sequences, self.channels)
        result = dict(data)
        for key in self.key_iterator(result):
            found = find_sequences(result[key], self.channels)
            if isinstance(found, list):
                result[key] = [path if name in used else None for name, path in zip(self.channels, found)]
            elif len(used) == 1 and _volumes(found) == 1:
                result[key] = [found if name in used else None for name in self.channels]
        return result


def _volumes(path: str) -> int:
    """Return how many volumes a NIfTI file holds by its header; 1 for what only the loading can judge."""
    try:
        header: Any = nib.load(path)
    except Exception:
        return 1
    return header.shape[-1] if len(header.shape) > 3 else 1


class KeepSequencesd(_OfSequences):
    """Set the channels that are not to be used to zero, as missing ones are.

    Args:
        keys: keys of images (M, X, Y, Z).
        channels: names of the M channels.
        sequences: of `FindSequencesd`.

    Raises:
        InputError: nothing is left.
    """

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a copy of `data` with the chosen channels."""
        used = named_sequences(self.sequences, self.channels)
        result = dict(data)
        for key in self.key_iterator(result):
            image = result[key].clone()
            image[[name not in used for name in self.channels]] = 0
            if not image.any():
                raise InputError(f"the image holds nothing in {', '.join(used)}: name other sequences")
            result[key] = image
        return result


def named_sequences(sequences: str | Sequence[str], channels: Sequence[str]) -> list[str]:
    """Return the names in `sequences`, a list or a text with commas.

    Raises:
        InputError: none, or one that is no channel.
    """
    parts = sequences.split(",") if isinstance(sequences, str) else sequences
    names = [part.strip().lower() for part in parts if part.strip()]
    known = {channel.lower(): channel for channel in channels}
    there = f"there are {', '.join(channels)}"
    for name in names:
        if name not in known:
            raise InputError(f"no sequence {name!r}: {meant(name, known, there)}")
    if not names:
        raise InputError(f"sequences names none: {there}")
    return [known[name] for name in names]


class PictureForViewerd(MapTransform):
    """Turn the label map of a picture as viewers and ITK count: columns first.

    MONAI Label's own last step compares it with the image's meta ``spatial_shape``, which follows.

    Args:
        keys: keys of label maps, MetaTensors (1, H, W), rows from top to bottom.
        image_key: key of the picture, a MetaTensor.

    Returns (per key):
        MetaTensor uint8 (W, H).
    """

    def __init__(self, keys: KeysCollection, image_key: str = "image") -> None:
        super().__init__(keys)
        self.image_key = image_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a copy of `data` with turned label maps."""
        result = dict(data)
        for key in self.key_iterator(result):
            turned = result[key].as_tensor()[0].T.contiguous().to(torch.uint8)
            result[key] = MetaTensor(turned)
            image = result[self.image_key]
            meta = {**image.meta, "spatial_shape": np.array(turned.shape)}
            result[self.image_key] = MetaTensor(image.as_tensor(), meta=meta)
        return result
