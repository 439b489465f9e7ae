"""The loading transform that prepares what the scanner gave: registered, stripped of the skull, one grid."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from tqdm import tqdm

from shared.backbones.checkpoint import load_trained
from shared.core.errors import InputError, OutputError
from shared.core.messages import nearest
from shared.core.missing import is_missing
from shared.io.sources import load_volume
from shared.io.volumes import LoadSequencesd, check_channels
from shared.preparation.brain import BrainDistance, NoBrain, extract_brain
from shared.preparation.cache import RECORD, check_space, digest_of, files_of, read_case, write_case
from shared.preparation.prepare import VERSION, has_skull, prepare, same_grid, shows_head, why_unseen
from shared.preparation.scan import Scan

PREPARE = ("auto", "off", "always")
META = "preparation"  # meta key: the record of the preparation as JSON, with the folder of the prepared case if any


class LoadPreparedd(LoadSequencesd):
    """Load the sequences of a case as `LoadSequencesd` does, prepared as far as they need it.

    Sequences on different grids are registered to the reference, and a head becomes a brain, see
    `shared.preparation.prepare`. A case that was prepared before is read from `prepared_dir`.

    Args:
        keys: keys of the paths, see `LoadSequencesd`.
        channels: names of the channels in order.
        weights: file of the weights of `BrainDistance`.
        prepared_dir: folder of the prepared cases.
        prepare: "auto" does what a case needs; "off" nothing; "always" every step.
        reference: the sequence whose grid the result has; None for the first that is there.
        warn: with "off", print a line where the skull is there; else repeat the warnings of cases in `prepared_dir`.
        case_key: key of the case's identifier, for messages.
        allow_missing_keys: skip absent keys instead of raising.

    Returns (per key):
        As `LoadSequencesd`, on the grid of the reference. The meta entry `META` holds the record of the preparation.

    Raises:
        InputError: `prepare` is an unknown word; what `LoadSequencesd` refuses, a reference that the case lacks, and
            what `shared.preparation.prepare` refuses; one line with the case.
    """

    other_way = ", or run with --prepare auto"

    def __init__(
        self,
        keys: KeysCollection,
        channels: Sequence[str],
        weights: str | os.PathLike,
        prepared_dir: str | os.PathLike,
        prepare: str = "auto",
        reference: str | None = None,
        warn: bool = True,
        case_key: str = "case_id",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, channels, case_key, allow_missing_keys)
        if prepare not in PREPARE:
            raise InputError(f"prepare is {prepare!r}: {nearest(str(prepare), PREPARE)}")
        self.weights = Path(weights)
        self.prepared_dir = Path(prepared_dir)
        self.prepare = prepare
        self.reference = reference
        self.warn = warn
        self._ready: dict[Path, dict[str, Any]] = {}  # records of cases that needed no preparation, by their folder

    def _load(self, paths: Any, case: str) -> MetaTensor:
        if self.prepare == "off":
            image = super()._load(paths, case)
            if self.warn:
                self._warn_of_skull(image, case)
            return image
        volumes = self._volumes(paths, case)
        reference = self._choose(volumes, case)
        scans = {name: _scan(volume) for name, volume in volumes.items()}
        record: dict[str, Any] = {"steps": [], "warnings": []}
        if self.prepare == "always" or shows_head(scans[reference]) or not _on_one_grid(scans):
            folder = self.prepared_dir / digest_of(_files(self.channels, paths), self.prepare, reference, self.channels)
            try:
                scans, record = self._prepared(scans, reference, folder, case)
            except OutputError:
                raise
            except InputError as error:
                raise InputError(f"{case}: {error}") from error
        elif why := why_unseen(scans[reference]):
            record = self._as_it_is(f"{reference} {why} to find the brain: is the skull removed?", case)
        return self._merge(scans, volumes[reference], record)

    def _prepared(
        self, scans: dict[str, Scan], reference: str, folder: Path, case: str
    ) -> tuple[dict[str, Scan], dict[str, Any]]:
        """Return the sequences and the record of a case, from `folder` if it was prepared before."""
        if folder in self._ready:
            return scans, self._ready[folder]
        cached = read_case(folder, VERSION)
        if cached is not None:
            for warning in cached.record["warnings"] if self.warn else ():
                _say(case, f"warning: {warning}")
        else:
            if (folder / RECORD).exists():
                _say(case, f"the prepared case in {folder} is damaged or of another version: it is prepared again")
            needed = self.prepare == "always" or not _on_one_grid(scans)
            check = partial(check_space, folder, scans[reference], len(scans))
            if needed:  # say that the folder cannot be written before the work, not after it
                check()
            network = load_network(self.weights)
            try:
                done = prepare(scans, reference, network, self.prepare == "always", partial(_say, case), check)
            except NoBrain as error:
                if needed:
                    raise
                return scans, self._as_it_is(str(error), case)
            if not done.record["steps"]:
                self._ready[folder] = done.record
                return done.scans, done.record
            cached = write_case(folder, done.scans, done.brain.mask, done.record)
        return cached.scans, {**cached.record, "folder": str(folder)}

    def _as_it_is(self, why: str, case: str) -> dict[str, Any]:
        """Return the record of a case that cannot be prepared and need not be, and print why."""
        warning = f"used as it is, as {why}"
        if self.warn:
            _say(case, f"warning: {warning}")
        return {"steps": [], "warnings": [warning]}

    def _volumes(self, paths: Any, case: str) -> dict[str, MetaTensor]:
        """Read the sequences that are there, each (1, X, Y, Z) on its own grid; one that is all zero is missing."""
        if isinstance(paths, (str, os.PathLike)):
            whole = load_volume(paths, case)
            check_channels(len(whole), self.channels, f"{case}: {paths}")
            found = {name: cast(MetaTensor, whole[number : number + 1]) for number, name in enumerate(self.channels)}
        else:
            check_channels(len(paths), self.channels, case)
            given = [(name, path) for name, path in zip(self.channels, paths) if not is_missing(path)]
            found = {name: load_volume(path, f"{case}: {name}") for name, path in given}
        for name, volume in found.items():
            if len(volume) != 1:
                raise InputError(f"{case}: {name}: the file holds {len(volume)} volumes: give one volume per sequence")
        found = {name: volume for name, volume in found.items() if bool(volume.any())}
        if not found:
            raise InputError(f"{case}: every sequence is missing or all zero: give at least one of {self._names()}")
        return found

    def _choose(self, volumes: Mapping[str, MetaTensor], case: str) -> str:
        """Return the reference sequence."""
        if self.reference is None:
            return next(iter(volumes))
        if self.reference not in volumes:
            raise InputError(
                f"{case}: no {self.reference}, which --reference names: it has {', '.join(volumes)}; give one of them"
            )
        return self.reference

    def _merge(self, scans: Mapping[str, Scan], reference: MetaTensor, record: Mapping[str, Any]) -> MetaTensor:
        """Stack the sequences, zeros for a missing one, with the place and the meta entries of the reference."""
        stacked = torch.zeros(len(self.channels), *reference.shape[1:])
        for number, name in enumerate(self.channels):
            if name in scans:
                stacked[number] = torch.from_numpy(scans[name].voxels)
        return MetaTensor(stacked, meta={**reference.meta, META: json.dumps(record)})

    def _warn_of_skull(self, image: MetaTensor, case: str) -> None:
        """Print a line if the first sequence shows the skull."""
        present = next(number for number, channel in enumerate(image) if channel.any())
        scan = _scan(cast(MetaTensor, image[present : present + 1]))
        if not shows_head(scan):
            return
        try:
            skull = has_skull(scan, extract_brain(scan, load_network(self.weights)))
        except NoBrain:
            return
        if skull:
            _say(
                case,
                f"warning: {self.channels[present]} shows the skull, which the weights do not know: --prepare auto "
                "removes it",
            )


def record_in(image: Any) -> dict[str, Any]:
    """Return the record of the preparation that an image carries; empty if there is none."""
    return cast(dict[str, Any], json.loads(getattr(image, "meta", {}).get(META) or "{}"))


@lru_cache(maxsize=2)
def load_network(weights: Path) -> BrainDistance:
    """Return the network of the brain extraction with its weights, in evaluation mode.

    Raises:
        InputError: the file is missing or does not fit.
    """
    return load_trained(BrainDistance(), weights, "the brain extraction")


def _scan(volume: MetaTensor) -> Scan:
    """Return a volume (1, X, Y, Z) as a scan that shares its memory."""
    return Scan(volume.as_tensor()[0].numpy(), np.asarray(volume.affine, float))


def _on_one_grid(scans: Mapping[str, Scan]) -> bool:
    first, *others = scans.values()
    return all(same_grid(other, first) for other in others)


def _files(channels: Sequence[str], paths: Any) -> dict[str, list[Path]]:
    """Return the files of every sequence."""
    if isinstance(paths, (str, os.PathLike)):
        return {"image": files_of(paths)}
    return {name: files_of(path) for name, path in zip(channels, paths) if not is_missing(path)}


def _say(case: str, line: str) -> None:
    tqdm.write(f"{case}: {line}")  # beside a progress bar
