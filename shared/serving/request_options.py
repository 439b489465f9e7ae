"""The options of a request: values of known types, and never expressions of MONAI's config language.

MONAI Label writes an option into the bundle's config, where text that begins with ``$`` is Python, with ``@`` or ``%``
another entry, and where a dictionary can create any object. So an option must be of the type that the model's own
config gives it. Options that nothing reads are dropped.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from numbers import Real
from pathlib import PurePath
from typing import Any, NamedTuple

from shared.core.errors import InputError
from shared.core.messages import meant
from shared.serving.access import is_name

LONGEST_TEXT = 10_000  # characters
IMAGES = (".nii", ".nii.gz", ".nrrd", ".png", ".jpg", ".jpeg", ".tif", ".tiff", ".dcm")
LABELS = (*IMAGES, ".bin")  # OHIF sends labels as .bin
SERIES = (*IMAGES, "")  # files of a DICOM series often have no extension


class Kind(NamedTuple):
    """A kind of value: its description, and a function that tells whether a value is of this kind."""

    words: str
    fits: Callable[[Any], bool]


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def _matches(pattern: str) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, str) and re.fullmatch(pattern, value) is not None


def is_plain(value: Any) -> bool:
    """Tell whether a text means itself in a config: no expression, no reference, no sign that MONAI replaces."""
    return (
        isinstance(value, str)
        and len(value) <= LONGEST_TEXT
        and not value.lstrip().startswith(("$", "@", "%"))
        and not re.search(r"::|[@%]#|\0", value)
    )


SWITCH = Kind("true or false", lambda value: isinstance(value, bool))
NUMBER = Kind("a number", _is_number)
COUNT = Kind("a whole number from 0", lambda value: isinstance(value, int) and _is_number(value) and value >= 0)
TEXT = Kind(
    f"text of at most {LONGEST_TEXT} characters that does not begin with $, @ or % and holds no ::, @# or %#", is_plain
)
NAME = Kind("a name without separators", lambda value: is_plain(value) and is_name(value))
NAMES = Kind("a list of names", lambda value: isinstance(value, list) and all(map(NAME.fits, value)))
DEVICE = Kind('"cpu", "cuda" or "cuda:<number>"', _matches(r"cpu|mps|(cuda|xpu)(:\d{1,3})?"))
GPUS = Kind('"all" or numbers with commas', _matches(r"|all|\d{1,3}(,\d{1,3})*"))
WEIGHTS = Kind("the name of a .pt file of the model", lambda value: NAME.fits(value) and value.endswith(".pt"))
EXTENSION = Kind(f"one of {', '.join(IMAGES)}", lambda value: value in IMAGES or value == ".seg.nrrd")
LEVEL = Kind("DEBUG, INFO, WARNING or ERROR", _matches("DEBUG|INFO|WARNING|ERROR"))
TRACKING = Kind('"None" or "mlflow"', _matches("(?i:|none|mlflow)"))
SERVERS_OWN = Kind("nothing: the environment of the server sets it", lambda value: False)
ENTRY = Kind("the name of an entry of the config", _matches(r"[A-Za-z_]\w*"))

COMMON = {"device": DEVICE, "model_filename": WEIGHTS, "client_id": TEXT, "logging": LEVEL}
INFER = {
    **COMMON,
    "result_extension": EXTENSION,
    "result_dtype": NAME,
    "result_compress": SWITCH,
    "restore_label_idx": SWITCH,
    "save_label": SWITCH,
    "label_tag": NAME,
}
BATCH = {**INFER, "multi_gpu": SWITCH, "gpus": GPUS, "max_workers": COUNT, "max_batch_size": COUNT, "images": NAMES}
TRAIN = {
    **COMMON,
    "max_epochs": COUNT,
    "val_split": NUMBER,
    "pretrained": SWITCH,
    "multi_gpu": SWITCH,
    "gpus": GPUS,
    "tracking": TRACKING,
    "tracking_uri": SERVERS_OWN,
    "tracking_experiment_name": NAME,
    "tracking_run_name": NAME,
    "run_id": ENTRY,
}
# Options that viewers and MONAI Label add to a request; the bundles do not read them, or the address contains them.
IGNORED = {"model", "image", "label", "labels", "label_info", "label_prompt", "description", "session", "strategy"}
IGNORED |= {"roi", "slice", "foreground", "background", "reset_state", "selected_label_name"}


def checked(options: Any, protocol: Mapping[str, Kind], own: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a request that MONAI Label may see.

    Args:
        options: as the client sent them.
        protocol: options of MONAI Label itself: `INFER`, `BATCH` or `TRAIN`.
        own: the model's options as the server lists them: defaults, which give the types, and lists of choices.

    Returns:
        The known options. Of a list of choices the first one counts, and numbers and switches may be given as text, as
        forms send them. None, and empty text for anything but a text, count as not given.

    Raises:
        InputError: a value of another type, or a name that resembles a known one.
    """
    if not isinstance(options, Mapping):
        raise InputError(f"options {options!r:.80}: give a JSON object")
    kinds = {**{name: _kind_of(default) for name, default in own.items()}, **protocol}
    result = {}
    for name, value in options.items():
        kind = kinds.get(name)
        if value is None or name in IGNORED or (value == "" and kind is not TEXT):
            continue
        if kind is None:
            _check_spelling(name, kinds)
            continue
        value = _read(value, kind)
        choices = own.get(name)
        if not (isinstance(choices, list) and value in choices) and not kind.fits(value):
            raise InputError(f"option {name!r} is {value!r:.80}: give {kind.words}")
        result[name] = value
    return result


def check_file_name(name: str | None, endings: Sequence[str] = IMAGES) -> None:
    """Refuse an uploaded file of another kind than images.

    Args:
        name: as the client sent it; None or empty for MONAI Label's default, ``.nii.gz``.
        endings: extensions that are taken; an empty one stands for names without extension.

    Raises:
        InputError: the name has another extension. ``.png`` alone is a name without one, as in MONAI Label.
    """
    extension = "".join(PurePath(name or ".nii.gz").suffixes).lower()
    if name and not (extension.endswith(tuple(filter(None, endings))) or (not extension and "" in endings)):
        raise InputError(f"file {name!r:.80}: send one of {', '.join(filter(None, endings))}")


def _read(value: Any, kind: Kind) -> Any:
    """Return the first of several choices, and the number or switch that a text spells."""
    if isinstance(value, list) and value and kind is not NAMES:
        value = value[0]
    if isinstance(value, str) and kind is SWITCH:
        return {"true": True, "false": False}.get(value.lower(), value)
    if isinstance(value, str) and kind in (NUMBER, COUNT) and re.fullmatch(r"-?\d{1,9}(\.\d{1,9})?", value):
        return float(value) if "." in value else int(value)
    return value


def _kind_of(default: Any) -> Kind | None:
    """Return the kind of value that may replace `default` in the config; None if no request may replace it."""
    if isinstance(default, bool):
        return SWITCH
    if _is_number(default):
        return NUMBER
    if isinstance(default, list) and default and all(isinstance(choice, str) for choice in default):
        return Kind(f"one of {', '.join(default)}", lambda value: value in default)
    return TEXT if isinstance(default, str) else None


def _check_spelling(name: str, known: Mapping[str, Kind | None]) -> None:
    """Refuse an unknown option that was probably meant to be a known one; other unknown ones are dropped."""
    hint = meant(name, [key for key, kind in known.items() if kind is not None], "")
    if hint:
        raise InputError(f"unknown option {name!r:.80}: {hint}")
