"""Fit an image to a network: standardised intensities, and sides padded to a multiple."""

from torch import Tensor, std_mean
from torch.nn import functional as F


def standardize(image: Tensor) -> Tensor:
    """Bring each channel of each image (B, C, H, W) to mean 0 and deviation 1; a constant channel becomes 0."""
    spread, mean = std_mean(image, dim=(-2, -1), correction=0, keepdim=True)
    return (image - mean) / (spread + 1e-5)


def pad_to_multiple(image: Tensor, multiple: int) -> Tensor:
    """Repeat the lower and right border of (B, C, H, W) until both sides are multiples.

    The width becomes at least two multiples: instance norm over a single position is undefined.
    """
    height, width = image.shape[-2:]
    right = max(-width % multiple, 2 * multiple - width)
    return F.pad(image, (0, right, 0, -height % multiple), mode="replicate")


def crop_padding(x: Tensor, height: int, width: int, stride: int) -> Tensor:
    """Crop a map (B, C, h, w) of a padded image to the image itself, rounding up to whole positions.

    Args:
        x: the map, at `stride`.
        height, width: of the image before padding, in pixels.
        stride: pixels per position of the map.
    """
    return x[..., : (height + stride - 1) // stride, : (width + stride - 1) // stride]
