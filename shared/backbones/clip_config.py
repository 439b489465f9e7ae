"""Which CLIP models there are, and what open_clip says of them; ``clip_tiny`` is our own small one."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping
from typing import Any

import open_clip
from open_clip.model import CLIPTextCfg, CLIPVisionCfg

from shared.core.errors import InputError
from shared.core.messages import nearest, reason

SCHEMAS = ("hf-hub:", "local-dir:")  # open_clip's own prefixes of names

# Our choice: 1.7 M parameters for the image, 0.95 M for the text, of which 0.5 M are its table of 4,096 word pieces.
CLIP_TINY = {
    "embed_dim": 128,
    "vision_cfg": {"image_size": 128, "patch_size": 16, "width": 128, "head_width": 32, "layers": 8},
    "text_cfg": {"context_length": 77, "vocab_size": 4096, "width": 128, "heads": 4, "layers": 2},
}


def known_models() -> list[str]:
    """Return the names that `shared.backbones.clip_models.create_clip` takes, without those of hubs and folders."""
    return ["clip_tiny", *open_clip.list_models()]


def model_config(name: str, **overrides: Any) -> dict[str, Any]:
    """Return a copy of open_clip's configuration of a model; arguments as `shared.backbones.clip_models.create_clip`.

    Raises:
        InputError: unknown name (with the nearest known one) or option.
    """
    if name == "clip_tiny":
        config: Any = copy.deepcopy(CLIP_TINY)
    elif name.startswith(SCHEMAS):
        try:
            config = open_clip.get_model_config(name)
        except Exception as error:  # from the file system, json or the hub
            raise InputError(f"CLIP {name}: cannot read its open_clip_config.json ({reason(error)})") from error
    else:
        config = open_clip.get_model_config(name.replace("/", "-"))
    if config is None:
        raise InputError(f"unknown CLIP model {name!r}: {nearest(name, known_models())}")
    parts: dict[str, tuple[dict[str, Any], type]] = {
        "text_": (config["text_cfg"], CLIPTextCfg),
        "": (config["vision_cfg"], CLIPVisionCfg),
    }
    for key, value in overrides.items():
        if key == "embed_dim":
            config[key] = value
            continue
        prefix = "text_" if key.startswith("text_") else ""
        part, kind = parts[prefix]
        fields = [field.name for field in dataclasses.fields(kind)]
        if key.removeprefix(prefix) not in fields:
            raise InputError(
                f"unknown option {key!r} of CLIP {name}: {nearest(key, [prefix + field for field in fields])}"
            )
        part[key.removeprefix(prefix)] = value
    config["text_cfg"]["hf_model_pretrained"] = False  # weights come from our own call, or not at all
    config["vision_cfg"]["timm_model_pretrained"] = False
    return config


def image_statistics(name: str, pretrained: str | None = None) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation of the channels, in [0, 1], with which a model of open_clip was trained.

    Without a tag, those of the model's first tag; OpenAI's for models without tags, also of hubs and folders.
    """
    tags = open_clip.list_pretrained_tags_by_model(name)
    tag = pretrained if pretrained is not None else next(iter(tags), "")
    config: Mapping[str, Any] = open_clip.get_pretrained_cfg(name, tag) or {}
    mean = config.get("mean") or open_clip.OPENAI_DATASET_MEAN
    std = config.get("std") or open_clip.OPENAI_DATASET_STD
    return tuple(mean), tuple(std)
