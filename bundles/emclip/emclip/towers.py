"""CLIP's image and text towers, ready for EM-CLIP."""

from __future__ import annotations

import torch
from open_clip.transformer import QuickGELU

from shared.backbones.clip import ClipImageEncoder
from shared.backbones.clip_config import model_config
from shared.backbones.text import ClipTextEncoder, build_clip
from shared.core.errors import InputError

SEED = 0  # of towers without trained weights, so that they are the same on every machine


def build_towers(
    name: str, pretrained: str | None, checkpoint: str | None, tuning: str, lora_rank: int
) -> tuple[ClipImageEncoder, ClipTextEncoder]:
    """Build both towers of a CLIP model; random weights are always the same, whatever ran before.

    Args:
        name, pretrained, checkpoint, lora_rank: of `shared.backbones.text.build_clip`.
        tuning: of the image tower; the text tower is frozen.

    Raises:
        InputError: what `build_clip` raises, or weights trained with quick GELU under a name without it.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        image, text = build_clip(name, pretrained, checkpoint, tuning, lora_rank=lora_rank, projection=True)
    # Inference builds the towers from the name alone, without the file: the name has to say which GELU they use.
    quick = any(isinstance(module, QuickGELU) for module in image.modules())
    if quick and not model_config(name).get("quick_gelu"):
        raise InputError(f"the weights of CLIP {name} were trained with quick GELU: choose encoder {name}-quickgelu")
    return image, text
