"""BrainSegDMLF: MR sequences fuse during SAM's encoding, and a layer-by-layer decoder finds lesions without prompts. ::

    M sequences -> SAM patch embedding -> M streams ----+----------- streams ------+---- ... four stages
         |                                              |                          |
         |                                     input fusion -> SAM stage 1 -> DMIF -> SAM stage 2 -> DMIF -> ...
         |                                                                    |                      |
         |                                                                    +------ features ------+---- ...
         |                                                                               |
         +-> detail stem ------------------------------------------> layer-by-layer upsampling decoder -> masks

An independent implementation of the published abstract (Wang et al. 2025, arXiv 2505.06133); docs/README.md lists which
parts the abstract states.
"""

from collections.abc import Sequence
from typing import Any, Final

from torch import Tensor, nn
from torch.nn import functional as F

from shared.backbones.sam import build_encoder
from shared.core.errors import InputError
from shared.layers.fitting import crop_padding
from shared.layers.modality_fusion import DynamicModalFusion, drop_modalities
from shared.layers.upsampling_decoder import DetailStem, LayerwiseUpsamplingDecoder

from .blocks import GatedInjection, ModalityWeights, SamUpsampling, StreamAdapter, weights_of

LESION_PRIOR = 0.02  # typical share of lesion in a training patch


class BrainSegDMLF(nn.Module):
    """Segment brain lesions in slices of several MR sequences, without prompts.

    Args:
        in_channels: M, the number of MR sequences; a sequence that is zero everywhere in a slice counts as missing.
        num_classes: channels of the mask: one per region, each with its own sigmoid, so regions may overlap.
        encoder: a name of `shared.backbones.sam.build_encoder`.
        checkpoint: file with the encoder's original weights; None starts from random ones.
        tuning: how the encoder learns: "full", "lora" or "frozen".
        lora_rank: rank of the LoRA matrices.
        encoder_size: side in pixels to which slices are resized for the encoder alone (SAM's native side is 1024); None
            keeps their size. The detail stem and the masks always work at the slice's own resolution.
        feature_stride: stride at which the deepest features enter the decoder; default the encoder's own.
        dmif: False concatenates the sequences at the input instead (ablation).
        layerwise_decoder: False upsamples by four as SAM's mask decoder does (ablation).
        modality_drop: probability of dropping a sequence of a training image.
        deep_supervision: number of mask heads besides the full-resolution one in training.
        detail_channels: channels of the detail stem at strides 1, 2, 4, ...
        dropout: share of the deepest channels dropped in training.

    Raises:
        InputError: what `build_encoder` raises, or `feature_stride` is not a power of two.
    """

    dmif: Final[bool]  # final, so that TorchScript omits the branches that a network does not take
    layerwise_decoder: Final[bool]

    def __init__(
        self,
        in_channels: int = 4,
        num_classes: int = 2,
        encoder: str = "vit_tiny",
        checkpoint: str | None = None,
        tuning: str = "full",
        lora_rank: int = 4,
        encoder_size: int | None = None,
        feature_stride: int | None = None,
        dmif: bool = True,
        layerwise_decoder: bool = True,
        modality_drop: float = 0.15,
        deep_supervision: int = 2,
        detail_channels: Sequence[int] = (8, 24, 48, 96),
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.encoder_size = encoder_size
        self.dmif = dmif
        self.layerwise_decoder = layerwise_decoder
        self.modality_drop = modality_drop
        self.encoder: Any = build_encoder(encoder, checkpoint=checkpoint, tuning=tuning, lora_rank=lora_rank)
        channels: list[int] = self.encoder.channels
        strides: list[int] = self.encoder.strides
        stride = feature_stride or strides[-1]
        if stride < 1 or stride & (stride - 1):
            raise InputError(f"feature_stride {stride} is not a power of two: choose 4, 8 or 16")
        self.multiple = max(stride, strides[-1]) if encoder_size is None else stride

        if dmif:
            stem = self.encoder.stem_channels
            self.input_fusion = DynamicModalFusion(stem, in_channels)
            self.adapters = nn.ModuleList(StreamAdapter(a, b) for a, b in zip([stem, *channels[:-1]], channels))
            self.fusions = nn.ModuleList(DynamicModalFusion(c, in_channels, context_channels=c) for c in channels)
            self.injections = nn.ModuleList(GatedInjection(c) for c in channels)
        else:
            self.mix = nn.Conv2d(in_channels, 3, 1)

        if layerwise_decoder:
            self.detail_stem = DetailStem(in_channels, detail_channels)
            self.multiple = max(self.multiple, 2 ** (len(detail_channels) - 1))
            scale = stride / strides[-1]
            self.decoder: Any = LayerwiseUpsamplingDecoder(
                channels,
                [max(1, int(s * scale)) for s in strides],
                detail_channels,
                num_classes,
                deep_supervision,
                dropout,
                prior=LESION_PRIOR,
            )
        else:
            self.decoder = SamUpsampling(channels[-1], num_classes)

    def forward(self, image: Tensor) -> Tensor | list[Tensor]:
        """Segment slices.

        Args:
            image: (B, M, H, W) float, z-scores; any H and W.

        Returns:
            logits (B, num_classes, H, W); in training a list of them, full resolution first, the resolution halves
            from each to the next (deep supervision).
        """
        height, width = image.shape[-2:]
        image, available = self.prepare(image)
        features, _ = self.encode(image, available)
        details = self.detail_stem(image) if self.layerwise_decoder else [image]
        logits = self.decoder(features, details)
        masks = [crop_padding(x, height, width, 1 << i) for i, x in enumerate(logits)]
        if self.training:
            return masks
        return masks[0]

    def prepare(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Pad the sides to multiples, find the available sequences, and drop some of them in training.

        Returns:
            the image (B, M, H', W'), zero where a sequence is missing; the availability (B, M) bool. A slice that is
            zero in every sequence, such as one above the head, counts as complete.
        """
        height, width = image.shape[-2:]
        right, below = -width % self.multiple, -height % self.multiple
        if height <= self.multiple and width <= self.multiple:
            right += self.multiple  # instance norm over a single position is undefined
        image = F.pad(image, (0, right, 0, below))
        available = (image != 0).flatten(2).any(dim=-1)
        available = available | ~available.any(dim=1, keepdim=True)
        if self.training and self.modality_drop > 0:
            available = drop_modalities(available, self.modality_drop)
            image = image * available[:, :, None, None].to(image.dtype)
        return image, available

    def encode(self, image: Tensor, available: Tensor) -> tuple[list[Tensor], list[ModalityWeights]]:
        """Run the SAM encoder, with DMIF before the first and after each of its four stages.

        Args:
            image: (B, M, H, W), sides multiples of `multiple`.
            available: (B, M) bool.

        Returns:
            four features (B, C, h, w), shallow to deep, and the weights of the five fusions (none with dmif=False).
        """
        if self.encoder_size is not None:
            size = [self.encoder_size, self.encoder_size]
            image = F.interpolate(image, size=size, mode="bilinear", align_corners=False)
        if not self.dmif:
            return self.encode_mixed(image)
        batch, modalities = available.shape
        grey = image.flatten(0, 1)[:, None].expand(-1, 3, -1, -1)
        tokens = self.encoder.stem(grey)  # (B M, h, w, C)
        _, h, w, _ = tokens.shape
        streams = tokens.unflatten(0, (batch, modalities)).flatten(2, 3).transpose(1, 2)  # (B, N, M, C)
        fusion = self.input_fusion(streams, available)
        weights = [weights_of(fusion, h, w)]
        streams = fusion.streams
        hidden = self.encoder.add_position(fusion.fused.unflatten(1, (h, w)))
        features: list[Tensor] = []
        for i, (adapter, interact, inject) in enumerate(zip(self.adapters, self.fusions, self.injections)):
            hidden = self.encoder.run_stage(i, hidden)  # (B, h, w, C)
            streams = adapter(streams, h, w, hidden)
            h, w = hidden.shape[1], hidden.shape[2]
            fusion = interact(streams, available, hidden.mean(dim=(1, 2)))
            hidden = inject(hidden, fusion.fused.unflatten(1, (h, w)))
            weights.append(weights_of(fusion, h, w))
            streams = fusion.streams
            features.append(hidden.permute(0, 3, 1, 2))
        return features, weights

    def encode_mixed(self, image: Tensor) -> tuple[list[Tensor], list[ModalityWeights]]:
        """Run the encoder without DMIF (ablation): a 1x1 convolution maps all sequences to one RGB image."""
        hidden = self.encoder.add_position(self.encoder.stem(self.mix(image)))
        features: list[Tensor] = []
        for i in range(4):
            hidden = self.encoder.run_stage(i, hidden)
            features.append(hidden.permute(0, 3, 1, 2))
        weights: list[ModalityWeights] = []
        return features, weights
