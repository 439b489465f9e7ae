"""The commands of Markdown pages: found, split into words as a shell does, checked against what they call."""

from __future__ import annotations

import inspect
import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fire.parser import DefaultParseValue
from monai.bundle import __main__ as bundle_verbs

from shared import __main__ as verbs
from shared.core.errors import InputError
from shared.datasets.public import find_layout
from shared.options.check import find_bundle, find_config
from shared.options.overrides import wrong_overrides

FENCE = re.compile(r"(?P<note><!-- only checked: [^\n]+ -->\n)?^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.M | re.S)


@dataclass
class Block:
    """A fenced block: its language (empty for commands), its text, and whether the page marks it as only checked."""

    language: str
    text: str
    only_checked: bool

    @property
    def commands(self) -> list[str]:
        return [] if self.language else [line for line in self.text.splitlines() if line.strip()]


def blocks(page: Path) -> list[Block]:
    found = FENCE.finditer(page.read_text(encoding="utf-8"))
    return [Block(match["language"], match["text"], match["note"] is not None) for match in found]


def inline(page: Path) -> list[dict[str, Any]]:
    """The options that a page names in its text and tables, in code of one line: ``--epochs 3``, or ``--epochs``."""
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    spans = [span for span in re.findall(r"`([^`\n]+)`", text) if span.startswith("--")]
    words = [re.findall(r"--(\w+)(?: (\"[^\"]*\"|[^\s]+))?", re.sub(r" --", "\n--", span)) for span in spans]
    return [
        {key: DefaultParseValue(value.strip('"'))} if value else {key: "$None"}
        for pairs in words
        for key, value in pairs
    ]


@dataclass
class Command:
    """`python -m monai.bundle` or `python -m shared`, its verb, its words, and its options with Python values."""

    module: str
    verb: str
    words: list[str]
    options: dict[str, Any]


def parsed(line: str) -> Command | None:
    """What a line calls, through torchrun or after other commands; None if it calls neither module."""
    words = shlex.split(line.split(" && ")[-1], comments=True)
    if "-m" not in words:
        return None
    module, *rest = words[words.index("-m") + 1 :]
    if module not in ("monai.bundle", "shared"):
        return None
    verb, *rest = rest
    plain: list[str] = []
    options: dict[str, Any] = {}
    while rest:
        word = rest.pop(0)
        if word.startswith("--"):
            assert rest and not rest[0].startswith("--"), f"{word} has no value: {line}"
            options[word[2:]] = DefaultParseValue(rest.pop(0))
        else:
            plain.append(word)
    return Command(module, verb, plain, options)


def config_files(command: Command) -> list[str]:
    given = command.options["config_file"]
    return [given] if isinstance(given, str) else list(given)


def problems(line: str) -> list[str]:
    """What is wrong with a command of a page, without running it; relative paths are of the repository's root."""
    command = parsed(line)
    if command is None:
        words = shlex.split(line.split(" && ")[-1], comments=True)
        return [word for word in words if word.endswith(".py") and not Path(word).is_file()]
    return _of_bundle(command) if command.module == "monai.bundle" else _of_shared(command)


def _of_bundle(command: Command) -> list[str]:
    function = getattr(bundle_verbs, command.verb, None)
    if function is None:
        return [f"no verb {command.verb}"]
    own = inspect.signature(function).parameters
    if command.verb == "download":
        return [f"unknown option {key}" for key in command.options if key not in own]
    files = [*config_files(command), *(command.options[key] for key in ("meta_file",) if key in command.options)]
    lost = [f"no file {file}" for file in files if not Path(file).is_file()]
    if lost:
        return lost
    overrides = {key: value for key, value in command.options.items() if key not in own}
    return wrong_overrides(overrides, Path(files[0]).parent)


def _of_shared(command: Command) -> list[str]:
    function = getattr(verbs, command.verb, None)
    if function is None:
        return [f"no verb {command.verb}"]
    try:
        if command.verb in ("check", "operating_point"):
            own = inspect.signature(function).parameters
            root = find_bundle(command.words[0])
            given = command.options.get("config_file", "train")
            for name in [given] if isinstance(given, str) else given:
                find_config(root, name)
            overrides = {key: value for key, value in command.options.items() if key not in own}
            return wrong_overrides(overrides, root / "configs")
        if command.verb == "datalist" and command.words:
            find_layout(command.words[0])
        inspect.signature(function).bind(*command.words, **command.options)
    except (InputError, TypeError) as error:
        return [str(error)]
    return []
