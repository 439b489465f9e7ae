"""Sentences to features: open_clip's text towers, Hugging Face encoders, or a small one from scratch.

One interface: ``encode(sentences)`` gives features of tokens (B, L, D), a mask of real tokens (B, L) and one feature a
sentence (B, D). `FrozenTextFeatures` keeps those of fixed classes in the state_dict.
"""

from __future__ import annotations

import gzip
import io
import warnings
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import open_clip
import torch
from open_clip.hf_model import HFTextEncoder
from open_clip.tokenizer import SimpleTokenizer, default_bpe
from peft import LoraConfig, inject_adapter_in_model
from torch import Tensor, nn
from torch.nn import functional as F

from shared.backbones.clip import (
    SCHEMAS,
    ClipImageEncoder,
    create_clip,
    image_encoder_of,
    known_models,
    model_config,
    nearest,
    reason,
    tune,
)
from shared.backbones.sam import TUNINGS, apply_tuning
from shared.errors import InputError

POOLINGS = ("mean", "cls")
WEIGHT_FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
# Types of models that come with code of their own but have BERT's weights (CXR-BERT-specialized): read as BERT.
BERT_LIKE = ("cxr-bert",)
LORA_NAMES = ("query", "value", "q_proj", "v_proj", "q_lin", "v_lin", "Wqkv")  # in BERT, CLIP, DistilBERT, ModernBERT


class TextFeatures(NamedTuple):
    """Features of B sentences.

    Attributes:
        tokens: (B, L, D), floating point; where the mask is False they mean nothing.
        mask: (B, L), bool; True for real tokens, the special ones at the ends of a sentence among them.
        pooled: (B, D), one feature a sentence, not normalised.
    """

    tokens: Tensor
    mask: Tensor
    pooled: Tensor


def check_sentences(sentences: Sequence[str]) -> list[str]:
    """Return the sentences as a list.

    Raises:
        InputError: not a list, an empty one, or a sentence that is empty or no text; one line that says which.
    """
    if isinstance(sentences, str) or not isinstance(sentences, Sequence):
        raise InputError(f"sentences must be a list of texts, not a {type(sentences).__name__}: {sentences!r:.80}")
    if not sentences:
        raise InputError("no sentence given: the list is empty")
    for i, sentence in enumerate(sentences):
        place = f"sentence {i + 1} of {len(sentences)}"
        if not isinstance(sentence, str):
            raise InputError(f"{place} is no text but a {type(sentence).__name__} ({sentence!r:.80}): give a string")
        if not sentence.strip():
            raise InputError(f"{place} is empty: describe the class or finding in words")
    return list(sentences)


class TextEncoder(nn.Module):
    """What every text encoder has in common.

    Args:
        name: for messages.
        dim: D of the features.
        context_length: tokens that it takes, special ones included.
    """

    tokenizer: Any

    def __init__(self, name: str, dim: int, context_length: int) -> None:
        super().__init__()
        self.name = name
        self.dim = dim
        self.context_length = context_length
        self.tuning = "full"
        self._warned: set[str] = set()

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return next(self.parameters()).device

    def encode(self, sentences: Sequence[str]) -> TextFeatures:
        """Encode B sentences; L is the longest one's tokens, at most `context_length`.

        A sentence that is too long is cut, with one warning that shows what was cut.

        Raises:
            InputError: see `check_sentences`.
        """
        return self(*self.tokenize(sentences))

    def tokenize(self, sentences: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Return ids (B, L), int64, and mask (B, L), bool, on the encoder's device; cuts as `encode` does.

        Raises:
            InputError: see `check_sentences`.
        """
        texts = check_sentences(sentences)
        for text in texts:
            lost = "" if text in self._warned else self._beyond(text)
            if lost:
                self._warned.add(text)
                message = (
                    f"text encoder {self.name} takes {self.context_length} tokens: cut {lost!r} from {text[:40]!r}..."
                )
                warnings.warn(message, stacklevel=2)
        ids, mask = self._tokenize(texts)
        return ids.to(self.device), mask.to(self.device)

    def embed(self, ids: Tensor) -> Tensor:
        """Look up the embeddings of tokens, without position: (B, L) -> (B, L, E)."""
        return self._table()(ids)

    def forward(self, ids: Tensor, mask: Tensor, embeddings: Tensor | None = None) -> TextFeatures:
        """Encode tokens.

        Args:
            ids, mask: of `tokenize`.
            embeddings: (B, L, E) in place of `embed` (ids): learned context takes the places of some tokens; gradients
                flow into them through a frozen encoder too.
        """
        raise NotImplementedError

    def train(self, mode: bool = True) -> TextEncoder:
        """Set the mode as `nn.Module.train`, except that a frozen encoder stays in evaluation mode."""
        return super().train(mode and self.tuning != "frozen")

    def _beyond(self, text: str) -> str:
        """What does not fit, as text; empty if all does."""
        raise NotImplementedError

    def _tokenize(self, texts: list[str]) -> tuple[Tensor, Tensor]:
        raise NotImplementedError

    def _table(self) -> Any:
        raise NotImplementedError


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
        return _beyond(self.tokenizer.tokenizer, self.tokenizer.clean_fn(text), self.context_length)

    def _table(self) -> Any:
        if isinstance(self.text, HFTextEncoder):
            return self.text.transformer.get_input_embeddings()
        return self.text.token_embedding


class HuggingFaceTextEncoder(TextEncoder):
    """Any encoder of Hugging Face with its fast tokenizer; both directions, so every token knows the whole sentence.

    Args:
        model: with ``last_hidden_state``; a pooler is dropped.
        tokenizer: of `transformers.AutoTokenizer`.
        name: of `TextEncoder`.
        context_length: of `TextEncoder`.
        pooling: ``mean`` over the real tokens (Reimers 2019, https://arxiv.org/abs/1908.10084) or ``cls``, the first.
    """

    def __init__(self, model: Any, tokenizer: Any, name: str, context_length: int, pooling: str = "mean") -> None:
        super().__init__(name, int(model.config.hidden_size), context_length)
        self.model = model
        if getattr(model, "pooler", None) is not None:
            model.pooler = None
        self.tokenizer = tokenizer
        self.pooling = pooling

    def forward(self, ids: Tensor, mask: Tensor, embeddings: Tensor | None = None) -> TextFeatures:
        """Encode tokens; see `TextEncoder.forward`."""
        words = {"input_ids": ids} if embeddings is None else {"inputs_embeds": embeddings}
        tokens = self.model(**words, attention_mask=mask.long()).last_hidden_state
        if self.pooling == "cls":
            return TextFeatures(tokens, mask, tokens[:, 0])
        weight = mask.unsqueeze(-1).to(tokens.dtype)
        return TextFeatures(tokens, mask, (tokens * weight).sum(1) / weight.sum(1))

    def _tokenize(self, texts: list[str]) -> tuple[Tensor, Tensor]:
        out = self.tokenizer(
            texts,
            padding=True,
            truncation=True,
            max_length=self.context_length,
            padding_side="right",
            return_tensors="pt",
        )
        return out["input_ids"], out["attention_mask"].bool()

    def _beyond(self, text: str) -> str:
        return _beyond(self.tokenizer, text, self.context_length)

    def _table(self) -> Any:
        return self.model.get_input_embeddings()


def _beyond(tokenizer: Any, text: str, length: int) -> str:
    """The end of a text that a Hugging Face tokenizer cuts at `length` tokens."""
    ids = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
    return tokenizer.decode(ids[length - tokenizer.num_special_tokens_to_add() :]).strip()


# Building


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
        name, pretrained, checkpoint, overrides: of `shared.backbones.clip.create_clip`.
        tuning, text_tuning, lora_rank: of `shared.backbones.clip.tune`, for the image's and the text's tower.
        projection: of `ClipImageEncoder`.

    Raises:
        InputError: what `create_clip` and `tune` raise; one line.
    """
    model = create_clip(name, pretrained, checkpoint, **overrides)
    text = _text_encoder_of(model, name, overrides)
    tune(text, text_tuning, lora_rank)
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
        name: ``clip_tiny`` (small, from scratch), a model of open_clip, a folder as ``save_pretrained`` writes it, or
            ``organisation/model`` of the Hugging Face hub, such as ``microsoft/BiomedVLP-CXR-BERT-specialized``.
        pretrained, checkpoint, overrides: of `shared.backbones.clip.create_clip`; for models of open_clip only.
        tuning: ``full``, ``frozen`` or ``lora``.
        lora_rank: rank of the LoRA matrices.
        pooling: of `HuggingFaceTextEncoder`; open_clip's towers have their own.
        max_length: cut sentences at so many tokens; None for what the Hugging Face encoder takes.

    Raises:
        InputError: unknown name or option, folder or file without weights; one line that says why.
    """
    folder = Path(name).expanduser()
    hugging = folder.is_dir() or (
        "/" in name and not name.startswith(SCHEMAS) and name.replace("/", "-") not in open_clip.list_models()
    )
    if not hugging:
        if name not in known_models() and not name.startswith(SCHEMAS) and "/" not in name:
            hint = "for one of Hugging Face give a folder or organisation/model"
            raise InputError(f"unknown text encoder {name!r}: {nearest(name, known_models())} ({hint})")
        encoder: TextEncoder = _text_encoder_of(create_clip(name, pretrained, checkpoint, **overrides), name, overrides)
        tune(encoder, tuning, lora_rank)
        return encoder
    if checkpoint is not None or pretrained is not None or overrides:
        given = (
            "checkpoint"
            if checkpoint is not None
            else "pretrained"
            if pretrained is not None
            else next(iter(overrides))
        )
        raise InputError(
            f"text encoder {name}: option {given!r} is for models of open_clip; a folder has its own weights"
        )
    if pooling not in POOLINGS:
        raise InputError(f"unknown pooling {pooling!r}: choose one of {', '.join(POOLINGS)}")
    if not folder.is_dir() and (name.startswith((".", "/", "~")) or name.count("/") > 1):
        raise InputError(f"text encoder {name}: no such folder")
    if (folder / "open_clip_config.json").is_file():
        raise InputError(f"text encoder {name}: a folder of open_clip's: use name=local-dir:{name}")
    encoder = _hugging_face(name, folder, pooling, max_length)
    _tune_hugging_face(encoder, tuning, lora_rank)
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


def _text_encoder_of(model: Any, name: str, overrides: dict[str, Any]) -> ClipTextEncoder:
    """Make the encoder of a whole model's text tower, with the tokenizer that its configuration asks for."""
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
    return ClipTextEncoder(model.text, tokenizer, name, dim)


def _hugging_face(name: str, folder: Path, pooling: str, max_length: int | None) -> HuggingFaceTextEncoder:
    """Load model and tokenizer from a folder or from the hub (its cache first)."""
    import transformers
    from transformers.utils import logging

    local = folder.is_dir()
    source = str(folder) if local else name
    if local:
        if not (folder / "config.json").is_file():
            raise InputError(f"text encoder {name}: the folder has no config.json: give one that save_pretrained wrote")
        if not any((folder / file).is_file() for file in WEIGHT_FILES):
            raise InputError(
                f"text encoder {name}: the folder has no weights: it needs {' or '.join(WEIGHT_FILES[::2])}"
            )
    bar = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        settings, _ = transformers.PretrainedConfig.get_config_dict(source, local_files_only=local)
        like_bert = settings.get("model_type") in BERT_LIKE
        model_class: Any = transformers.BertModel if like_bert else transformers.AutoModel
        token_class: Any = transformers.BertTokenizer if like_bert else transformers.AutoTokenizer
        kwargs = {"config": transformers.BertConfig.from_dict(settings)} if like_bert else {}
        tokenizer = token_class.from_pretrained(source, local_files_only=local)
        model, info = model_class.from_pretrained(source, local_files_only=local, output_loading_info=True, **kwargs)
    except Exception as error:  # transformers raises many kinds
        hint = "is the folder complete?" if local else "give a local folder where there is no network"
        raise InputError(f"text encoder {name} cannot be loaded ({reason(error)}): {hint}") from error
    finally:
        if bar:
            logging.enable_progress_bar()
    missing = [key for key in info["missing_keys"] if "pooler" not in key]
    if missing:
        raise InputError(
            f"text encoder {name}: its weights lack {len(missing)} tensors, such as {sorted(missing)[0]!r}"
        )
    config = model.config
    if getattr(config, "is_encoder_decoder", False) or not hasattr(config, "hidden_size"):
        raise InputError(f"text encoder {name} is a {config.model_type}: choose an encoder such as BERT")
    if tokenizer.pad_token is None:
        raise InputError(f"text encoder {name}: its tokenizer has no padding token; choose an encoder such as BERT")
    longest = min(tokenizer.model_max_length, getattr(config, "max_position_embeddings", 512))
    if config.model_type in ("roberta", "xlm-roberta", "camembert"):
        longest = min(longest, config.max_position_embeddings - 2)  # RoBERTa counts from its padding's index
    if max_length is not None and not 3 <= max_length <= longest:
        raise InputError(f"text encoder {name}: max_length={max_length} must lie between 3 and {longest}")
    return HuggingFaceTextEncoder(model.float(), tokenizer, name, max_length or longest, pooling)


def _tune_hugging_face(encoder: TextEncoder, tuning: str, lora_rank: int) -> None:
    """As `shared.backbones.sam.apply_tuning`, with LoRA on queries and values under the names of common encoders."""
    if tuning not in TUNINGS or tuning != "lora" or lora_rank < 1:
        apply_tuning(encoder, tuning, lora_rank)
        return
    apply_tuning(encoder, "frozen")
    config = LoraConfig(r=lora_rank, lora_alpha=lora_rank, target_modules=list(LORA_NAMES), bias="none")
    try:
        inject_adapter_in_model(config, encoder)
    except ValueError as error:
        raise InputError(
            f"text encoder {encoder.name}: tuning lora finds no attention in it; use frozen or full"
        ) from error
    encoder.tuning = "lora"
    encoder.train()


# Fixed classes


class FrozenTextFeatures(nn.Module):
    """Text features of fixed classes, kept in the state_dict with their sentences: inference needs no text encoder.

    The state's shapes depend on the arguments only, never on the sentences, so weights load into any set of classes;
    what they hold then counts. The encoder is no part of this module: it is neither saved nor moved nor trained.

    Args:
        sentences: one a class; at most `capacity`.
        encoder: computes what is not cached; None if everything comes from weights.
        dim, length: D and the tokens kept of a sentence; taken from the encoder if there is one.
        capacity: classes for which the state has room.

    Raises:
        InputError: bad sentences, more than `capacity`, or neither encoder nor `dim`.
    """

    SENTENCE_BYTES = 1024

    tokens: Tensor  # (capacity, length, dim)
    mask: Tensor  # (capacity, length), bool
    pooled: Tensor  # (capacity, dim)
    text: Tensor  # (capacity, SENTENCE_BYTES), uint8: UTF-8, zeros behind

    def __init__(
        self,
        sentences: Sequence[str],
        encoder: TextEncoder | None = None,
        dim: int | None = None,
        length: int = 77,
        capacity: int = 16,
    ) -> None:
        super().__init__()
        self.sentences = check_sentences(sentences)
        width = encoder.dim if encoder is not None else dim
        if width is None:
            raise InputError("FrozenTextFeatures needs an encoder, or dim= for features that come from weights")
        self._encoder = [encoder]  # a list, so that it is not registered
        length = min(length, encoder.context_length) if encoder is not None else length
        self.register_buffer("tokens", torch.zeros(capacity, length, width))
        self.register_buffer("mask", torch.zeros(capacity, length, dtype=torch.bool))
        self.register_buffer("pooled", torch.zeros(capacity, width))
        self.register_buffer("text", torch.zeros(capacity, self.SENTENCE_BYTES, dtype=torch.uint8))
        if encoder is not None:
            self._row_of(self.sentences)

    @property
    def cached(self) -> list[str]:
        """The sentences whose features are here."""
        return [text for text in map(_string, self.text) if text]

    def forward(self, sentences: Sequence[str] | None = None) -> TextFeatures:
        """Return the features of `sentences` (of the classes if None), cut to the longest one's tokens.

        Raises:
            InputError: a sentence that is not cached and cannot be encoded here, or no room for it.
        """
        wanted = self.sentences if sentences is None else check_sentences(sentences)
        rows = torch.tensor(self._row_of(wanted), device=self.tokens.device)
        mask = self.mask[rows]
        longest = int(mask.sum(dim=1).max())
        return TextFeatures(self.tokens[rows, :longest], mask[:, :longest], self.pooled[rows])

    def _row_of(self, sentences: list[str]) -> list[int]:
        """Rows of the sentences, which are encoded first if they are not here yet."""
        new = [text for text in dict.fromkeys(sentences) if text not in self.cached]
        if new:
            self._add(new)
        here = self.cached
        return [here.index(text) for text in sentences]

    @torch.no_grad()
    def _add(self, new: list[str]) -> None:
        encoder, here = self._encoder[0], self.cached
        if encoder is None:
            known = f"cached are {', '.join(map(repr, here))}" if here else "nothing is cached: load trained weights"
            raise InputError(f"class {new[0]!r} has no cached text features and there is no text encoder: {known}")
        codes = [_bytes(text, self.SENTENCE_BYTES) for text in new]
        if len(here) + len(new) > len(self.text):  # make room: forget what is no class of ours
            here = [text for text in here if text in self.sentences]
            if len(here) + len(new) > len(self.text):
                raise InputError(
                    f"{len(here) + len(new)} class sentences, but room for {len(self.text)}: raise capacity"
                )
            self._keep([self.cached.index(text) for text in here])
        training = encoder.training
        encoder.eval()
        features = encoder.encode([*new, *here[:1]])
        encoder.train(training)
        if here and F.cosine_similarity(features.pooled[-1].to(self.pooled), self.pooled[0], dim=0) < 0.99:
            hint = "give the encoder and the weights that made them"
            raise InputError(f"class {new[0]!r}: the cached text features are not those of {encoder.name}: {hint}")
        length = min(self.tokens.shape[1], features.tokens.shape[1])
        for i, code in enumerate(codes):
            row = len(here) + i
            self.tokens[row], self.mask[row] = 0, False
            self.tokens[row, :length] = features.tokens[i, :length].to(self.tokens)
            self.mask[row, :length] = features.mask[i, :length]
            self.pooled[row] = features.pooled[i].to(self.pooled)
            self.text[row] = code

    def _keep(self, rows: list[int]) -> None:
        for buffer in (self.tokens, self.mask, self.pooled, self.text):
            kept = buffer[rows].clone()
            buffer.zero_()
            buffer[: len(rows)] = kept


def _bytes(text: str, size: int) -> Tensor:
    """UTF-8 with zeros behind, uint8 (size,)."""
    code = text.encode("utf-8")
    if len(code) > size:
        raise InputError(f"class sentence of {len(code)} bytes, at most {size} can be cached: shorten {text!r:.80}")
    return torch.tensor(list(code.ljust(size, b"\0")), dtype=torch.uint8)


def _string(code: Tensor) -> str:
    return bytes(code.tolist()).rstrip(b"\0").decode("utf-8")
