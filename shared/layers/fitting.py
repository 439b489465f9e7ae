"""What networks do with an image before they look at it: intensities of one scale, sides that they can halve."""

from torch import Tensor, std_mean
from torch.nn import functional as F


def standardize(image: Tensor) -> Tensor:
    """Each channel of each image (B, C, H, W) to mean 0 and standard deviation 1; a constant one becomes 0."""
    spread, mean = std_mean(image, dim=(-2, -1), correction=0, keepdim=True)
    return (image - mean) / (spread + 1e-5)


def pad_to_multiple(image: Tensor, multiple: int) -> Tensor:
    """Repeat the right and lower border of (B, C, H, W) until both sides are multiples, the width two at least.

    The norm of a single position, which is all that a network keeps of one multiple, is none.
    """
    height, width = image.shape[-2:]
    right = max(-width % multiple, 2 * multiple - width)
    return F.pad(image, (0, right, 0, -height % multiple), mode="replicate")
