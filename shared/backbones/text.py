"""Text encoders by name: open_clip's text towers, Hugging Face encoders, or a small one with random weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import open_clip

from shared.backbones.clip import ClipImageEncoder, image_encoder_of
from shared.backbones.clip_config import SCHEMAS, known_models
from shared.backbones.clip_models import create_clip
from shared.backbones.frozen_text import FrozenTextFeatures
from shared.backbones.text_clip import ClipTextEncoder, text_encoder_of
from shared.backbones.text_encoder import TextEncoder, TextFeatures
from shared.backbones.text_hugging_face import HuggingFaceTextEncoder, build_hugging_face_encoder
from shared.core.errors import InputError
from shared.core.messages import nearest

__all__ = [
    "ClipTextEncoder",
    "FrozenTextFeatures",
    "HuggingFaceTextEncoder",
    "TextEncoder",
    "TextFeatures",
    "build_clip",
    "build_text_encoder",
]


def build_clip(
    name: str = "clip_tiny",
    pretrained: str | None = None,
    checkpoint: str | Path | None = None,
    tuning: str = "full",
    text_tuning: str = "frozen",
    lora_rank: int = 4,
    projection: bool = False,
    **overrides: Any,
) -> tuple[ClipImageEncoder, ClipTextEncoder]:
    """Build both towers of a CLIP model, reading its weights once.

    Args:
        name, pretrained, checkpoint, overrides: of `shared.backbones.clip_models.create_clip`.
        tuning, text_tuning, lora_rank: of `shared.backbones.tuning.apply_tuning`, for the image and the text tower.
        projection: of `ClipImageEncoder`.

    Raises:
        InputError: what `create_clip` and `apply_tuning` raise.
    """
    model = create_clip(name, pretrained, checkpoint, **overrides)
    text = text_encoder_of(model, name, overrides, text_tuning, lora_rank)
    return image_encoder_of(model, name, pretrained, tuning, lora_rank, projection), text


def build_text_encoder(
    name: str = "clip_tiny",
    pretrained: str | None = None,
    checkpoint: str | Path | None = None,
    tuning: str = "full",
    lora_rank: int = 4,
    pooling: str = "mean",
    max_length: int | None = None,
    **overrides: Any,
) -> TextEncoder:
    """Build a text encoder.

    Args:
        name: ``clip_tiny`` (small, random weights), a model of open_clip, a folder that ``save_pretrained`` wrote, or
            ``organisation/model`` of the Hugging Face hub, such as ``microsoft/BiomedVLP-CXR-BERT-specialized``.
        pretrained, checkpoint, overrides: of `shared.backbones.clip_models.create_clip`, for models of open_clip only.
        tuning, lora_rank: of `shared.backbones.tuning.apply_tuning`.
        pooling: of `HuggingFaceTextEncoder`; open_clip's towers have their own.
        max_length: longest sentence in tokens, longer ones are cut; None for the limit of the Hugging Face encoder.

    Raises:
        InputError: a name or option is unknown, or a folder or file has no weights.
    """
    folder = Path(name).expanduser()
    hugging = folder.is_dir() or (
        "/" in name and not name.startswith(SCHEMAS) and name.replace("/", "-") not in open_clip.list_models()
    )
    if not hugging:
        if name not in known_models() and not name.startswith(SCHEMAS) and "/" not in name:
            hint = "for one of Hugging Face give a folder or organisation/model"
            raise InputError(f"unknown text encoder {name!r}: {nearest(name, known_models())} ({hint})")
        model = create_clip(name, pretrained, checkpoint, **overrides)
        return text_encoder_of(model, name, overrides, tuning, lora_rank)
    given = [key for key, value in (("checkpoint", checkpoint), ("pretrained", pretrained)) if value is not None]
    given += overrides
    if given:
        raise InputError(
            f"text encoder {name}: option {given[0]!r} is for models of open_clip; a folder has its own weights"
        )
    return build_hugging_face_encoder(name, tuning, lora_rank, pooling, max_length)
