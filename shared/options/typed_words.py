"""Sentences and paths from the command line reach the code byte for byte; they are never evaluated.

Fire reads every word as Python where it can: ``left#right`` would become "left" and a folder ``2024`` a number. MONAI
evaluates what begins with ``$``, ``@`` or ``%``. So the options that take a text are read from the words themselves.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser

from shared.options.command_line import given_words
from shared.options.schema import Schema, load_schema, types_of

# JSON's words, which a command line delivers as text: "false" would count as true.
BOOLEANS = {"true": True, "false": False}
NULL = "null"  # MONAI ignores an override that is Python's None
EVALUATED = ("$", "@", "%")  # first characters that MONAI evaluates


def wrong_texts(overrides: Mapping[str, Any], configs_dir: Path) -> list[str]:
    """Find texts that MONAI would evaluate.

    Args:
        overrides: options that a user gave.
        configs_dir: folder of the bundle's config files.

    Returns:
        One line each, e.g. ``--input '$a' begins with '$', which MONAI would evaluate: write ./ before a path``.
    """
    return [
        f"--{name} {text!r:.60} begins with {text[0]!r}, which MONAI would evaluate: "
        + ("write ./ before a path" if name != "text" else "begin the sentence with a word")
        for name, text in _texts(overrides, configs_dir)
        if text.startswith(EVALUATED)
    ]


def as_typed(options: Mapping[str, Any], configs_dir: Path, words: Sequence[str] | None = None) -> dict[str, Any]:
    """Return options with their texts as they were typed.

    Args:
        options: a config, or overrides as Fire reads them.
        configs_dir: folder of the bundle's config files.
        words: the command line, default `sys.argv`.
    """
    given = given_words(words)
    typed = {name: (given[name], option) for name, option in _text_options(configs_dir).items() if name in given}
    texts = {
        name: word
        for name, (word, option) in typed.items()
        if name in options and _is_text(word, options[name], types_of(option))
    }
    return {**options, **texts}


def read_texts(parser: ConfigParser, configs_dir: Path, words: Sequence[str] | None = None) -> list[str]:
    """Put the texts of the command line into a config as they were typed.

    Args:
        parser: of a workflow that is being evaluated.
        configs_dir: folder of the bundle's config files.
        words: the command line, default `sys.argv`.

    Returns:
        Lines of `wrong_texts`; then nothing was changed.
    """
    config = parser.get()
    given = given_words(words)
    texts = {name: value for name, value in as_typed(config, configs_dir, words).items() if name in given}
    problems = wrong_texts(texts, configs_dir)
    for name, text in {} if problems else texts.items():
        if text != config[name]:
            set_option(parser, name, text)
    return problems


def altered_texts(config: Mapping[str, Any], configs_dir: Path) -> list[str]:
    """Find texts that MONAI has altered: while it reads a config it writes ``::`` for every ``#``.

    Args:
        config: of a program, whose own texts are not known.
        configs_dir: folder of the bundle's config files.
    """
    return [
        f"option '{name}' holds {text!r:.60}: MONAI reads '#' as '::'; use a text without either"
        for name, text in _texts(config, configs_dir)
        if "::" in text and not text.startswith(EVALUATED)
    ]


def read_words(parser: ConfigParser, configs_dir: Path) -> None:
    """Turn the words "true" and "false" of logical options into booleans, and "null" into None, in place.

    Args:
        parser: of a workflow; what it has resolved already stays.
        configs_dir: folder of the bundle's config files.
    """
    config = parser.get()
    for name, option in load_schema(configs_dir).items():
        word = config.get(name)
        logical = "boolean" in types_of(option)
        if isinstance(word, str) and (word == NULL or (word in BOOLEANS and logical)):
            set_option(parser, name, BOOLEANS.get(word))


def set_option(parser: ConfigParser, name: str, value: Any) -> None:
    """Set a top-level option of a config that is being evaluated; what was computed from it before stays."""
    parser.get()[name] = value
    parser.ref_resolver.resolved_content[name] = value  # resolving it would write "::" for "#" again


def _text_options(configs_dir: Path) -> dict[str, Schema]:
    """Return the schema of each option that takes a text of the user's own."""
    schema = load_schema(configs_dir)
    return {name: option for name, option in schema.items() if "string" in types_of(option) and "enum" not in option}


def _texts(options: Mapping[str, Any], configs_dir: Path) -> list[tuple[str, str]]:
    """Return the name and the text of every text option; of a list, one pair per text in it."""
    names = [name for name in _text_options(configs_dir) if name in options]
    return [(name, text) for name in names for text in _flat(options[name])]


def _is_text(word: str, value: Any, types: Sequence[str]) -> bool:
    """Tell whether `word` is a text that Fire changed into `value`."""
    if value is None or isinstance(value, bool) or (isinstance(value, (list, tuple)) and "array" in types):
        return False
    try:
        return not isinstance(ast.literal_eval(word), str)  # a text in quotes is what stands between them
    except (ValueError, SyntaxError):
        return True


def _flat(value: Any) -> list[str]:
    if isinstance(value, (list, tuple)):
        return [text for item in value for text in _flat(item)]
    return [value] if isinstance(value, str) else []
