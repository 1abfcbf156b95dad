"""Overlay planes (60xx groups, PS3.3 C.9.2) drawn white onto a rendered frame."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pacs.imaging.source import Reader, Source, decimal, first

_MAX_OVERLAYS = 16


def burn_in(source: Source, reader: Reader, number: int, shown: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The picture with every overlay that has data of its own and covers this frame. number: from 1."""
    for group in range(0x6000, 0x6000 + 2 * _MAX_OVERLAYS, 2):
        if f"{group:04X}3000" in source.attributes:
            shown = _draw(source, reader, f"{group:04X}", number, shown)
    return shown


def _draw(source: Source, reader: Reader, group: str, number: int, shown: NDArray[np.uint8]) -> NDArray[np.uint8]:
    rows, columns = source.number(f"{group}0010", 0), source.number(f"{group}0011", 0)
    if not (0 < rows < 65536 and 0 < columns < 65536):
        return shown
    plane = number - int(decimal(first(source.attributes, f"{group}0051"), 1) or 1)
    if not 0 <= plane < source.number(f"{group}0015", 1 if plane == 0 else plane + 1):
        return shown
    raw = source.bulk(reader, f"{group}3000", source.attributes[f"{group}3000"])
    start = plane * rows * columns
    if len(raw) * 8 < start + rows * columns:
        return shown
    first_byte, skip = divmod(start, 8)
    bits = np.unpackbits(np.frombuffer(raw, np.uint8, (skip + rows * columns + 7) // 8, first_byte), bitorder="little")
    mask = bits[skip : skip + rows * columns].reshape(rows, columns).astype(bool)
    origin = [int(decimal(value, 1) or 1) - 1 for value in source.attributes.get(f"{group}0050", {}).get("Value", ())]
    top, left = origin if len(origin) == 2 else (0, 0)
    mask = mask[max(0, -top) :, max(0, -left) :]
    top, left = max(0, top), max(0, left)
    mask = mask[: max(0, shown.shape[0] - top), : max(0, shown.shape[1] - left)]
    shown = shown.copy()
    shown[top : top + mask.shape[0], left : left + mask.shape[1]][mask] = 255
    return shown
