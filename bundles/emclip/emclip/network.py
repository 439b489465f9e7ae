"""EM-CLIP: features of CLIP gather at semantic centres, and texts guide the decoder. ::

    sentences -> CLIP text tower, learned context -> class texts ---+-----------------+------------> class queries
                                                                    |                 |                   |
    image -> CLIP image tower -> four depths -> deepest -> EM aggregation -> text-guided pixel decoder    |
       |                              |                                               |                   |
       |                              +-------- shallower depths -------> layer-by-layer decoder          |
       +-> detail stem ------------------------------------------------------> |                          |
                                                                        pixel embeddings -------------> masks

An independent implementation of the published abstract; docs/README.md lists which parts the abstract states.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from shared.core.errors import InputError
from shared.layers.em_clustering import EMAggregation
from shared.layers.fitting import crop_padding, pad_to_multiple, standardize
from shared.layers.text_conditioning import TextToPixelAttention
from shared.layers.upsampling_decoder import DetailStem, LayerwiseUpsamplingDecoder

from .aggregation import TEMPERATURE, aggregate
from .blocks import PixelDecoderLayer, TextQueries
from .outputs import TrainingOutput
from .texts import ClassTexts
from .towers import build_towers

GUIDANCE = ("none", "deepest", "all")
NORMALIZATIONS = ("image", "clip")
TOKEN_EPS = 1e-3  # added to the variance of a token channel: a channel without information stays near zero


class EMCLIP(nn.Module):
    """Segment structures that sentences describe, in colour or grey images or slices.

    Args:
        sentences: one description per class: the background first, then the structures in channel order.
        encoder, pretrained, checkpoint: of `shared.backbones.text.build_clip`.
        tuning: how the image tower learns: "full", "lora" or "frozen". The text tower is always frozen.
        lora_rank: rank of the LoRA matrices.
        text_tower: build the text tower; without it only sentences whose features are in the weights can be used.
        encoder_size: side in pixels to which images are resized for the encoder alone; None keeps their size.
        normalization: "image" brings each channel of each image to mean 0 and deviation 1, which removes a camera's
            gain and colour; "clip" uses the mean and deviation of the encoder's training images.
        token_norm: normalise each channel over the tokens of an image, at all four depths; its mean and deviation hold
            the camera's style rather than the content (IBN-Net, Pan 2018). Loaded weights override this option.
        num_context: number of learned context vectors in front of each sentence; 0 for none.
        text_guidance: depths whose pixels read the texts: "deepest", "all", or "none" (no text in the whole network).
        em: False skips EM aggregation (ablation).
        em_iterations, num_free, prior_weight, concentration: of `EMAggregation`.
        anchors: False replaces the class texts in EM by as many free centres (ablation).
        guidance_layers: number of layers of the text-guided pixel decoder.
        pixel_channels: E, channels of the pixel embeddings and queries.
        detail_channels: channels of the detail stem at strides 1, 2, 4, ...
        deep_supervision: number of mask heads besides the full-resolution one in training.
        dropout: share of the deepest channels dropped in training.

    Raises:
        InputError: an option is unknown, there are fewer than two sentences, or the towers or texts cannot be built.
    """

    mean: Tensor  # (3, 1, 1), of the encoder's training images
    std: Tensor
    token_norm: Tensor  # (), 1 or 0; saved with the weights

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
            raise InputError(f"{len(sentences)} class sentences: give one for the background, then one per structure")
        classes, with_text = len(sentences), text_guidance != "none"
        self.encoder_size, self.normalization = encoder_size, normalization

        self.encoder, text = build_towers(encoder, pretrained, checkpoint, tuning, lora_rank)
        channels, dim = self.encoder.channels, text.dim
        self.register_buffer("mean", torch.tensor(self.encoder.mean)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(self.encoder.std)[:, None, None], persistent=False)
        self.register_buffer("token_norm", torch.tensor(float(token_norm)))
        self.with_token_norm = token_norm
        self.register_load_state_dict_post_hook(lambda module, _: module.follow_weights())
        self.texts = ClassTexts(sentences, text if text_tower else None, dim, num_context) if with_text else None

        self.em: Any = None
        self.anchors = anchors and with_text
        if em:
            free = num_free if self.anchors else num_free + classes
            self.em = EMAggregation(dim, free, em_iterations, concentration, prior_weight)
        self.guides = nn.ModuleList(
            TextToPixelAttention(c, dim, num_heads=4) for c in (channels[:-1] if text_guidance == "all" else [])
        )
        self.layers = nn.ModuleList(PixelDecoderLayer(dim, dim if with_text else 0) for _ in range(guidance_layers))

        strides = [2 ** round(math.log2(stride)) for stride in self.encoder.strides]  # 14 counts as 16
        own = 1 if encoder_size is not None else self.encoder.multiple
        self.multiple = math.lcm(strides[-1], 2 ** (len(detail_channels) - 1), own)
        self.detail_stem = DetailStem(3, detail_channels)
        self.decoder = LayerwiseUpsamplingDecoder(
            [*channels[:-1], dim], strides, detail_channels, pixel_channels, deep_supervision, dropout
        )
        self.queries = TextQueries(dim, pixel_channels)
        if not with_text:
            self.class_codes = nn.Parameter(torch.randn(classes, dim))

    def forward(self, image: Tensor) -> Tensor | TrainingOutput:
        """Segment images.

        Args:
            image: (B, 3 or 1, H, W) float in [0, 1]; any H and W.

        Returns:
            logits (B, S, H, W), one channel per structure (structures may overlap); in training a `TrainingOutput`.
        """
        height, width = image.shape[-2:]
        image = self.prepare(image)
        prompts, frozen = self.read_texts()
        features = self.encode(image)
        tokens, _, scores, compactness = self.aggregate(features[-1], prompts)
        features = self.guide(features, tokens, prompts)
        pixels = self.decoder(features, self.detail_stem(image))
        masks = [crop_padding(mask, height, width, 1 << i) for i, mask in enumerate(self.queries(prompts[1:], pixels))]
        if not self.training:
            return masks[0]
        return TrainingOutput(masks, scores, compactness, None if frozen is None else prompts, frozen)

    def prepare(self, image: Tensor) -> Tensor:
        """Normalise the intensities, repeat a grey channel, and pad the sides to multiples: (B, 3, H', W')."""
        image = (image - self.mean) / self.std if self.normalization == "clip" else standardize(image)
        return pad_to_multiple(image.expand(-1, 3, -1, -1), self.multiple)

    def read_texts(self) -> tuple[Tensor, Tensor | None]:
        """Return the class texts with and without learned context, (A, D); free codes and None if there is no text."""
        return (self.class_codes, None) if self.texts is None else self.texts()

    def encode(self, image: Tensor) -> list[Tensor]:
        """Return four depths of CLIP's image tower, (B, C_i, h, w); the last one is in the space of the texts."""
        if self.encoder_size is not None:
            size = [self.encoder_size, self.encoder_size]
            image = F.interpolate(image, size=size, mode="bilinear", align_corners=False, antialias=True)
        features: list[Tensor] = self.encoder(image)
        features = [*features[:-1], self.encoder.project(features[-1])]
        if not self.with_token_norm:
            return features
        return [F.instance_norm(feature.float(), eps=TOKEN_EPS) for feature in features]

    def follow_weights(self) -> None:
        """Take `token_norm` from the loaded weights."""
        self.with_token_norm = bool(self.token_norm)

    def aggregate(self, feature: Tensor, prompts: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor | None]:
        """EM aggregation: gather the deepest tokens at centres anchored to the class texts; see `aggregate`."""
        return aggregate(self.em, feature, prompts if self.texts is not None else None, self.anchors)

    def guide(self, features: list[Tensor], tokens: Tensor, prompts: Tensor) -> list[Tensor]:
        """Text-guided pixel decoder: tokens (B, h w, D) replace the last of the features (B, C_i, h, w)."""
        texts = prompts[None]
        for layer in self.layers:
            tokens = layer(tokens, texts)
        shallow = list(features[:-1])
        for i, guide in enumerate(self.guides):
            pixels = guide(shallow[i].flatten(2).transpose(1, 2), texts)[0]
            shallow[i] = pixels.transpose(1, 2).unflatten(2, shallow[i].shape[-2:])
        return [*shallow, tokens.transpose(1, 2).unflatten(2, features[-1].shape[-2:])]

    @torch.no_grad()
    def clusters(self, image: Tensor) -> Tensor | None:
        """Return the responsibilities (B, K, h, w) of an image's centres, the classes first; None without EM."""
        return self.aggregate(self.encode(self.prepare(image))[-1], self.read_texts()[0])[1]
