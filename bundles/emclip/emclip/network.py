"""EM-CLIP: CLIP's image tower, EM aggregation round the classes' texts, text-guided pixel decoder.

An independent implementation of a published abstract (docs/README.md names it and says what is our choice).
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from open_clip.transformer import QuickGELU
from torch import Tensor, nn
from torch.nn import functional as F

from shared.backbones.clip_config import model_config
from shared.backbones.text import build_clip
from shared.core.errors import InputError
from shared.layers.em_clustering import EMAggregation, unit
from shared.layers.fitting import pad_to_multiple, standardize
from shared.layers.text_conditioning import TextToPixelAttention
from shared.layers.upsampling_decoder import DetailStem, LayerwiseUpsamplingDecoder

from .blocks import PixelDecoderLayer, TextQueries
from .texts import ClassTexts

GUIDANCE = ("none", "deepest", "all")
NORMALIZATIONS = ("image", "clip")
STRUCTURE_PRIOR = 0.1  # about the share of an image that a structure covers
TEMPERATURE = 0.07  # of the score map, CLIP's at its start (Radford 2021)
TOKEN_EPS = 1e-3  # added to a token channel's variance: one that says nothing stays near zero
TEXT_SEED = 0  # of the text tower that has no trained weights: the same one on every machine


class TrainingOutput(NamedTuple):
    """What the network returns in training; A classes with the background, S = A - 1 structures.

    masks: logits (B, S, H / 2^i, W / 2^i), full resolution first.
    scores: logits (B, A, h, w) of the score map, see `EMCLIP.aggregate`; None without text.
    compactness: (B,), mean over tokens of 1 - sum_k z_nk <x_n, mu_k>, in [0, 2]; None without EM.
    prompts, frozen: (A, D), the classes' features with and without learned context; None without text.
    """

    masks: list[Tensor]
    scores: Tensor | None
    compactness: Tensor | None
    prompts: Tensor | None
    frozen: Tensor | None


class EMCLIP(nn.Module):
    """Segment structures that sentences describe, in colour or grey images or slices.

    Args:
        sentences: what each class looks like in words, the background first, then one a structure, in channel order.
        encoder, pretrained, checkpoint: of `shared.backbones.text.build_clip`.
        tuning: how the image tower learns: "full", "lora" or "frozen". The text tower never does.
        lora_rank: rank of the LoRA matrices.
        text_tower: build it; without one only sentences whose features are in the weights can be used.
        encoder_size: side in pixels to which images are resized for the encoder alone; None leaves them as they are.
        normalization: "image", each image and channel to mean 0 and standard deviation 1, which takes a camera's gain
            and colour away; or "clip", by the mean and deviation that the encoder was trained with.
        token_norm: take each channel's mean and deviation over an image's tokens away, at all four depths: they hold
            a camera's style more than what is seen (Pan 2018, IBN-Net, https://arxiv.org/abs/1807.09441; our choice).
            Weights say whether they were trained so, and what they say counts.
        num_context: learned vectors before the sentences; 0 for none.
        text_guidance: where pixels read the texts: "none" (no text anywhere in the network), "deepest" or "all" depths.
        em: False leaves the tokens as they are (ablation).
        em_iterations, num_free, prior_weight, concentration: of `EMAggregation`.
        anchors: False gives EM as many free centres in place of the class texts (ablation).
        guidance_layers: layers of the text-guided pixel decoder.
        pixel_channels: E of the pixel embeddings that the queries meet.
        detail_channels: width of the detail stem at strides 1, 2, 4, ...
        deep_supervision: number of mask heads besides the full-resolution one in training.
        dropout: share of the deepest channels dropped in training.

    Raises:
        InputError: unknown `text_guidance` or `normalization`, fewer than two sentences, weights that need another
            name of their model, and what `build_clip` and `ClassTexts` raise.
    """

    mean: Tensor  # (3, 1, 1), of the images that the encoder was trained with
    std: Tensor
    token_norm: Tensor  # (), 1 or 0

    def __init__(
        self,
        sentences: Sequence[str],
        encoder: str = "clip_tiny",
        pretrained: str | None = None,
        checkpoint: str | None = None,
        tuning: str = "full",
        lora_rank: int = 4,
        text_tower: bool = True,
        encoder_size: int | None = None,
        normalization: str = "image",
        token_norm: bool = True,
        num_context: int = 8,
        text_guidance: str = "deepest",
        em: bool = True,
        em_iterations: int = 3,
        num_free: int = 8,
        prior_weight: float = 1.0,
        concentration: float = 1 / TEMPERATURE,
        anchors: bool = True,
        guidance_layers: int = 2,
        pixel_channels: int = 16,
        detail_channels: Sequence[int] = (8, 16, 32, 64),
        deep_supervision: int = 2,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        if text_guidance not in GUIDANCE:
            raise InputError(f"unknown text_guidance {text_guidance!r}: choose one of {', '.join(GUIDANCE)}")
        if normalization not in NORMALIZATIONS:
            raise InputError(f"unknown normalization {normalization!r}: choose one of {', '.join(NORMALIZATIONS)}")
        if len(sentences) < 2:
            raise InputError(f"{len(sentences)} class sentences: give one for the background, then one a structure")
        self.num_classes = len(sentences)
        self.encoder_size = encoder_size
        self.text_guidance = text_guidance
        with torch.random.fork_rng(devices=[]):  # the towers' first values do not depend on what ran before
            torch.manual_seed(TEXT_SEED)
            self.encoder, text = build_clip(
                encoder, pretrained, checkpoint, tuning, lora_rank=lora_rank, projection=True
            )
        _check_activation(self.encoder, encoder)
        self.normalization = normalization
        self.register_buffer("mean", torch.tensor(self.encoder.mean)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(self.encoder.std)[:, None, None], persistent=False)
        self.register_buffer("token_norm", torch.tensor(float(token_norm)))
        self.with_token_norm = bool(token_norm)
        self.register_load_state_dict_post_hook(lambda module, _: module.follow_weights())
        channels: list[int] = list(self.encoder.channels)
        strides = [2 ** round(math.log2(stride)) for stride in self.encoder.strides]  # the decoder resizes 14 to 16
        dim: int = text.dim
        with_text = text_guidance != "none"
        self.texts = ClassTexts(sentences, text if text_tower else None, dim, num_context) if with_text else None

        self.em: Any = None
        self.anchors = anchors and with_text
        if em:
            free = num_free if self.anchors else num_free + self.num_classes
            self.em = EMAggregation(dim, free, em_iterations, concentration, prior_weight)
        self.guides = nn.ModuleList(
            TextToPixelAttention(c, dim, num_heads=4) for c in (channels[:-1] if text_guidance == "all" else [])
        )
        self.layers = nn.ModuleList(PixelDecoderLayer(dim, dim if with_text else 0) for _ in range(guidance_layers))

        self.detail_stem = DetailStem(3, detail_channels)
        own = 1 if encoder_size is not None else self.encoder.multiple
        self.multiple = math.lcm(strides[-1], 2 ** (len(detail_channels) - 1), own)
        self.decoder = LayerwiseUpsamplingDecoder(
            [*channels[:-1], dim], strides, detail_channels, pixel_channels, deep_supervision, dropout
        )
        bias = torch.logit(torch.tensor(STRUCTURE_PRIOR)).item()
        self.queries = TextQueries(dim, pixel_channels, bias)
        if not with_text:
            self.class_codes = nn.Parameter(torch.randn(self.num_classes, dim))

    def forward(self, image: Tensor) -> Tensor | TrainingOutput:
        """Segment images.

        Args:
            image: (B, 3 or 1, H, W) float in [0, 1]; any H and W.

        Returns:
            Logits (B, S, H, W), one channel a structure (structures may overlap); in training a `TrainingOutput`.
        """
        height, width = image.shape[-2:]
        image = self.prepare(image)
        frozen: Tensor | None = None
        if self.texts is None:
            prompts = self.class_codes
        else:
            prompts, frozen = self.texts()
        features = self.encode(image)
        pixels, responsibilities, scores, compactness = self.aggregate(features[-1], prompts)
        features = self.guide(features, pixels, prompts)
        embeddings = self.decoder(features, self.detail_stem(image))
        queries, biases = self.queries(unit(prompts[1:]) * prompts.shape[1] ** 0.5)
        masks = [
            torch.einsum("ac,bchw->bahw", queries.to(e.dtype), e)[
                ..., : (height + (1 << i) - 1) >> i, : (width + (1 << i) - 1) >> i
            ]
            + biases[:, None, None]
            for i, e in enumerate(embeddings)
        ]
        if not self.training:
            return masks[0]
        return TrainingOutput(masks, scores, compactness, prompts if self.texts is not None else None, frozen)

    def prepare(self, image: Tensor) -> Tensor:
        """Normalise, repeat a grey image, pad to what the network can halve, two tokens at least: (B, 3, H', W')."""
        image = (image - self.mean) / self.std if self.normalization == "clip" else standardize(image)
        return pad_to_multiple(image.expand(-1, 3, -1, -1), self.multiple)

    def encode(self, image: Tensor) -> list[Tensor]:
        """Four depths of CLIP's image tower, the last in the texts' space: (B, C_i, h, w)."""
        if self.encoder_size is not None:
            size = [self.encoder_size, self.encoder_size]
            image = F.interpolate(image, size=size, mode="bilinear", align_corners=False, antialias=True)
        features: list[Tensor] = self.encoder(image)
        features = [*features[:-1], self.encoder.project(features[-1])]
        if not self.with_token_norm:
            return features
        return [F.instance_norm(feature.float(), eps=TOKEN_EPS) for feature in features]

    def follow_weights(self) -> None:
        """Normalise tokens if the weights that were loaded are of a network that does."""
        self.with_token_norm = bool(self.token_norm)

    def aggregate(self, feature: Tensor, prompts: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor | None]:
        """EM aggregation round the classes' texts.

        With anchors the score map is the class of the centres that a token belongs to, p(class | n) = z_n,class; the
        free centres are further parts of the background. Supervised so, every class keeps a centre of its own, while
        with p = softmax(cos(token, t) / tau) the free centres take all tokens (our choice). Without anchors it is that.

        Args:
            feature: (B, D, h, w).
            prompts: (A, D).

        Returns:
            tokens (B, h w, D); responsibilities (B, K, h, w), the classes' centres first, None without EM; score map
            (B, A, h, w), None without text; compactness (B,), None without EM.
        """
        size = feature.shape[-2:]
        tokens = feature.flatten(2).transpose(1, 2)
        responsibilities = compactness = scores = None
        if self.em is not None:
            out = self.em(tokens, prompts if self.anchors else None)
            nearness = (unit(tokens.float()) @ out.centres.transpose(1, 2) * out.responsibilities).sum(-1)
            compactness = 1 - nearness.mean(1)
            responsibilities = out.responsibilities.transpose(1, 2).unflatten(2, size)
            tokens = out.tokens
            if self.anchors:
                owned = out.responsibilities[..., : self.num_classes]
                free = out.responsibilities[..., self.num_classes :].sum(-1, keepdim=True)
                shares = torch.cat([owned[..., :1] + free, owned[..., 1:]], dim=-1)
                scores = shares.clamp_min(1e-6).log()
        if self.texts is not None and scores is None:
            scores = unit(feature.flatten(2).transpose(1, 2).float()) @ unit(prompts.float()).t() / TEMPERATURE
        if scores is not None:
            scores = scores.transpose(1, 2).unflatten(2, size)
        return tokens, responsibilities, scores, compactness

    def guide(self, features: list[Tensor], pixels: Tensor, prompts: Tensor) -> list[Tensor]:
        """Text-guided pixel decoder: tokens (B, h w, D) and depths (B, C_i, h, w) -> depths, the last refined."""
        size = features[-1].shape[-2:]
        texts = prompts[None]
        for layer in self.layers:
            pixels = layer(pixels, texts)
        shallow = list(features[:-1])
        for i, guide in enumerate(self.guides):
            read = guide(shallow[i].flatten(2).transpose(1, 2), texts)[0]
            shallow[i] = read.transpose(1, 2).unflatten(2, shallow[i].shape[-2:])
        return [*shallow, pixels.transpose(1, 2).unflatten(2, size)]

    @torch.no_grad()
    def clusters(self, image: Tensor) -> Tensor | None:
        """Responsibilities (B, K, h, w) of an image as in `forward`, the classes' centres first; None without EM."""
        image = self.prepare(image)
        prompts = self.class_codes if self.texts is None else self.texts()[0]
        return self.aggregate(self.encode(image)[-1], prompts)[1]


def _check_activation(tower: nn.Module, name: str) -> None:
    """Inference knows the name alone, not the weights that training began with: it must say which GELU they want."""
    if any(isinstance(module, QuickGELU) for module in tower.modules()) and not model_config(name).get("quick_gelu"):
        raise InputError(f"the weights of CLIP {name} were trained with quick GELU: choose encoder {name}-quickgelu")
