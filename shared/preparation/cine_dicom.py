"""A cine in a folder of DICOM images: all phases of all slices, in one series or in one series per slice."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pydicom

from shared.io.dicom_enhanced import as_plain_slice, image_type
from shared.io.dicom_files import check_broken, check_pixels, dicom_files, number, read_dicom
from shared.io.dicom_series import SEGMENTATION, check_equal, plane_of, slice_pixels, without_copies
from shared.io.dicom_stack import COSINE_TOLERANCE, Plane, stack
from shared.preparation.cine_opened import FEWEST_PHASES, OpenedCine, check_stack

ORDERS = ("TriggerTime", "TemporalPositionIdentifier", "InstanceNumber", "AcquisitionTime", "ContentTime")
OF_ONE_IMAGE = ("EchoTime", "DiffusionBValue")
OF_ONE_PATIENT = ("PatientID", "FrameOfReferenceUID")
SAME_PLACE = 0.01  # mm; positions of one slice that differ by less are equal
CLOSE = 0.5  # of the usual slice distance; images that lie closer show one slice at two places
PARTS = ("MAGNITUDE", "PHASE", "REAL", "IMAGINARY", "M", "P", "R", "I")  # of ImageType

Slice = list[pydicom.Dataset]  # the phases of one slice


def open_dicom_cine(folder: Path) -> OpenedCine | None:
    """Open the images of a folder, without their pixels.

    Returns:
        The cine; None if no slice has several images, or all have fewer than a cine, as the echoes of a series.

    Raises:
        ValueError: a film of one slice, slices that are not parallel, that have different numbers of phases, or that
            were acquired twice; phases without an order.
    """
    pieces = without_copies(_headers(folder))
    if any("ImagePositionPatient" not in piece or "ImageOrientationPatient" not in piece for piece in pieces):
        return None
    planes = [plane_of(piece) for piece in pieces]
    places: dict[tuple, list[int]] = {}
    for index, where in enumerate(planes):
        places.setdefault((*_rounded(where.origin), *np.round(where.normal, 2) + 0.0), []).append(index)
    if max(map(len, places.values()), default=0) < FEWEST_PHASES:
        return None
    check_broken(folder)
    _check_parallel(planes)
    slices = [[pieces[index] for index in found] for found in places.values()]
    _check_one_kind(pieces)
    check_stack(len(slices))
    slices.sort(key=lambda phases: float(plane_of(phases[0]).origin @ planes[0].normal))
    _check_one_place(slices, planes[0].normal)
    _check_numbers(slices)
    word = _order_word(slices)
    slices = [sorted(phases, key=lambda piece: number(piece, word, 0)) for phases in slices]
    for index, phases in enumerate(slices, 1):
        _check_one_run(phases, word, index)
    if word == "TriggerTime":
        _check_same_beat(slices)
    try:
        order, affine = stack([plane_of(phases[0]) for phases in slices])
    except ValueError as error:
        raise ValueError(f"{error}, or phases of two breath-holds: give one stack of slices, of one series") from error
    slices = [slices[index] for index in order]
    shape = int(pieces[0].Columns), int(pieces[0].Rows), len(slices), len(slices[0])
    return OpenedCine(shape, affine, _step(slices), str(folder), lambda: _voxels(slices))


def _headers(folder: Path) -> list[pydicom.Dataset]:
    """Return the images of a folder without their pixels; each knows its file. A segmentation is left out."""
    found = []
    for file in dicom_files(folder):
        piece = as_plain_slice(read_dicom(file, stop_before_pixels=True))
        if piece.get("Modality") != SEGMENTATION:
            piece.filename = str(file)
            found.append(piece)
    if len(found) > 1 and any(int(piece.get("NumberOfFrames") or 1) > 1 for piece in found):
        raise ValueError("it holds files of several frames: export the cine as classic DICOM, one file per image")
    return found


def _voxels(slices: Sequence[Slice]) -> np.ndarray:
    """Return (columns, rows, slices, phases), float32."""
    first = slices[0][0]
    array = np.empty((int(first.Columns), int(first.Rows), len(slices), len(slices[0])), np.float32)
    for index, phases in enumerate(slices):
        for phase, header in enumerate(phases):
            piece = as_plain_slice(read_dicom(str(header.filename)))
            if int(piece.get("SamplesPerPixel") or 1) > 1:
                raise ValueError("its images have colours")
            check_pixels(piece)
            pixels = slice_pixels(piece)
            if pixels.T.shape != array.shape[:2]:
                raise ValueError("slices of different sizes")
            array[:, :, index, phase] = pixels.T
    return array


def _rounded(origin: np.ndarray) -> np.ndarray:
    return np.round(origin / SAME_PLACE) * SAME_PLACE + 0.0


def _check_parallel(planes: Sequence[Plane]) -> None:
    first = planes[0].normal
    others = sum(abs(abs(float(where.normal @ first)) - 1) > COSINE_TOLERANCE for where in planes)
    if others:
        raise ValueError(
            f"its slices are not parallel ({others} of {len(planes)} images lie otherwise than the first; long-axis "
            "views?): keep only the short-axis slices there"
        )


def _check_one_kind(pieces: Sequence[pydicom.Dataset]) -> None:
    for word in OF_ONE_IMAGE:
        check_equal(word, [piece.get(word) for piece in pieces], "images")
    for word in OF_ONE_PATIENT:
        values = {str(piece.get(word) or "").strip() for piece in pieces} - {""}
        if len(values) > 1:
            raise ValueError(f"its images have {len(values)} values of {word}: give each cine its own folder")
    kinds = {tuple(word for word in image_type(piece) if word in PARTS) for piece in pieces}
    if len(kinds) > 1:
        raise ValueError(f"its images are of {len(kinds)} kinds by ImageType (magnitude and phase?): keep one of them")


def _check_one_place(slices: Sequence[Slice], normal: np.ndarray) -> None:
    """Raise ValueError if a slice lies at two places, as after another breath."""
    origins = np.array([plane_of(phases[0]).origin for phases in slices])
    away = np.linalg.norm(np.diff(origins, axis=0), axis=1)
    counts = [len(phases) for phases in slices]
    usual = float(np.median(away))
    for index in range(len(away)):
        fewer = counts[index] + counts[index + 1] <= max(counts)  # two parts of one slice
        if away[index] < CLOSE * usual or np.ptp(origins[index : index + 2] @ normal) < SAME_PLACE or fewer:
            raise ValueError(
                f"{counts[index]} and {counts[index + 1]} images lie {away[index]:.1f} mm apart where slices are "
                f"{away.max():.1f} mm apart (phases of two breath-holds?): give the phases of one breath-hold"
            )


def _check_numbers(slices: Sequence[Slice]) -> None:
    counts = [len(phases) for phases in slices]
    values, often = np.unique(counts, return_counts=True)
    usual = int(values[often.argmax()])
    odd = [f"slice {index} has {count}" for index, count in enumerate(counts, 1) if count != usual]
    if odd:
        more = f" and {len(odd) - 3} more slices differ" if len(odd) > 3 else ""
        raise ValueError(
            f"its slices have different numbers of phases ({', '.join(odd[:3])}{more}, the others {usual}): "
            "export all phases of every slice, or leave that slice out"
        )


def _order_word(slices: Sequence[Slice]) -> str:
    """Return the attribute that orders the phases of every slice."""
    _check_repeats(slices)
    for word in ORDERS:
        values = [{_order(piece, word) for piece in phases} for phases in slices]
        if all(None not in found and len(found) == len(slices[0]) for found in values):
            return word
    raise ValueError(f"nothing orders its phases: {', '.join(ORDERS)} are absent or repeat; export the cine again")


def _order(piece: pydicom.Dataset, word: str) -> float | None:
    """Return a number by which phases are ordered; None where the attribute is absent or no number."""
    try:
        return float(piece[word].value)
    except (KeyError, TypeError, ValueError):
        return None


def _check_repeats(slices: Sequence[Slice]) -> None:
    """Raise ValueError if the trigger times of a slice stand twice: it was acquired twice."""
    for index, phases in enumerate(slices, 1):
        times = [_order(piece, "TriggerTime") for piece in phases]
        if None not in times and 1 < len(set(times)) <= len(times) // 2:
            raise ValueError(_twice(index, "each trigger time stands there twice"))


def _check_one_run(phases: Slice, word: str, index: int) -> None:
    """Raise ValueError if the phases of a slice, in their order, come from two acquisitions."""
    series = {str(piece.get("SeriesInstanceUID", "")) for piece in phases}
    if len(series) > 1:
        raise ValueError(_twice(index, f"its phases are of {len(series)} series"))
    numbers = [number(piece, "InstanceNumber", -1) for piece in phases]
    back = int((np.diff(numbers) < 0).sum())
    if len(set(numbers)) == len(numbers) and 1 < back < len(numbers) - 1:
        raise ValueError(_twice(index, f"its instance numbers do not follow its {word}"))


def _twice(index: int, why: str) -> str:
    return f"slice {index} was acquired twice ({why}; two breath-holds?): keep the phases of one breath-hold"


def _check_same_beat(slices: Sequence[Slice]) -> None:
    """Raise ValueError if slices show different parts of the heartbeat, by their trigger times."""
    times = np.array([[number(piece, "TriggerTime", 0) for piece in phases] for phases in slices])
    middle = float(np.median(times.mean(axis=1)))
    for index, (start, end) in enumerate(zip(times[:, 0], times[:, -1]), 1):
        if start > middle or end < middle:
            raise ValueError(
                f"slice {index} shows {start:.0f} to {end:.0f} ms after the trigger, other slices another part of the "
                "heartbeat (phases of two breath-holds?): give the same phases of every slice"
            )


def _step(slices: Sequence[Slice]) -> float | None:
    """Return the time between phases in seconds, the median over the slices; None without trigger times."""
    ends = [(_order(phases[0], "TriggerTime"), _order(phases[-1], "TriggerTime")) for phases in slices]
    spans = [(end - start) / (len(slices[0]) - 1) for start, end in ends if start is not None and end is not None]
    if len(spans) < len(slices):
        return None
    step = float(np.median(spans)) / 1000
    return step if step > 0 else None
