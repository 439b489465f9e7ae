"""The transform that crops a whole photograph round the optic disc, and puts the mask back into the photograph."""

from __future__ import annotations

import json
import os
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import torch
from monai.config import KeysCollection
from monai.transforms import Crop, InvertibleTransform, MapTransform
from tqdm import tqdm

from shared.core.errors import InputError
from shared.core.messages import nearest
from shared.io.picture_files import load_picture
from shared.preparation.disc import Disc, find_disc, load_disc_network
from shared.preparation.load import META

PREPARE = ("auto", "off", "always")


class CropToDiscd(MapTransform, InvertibleTransform):
    """Crop whole photographs round the optic disc; a photograph that is cropped already stays as it is.

    The inverse pads with zeros, so that a mask of the crop lies at its place in the photograph.

    Args:
        keys: of the photograph, (3, H, W) in [0, 1], then of what is cropped in the same way, such as its label.
        weights: file of the weights of `shared.preparation.disc.DiscProbability`.
        prepare: "auto" finds the disc and decides; "always" also crops a photograph that seems to be cropped already;
            "off" leaves every picture as it is.
        warn: print a line for each picture that is cropped, and with "off" for each that looks like a whole photograph.
        case_key: key of the case's identifier, for messages.
        allow_missing_keys: skip absent keys instead of raising.

    Returns (per key):
        MetaTensor, square if it was cropped. Of the photograph, the meta entry `META` holds as JSON what was done.

    Raises:
        InputError: `prepare` is an unknown word; no disc is found; one line with the case.
    """

    def __init__(
        self,
        keys: KeysCollection,
        weights: str | os.PathLike,
        prepare: str = "auto",
        warn: bool = True,
        case_key: str = "case_id",
        allow_missing_keys: bool = False,
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        if prepare not in PREPARE:
            raise InputError(f"prepare is {prepare!r}: {nearest(str(prepare), PREPARE)}")
        self.weights = Path(weights)
        self.prepare = prepare
        self.warn = warn
        self.case_key = case_key
        self.cropper = Crop()

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a copy of `data` with cropped pictures."""
        result, case = dict(data), f"case {data.get(self.case_key, 'without id')}"
        image = result[self.keys[0]]
        height, width = image.shape[1:]
        box, record = (slice(0, height), slice(0, width)), None
        if self.prepare == "off":
            self._warn_of_whole(image, case)
        else:
            disc = require_disc(image, self.weights, case)
            if self.prepare == "always" or disc.is_in_whole_photograph(height, width):
                box = disc.box(height, width)
                record = _record(disc, box, (height, width))
                self._say(f"{case}: {record['steps'][0]}")
        for key in self.key_iterator(result):
            # A crop to the whole picture also leaves a trace: the inverse always finds one.
            result[key] = self.cropper(result[key], tuple(box))
        if record is not None:
            result[self.keys[0]].meta[META] = json.dumps(record)
        return result

    def inverse(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a copy of `data` in which pictures have their size from before the crop, with zeros around."""
        result = dict(data)
        for key in self.key_iterator(result):
            result[key] = self.cropper.inverse(result[key])
        return result

    def problems(self, path: Any, case: str) -> list[str]:
        """Return the line that refuses a photograph without disc, if this is one; a file that cannot be read has none.

        Args:
            path: of the photograph.
            case: begins the line.
        """
        if self.prepare == "off":
            return []
        try:
            picture = load_picture(path, case)
        except InputError:  # the check of the file says it
            return []
        try:
            require_disc(picture, self.weights, case)
        except InputError as error:
            return [str(error)]
        return []

    def _say(self, line: str) -> None:
        if self.warn:
            tqdm.write(line)  # beside a progress bar

    def _warn_of_whole(self, image: torch.Tensor, case: str) -> None:
        disc = find_disc(image, load_disc_network(self.weights)) if self.warn else None
        if disc is not None and disc.is_in_whole_photograph(*image.shape[1:]):
            self._say(
                f"{case}: warning: looks like a whole photograph, which the weights do not know: --prepare auto crops "
                "it round the optic disc"
            )


def require_disc(image: torch.Tensor, weights: Path, case: str) -> Disc:
    """Return the optic disc of a photograph (3, H, W).

    Raises:
        InputError: there is none; one line with the case.
    """
    disc = find_disc(image, load_disc_network(weights))
    if disc is None:
        raise InputError(
            f"{case}: no optic disc was found: give a photograph of the back of the eye that shows it, or --prepare "
            "off if it is cropped round the disc"
        )
    return disc


def _record(disc: Disc, box: tuple[slice, slice], size: tuple[int, int]) -> dict[str, Any]:
    rows, columns = box
    place = f"column {round(disc.column)}, row {round(disc.row)}"
    extent = f"{columns.stop - columns.start} x {rows.stop - rows.start} pixels"
    kind = "whole photograph" if disc.is_in_whole_photograph(*size) else "photograph"
    return {
        "steps": [f"{kind}: cropped to {extent} round the optic disc at {place}"],
        "disc": {name: round(value, 3) for name, value in disc._asdict().items()},
        "crop": {"columns": [columns.start, columns.stop], "rows": [rows.start, rows.stop]},
        "warnings": [f"{kind.capitalize()}: the disc was searched for round {place}."],
    }
