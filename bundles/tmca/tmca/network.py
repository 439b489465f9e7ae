"""TMCA: image pyramid, sentence, language-guided target enhancement at every level, layer-by-layer decoder.

An independent implementation of a published abstract (Li et al. 2024, arXiv 2412.13533); what the abstract leaves open
is our choice and stands in docs/README.md. The abstract's other two modules, target-sensitive semantic distance and
multi-level alignment, act in training only: alignment.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from shared.backbones.text import build_text_encoder
from shared.layers.fitting import pad_to_multiple, standardize
from shared.layers.upsampling_decoder import DetailStem, LayerwiseUpsamplingDecoder

from .blocks import TARGET_PRIOR, TargetEnhancement, TextFusion, similarity_map
from .pyramid import STRIDES, LevelFeatures, build_backbone
from .texts import SentenceReader, Sentences, as_sentences


class AlignmentInput(NamedTuple):
    """What the alignment of a batch of B images needs.

    levels: (B, C, H / s, W / s) for s in `STRIDES`, image features that know nothing of the text.
    maps: logits (B, 1, H / s, W / s) of the same levels, where the image's sentence points.
    sentences: (B, C), in the levels' space, not normalised; zero where there is none.
    semantics: (B, Y), of `Sentences`.
    present: (B,) bool, false for an image whose sentence is missing or was dropped.
    """

    levels: list[Tensor]
    maps: list[Tensor]
    sentences: Tensor
    semantics: Tensor
    present: Tensor


class TrainingOutput(NamedTuple):
    """What the network returns in training.

    masks: logits (B + R, 1, H / 2^i, W / 2^i), full resolution first; R of the images a second time without sentence.
    alignment: of the B images; None without a text encoder or with `align` off.
    again: (R,), int64, which images these are.
    """

    masks: list[Tensor]
    alignment: AlignmentInput | None
    again: Tensor = torch.zeros(0, dtype=torch.int64)


class TMCA(nn.Module):
    """Segment the target that a sentence describes, in grey images; without a sentence, what is usually meant.

    Args:
        backbone, pretrained, checkpoint: of `build_backbone`.
        text_encoder: name or folder, of `build_text_encoder`; None for the image-only twin, which ignores sentences.
        text_pretrained, text_checkpoint, text_tuning, lora_rank, pooling, max_length: of `build_text_encoder`, there
            without ``text_``.
        enhancement: False leaves out the language-guided target enhancement (ablation): the sentence is then read at
            the deepest level alone.
        align: return what the alignment needs in training; False if no loss asks for it.
        null_share: share of the training images that are segmented a second time, without their sentence. Features of
            the image are the same, so the two cost much less than two images (our choice).
        channels: C of the levels, a multiple of 4.
        detail_channels: width of the detail stem at strides 1, 2, 4, ...
        deep_supervision: number of mask heads besides the full-resolution one in training.
        dropout: share of the deepest channels dropped in training.
        norm: of the detail stem and the decoder, "instance" or "batch".

    Raises:
        InputError: unknown `norm`, and what `build_backbone` and `build_text_encoder` raise.
    """

    def __init__(
        self,
        backbone: str = "regnetx_002",
        pretrained: bool = False,
        checkpoint: str | None = None,
        text_encoder: str | None = "clip_tiny",
        text_pretrained: str | None = None,
        text_checkpoint: str | None = None,
        text_tuning: str = "full",
        lora_rank: int = 4,
        pooling: str = "mean",
        max_length: int | None = None,
        enhancement: bool = True,
        align: bool = True,
        null_share: float = 0.15,
        channels: int = 64,
        detail_channels: Sequence[int] = (8, 16, 32, 64),
        deep_supervision: int = 2,
        dropout: float = 0.1,
        norm: str = "instance",
    ) -> None:
        super().__init__()
        self.null_share = null_share
        self.align = align
        self.backbone, widths = build_backbone(backbone, pretrained, checkpoint)
        self.levels = LevelFeatures(widths, channels)

        self.texts: SentenceReader | None = None
        self.sentence: nn.Linear | None = None
        self.fusion: TextFusion | None = None
        self.enhancements = nn.ModuleList()
        if text_encoder is not None:
            encoder = build_text_encoder(
                text_encoder, text_pretrained, text_checkpoint, text_tuning, lora_rank, pooling, max_length
            )
            self.texts = SentenceReader(encoder)
            self.fusion = TextFusion(channels, encoder.dim)
            if enhancement:
                self.enhancements = nn.ModuleList(TargetEnhancement(channels, encoder.dim) for _ in STRIDES)
            if enhancement or align:
                self.sentence = nn.Linear(encoder.dim, channels)

        self.detail_stem = DetailStem(1, detail_channels, norm)
        self.multiple = max(STRIDES[-1], 2 ** (len(detail_channels) - 1))
        # What the sentence made of the deepest level opens the decoder; then each level is taken up at its own stride.
        inputs, strides = [channels] * (len(STRIDES) + 1), [*STRIDES, STRIDES[-1]]
        self.decoder = LayerwiseUpsamplingDecoder(
            inputs, strides, detail_channels, 1, deep_supervision, dropout, TARGET_PRIOR, norm
        )

    def forward(self, image: Tensor, text: str | Sequence[str | None] | None = None) -> Tensor | TrainingOutput:
        """Segment images.

        Args:
            image: (B, 1, H, W) float in [0, 1]; any H and W. Sentences speak of places in the whole of it.
            text: B sentences, or one that all images (all windows of one image) share; None or blank for no sentence.

        Returns:
            Logits (B, 1, H, W); in training a `TrainingOutput`.

        Raises:
            InputError: text that is no string, or another number of sentences than of images.
        """
        height, width = image.shape[-2:]
        sentences = self.read(text, image)
        image = self.prepare(image)
        levels = self.levels(self.backbone(image))
        embedding, maps = self.compare(levels, sentences)
        deepest, enhanced = self.guide(levels, sentences, maps)
        details = self.detail_stem(image)
        again = self.draw_again(sentences, len(image))
        if len(again):
            alone, unread = self.guide([level[again] for level in levels], None, [])
            deepest = torch.cat([deepest, alone])
            enhanced = [torch.cat(pair) for pair in zip(enhanced, unread)]
            details = [torch.cat([detail, detail[again]]) for detail in details]
        logits = self.decoder([*enhanced, deepest], details)
        masks = [_crop(x, height, width, 1 << i) for i, x in enumerate(logits)]
        if not self.training:
            return masks[0]
        if sentences is None or embedding is None or not self.align:
            return TrainingOutput(masks, None, again)
        levels, maps = ([_crop(x, height, width, s) for x, s in zip(xs, STRIDES)] for xs in (levels, maps))
        each = (x.expand(len(image), *x.shape[1:]) for x in (embedding, sentences.semantics, sentences.present))
        return TrainingOutput(masks, AlignmentInput(levels, maps, *each), again)

    def read(self, text: str | Sequence[str | None] | None, image: Tensor) -> Sentences | None:
        """Features of the sentences for images (B, ...); None if nothing is said."""
        texts = as_sentences(text, len(image))
        if self.texts is None or not (self.training or any(texts)):
            return None
        return self.texts(texts)

    def draw_again(self, sentences: Sentences | None, batch: int) -> Tensor:
        """Which of B images that have a sentence are segmented without it too, in training: indices (R,)."""
        if sentences is None or not self.training:
            return torch.zeros(0, dtype=torch.int64)
        drawn = torch.rand(batch, device=sentences.present.device) < self.null_share
        return (sentences.present & drawn).nonzero()[:, 0]

    def prepare(self, image: Tensor) -> Tensor:
        """Mean 0 and deviation 1 an image; padded to what can be halved, two positions at least: (B, 1, H', W')."""
        return pad_to_multiple(standardize(image), self.multiple)

    def compare(self, levels: list[Tensor], sentences: Sentences | None) -> tuple[Tensor | None, list[Tensor]]:
        """Sentences in the levels' space (T, C), zero where absent, and each level's similarity map (B, 1, h, w)."""
        if self.sentence is None or sentences is None:
            return None, []
        embedding = self.sentence(sentences.pooled).masked_fill(~sentences.present[:, None], 0.0)
        return embedding, [similarity_map(level, embedding) for level in levels]

    def guide(
        self, levels: list[Tensor], sentences: Sentences | None, maps: list[Tensor]
    ) -> tuple[Tensor, list[Tensor]]:
        """Let the sentence fuse with the deepest level and enhance the target at every level: (B, C, h, w) each."""
        deepest = levels[-1] if self.fusion is None else self.fusion(levels[-1], sentences)
        if sentences is None or not self.enhancements:
            return deepest, levels
        return deepest, [enhance(x, sentences, s) for enhance, x, s in zip(self.enhancements, levels, maps)]


def _crop(x: Tensor, height: int, width: int, stride: int) -> Tensor:
    """Without the padding, of which a part of a position stays."""
    return x[..., : -(-height // stride), : -(-width // stride)]
