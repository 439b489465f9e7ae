"""Whole CLIP models of open_clip, with both towers and optional weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import open_clip
import torch
from open_clip.convert import convert_state_dict
from open_clip.model import convert_to_custom_text_state_dict, resize_pos_embed
from open_clip.timm_model import TimmModel
from transformers import AutoConfig

from shared.backbones.checkpoint import load_strictly
from shared.backbones.clip_config import model_config
from shared.backbones.clip_weights import check_architecture, fetch_weights, read_clip_checkpoint
from shared.core.errors import InputError
from shared.core.messages import reason


def create_clip(
    name: str = "clip_tiny", pretrained: str | None = None, checkpoint: str | Path | None = None, **overrides: Any
) -> open_clip.CustomTextCLIP:
    """Build a whole CLIP model, image tower ``visual`` and text tower ``text``. No code from files or hubs is run.

    Args:
        name: ``clip_tiny``, a name of `open_clip.list_models`, or open_clip's ``hf-hub:org/repo`` and
            ``local-dir:folder``.
        pretrained: a tag of `open_clip.list_pretrained_tags_by_model`, from open_clip's cache or the network.
        checkpoint: a file instead, read by `shared.backbones.clip_weights.read_clip_checkpoint`.
        overrides: fields of open_clip's ``CLIPVisionCfg`` (``image_size``, ``patch_size``, ...), fields of its
            ``CLIPTextCfg`` with ``text_`` in front (``text_layers``, ...), or ``embed_dim``.

    Raises:
        InputError: a name, tag or option is unknown, the file is missing, or it holds another model.
    """
    config = model_config(name, **overrides)
    path = checkpoint
    if pretrained is not None and checkpoint is not None:
        raise InputError(f"CLIP {name}: give pretrained={pretrained!r} or checkpoint={checkpoint}, not both")
    if pretrained is not None:
        path, quick = fetch_weights(name, pretrained)
        config["quick_gelu"] = quick or config.get("quick_gelu", False)
    weights = None if path is None else read_clip_checkpoint(path)
    if weights is not None:
        if weights.pop("input_resolution", None) is not None:  # OpenAI's archive, trained with quick GELU
            config["quick_gelu"] = True
            for key in ("context_length", "vocab_size"):
                weights.pop(key, None)
        check_architecture(weights, path, name, config)
    model = _instantiate(name, config)
    if weights is not None:
        weights = convert_to_custom_text_state_dict(convert_state_dict(model, weights))
        if model.logit_bias is not None and "logit_scale" in weights:
            weights.setdefault("logit_bias", torch.zeros_like(weights["logit_scale"]))
        for key in ("logit_scale", "logit_bias"):
            own = getattr(model, key)
            if key in weights and own is not None and weights[key].numel() == own.numel():
                weights[key] = weights[key].reshape(own.shape)
        resize_pos_embed(weights, model)
        load_strictly(model, weights, f"CLIP {name}", path, ignore=("text.transformer.embeddings.position_ids",))
    if "image_size" in overrides and isinstance(model.visual, TimmModel):
        model.visual.set_input_size(overrides["image_size"])
    return model


def _instantiate(name: str, config: dict[str, Any]) -> Any:
    kind: Any = open_clip.CoCa if "multimodal_cfg" in config else open_clip.CustomTextCLIP
    text_model = config["text_cfg"].get("hf_model_name")
    try:
        if text_model:  # open_clip would ask on the terminal whether to run the model's own code
            AutoConfig.from_pretrained(text_model, trust_remote_code=False)
        return kind(**{key: value for key, value in config.items() if key != "custom_text"})
    except Exception as error:  # from timm, transformers or open_clip, about any field
        raise InputError(f"CLIP {name} cannot be built ({reason(error)}): check the options") from error
