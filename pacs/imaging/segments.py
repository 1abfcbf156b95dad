"""Segmentations in the colours that they recommend (PS3.3 C.8.20.2)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pacs.dicom.model import Attributes
from pacs.imaging.source import Source, decimal, first, items

_SEGMENTS, _IDENTIFICATION, _SHARED, _PER_FRAME = "00620002", "0062000A", "52009229", "52009230"

# For segments that recommend none; after a dozen they repeat.
_COLORS = (
    (230, 80, 70), (80, 170, 90), (80, 120, 220), (235, 190, 60), (160, 90, 190), (70, 190, 200),
    (240, 140, 50), (150, 200, 70), (230, 110, 170), (120, 90, 60), (110, 140, 170), (200, 200, 120),
)  # fmt: skip


def is_segmentation(source: Source) -> bool:
    return bool(items(source.attributes, _SEGMENTS)) and "00620001" in source.attributes


def colored(
    source: Source, number: int, grey: NDArray[np.uint8], labels: NDArray[Any] | None = None
) -> NDArray[np.uint8]:
    """(rows, columns, 3) RGB of a frame. grey: 0 outside, 255 inside; labels: segment numbers of a label map."""
    colors = {
        int(decimal(first(segment, "00620004")) or 0): _color(segment, place)
        for place, segment in enumerate(items(source.attributes, _SEGMENTS))
    }
    if labels is not None:
        table = np.array([(0, 0, 0), *[(128, 128, 128)] * 65535], np.uint8)
        for segment, color in colors.items():
            if 0 <= segment < 65536:
                table[segment] = color
        shown: NDArray[np.uint8] = table[labels]
        return shown
    color = colors.get(_segment_of(source.attributes, number), (255, 255, 255))
    table = (np.arange(256)[:, None] * np.array(color) / 255 + 0.5).astype(np.uint8)
    picture: NDArray[np.uint8] = table[grey]
    return picture


def _segment_of(attributes: Attributes, number: int) -> int:
    frames = items(attributes, _PER_FRAME)
    for place in (*frames[number - 1 : number], *items(attributes, _SHARED)):
        for item in items(place, _IDENTIFICATION):
            return int(decimal(first(item, "0062000B")) or 0)
    segments = items(attributes, _SEGMENTS)
    return int(decimal(first(segments[0], "00620004")) or 0) if len(segments) == 1 else 0


def _color(segment: Attributes, place: int) -> tuple[int, int, int]:
    values = [decimal(value) for value in segment.get("0062000D", {}).get("Value", ())]
    if len(values) == 3 and None not in values:
        light, a, b = (float(value or 0) for value in values)
        return from_lab(light / 65535 * 100, a / 65535 * 255 - 128, b / 65535 * 255 - 128)
    return _COLORS[place % len(_COLORS)]


def from_lab(light: float, a: float, b: float) -> tuple[int, int, int]:
    """CIELab under D50, as DICOM has it (PS3.3 C.10.7.1.1), to sRGB."""
    f = (light + 16) / 116
    white = (0.9642, 1.0, 0.8249)
    x, y, z = (
        part * (value**3 if value > 6 / 29 else 3 * (6 / 29) ** 2 * (value - 4 / 29))
        for part, value in zip(white, (f + a / 500, f, f - b / 200), strict=True)
    )
    linear = (
        3.1338561 * x - 1.6168667 * y - 0.4906146 * z,
        -0.9787684 * x + 1.9161415 * y + 0.0334540 * z,
        0.0719453 * x - 0.2289914 * y + 1.4052427 * z,
    )
    clipped = [min(1.0, max(0.0, value)) for value in linear]
    red, green, blue = (v * 12.92 if v <= 0.0031308 else 1.055 * v ** (1 / 2.4) - 0.055 for v in clipped)
    return round(red * 255), round(green * 255), round(blue * 255)
