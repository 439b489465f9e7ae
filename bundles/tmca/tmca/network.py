"""TMCA: a sentence points at its target in every level of an image pyramid, and guides the decoder there. ::

    image -> backbone -> pyramid of four levels --+---------------> similarity maps <--------- sentence -> text encoder
       |                                          |                        |                                 |
       |                                          +-> language-guided target enhancement of each level <-----+
       |                                          |                        |                                 |
       |                                          +-> deepest level -> text fusion <-------------------------+
       |                                                                   |
       +-> detail stem --------------------------------------> layer-by-layer decoder -> mask

The abstract's other two modules, the target-sensitive semantic distance and the multi-level alignment, compare levels
and sentences in training: alignment.py. An independent implementation of the published abstract (Li et al. 2024, arXiv
2412.13533); docs/README.md lists which parts the abstract states.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from shared.backbones.text import build_text_encoder
from shared.layers.fitting import crop_padding, pad_to_multiple, standardize
from shared.layers.upsampling_decoder import DetailStem, LayerwiseUpsamplingDecoder

from .blocks import TARGET_PRIOR, TargetEnhancement, TextFusion, similarity_map
from .outputs import AlignmentInput, TrainingOutput
from .pyramid import STRIDES, LevelFeatures, build_backbone
from .texts import SentenceReader, Sentences, as_sentences


class TMCA(nn.Module):
    """Segment the target that a sentence describes, in grey images; without a sentence, the usual target.

    Args:
        backbone, pretrained, checkpoint: of `build_backbone`.
        text_encoder: name or folder, of `build_text_encoder`; None builds a network that ignores sentences (ablation).
        text_pretrained, text_checkpoint, text_tuning, lora_rank, pooling, max_length: of `build_text_encoder`, whose
            arguments have no ``text_`` in front.
        enhancement: False omits the language-guided target enhancement (ablation); only the deepest level then reads
            the sentence.
        align: return the features for the alignment in training; False if the loss does not use them.
        null_share: share of the training images that are segmented a second time, without their sentence. The image
            features are computed once for both.
        channels: C of the levels, a multiple of 4.
        detail_channels: channels of the detail stem at strides 1, 2, 4, ...
        deep_supervision: number of mask heads besides the full-resolution one in training.
        dropout: share of the deepest channels dropped in training.
        norm: normalisation of detail stem and decoder, "instance" or "batch".

    Raises:
        InputError: `norm` is unknown, or the backbone or text encoder cannot be built.
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
        # The fused deepest level starts the decoder; then each enhanced level joins at its own stride.
        inputs, strides = [channels] * (len(STRIDES) + 1), [*STRIDES, STRIDES[-1]]
        self.decoder = LayerwiseUpsamplingDecoder(
            inputs, strides, detail_channels, 1, deep_supervision, dropout, TARGET_PRIOR, norm
        )

    def forward(
        self, image: Tensor, text: str | Sequence[str | None] | None = None, place: Tensor | None = None
    ) -> Tensor | TrainingOutput:
        """Segment images.

        Args:
            image: (B, 1, H, W) float in [0, 1]; any H and W.
            text: one sentence per image, or one for all; None or blank for no sentence.
            place: (B, 4), where each image lies if it is a window: top, bottom, left and right edge as shares of the
                whole image, of which the sentence speaks. None for whole images.

        Returns:
            logits (B, 1, H, W); in training a `TrainingOutput`.

        Raises:
            InputError: a sentence is not a string, or the numbers of sentences and images differ.
        """
        height, width = image.shape[-2:]
        sentences = self.read(text, image)
        image = self.prepare(image)
        levels = self.levels(self.backbone(image), place)
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
        masks = [crop_padding(x, height, width, 1 << i) for i, x in enumerate(logits)]
        if not self.training:
            return masks[0]
        if sentences is None or embedding is None or not self.align:
            return TrainingOutput(masks, None, again)
        levels, maps = ([crop_padding(x, height, width, s) for x, s in zip(xs, STRIDES)] for xs in (levels, maps))
        each = (x.expand(len(image), *x.shape[1:]) for x in (embedding, sentences.semantics, sentences.present))
        return TrainingOutput(masks, AlignmentInput(levels, maps, *each), again)

    def read(self, text: str | Sequence[str | None] | None, image: Tensor) -> Sentences | None:
        """Encode the sentences of images (B, ...); None if there is no sentence in evaluation."""
        texts = as_sentences(text, len(image))
        if self.texts is None or not (self.training or any(texts)):
            return None
        return self.texts(texts)

    def draw_again(self, sentences: Sentences | None, batch: int) -> Tensor:
        """Draw the images that training also segments without their sentence: indices (R,)."""
        if sentences is None or not self.training:
            return torch.zeros(0, dtype=torch.int64)
        drawn = torch.rand(batch, device=sentences.present.device) < self.null_share
        return (sentences.present & drawn).nonzero()[:, 0]

    def prepare(self, image: Tensor) -> Tensor:
        """Normalise each image and pad its sides to multiples: (B, 1, H', W')."""
        return pad_to_multiple(standardize(image), self.multiple)

    def compare(self, levels: list[Tensor], sentences: Sentences | None) -> tuple[Tensor | None, list[Tensor]]:
        """Map sentences into the space of the levels, (T, C), and compare: one map (B, 1, h, w) per level."""
        if self.sentence is None or sentences is None:
            return None, []
        embedding = self.sentence(sentences.pooled).masked_fill(~sentences.present[:, None], 0.0)
        return embedding, [similarity_map(level, embedding) for level in levels]

    def guide(
        self, levels: list[Tensor], sentences: Sentences | None, maps: list[Tensor]
    ) -> tuple[Tensor, list[Tensor]]:
        """Fuse the sentence with the deepest level, and enhance its target at every level: (B, C, h, w) each."""
        deepest = levels[-1] if self.fusion is None else self.fusion(levels[-1], sentences)
        if sentences is None or not self.enhancements:
            return deepest, levels
        return deepest, [enhance(x, sentences, s) for enhance, x, s in zip(self.enhancements, levels, maps)]
