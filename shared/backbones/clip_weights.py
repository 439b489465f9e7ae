"""Weights of CLIP models: found by tag, read from a file, refused if they belong to another model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import open_clip
from open_clip.model import CLIPTextCfg, CLIPVisionCfg
from torch import Tensor

from shared.backbones.checkpoint import read_checkpoint
from shared.backbones.clip_config import known_models, model_config
from shared.core.errors import InputError
from shared.core.messages import nearest, reason


def fetch_weights(name: str, tag: str) -> tuple[str, bool]:
    """Find the weights of a tag in open_clip's cache, or download them.

    Returns:
        path of the file; whether the model must use quick GELU with them.

    Raises:
        InputError: the model has no tags, the tag is unknown, or the download fails.
    """
    tags = open_clip.list_pretrained_tags_by_model(name)
    if not tags:
        raise InputError(f"CLIP {name} has no pretrained weights by tag: give checkpoint=<file>")
    config = open_clip.get_pretrained_cfg(name, tag)
    if not config:
        raise InputError(f"unknown weights {tag!r} of CLIP {name}: {nearest(tag, tags)}")
    try:
        path = open_clip.download_pretrained(config)
    except Exception as error:  # from urllib or the hub
        hint = "download them where there is a network and give checkpoint=<file>"
        raise InputError(f"weights {tag!r} of CLIP {name} cannot be fetched ({reason(error)}): {hint}") from error
    return path, bool(config.get("quick_gelu", False))


def read_clip_checkpoint(path: str | Path) -> dict[str, Tensor]:
    """Read the tensors of a CLIP model onto the CPU, without running code of the file.

    Args:
        path: a torch file, safetensors, or a TorchScript archive such as OpenAI's own files.

    Raises:
        InputError: a folder, or what `read_checkpoint` raises.
    """
    if Path(path).is_dir():
        raise InputError(
            f"checkpoint {path}: a folder, not a file; for a folder of open_clip's use name=local-dir:{path}"
        )
    # The causal mask is a constant; archives keep it beside the weights.
    return {name: value for name, value in read_checkpoint(path).items() if not name.endswith("attn_mask")}


def check_architecture(weights: dict[str, Tensor], path: str | Path | None, name: str, config: dict[str, Any]) -> None:
    """Refuse the weights of another model.

    Args:
        weights: as `read_clip_checkpoint` returns them.
        path: the file, for the error message.
        name, config: the wanted model; the configuration is that of `shared.backbones.clip_config.model_config`.

    Raises:
        InputError: one line that says to which model the weights belong.
    """
    if not any(key.startswith("visual.") for key in weights):
        example = next(iter(weights))
        raise InputError(
            f"checkpoint {path}: not an open_clip model: it holds {len(weights)} tensors such as {example!r}"
        )
    given, wanted = _shape_of_weights(weights), _shape_of_config(config)
    if given == wanted:
        return
    known = [key for key in known_models() if given is not None and _shape_of_config(model_config(key)) == given]
    hint = f": use {' or '.join(known[:3])}" if known else ""
    if given is None or wanted is None:
        tower = "a ViT" if given is not None else "another kind of image tower"
        raise InputError(f"checkpoint {path}: holds {tower}, which CLIP {name} does not have{hint}")
    raise InputError(f"checkpoint {path}: a CLIP with {_say(given)} given for {name} with {_say(wanted)}{hint}")


_Shape = tuple[int, int, int, int, int, int]  # image width, layers, patch; text width, layers, vocabulary


def _say(shape: _Shape) -> str:
    return f"vision {shape[0]} wide, {shape[1]} deep, patch {shape[2]}, text {shape[3]} wide, {shape[4]} deep"


def _shape_of_weights(weights: dict[str, Tensor]) -> _Shape | None:
    """Return the sizes that distinguish open_clip's ViTs; None for other towers."""
    patches = weights.get("visual.conv1.weight")
    blocks = _count(weights, "visual.transformer.resblocks.")
    text = "" if "token_embedding.weight" in weights else "text."
    words = weights.get(f"{text}token_embedding.weight")
    if patches is None or blocks == 0 or words is None:
        return None
    depth = _count(weights, f"{text}transformer.resblocks.")
    return patches.shape[0], blocks, patches.shape[-1], words.shape[1], depth, words.shape[0]


def _count(weights: dict[str, Tensor], prefix: str) -> int:
    return len({key.removeprefix(prefix).split(".")[0] for key in weights if key.startswith(prefix)})


def _shape_of_config(config: dict[str, Any]) -> _Shape | None:
    vision = CLIPVisionCfg(**config["vision_cfg"])
    text = CLIPTextCfg(**config["text_cfg"])
    if vision.timm_model_name or text.hf_model_name or not isinstance(vision.layers, int):
        return None
    patch = vision.patch_size
    return vision.width, vision.layers, patch, text.width, text.layers, text.vocab_size
