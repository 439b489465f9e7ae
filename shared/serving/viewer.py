"""Label maps in the order of axes that viewers expect."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform


class PictureForViewerd(MapTransform):
    """Transpose the label map of a picture, because viewers and ITK index columns first.

    The picture's meta ``spatial_shape`` is transposed too: MONAI Label's last step compares it with the label map's
    shape.

    Args:
        keys: keys of label maps, MetaTensors (1, H, W), rows from top to bottom.
        image_key: key of the picture, a MetaTensor.

    Returns (per key):
        MetaTensor uint8 (W, H).
    """

    def __init__(self, keys: KeysCollection, image_key: str = "image") -> None:
        super().__init__(keys)
        self.image_key = image_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a copy of `data` with transposed label maps."""
        result = dict(data)
        for key in self.key_iterator(result):
            transposed = result[key].as_tensor()[0].T.contiguous().to(torch.uint8)
            result[key] = MetaTensor(transposed)
            image = result[self.image_key]
            meta = {**image.meta, "spatial_shape": np.array(transposed.shape)}
            result[self.image_key] = MetaTensor(image.as_tensor(), meta=meta)
        return result
