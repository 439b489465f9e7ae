"""Check the overrides of a bundle's config: known names, and values that their schema allows."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from shared.core.messages import meant
from shared.options.schema import FILE, is_computed, load_schema, wrong_values

# Names that MONAI itself adds to a config, the last one in federated learning (`monai.fl.client.MonaiAlgo`).
MONAI_KEYS = ("_meta_", "network_def", "bundle_root", "workflow_type", "meta_file", "logging_file", "run_name")
NOT_CONFIGS = ("metadata.json", FILE)


def wrong_overrides(config: Mapping[str, Any], configs_dir: Path) -> list[str]:
    """Find unknown names and values that cannot be used.

    Args:
        config: the merged config.
        configs_dir: folder of the bundle's config files.

    Returns:
        One line per problem.
    """
    schema, defaults = load_schema(configs_dir), default_values(configs_dir)
    examples = {name: next((v for v in reversed(found) if _is_example(v)), None) for name, found in defaults.items()}
    return [*unknown_overrides(config, {*schema, *defaults}), *wrong_values(config, schema, examples)]


def unknown_overrides(config: Mapping[str, Any], known: Iterable[str]) -> list[str]:
    """Find top-level names that neither the bundle defines nor anything in the config refers to.

    MONAI accepts any name, so a mistyped ``--output_dirr`` would have no effect and no message.

    Args:
        config: the merged config.
        known: the bundle's own names.

    Returns:
        One line each, e.g. ``unknown override 'output_dirr': did you mean 'output_dir'?``
    """
    names = sorted({*MONAI_KEYS, *known})
    text = json.dumps(config, default=str)
    used = {key for key in config if re.search(rf"[@%]{re.escape(key)}(?!\w)", text)}  # @epochs does not use epoch
    unknown = [key for key in config if key not in used and key not in names]
    return [f"unknown override '{key}': {meant(key, names, 'the config has ' + ', '.join(names))}" for key in unknown]


def default_values(configs_dir: Path) -> dict[str, list[Any]]:
    """Return every top-level name of the bundle's config files with the values that the files give it."""
    found: dict[str, list[Any]] = {}
    for file in config_paths(configs_dir):
        for name, value in json.loads(file.read_text(encoding="utf-8")).items():
            found.setdefault(name, []).append(value)
    return found


def config_paths(configs_dir: Path) -> list[Path]:
    """Return the config files of a bundle, in the order of their names."""
    return [file for file in sorted(configs_dir.glob("*.json")) if file.name not in NOT_CONFIGS]


def _is_example(value: Any) -> bool:
    return value is not None and value != [] and not is_computed(value)
