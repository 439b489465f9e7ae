"""Text towers of open_clip, and the tokenizer of a small one."""

from __future__ import annotations

import gzip
import io
from functools import lru_cache
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
    """A text tower of open_clip with its tokenizer.

    Every token takes the way of the pooled one, last norm and projection (our choice), so tokens and sentences lie in
    the space of the image's features. In CLIP's own towers a token knows only what stands before it (causal attention).

    Args:
        text: ``text`` of `create_clip`'s model.
        tokenizer: open_clip's `SimpleTokenizer`, or another with the same call.
        name, dim: of `TextEncoder`.
    """

    def __init__(self, text: nn.Module, tokenizer: Any, name: str, dim: int) -> None:
        super().__init__(name, dim, int(tokenizer.context_length))
        self.text: Any = text
        self.tokenizer = tokenizer
        causal = getattr(text, "attn_mask", None) is not None and text.cls_emb is None
        # Behind a causal mask padding changes nothing: leave it out.
        self.trims = isinstance(text, HFTextEncoder) or (causal and text.pool_type in ("argmax", "eos"))

    def forward(self, ids: Tensor, mask: Tensor, embeddings: Tensor | None = None) -> TextFeatures:
        """Encode tokens; see `TextEncoder.forward`."""
        text = self.text
        if isinstance(text, HFTextEncoder):
            words = self.embed(ids) if embeddings is None else embeddings
            out = text.transformer(inputs_embeds=words, attention_mask=mask.long())
            return TextFeatures(text.proj(out.last_hidden_state), mask, text.proj(text.pooler(out, mask.long())))
        if self.trims:  # open_clip's own forward takes the full context only
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
        if isinstance(self.tokenizer, SimpleTokenizer):  # pads with 0, which is also a piece of a word
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
    """Make the encoder of a whole model's text tower, with the tokenizer that its configuration asks for.

    Args:
        model: of `shared.backbones.clip_models.create_clip`; its text tower is taken over.
        name, overrides: with which it was made.
        tuning, lora_rank: of `apply_tuning`.

    Raises:
        InputError: its tokenizer cannot be had, or what `apply_tuning` raises.
    """
    config = model_config(name, **overrides)
    text: dict[str, Any] = config["text_cfg"]
    length = text.get("context_length", 77)
    if name == "clip_tiny":
        tokenizer: Any = small_tokenizer(text["vocab_size"], length)
    elif text.get("hf_tokenizer_name") or name.startswith(SCHEMAS):
        try:
            tokenizer = open_clip.get_tokenizer(name)
        except Exception as error:  # from transformers, about files or the network
            raise InputError(f"CLIP {name}: its tokenizer cannot be had ({reason(error)})") from error
    else:
        tokenizer = SimpleTokenizer(context_length=length)
    dim = config["embed_dim"] if text.get("proj_type") != "none" else text["width"]
    encoder = ClipTextEncoder(model.text, tokenizer, name, dim)
    apply_tuning(encoder, tuning, lora_rank)
    return encoder


@lru_cache(maxsize=4)
def small_tokenizer(vocab_size: int, context_length: int) -> SimpleTokenizer:
    """open_clip's tokenizer with only as many of its merges as make `vocab_size` tokens: rarer words fall into pieces.

    Its table holds 49,408 tokens; ours, for a small encoder, the most frequent ones (our choice; no word is unknown).
    """
    lines = gzip.decompress(Path(default_bpe()).read_bytes()).decode("utf-8").split("\n")
    kept = "\n".join(lines[: 1 + vocab_size - 512 - 2])  # a header; 512 bytes; two special tokens
    buffer: Any = io.BytesIO(gzip.compress(kept.encode("utf-8")))
    return SimpleTokenizer(buffer, context_length=context_length)
