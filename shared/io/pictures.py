"""Loading transforms for pictures (PNG, JPG, TIFF, BMP, DICOM): photographs in colour or grey, and label pictures."""

from __future__ import annotations

import os
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from monai.config import KeysCollection
from monai.transforms import MapTransform

from shared.io.picture_files import check_same_size, load_picture, load_picture_label, picture_size


class LoadPictured(MapTransform):
    """Load a picture in colour or in grey.

    Args:
        keys: keys whose value is the path of a picture.
        grey: load one channel, as for X-rays.
        case_key: key of the case's identifier, for messages.
        allow_missing_keys: skip absent keys instead of raising.

    Returns (per key):
        MetaTensor float32 (3, H, W), in grey (1, H, W), see `load_picture`.

    Raises:
        InputError: one line with case, file and remedy, for what `load_picture` refuses.
    """

    def __init__(
        self, keys: KeysCollection, grey: bool = False, case_key: str = "case_id", allow_missing_keys: bool = False
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.grey = grey
        self.case_key = case_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a copy of `data` with loaded pictures."""
        result = dict(data)
        for key in self.key_iterator(result):
            result[key] = load_picture(data[key], f"case {data.get(self.case_key, 'without id')}", self.grey)
        return result


class LoadPictureLabeld(MapTransform):
    """Load a label picture and check it against the picture it belongs to.

    Args:
        keys: keys whose value is the path of a label picture.
        labels: values that may occur.
        image_key: key of the picture: its path, or what `LoadPictured` returned (resized or not); the size of a label
            without picture is not checked.
        case_key: key of the case's identifier, for messages.
        allow_missing_keys: skip absent keys instead of raising.

    Returns (per key):
        MetaTensor uint8 (int32 if a declared value exceeds 255) (1, H, W), see `load_picture_label`.

    Raises:
        InputError: one line with case, file and remedy, for what `load_picture_label` refuses, and for a size other
            than that of the picture's file.
    """

    def __init__(
        self,
        keys: KeysCollection,
        labels: Sequence[int],
        image_key: str = "image",
        case_key: str = "case_id",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.labels = list(labels)
        self.image_key = image_key
        self.case_key = case_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a copy of `data` with loaded label pictures."""
        result = dict(data)
        for key in self.key_iterator(result):
            case = f"case {data.get(self.case_key, 'without id')}"
            label = load_picture_label(data[key], self.labels, f"{case}: {key}")
            image = data.get(self.image_key)
            if isinstance(image, (str, os.PathLike)):
                check_same_size(picture_size(image, case), tuple(label.shape[1:]), f"{case}: {key}: {data[key]}")
            elif image is not None:
                height, width = image.meta["spatial_shape"]
                check_same_size((int(height), int(width)), tuple(label.shape[1:]), f"{case}: {key}: {data[key]}")
            result[key] = label
        return result
