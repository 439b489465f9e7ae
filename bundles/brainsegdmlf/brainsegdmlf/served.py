"""Find the sequences of a case for a label server, whose requests name one file per case, and keep the wanted ones."""

from __future__ import annotations

import os
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
from monai.config import KeysCollection
from monai.transforms import MapTransform

from shared.core.errors import InputError
from shared.core.messages import meant
from shared.datasets.cases import Items
from shared.io.affine import same_affine
from shared.io.sources import read_header
from shared.preparation.load import record_in
from shared.serving.labelled_cases import extension

SEPARATORS = "_-. "  # between a case's name and its sequence's


def with_sequences(items: Items, channels: Sequence[str]) -> Items:
    """Replace each case's ``image`` by all of its sequences, see `find_sequences`."""
    return [{**item, "image": find_sequences(item["image"], channels)} for item in items]


def find_sequences(path: str | os.PathLike, channels: Sequence[str]) -> str | list[str | None]:
    """Find the other sequences of a case beside one of them: ``p01_flair.nii.gz`` leads to ``p01_t1.nii.gz``.

    Args:
        path: a file. A name that ends with ``_``, ``-``, ``.`` or a space and the name of a channel marks that
            sequence, in upper or lower case.
        channels: names of the channels.

    Returns:
        One path per channel, None where no such file exists; or `path` itself if its name ends with no channel's
        name, as that of a file with all sequences.
    """
    file = Path(path)
    ending = extension(file)
    stem = file.name[: -len(ending)].lower()
    marks = {name: tuple(f"{separator}{name.lower()}" for separator in SEPARATORS) for name in channels}
    own = next((name for name in channels if stem.endswith(marks[name])), None)
    if own is None:
        return str(file)
    beside = {other.name.lower(): str(other) for other in sorted(file.parent.iterdir())}
    start = stem[: -len(own)]
    return [beside.get(f"{start}{name}{ending}".lower()) for name in channels]


class _OfSequences(MapTransform):
    """Hold the channels' names and the sequences to use."""

    def __init__(self, keys: KeysCollection, channels: Sequence[str], sequences: str | Sequence[str]) -> None:
        super().__init__(keys)
        self.channels = list(channels)
        self.sequences = sequences


class FindSequencesd(_OfSequences):
    """Replace the path of one sequence by the paths of all sequences of its case, see `find_sequences`.

    Args:
        keys: keys whose value is a path.
        channels: names of the channels, in order.
        sequences: the channels to use, as a list or as text with commas, ``"flair, t2"``. If only one is named, a file
            with one volume whose name tells no sequence counts as that one.

    Returns (per key):
        The input of `shared.io.volumes.LoadSequencesd`: a path, or one path per channel, None for sequences that are
        missing or not to be used. ``case_id``, if absent, becomes the file's name without its extension.

    Raises:
        InputError: `sequences` is empty or names an unknown channel, or the file lies on another grid than the first of
            the sequences, which gives the mask its grid.
    """

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a copy of `data` with the paths that were found."""
        used = named_sequences(self.sequences, self.channels)
        result = dict(data)
        for key in self.key_iterator(result):
            asked = str(result[key])
            found = find_sequences(asked, self.channels)
            result.setdefault("case_id", Path(asked).name.removesuffix(extension(Path(asked))))
            if isinstance(found, list):
                result[key] = [path if name in used else None for name, path in zip(self.channels, found)]
                _check_grid(asked, next((path for path in result[key] if path is not None), asked))
            elif len(used) == 1 and _count_volumes(found) == 1:
                result[key] = [found if name in used else None for name in self.channels]
        return result


def _check_grid(asked: str, first: str) -> None:
    """Raise InputError unless a file lies on the grid of the first sequence, which the mask will have."""
    if asked == first:
        return
    names = [Path(path).name for path in (asked, first)]
    one, other = (read_header(path, name, whole=False) for path, name in zip((asked, first), names))
    if one.shape[:3] != other.shape[:3] or not same_affine(one.affine, other.affine):
        raise InputError(
            f"{names[0]} lies on another grid than {names[1]}, on which the mask will lie: ask for {names[1]}, or name "
            "the sequences without it"
        )


def _count_volumes(path: str) -> int:
    """Return the number of volumes in a NIfTI file's header; 1 for other files, which the loader checks."""
    try:
        header: Any = nib.load(path)
    except Exception:
        return 1
    return header.shape[-1] if len(header.shape) > 3 else 1


class KeepSequencesd(_OfSequences):
    """Set channels that are not to be used to zero, like missing ones.

    Args:
        keys: keys of images (M, X, Y, Z).
        channels: names of the M channels.
        sequences: as in `FindSequencesd`.

    Raises:
        InputError: the channels to use are all zero.
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


class ReportPreparationd(MapTransform):
    """Add the record of the preparation to ``result``, which MONAI Label sends with the mask.

    Args:
        keys: keys of images that `shared.preparation.load.LoadPreparedd` has loaded.
    """

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a copy of `data` with the record of the preparation as ``result["preparation"]``, if there is one."""
        result = dict(data)
        for key in self.key_iterator(result):
            record = record_in(result[key])
            record.pop("folder", None)  # a path of the server is of no use to the client
            if record:
                result["result"] = {**result.get("result", {}), "preparation": record}
        return result


def named_sequences(sequences: str | Sequence[str], channels: Sequence[str]) -> list[str]:
    """Return the channels that `sequences` names, as the channels spell them.

    Args:
        sequences: a list, or text with commas.
        channels: names of the channels.

    Raises:
        InputError: `sequences` is empty or names an unknown channel.
    """
    parts = sequences.split(",") if isinstance(sequences, str) else sequences
    names = [part.strip().lower() for part in parts if part.strip()]
    known = {channel.lower(): channel for channel in channels}
    choices = f"there are {', '.join(channels)}"
    for name in names:
        if name not in known:
            raise InputError(f"no sequence {name!r}: {meant(name, known, choices)}")
    if not names:
        raise InputError(f"sequences is empty: {choices}")
    return [known[name] for name in names]
