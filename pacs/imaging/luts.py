"""Look-up tables and windows of PS3.3 C.11, read from a data set, applied to numpy arrays.

The grey pipeline of PS3.4 N.2 as functions of stored values: modality, then VOI, then presentation. Each takes and
gives float64 arrays of any shape, so that it can run over a frame, or once over all values that a sample can have.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pacs.dicom.model import Attributes
from pacs.errors import Undecodable
from pacs.imaging.options import Window
from pacs.imaging.source import Reader, Source, decimal, first, items

Floats = NDArray[Any]
Map = Callable[[Floats], Floats]

_SHARED, _PER_FRAME = "52009229", "52009230"
_VALUE_TRANSFORMATION, _FRAME_VOI = "00289145", "00289132"
_MODALITY_SEQUENCE, _VOI_SEQUENCE = "00283000", "00283010"


@dataclass(frozen=True, slots=True)
class Table:
    """A look-up table (C.11.1.1): the first entry is for ``first``; bits: of an entry."""

    first: int
    bits: int
    entries: NDArray[np.uint16]

    def __call__(self, values: Floats) -> Floats:
        """Entries for the values; those outside the table get the nearest end's."""
        index = np.clip(np.rint(values) - self.first, 0, len(self.entries) - 1).astype(np.int64)
        found: Floats = self.entries[index].astype(np.float64)
        return found


def modality(source: Source, reader: Reader, number: int, *, signed: bool) -> Map:
    """Stored values to modality values: a table, else slope and intercept (C.11.1), else the values as they are."""
    for path, item in _items_with_paths(source, _MODALITY_SEQUENCE):
        table = read_table(source, reader, item, path, signed=signed)
        if table is not None:
            return table
    place = _functional_group(source, number, _VALUE_TRANSFORMATION) or source.attributes
    slope = decimal(first(place, "00281053"), 1.0) or 1.0
    intercept = decimal(first(place, "00281052"), 0.0) or 0.0
    scaling = decimal(first(source.attributes, "3004000E"))
    if scaling and "00281053" not in place:
        slope = scaling  # Dose Grid Scaling (PS3.3 C.8.8.3): to the unit of dose
    if (slope, intercept) == (1.0, 0.0):
        return lambda values: values
    return lambda values: values * slope + intercept


def voi(source: Source, reader: Reader, number: int, *, signed: bool) -> Map | Window | None:
    """VOI table as a map to 0…1, else the first window, else None (C.11.2)."""
    for path, item in _items_with_paths(source, _VOI_SEQUENCE):
        table = read_table(source, reader, item, path, signed=signed)
        if table is not None:
            return lambda values: table(values) / float((1 << table.bits) - 1)
    for place in (_functional_group(source, number, _FRAME_VOI), source.attributes):
        center, width = decimal(first(place or {}, "00281050")), decimal(first(place or {}, "00281051"))
        if center is None or width is None:
            continue
        function = str(first(place or {}, "00281056", "LINEAR")).strip()
        if function not in ("LINEAR_EXACT", "SIGMOID"):
            function = "LINEAR"
        if width >= 1 or (width > 0 and function != "LINEAR"):
            return Window(center, width, function)
    return None


def window(values: Floats, chosen: Window) -> Floats:
    """Modality values to 0…1 (C.11.2.1.2)."""
    center, width = chosen.center, chosen.width
    if chosen.function == "SIGMOID":
        return 1.0 / (1.0 + np.exp(np.clip(-4.0 * (values - center) / width, -700, 700)))
    if chosen.function == "LINEAR_EXACT":
        return np.clip((values - center) / width + 0.5, 0.0, 1.0)
    if width == 1:  # a threshold: the formula would divide by nothing
        return np.asarray(values > center - 0.5, np.float64)
    return np.clip((values - (center - 0.5)) / (width - 1) + 0.5, 0.0, 1.0)


def read_table(source: Source, reader: Reader, item: Attributes, path: str, *, signed: bool) -> Table | None:
    """The table of one item of a modality or VOI LUT sequence; None when it is not usable."""
    return _table(source, reader, item, ("00283002", "00283006"), path, signed=signed)


def palette(source: Source, reader: Reader, *, signed: bool) -> tuple[Table, Table, Table]:
    """Red, green and blue tables of PALETTE COLOR (C.7.6.3.1.5, C.7.6.3.1.6), segmented ones expanded (C.7.9.2).

    Raises Undecodable when there are none.
    """
    tables = []
    for channel in (1, 2, 3):
        plain, segmented = f"0028120{channel}", f"0028122{channel}"
        attributes, data = source.attributes, plain if plain in source.attributes else segmented
        table = _table(source, reader, attributes, (f"0028110{channel}", data), "", signed=signed)
        if table is None:
            raise Undecodable("the palette is missing or damaged")
        tables.append(table)
    red, green, blue = tables
    if red.bits == 16 and max(int(table.entries.max()) for table in tables) < 256:
        # Met in the field: 16 bits promised, entries of 8 given.
        red, green, blue = (Table(table.first, 8, table.entries) for table in tables)
    return red, green, blue


def _table(
    source: Source, reader: Reader, item: Attributes, tags: tuple[str, str], path: str, *, signed: bool
) -> Table | None:
    descriptor = [decimal(value) for value in item.get(tags[0], {}).get("Value", ())]
    if len(descriptor) != 3 or None in descriptor:
        return None
    count, start, bits = (int(number or 0) for number in descriptor)
    count = count & 0xFFFF or 65536
    if signed:  # the second value is SS then, whatever VR it came with
        start = (start & 0xFFFF) - ((start & 0x8000) << 1)
    else:
        start &= 0xFFFF
    bits = bits if 1 <= bits <= 16 else 16
    element = item.get(tags[1], {})
    if "Value" in element:
        words = np.array([int(decimal(value) or 0) & 0xFFFF for value in element["Value"]], np.uint16)
    else:
        raw = source.bulk(reader, path + tags[1], element)
        if tags[1].startswith("0028122"):
            words = expand_segments(np.frombuffer(raw[: len(raw) // 2 * 2], "<u2"), count)
        elif bits <= 8 and len(raw) < 2 * count:
            words = np.frombuffer(raw, np.uint8).astype(np.uint16)  # two entries a word
        else:
            words = np.frombuffer(raw[: len(raw) // 2 * 2], "<u2").astype(np.uint16)
            if bits <= 8 and words.size and words.max() > 255:
                words = (words >> 8).astype(np.uint16)  # the entry is in the high byte
    return Table(start, bits, words[:count]) if words.size else None


def expand_segments(words: NDArray[Any], count: int) -> NDArray[np.uint16]:
    """Discrete, linear and indirect segments (PS3.3 C.7.9.2) to ``count`` entries at most.

    Raises Undecodable for segments that cannot be right.
    """
    out: list[int] = []
    numbers = [int(word) for word in words]

    def run(at: int, segments: int | None) -> None:
        while at + 2 <= len(numbers) and len(out) < count and segments != 0:
            code, length = numbers[at], numbers[at + 1]
            if code == 0:
                out.extend(numbers[at + 2 : at + 2 + length])
                at += 2 + length
            elif code == 1 and out and at + 3 <= len(numbers):
                start, end = out[-1], numbers[at + 2]
                out.extend(int(start + (end - start) * step / length + 0.5) for step in range(1, length + 1))
                at += 3
            elif code == 2 and segments is None and at + 4 <= len(numbers):
                run((numbers[at + 3] << 16 | numbers[at + 2]) // 2, length)
                at += 4
            else:
                raise Undecodable("the segmented palette is damaged")
            if segments is not None:
                segments -= 1

    run(0, None)
    return np.array(out[:count], np.uint16)


def _items_with_paths(source: Source, tag: str) -> list[tuple[str, Attributes]]:
    return [(f"{tag}/{index}/", item) for index, item in enumerate(items(source.attributes, tag), 1)]


def _functional_group(source: Source, number: int, tag: str) -> Attributes | None:
    """The frame's own item of a functional group macro, else the shared one (PS3.3 C.7.6.16)."""
    per_frame = items(source.attributes, _PER_FRAME)
    places = [per_frame[number - 1]] if number <= len(per_frame) else []
    for place in (*places, *items(source.attributes, _SHARED)):
        found = items(place, tag)
        if found:
            return found[0]
    return None
