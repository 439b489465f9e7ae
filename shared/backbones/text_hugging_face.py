"""Text encoders of Hugging Face, by folder or name. Code that comes with a model is never run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from shared.backbones.checkpoint import check_finite
from shared.backbones.text_encoder import TextEncoder, TextFeatures
from shared.backbones.tuning import apply_tuning
from shared.core.errors import InputError
from shared.core.messages import reason

POOLINGS = ("mean", "cls")
WEIGHT_FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
# Models with custom code but the weights of BERT (CXR-BERT-specialized), read as BERT.
BERT_LIKE = ("cxr-bert",)
# Query and value projections of BERT, CLIP, DistilBERT and ModernBERT.
LORA_TARGETS = r"(.*\.)?(query|value|q_proj|v_proj|q_lin|v_lin|Wqkv)"


class HuggingFaceTextEncoder(TextEncoder):
    """Encode sentences with an encoder of Hugging Face; its attention is bidirectional.

    Args:
        model: returns ``last_hidden_state``; a pooler is dropped.
        tokenizer: of `transformers.AutoTokenizer`.
        name, context_length: of `TextEncoder`.
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
        return cut_end(self.tokenizer, text, self.context_length)

    def _table(self) -> Any:
        return self.model.get_input_embeddings()


def cut_end(tokenizer: Any, text: str, length: int) -> str:
    """Return the part of a text beyond `length` tokens of a Hugging Face tokenizer; empty if all fits."""
    ids = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
    return tokenizer.decode(ids[length - tokenizer.num_special_tokens_to_add() :]).strip()


def build_hugging_face_encoder(
    name: str, tuning: str = "full", lora_rank: int = 4, pooling: str = "mean", max_length: int | None = None
) -> HuggingFaceTextEncoder:
    """Build an encoder of Hugging Face; arguments as `shared.backbones.text.build_text_encoder`.

    Raises:
        InputError: pooling, name or tuning is unknown, or the folder or model is not an encoder with finite weights.
    """
    folder = Path(name).expanduser()
    if pooling not in POOLINGS:
        raise InputError(f"unknown pooling {pooling!r}: choose one of {', '.join(POOLINGS)}")
    if not folder.is_dir() and (name.startswith((".", "/", "~")) or name.count("/") > 1):
        raise InputError(f"text encoder {name}: no such folder")
    if (folder / "open_clip_config.json").is_file():
        raise InputError(f"text encoder {name}: a folder of open_clip's: use name=local-dir:{name}")
    encoder = _load(name, folder, pooling, max_length)
    apply_tuning(encoder, tuning, lora_rank, LORA_TARGETS)
    return encoder


def _load(name: str, folder: Path, pooling: str, max_length: int | None) -> HuggingFaceTextEncoder:
    """Load model and tokenizer from a folder, or from the hub and its cache."""
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
        safe: dict[str, Any] = {"local_files_only": local, "trust_remote_code": False}
        tokenizer = token_class.from_pretrained(source, **safe)
        model, info = model_class.from_pretrained(source, output_loading_info=True, weights_only=True, **safe, **kwargs)
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
        longest = min(longest, config.max_position_embeddings - 2)  # RoBERTa's positions start behind the padding index
    if max_length is not None and not 3 <= max_length <= longest:
        raise InputError(f"text encoder {name}: max_length={max_length} must lie between 3 and {longest}")
    check_finite(model.state_dict(), f"text encoder {name}")
    return HuggingFaceTextEncoder(model.float(), tokenizer, name, max_length or longest, pooling)
