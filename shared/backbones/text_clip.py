"""Text towers of open_clip, and the tokenizer of ``clip_tiny``."""

from __future__ import annotations

import gzip
import io
from functools import cache
from pathlib import Path
from typing import Any

import open_clip
import torch
from open_clip.hf_model import HFTextEncoder
from open_clip.tokenizer import SimpleTokenizer, default_bpe
from torch import Tensor, nn

from shared.backbones.clip_config import SCHEMAS, model_config
from shared.backbones.text_encoder import TextEncoder, TextFeatures
from shared.backbones.text_hugging_face import cut_end
from shared.backbones.tuning import apply_tuning
from shared.core.errors import InputError
from shared.core.messages import reason


class ClipTextEncoder(TextEncoder):
    """Encode sentences with a text tower of open_clip.

    Every token goes through the last norm and projection of the pooled one, so tokens and sentences lie in the space of
    the image features. The attention of CLIP's own towers is causal: a token depends on the words before it only.

    Args:
        text: ``text`` of `create_clip`'s model.
        tokenizer: open_clip's `SimpleTokenizer`, or another with the same signature.
        name, dim: of `TextEncoder`.
    """

    def __init__(self, text: nn.Module, tokenizer: Any, name: str, dim: int) -> None:
        super().__init__(name, dim, int(tokenizer.context_length))
        self.text: Any = text
        self.tokenizer = tokenizer
        causal = getattr(text, "attn_mask", None) is not None and text.cls_emb is None
        # With causal attention, padding at the end has no effect and is omitted.
        self.trims = isinstance(text, HFTextEncoder) or (causal and text.pool_type in ("argmax", "eos"))

    def forward(self, ids: Tensor, mask: Tensor, embeddings: Tensor | None = None) -> TextFeatures:
        """Encode tokens; see `TextEncoder.forward`."""
        text = self.text
        if isinstance(text, HFTextEncoder):
            words = self.embed(ids) if embeddings is None else embeddings
            out = text.transformer(inputs_embeds=words, attention_mask=mask.long())
            return TextFeatures(text.proj(out.last_hidden_state), mask, text.proj(text.pooler(out, mask.long())))
        if self.trims:  # open_clip's own forward needs the full context length
            n = ids.shape[1]
            x = (self.embed(ids) if embeddings is None else embeddings) + text.positional_embedding[:n]
            tokens = self._project(text.ln_final(text.transformer(x, attn_mask=text.attn_mask[:n, :n])))
            return TextFeatures(tokens, mask, tokens[torch.arange(len(ids), device=ids.device), mask.sum(dim=1) - 1])
        hook = None if embeddings is None else text.token_embedding.register_forward_hook(lambda *_: embeddings)
        try:
            out = text.forward_intermediates(ids, indices=1, normalize_intermediates=True, output_fmt="NLC")
        finally:
            if hook is not None:
                hook.remove()
        return TextFeatures(self._project(out["text_intermediates"][0]), mask, out["text_features"])

    def _project(self, tokens: Tensor) -> Tensor:
        """Map tokens (B, L, width) to (B, L, D)."""
        projection = self.text.text_projection
        if projection is None:
            return tokens
        return projection(tokens) if isinstance(projection, nn.Linear) else tokens @ projection

    def _tokenize(self, texts: list[str]) -> tuple[Tensor, Tensor]:
        ids = self.tokenizer(texts, context_length=self.context_length)
        if isinstance(self.tokenizer, SimpleTokenizer):  # pads with 0, which is also the id of a word piece
            last = (ids == self.tokenizer.eot_token_id).int().argmax(dim=1, keepdim=True)
            mask = torch.arange(ids.shape[1]) <= last
        else:
            mask = ids != self.tokenizer.tokenizer.pad_token_id
        if self.trims:
            longest = int(mask.sum(dim=1).max())
            ids, mask = ids[:, :longest], mask[:, :longest]
        return ids, mask

    def _beyond(self, text: str) -> str:
        if isinstance(self.tokenizer, SimpleTokenizer):
            return self.tokenizer.decode(self.tokenizer.encode(text)[self.context_length - 2 :]).strip()
        return cut_end(self.tokenizer.tokenizer, self.tokenizer.clean_fn(text), self.context_length)

    def _table(self) -> Any:
        if isinstance(self.text, HFTextEncoder):
            return self.text.transformer.get_input_embeddings()
        return self.text.token_embedding


def text_encoder_of(
    model: open_clip.CustomTextCLIP, name: str, overrides: dict[str, Any], tuning: str = "full", lora_rank: int = 4
) -> ClipTextEncoder:
    """Build the encoder from the text tower of a whole model, with the tokenizer of its configuration.

    Args:
        model: of `shared.backbones.clip_models.create_clip`.
        name, overrides: the arguments with which the model was built.
        tuning, lora_rank: of `apply_tuning`.

    Raises:
        InputError: the tokenizer cannot be loaded, or what `apply_tuning` raises.
    """
    config = model_config(name, **overrides)
    text: dict[str, Any] = config["text_cfg"]
    length = text.get("context_length", 77)
    if name == "clip_tiny":
        tokenizer: Any = small_tokenizer(text["vocab_size"], length)
    elif text.get("hf_tokenizer_name") or name.startswith(SCHEMAS):
        try:
            no_code = {"trust_remote_code": False} if text.get("hf_tokenizer_name") else {}  # whatever the file says
            tokenizer = open_clip.get_tokenizer(name, **no_code)
        except Exception as error:  # from transformers, about files or the network
            raise InputError(f"CLIP {name}: its tokenizer cannot be loaded ({reason(error)})") from error
    else:
        tokenizer = SimpleTokenizer(context_length=length)
    dim = config["embed_dim"] if text.get("proj_type") != "none" else text["width"]
    encoder = ClipTextEncoder(model.text, tokenizer, name, dim)
    apply_tuning(encoder, tuning, lora_rank)
    return encoder


@cache
def small_tokenizer(vocab_size: int, context_length: int) -> SimpleTokenizer:
    """Build open_clip's tokenizer with a smaller table: the most frequent tokens; rarer words are split into pieces.

    Args:
        vocab_size: number of tokens, up to the 49,408 of open_clip; no word is unknown at any size.
        context_length: tokens per sentence.
    """
    lines = gzip.decompress(Path(default_bpe()).read_bytes()).decode("utf-8").split("\n")
    merges = vocab_size - 512 - 2  # besides 512 tokens of bytes and 2 special ones
    kept = "\n".join(lines[: 1 + merges])  # the first line is a header
    buffer: Any = io.BytesIO(gzip.compress(kept.encode("utf-8")))
    return SimpleTokenizer(buffer, context_length=context_length)
