"""Enhanced files with one frame each, as Siemens XA scanners export the slices of a series."""

from __future__ import annotations

import pydicom

FRAMES, SHARED = "PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence"
FRAME_TYPE, COMPONENT = "MRImageFrameTypeSequence", "ComplexImageComponent"
# functional group, its attribute, and the attribute of a plain slice that means the same
ATTRIBUTES = (
    ("PlanePositionSequence", "ImagePositionPatient", "ImagePositionPatient"),
    ("PlaneOrientationSequence", "ImageOrientationPatient", "ImageOrientationPatient"),
    ("PixelMeasuresSequence", "PixelSpacing", "PixelSpacing"),
    ("PixelMeasuresSequence", "SliceThickness", "SliceThickness"),
    ("PixelValueTransformationSequence", "RescaleSlope", "RescaleSlope"),
    ("PixelValueTransformationSequence", "RescaleIntercept", "RescaleIntercept"),
    ("FrameContentSequence", "TemporalPositionIndex", "TemporalPositionIdentifier"),
    ("FrameContentSequence", "FrameAcquisitionNumber", "AcquisitionNumber"),
    ("MRTimingAndRelatedParametersSequence", "RepetitionTime", "RepetitionTime"),
    ("MRTimingAndRelatedParametersSequence", "FlipAngle", "FlipAngle"),
    ("MREchoSequence", "EffectiveEchoTime", "EchoTime"),
    ("MRModifierSequence", "InversionTimes", "InversionTime"),
    ("MRModifierSequence", "InversionRecovery", "InversionRecovery"),
    ("MRDiffusionSequence", "DiffusionBValue", "DiffusionBValue"),
)


def as_plain_slice(piece: pydicom.Dataset) -> pydicom.Dataset:
    """Give an enhanced file of one frame the attributes of a plain slice, in place of its functional groups.

    Args:
        piece: any data set; it is changed. One with several frames, or without functional groups, stays as it is.

    Returns:
        The same data set. Its SOP class is kept.
    """
    groups = [*(piece.get(FRAMES) or []), *(piece.get(SHARED) or [])]
    if not groups or int(piece.get("NumberOfFrames") or 1) > 1:
        return piece
    if words := image_type(piece):
        piece.ImageType = list(words)
    for keyword, word, plain in ATTRIBUTES:
        items = [group[keyword][0] for group in groups if group.get(keyword)]
        value = next((item[word].value for item in items if word in item and not item[word].is_empty), None)
        if value is not None:
            setattr(piece, plain, _as_text(value) if word in ("EffectiveEchoTime", "InversionTimes") else value)
    for word in (FRAMES, SHARED, "NumberOfFrames"):
        if word in piece:
            del piece[word]
    return piece


def image_type(piece: pydicom.Dataset) -> tuple[str, ...]:
    """Return the words of ImageType, upper case; of an enhanced file, also those of its first frame.

    The latter tell diffusion and phase images apart, such as "DIFFUSION" and "PHASE".
    """
    groups = [*(piece.get(FRAMES) or [])[:1], *(piece.get(SHARED) or [])]
    kinds = [group[FRAME_TYPE][0] for group in groups if group.get(FRAME_TYPE)]
    values = [piece.get("ImageType"), *(kind.get(word) for kind in kinds for word in ("FrameType", COMPONENT))]
    lists = [[value] if isinstance(value, str) else value for value in values if value]
    return tuple(dict.fromkeys(str(word).upper().strip() for words in lists for word in words))


def _as_text(value: float | pydicom.multival.MultiValue) -> str:
    """Return a number, or the first of several, as a decimal string of at most 16 characters."""
    first = value[0] if isinstance(value, (list, pydicom.multival.MultiValue)) else value
    return f"{first:.10g}"
