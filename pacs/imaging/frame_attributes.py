"""What a data set says about its frames, once only some of them are left (PS3.4 Y.3.3)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

from pacs.dicom.model import Attributes
from pacs.imaging.source import Source, decimal

FRAME_INCREMENT_POINTER = "00280009"
FRAME_TIME, FRAME_TIME_VECTOR = "00181063", "00181065"
NUMBER_OF_FRAMES = "00280008"
PER_FRAME_GROUPS = "52009230"
GRID_FRAME_OFFSETS = "3004000C"  # relative to a position that is given for the first frame only
# One value a frame.
_VECTORS = (
    *("00182001", "00182002", "00182003", "00182004", "00182005", "00182006", "00221646"),
    *("00540010", "00540020", "00540030", "00540050", "00540060", "00540070", "00540080", "00540090", "00540100"),
)
# Speak of frames by number, or of the data set as a whole: trims, frames of interest, masks, concatenation, signatures.
_OUTDATED = (
    *("00082142", "00082143", "00200242", "00209161", "00209162", "00209163", "00209228"),
    *("00286010", "00286020", "00286022", "00286023", "00286030", "00286100", "4FFE0001", "FFFAFFFA"),
)


def changed(source: Source, numbers: Sequence[int]) -> dict[str, dict[str, Any]]:
    """Elements that differ for these frames (from 1, ascending), as DICOM JSON; those of ``outdated`` are not here."""
    attributes = source.attributes
    found: dict[str, dict[str, Any]] = {}
    if NUMBER_OF_FRAMES in attributes:
        found[NUMBER_OF_FRAMES] = {"vr": "IS", "Value": [len(numbers)]}
    total = source.layout.pixels.number_of_frames if source.layout.pixels else 0
    for tag in _VECTORS:
        values = attributes.get(tag, {}).get("Value") or []
        if len(values) == total and not _is_wide(values):
            found[tag] = {"vr": attributes[tag]["vr"], "Value": [values[number - 1] for number in numbers]}
    return {**found, **_times(source, numbers, total)}


def outdated(attributes: Attributes) -> Iterator[str]:
    """Tags of what no longer holds, whichever frames are left."""
    yield from (tag for tag in _OUTDATED if tag in attributes)
    # Labels in another character set than the default are optional, and would have to be encoded anew.
    yield from (tag for tag in _VECTORS if _is_wide(attributes.get(tag, {}).get("Value") or []))
    for tag in attributes:
        # A plane of several frames is counted from the image's first.
        if tag.startswith("60") and tag.endswith("0015"):
            yield from (each for each in attributes if each.startswith(tag[:4]))


def _is_wide(values: Sequence[Any]) -> bool:
    return any(isinstance(value, str) and not value.isascii() for value in values)


def seconds_of(source: Source) -> list[float] | None:
    """When each frame is shown, from the first one; None when the data set does not say."""
    total = source.layout.pixels.number_of_frames if source.layout.pixels else 0
    vector = [decimal(value, 0.0) or 0.0 for value in source.attributes.get(FRAME_TIME_VECTOR, {}).get("Value") or []]
    step = decimal(source.value(FRAME_TIME))
    if len(vector) == total:
        return [sum(vector[1 : number + 1]) / 1000 for number in range(total)]
    return [number * step / 1000 for number in range(total)] if step else None


def _times(source: Source, numbers: Sequence[int], total: int) -> dict[str, dict[str, Any]]:
    """Frame Time, or Frame Time Vector, for frames that may be further apart now."""
    seconds = seconds_of(source)
    if seconds is None:
        return {}
    steps = [round(1000 * (seconds[after - 1] - seconds[before - 1]), 6) for before, after in pairwise(numbers)]
    as_vector: dict[str, dict[str, Any]] = {FRAME_TIME_VECTOR: {"vr": "DS", "Value": [0, *steps]}}
    if len(source.attributes.get(FRAME_TIME_VECTOR, {}).get("Value") or []) == total:
        return as_vector
    if not steps:
        return {}
    if len(set(steps)) == 1:
        return {FRAME_TIME: {"vr": "DS", "Value": steps[:1]}}
    pointed = source.attributes.get(FRAME_INCREMENT_POINTER, {}).get("Value") or []
    pointers = [FRAME_TIME_VECTOR if pointer == FRAME_TIME else pointer for pointer in pointed]
    return {**as_vector, FRAME_INCREMENT_POINTER: {"vr": "AT", "Value": pointers or [FRAME_TIME_VECTOR]}}
