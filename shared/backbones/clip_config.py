"""Configurations of CLIP models: those of open_clip, and the small ``clip_tiny``."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping
from typing import Any

import open_clip
from open_clip.model import CLIPTextCfg, CLIPVisionCfg

from shared.core.errors import InputError
from shared.core.messages import nearest, reason

SCHEMAS = ("hf-hub:", "local-dir:")  # prefixes of open_clip's model names

# 1.7 M parameters for images; 0.95 M for text, of which 0.5 M are the table of 4,096 word pieces.
CLIP_TINY = {
    "embed_dim": 128,
    "vision_cfg": {"image_size": 128, "patch_size": 16, "width": 128, "head_width": 32, "layers": 8},
    "text_cfg": {"context_length": 77, "vocab_size": 4096, "width": 128, "heads": 4, "layers": 2},
}


def known_models() -> list[str]:
    """Return the names of all models that need neither a hub nor a folder."""
    return ["clip_tiny", *open_clip.list_models()]


def model_config(name: str, **overrides: Any) -> dict[str, Any]:
    """Return a copy of a model's configuration; arguments as `shared.backbones.clip_models.create_clip`.

    Raises:
        InputError: the name or an option is unknown; the error suggests the nearest known one.
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
    config["text_cfg"]["hf_model_pretrained"] = False  # `create_clip` loads all weights
    config["vision_cfg"]["timm_model_pretrained"] = False
    return config


def image_statistics(name: str, pretrained: str | None = None) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation of the channels, in [0, 1], of a model's training images.

    Args:
        name: of the model.
        pretrained: tag of its weights; None for the model's first tag. Models without tags have OpenAI's statistics.
    """
    tags = open_clip.list_pretrained_tags_by_model(name)
    tag = pretrained if pretrained is not None else next(iter(tags), "")
    config: Mapping[str, Any] = open_clip.get_pretrained_cfg(name, tag) or {}
    mean = config.get("mean") or open_clip.OPENAI_DATASET_MEAN
    std = config.get("std") or open_clip.OPENAI_DATASET_STD
    return tuple(mean), tuple(std)
