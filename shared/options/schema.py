"""The options of a bundle: type, range and help of each, from its ``configs/options.schema.json``.

The file is JSON Schema (draft 2020-12), of which it uses what draft 7 has: MONAI Label's environment has jsonschema 3
(its pydicom-seg needs it), whose newest draft is 7. Five things are added to it:

- ``format: device``: a device that this machine has;
- ``sameLengthAs: NAME``: as many values as the option NAME has entries;
- ``madeOf: NAME``: an object of lists, whose values all occur in the option NAME;
- ``partOf: NAME``: a list, whose values all occur in the option NAME;
- ``elementOf: NAME``: a value that occurs in the option NAME.
"""

from __future__ import annotations

import json
import math
import os
import shlex
from collections.abc import Iterator, Mapping
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import torch
from jsonschema import Draft7Validator, FormatChecker, ValidationError
from jsonschema.validators import extend

from shared.core.messages import reason

FILE = "options.schema.json"
Schema = Mapping[str, Any]


def load_schema(configs_dir: Path) -> dict[str, Schema]:
    """Return the schema of each option by its name, in the order of the file; empty for a bundle without the file."""
    file = configs_dir / FILE
    return json.loads(file.read_text(encoding="utf-8"))["properties"] if file.is_file() else {}


def types_of(option: Schema) -> list[str]:
    """Return the JSON types that an option may have."""
    kinds = option.get("type", [])
    return [kinds] if isinstance(kinds, str) else list(kinds)


def kind_of(option: Schema) -> str:
    """Say in words what an option takes, e.g. "a whole number" or "a list of texts or null"."""
    return " or ".join(_words(kind, option) for kind in types_of(option) if kind != "null")


def wrong_values(config: Mapping[str, Any], schema: Mapping[str, Schema], defaults: Mapping[str, Any]) -> list[str]:
    """Check options against their schema.

    Args:
        config: the merged config; options that it lacks are left out.
        schema: of each option, see `load_schema`.
        defaults: a value of each option that a message may show as an example.

    Returns:
        One line per option that is wrong, e.g. ``override 'epochs' is 0: it must be at least 1``.
    """
    problems = []
    for name, option in schema.items():
        if name not in config or is_computed(config[name]):
            continue
        validator = _Validator({**option, "config": dict(config)}, format_checker=_formats)
        errors = sorted(validator.iter_errors(config[name]), key=lambda error: error.validator != "type")
        if errors:
            problems.append(_line(name, config[name], option, errors[0], defaults.get(name)))
    return problems


def is_computed(value: Any) -> bool:
    """Tell whether MONAI computes the value: an expression, reference or component, or a list that holds one."""
    if isinstance(value, (list, tuple)):
        return any(map(is_computed, value))
    if isinstance(value, Mapping):
        return "_target_" in value
    return isinstance(value, str) and value.startswith(("$", "@", "%"))


def _line(name: str, value: Any, option: Schema, error: ValidationError, default: Any) -> str:
    shown = f"override '{name}' is {value!r:.80}"
    if error.validator == "type":
        default = next(iter(option.get("examples", [default])))
        example = default if isinstance(default, str) else json.dumps(default)
        advice = "" if default is None else f": e.g. --{name} {shlex.quote(example)}"
        return f"{shown} where {kind_of(option)} is expected{advice}"
    if error.validator == "enum":
        return f"{shown}: choose one of {', '.join(option['enum'])}"
    if error.validator in ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"):
        return f"{shown}: it must {_range(option.get('items', option))}"
    if error.validator in ("minItems", "maxItems"):
        return f"{shown}: it takes {option['minItems']} {'numbers' if _is_numeric(option) else 'entries'}"
    if error.validator == "minLength":
        return f"override '{name}' is empty: give a folder"
    if error.validator == "multipleOf":
        return f"{shown}: it must be a multiple of {option['multipleOf']}"
    if error.validator == "contains":
        return f"{shown}: at least one number must be above 0"
    if error.validator == "not":
        return f"{shown}: an entry is 0; give a number of mm, or a negative one to keep the volume's own"
    if error.validator == "minProperties":
        return f"override '{name}' is empty: name at least one class and its label values"
    return f"override '{name}' {error.message}"


def _range(option: Schema) -> str:
    low, high, above, below = (option.get(k) for k in ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"))
    if low is not None and high is not None:
        return f"lie between {low} and {high}"
    if low is not None and below is not None:
        return f"be at least {low} and below {below}"
    return f"be above {above}" if above is not None else f"be at least {low}"


def _words(kind: str, option: Schema) -> str:
    if kind == "array":
        return "a list of numbers" if _is_numeric(option) else "a list of texts" if "items" in option else "a list"
    names = {"boolean": "true or false", "integer": "a whole number", "number": "a number", "string": "a text"}
    return names.get(kind, "names with their values")


def _is_numeric(option: Schema) -> bool:
    return option.get("items", {}).get("type") in ("integer", "number")


def _is_number(_: Any, value: Any) -> bool:
    size: Any = value  # may be a whole number that no float holds
    return isinstance(value, Real) and not isinstance(value, bool) and bool(abs(size) < math.inf)


def _is_integer(_: Any, value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)  # torch and range() refuse 2.0


# Values of a Python program pass, too: paths, tuples, numpy's numbers. So do JSON's words, as a command line has them.
_types = Draft7Validator.TYPE_CHECKER.redefine_many(
    {
        "string": lambda _, value: isinstance(value, (str, os.PathLike, torch.device)),
        "array": lambda _, value: isinstance(value, (list, tuple)),
        "boolean": lambda _, value: isinstance(value, bool) or str(value) in ("true", "false"),
        "null": lambda _, value: value is None or str(value) == "null",
        "number": _is_number,
        "integer": _is_integer,
    }
)
_formats = FormatChecker(formats=())


@_formats.checks("device", raises=Exception)
def _check_device(value: Any) -> bool:
    try:
        torch.device(value)
    except RuntimeError as error:  # its message lists the twenty device types that torch knows
        raise ValueError("no such device") from error
    torch.zeros(1, device=value)
    return True


def usable_devices() -> list[str]:
    """Return the names of the devices of this machine: ``cpu``, ``cuda`` and ``cuda:0`` ..., ``mps``."""
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    cuda = ["cuda", *(f"cuda:{number}" for number in range(count))] if count else []
    return ["cpu", *cuda, *(["mps"] if torch.backends.mps.is_available() else [])]


def _device(validator: Any, name: str, value: Any, option: Schema) -> Iterator[ValidationError]:
    """Report a value that does not fit its ``format``, with the reason and a remedy."""
    try:
        if name in _formats.checkers:
            _formats.check(value, name)
    except Exception as error:
        cause = error.__cause__ or error
        devices = ", ".join(usable_devices())
        yield ValidationError(f"is '{value}', which cannot be used ({reason(cause)}): this machine has {devices}")


def _same_length(validator: Any, other: str, value: Any, option: Schema) -> Iterator[ValidationError]:
    named = option["config"].get(other)
    if isinstance(value, (list, tuple)) and isinstance(named, Mapping) and len(value) != len(named):
        classes = ", ".join(map(str, named))
        message = f"has {len(value)} values for {len(named)} classes ({classes}): give one value per class"
        yield ValidationError(message)


def _made_of(validator: Any, other: str, value: Any, option: Schema) -> Iterator[ValidationError]:
    allowed = option["config"].get(other)
    for name, values in value.items() if isinstance(value, Mapping) and isinstance(allowed, list) else ():
        unknown = [] if is_computed(values) else [v for v in values if v not in allowed]
        if unknown:
            listed = ", ".join(map(str, allowed))
            message = f"has '{name}' made of {unknown[0]}, which is not a label ({listed}): add it to labels"
            yield ValidationError(message)
            return


def _part_of(validator: Any, other: str, value: Any, option: Schema) -> Iterator[ValidationError]:
    allowed = option["config"].get(other)
    if isinstance(value, (list, tuple)) and isinstance(allowed, list) and not set(value) <= set(allowed):
        listed = ", ".join(map(str, allowed))
        yield ValidationError(f"is {value}: give a list of labels (of {listed}), or null for none")


def _element_of(validator: Any, other: str, value: Any, option: Schema) -> Iterator[ValidationError]:
    allowed = option["config"].get(other)
    if isinstance(value, str) and isinstance(allowed, list) and value not in allowed:
        yield ValidationError(f"is '{value}', which is not in {other}: give one of {', '.join(map(str, allowed))}")


_Validator = extend(
    Draft7Validator,
    {
        "format": _device,
        "sameLengthAs": _same_length,
        "madeOf": _made_of,
        "partOf": _part_of,
        "elementOf": _element_of,
    },
    type_checker=_types,
)
