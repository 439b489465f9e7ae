"""What a user overrides in a bundle's config: names that it knows, values of its defaults' types."""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Callable, Iterable, Mapping
from numbers import Integral, Real
from pathlib import Path
from typing import Any

from monai.bundle import ConfigComponent, ConfigParser

from shared.core.messages import meant
from shared.options.limits import impossible_overrides

# Names that MONAI itself adds to a config, the last one in federated learning (`monai.fl.client.MonaiAlgo`).
MONAI_KEYS = ("_meta_", "network_def", "bundle_root", "workflow_type", "meta_file", "logging_file", "run_name")
# JSON's words, which a command line delivers as text: "false" would count as true.
BOOLEANS = {"true": True, "false": False}
NULL = "null"  # no option has this text as its value; MONAI passes over Python's None


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


# 2.0 is no whole number: torch and range() refuse it.
KINDS: dict[str, Callable[[Any], bool]] = {
    "true or false": lambda value: isinstance(value, bool) or str(value) in BOOLEANS,
    "a whole number": lambda value: isinstance(value, Integral) and _is_number(value),
    "a number": _is_number,
    "a text": lambda value: isinstance(value, (str, os.PathLike)),
    "a list of numbers": lambda value: isinstance(value, (list, tuple)) and all(map(_is_number, value)),
    "a list of texts": lambda value: isinstance(value, (list, tuple)) and all(isinstance(v, str) for v in value),
}


def wrong_overrides(config: Mapping[str, Any], configs_dir: Path) -> list[str]:
    """Everything that is wrong with top-level names and values, a line each.

    Args:
        config: the merged config.
        configs_dir: folder of the bundle's config files.
    """
    found = [*unknown_overrides(config, configs_dir), *mistyped_overrides(config, configs_dir)]
    return [*found, *impossible_overrides(config)]


def unknown_overrides(config: Mapping[str, Any], configs_dir: Path) -> list[str]:
    """Find top-level names that no file of the bundle defines and nothing in the config refers to.

    MONAI accepts any name, so a mistyped ``--output_dirr`` would be silently without effect.

    Args:
        config: the merged config.
        configs_dir: folder of the bundle's config files.

    Returns:
        One line each, with the nearest known name.
    """
    known = {*MONAI_KEYS, *_defaults(configs_dir)}
    text = json.dumps(config, default=str)
    used = {key for key in config if re.search(rf"[@%]{re.escape(key)}(?!\w)", text)}  # @epochs is no use of epoch
    return unknown_keys([key for key in config if key not in used], known)


def mistyped_overrides(config: Mapping[str, Any], configs_dir: Path) -> list[str]:
    """Find top-level values of another type than the bundle's files give them.

    A value passes if it fits the default of any file. Not checked: names with a default that is null, empty, nested or
    made by MONAI (expression, reference, component), and values made by MONAI. ``$<number> if ... else <number>`` asks
    for a number.

    Args:
        config: the merged config.
        configs_dir: folder of the bundle's config files.

    Returns:
        One line each, e.g. ``override 'epochs' is 'many' where a whole number is expected: e.g. --epochs 22``.
    """
    problems = []
    for key, defaults in _defaults(configs_dir).items():
        kinds = _kinds(defaults)
        if not kinds or key not in config or is_made(config[key]) or any(KINDS[kind](config[key]) for kind in kinds):
            continue
        example = defaults[-1] if isinstance(defaults[-1], str) else json.dumps(defaults[-1])
        problem = f"override '{key}' is {config[key]!r:.80} where {' or '.join(kinds)} is expected"
        problems.append(f"{problem}: e.g. --{key} {shlex.quote(example)}")
    return problems


def read_words(parser: ConfigParser, configs_dir: Path) -> None:
    """Turn "true" and "false" into booleans where a file of the bundle has one, and "null" into None, in place.

    Args:
        parser: of a workflow that is being evaluated; what it has resolved already stays.
        configs_dir: folder of the bundle's config files.
    """
    config = parser.get()
    for key, defaults in _defaults(configs_dir).items():
        word = config.get(key)
        logical = any(isinstance(default, bool) for default in defaults)
        if isinstance(word, str) and (word == NULL or (word in BOOLEANS and logical)):
            config[key] = BOOLEANS.get(word)
            parser.ref_resolver.items[key].update_config(config[key])


def _defaults(configs_dir: Path) -> dict[str, list[Any]]:
    """Every top-level name of the bundle's config files with the values that it has there."""
    found: dict[str, list[Any]] = {}
    for file in sorted(configs_dir.glob("*.json")):
        if file.name != "metadata.json":
            for key, value in json.loads(file.read_text(encoding="utf-8")).items():
                found.setdefault(key, []).append(_number_of_choice(value))
    return found


def _number_of_choice(default: Any) -> Any:
    """``$<number> if ... else <number>`` as its last number, a float since both may be; anything else as it is."""
    number = r"(-?\d+(?:\.\d+)?)"
    choice = re.fullmatch(rf"\$ *{number} if (?!.* else .* else ).+ else {number}", str(default))
    return float(choice[2]) if choice else default


def is_made(value: Any) -> bool:
    """Whether MONAI makes the value: an expression, a reference, a component, or a list with one of them."""
    if isinstance(value, (list, tuple)):
        return any(map(is_made, value))
    return ConfigComponent.is_instantiable(value) or str(value).startswith(("$", "@", "%"))


def _kinds(defaults: list[Any]) -> list[str]:
    """Keys of `KINDS` for the defaults of one name; none if one of them says nothing."""
    if any(default == [] or is_made(default) for default in defaults):
        return []
    kinds = [next((kind for kind, fits in KINDS.items() if fits(default)), "") for default in defaults]
    return list(dict.fromkeys(kinds)) if all(kinds) else []


def unknown_keys(config_keys: Iterable[str], known_keys: Iterable[str]) -> list[str]:
    """Name every override that no config knows, with the nearest known name.

    Args:
        config_keys: names given on the command line, without dashes.
        known_keys: names the config holds.

    Returns:
        One line each, e.g. ``unknown override 'output_dirr': did you mean 'output_dir'?``

    """
    known = sorted(set(known_keys))
    problems = []
    for key in config_keys:
        if key in known:
            continue
        problems.append(f"unknown override '{key}': {meant(key, known, 'the config has ' + ', '.join(known))}")
    return problems
