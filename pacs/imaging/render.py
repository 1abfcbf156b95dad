"""Frames as pixels for people: the pipeline of PS3.4 N.2, ending in 8 bits."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pacs.errors import Undecodable
from pacs.imaging import frames, luts, overlays
from pacs.imaging.frames import Image
from pacs.imaging.options import Window
from pacs.imaging.source import Reader, Source, decimal, first, items

_BLOCK_PIXELS = 1 << 20  # mapped at once where there is no table: bounds the float copies
_MAX_PIXELS = 1 << 29


def render_pixels(
    source: Source, number: int, window: Window | None = None, between: tuple[float, float] | None = None
) -> NDArray[np.uint8]:
    """One frame as (rows, columns) grey, 0 = black, or (rows, columns, 3) RGB. number: from 1.

    A frame that is cut short is shown as far as it goes. Raises NotFound when there is no such frame (or no pixels),
    Undecodable when it cannot be shown.

    between: modality values for black and white, where neither ``window`` nor the image says them; None: the frame's
    lowest and highest.
    """
    image = frames.image_of(source)
    if image.rows * image.columns > _MAX_PIXELS:
        raise Undecodable("the frame is larger than is rendered here")
    with source.open() as reader:
        array, photometric = frames.frame_array(source, reader, image, number, lenient=True)
        if photometric == "PALETTE COLOR" and image.samples == 1:
            shown = _palette(source, reader, image, array[..., 0])
        elif image.samples == 1 or photometric.startswith("MONOCHROME"):
            shown = _grey(source, reader, image, array[..., 0], number, window, between)
        elif image.samples >= 3:
            shown = _color(image, array[..., :3], photometric)
        else:
            raise Undecodable(f"{image.samples} samples per pixel cannot be rendered")
        return overlays.burn_in(source, reader, number, shown)


def value_range(source: Source, number: int) -> tuple[float, float] | None:
    """Lowest and highest modality value of a frame, padding left out; None when it is in colour."""
    image = frames.image_of(source)
    if image.samples > 1 or image.photometric == "PALETTE COLOR" or image.rows * image.columns > _MAX_PIXELS:
        return None
    with source.open() as reader:
        array, _ = frames.frame_array(source, reader, image, number, lenient=True)
        modality = luts.modality(source, reader, number, signed=image.kind == "i")
        if image.bits_allocated > 16 or image.kind == "f":
            return _range_of_blocks(source, image, array[..., 0], modality)
        values = _sample_values(image)
        return _range(source, values[np.unique(_codes(array[..., 0]))], modality)


def pixel_aspect(source: Source) -> float:
    """Height by width of one pixel; 1 where nothing sensible is said (PS3.3 C.7.6.3.1.7, 10.7.1)."""
    places = [source.attributes]
    for place in items(source.attributes, "52009229"):
        places += items(place, "00289110")
    for place in places:
        for tag in ("00280034", "00280030", "00181164", "00182010"):
            values = [decimal(value) for value in place.get(tag, {}).get("Value", ())]
            if len(values) == 2 and values[0] and values[1] and 0.05 <= values[0] / values[1] <= 20:
                return values[0] / values[1]
    return 1.0


def _grey(
    source: Source,
    reader: Reader,
    image: Image,
    stored: NDArray[Any],
    number: int,
    window: Window | None,
    between: tuple[float, float] | None,
) -> NDArray[np.uint8]:
    signed = image.kind == "i"
    modality = luts.modality(source, reader, number, signed=signed)
    inverted = _is_inverted(source)
    codes = _codes(stored)
    values = places = None  # of samples that a table can map
    if image.bits_allocated > 16 or image.kind == "f":
        low, high = _range_of_blocks(source, image, stored, modality)
    else:
        values, places = _occurring(source, image, stored, modality)
        low, high = _range(source, values, modality)
    low, high = between or (low, high)
    chosen: luts.Map | Window | None = window
    if chosen is None and image.bits_allocated > 1:
        may_be_negative = signed or low < 0
        chosen = luts.voi(source, reader, number, signed=may_be_negative) or _fraction_window(source)
    if image.bits_allocated == 1 and chosen is None:
        chosen = Window(0.5, 1, "LINEAR_EXACT")  # black and white, also when a frame has only one of them

    def shade(values: NDArray[Any]) -> NDArray[np.uint8]:
        grey = modality(values)
        if isinstance(chosen, Window):
            grey = luts.window(grey, chosen)
        elif chosen is not None:
            grey = chosen(grey)
        else:
            grey = np.clip((grey - low) / ((high - low) or 1.0), 0.0, 1.0)
        eight = (np.nan_to_num(grey) * 255.0 + 0.5).astype(np.uint8)
        return 255 - eight if inverted else eight

    if values is not None:
        table = np.zeros(1 << image.bits_allocated, np.uint8)
        table[places] = shade(values)
        mapped: NDArray[np.uint8] = table.take(codes)
        return mapped
    out = np.empty(stored.shape, np.uint8)
    for block in _blocks(stored):
        out[block] = shade(stored[block].astype(np.float64))
    return out


def _occurring(
    source: Source, image: Image, stored: NDArray[Any], modality: luts.Map
) -> tuple[NDArray[np.float64], NDArray[Any]]:
    """Stored values of a frame of up to 16 bits, at least those that occur, and the code of each.

    Lowest and highest modality value are those of the frame.
    """
    is_whole = image.bits_stored == image.bits_allocated > 1 and image.high_bit == image.bits_stored - 1
    is_plain = stored.dtype.kind == image.kind and stored.dtype.itemsize * 8 == image.bits_allocated
    if is_whole and is_plain and not isinstance(modality, luts.Table):
        # Modality values go up or down with the stored ones, so that the ends are enough: no look at every pixel for
        # what lies between.
        low, high = int(stored.min()), int(stored.max())
        padding = _padding(source)
        if padding is None or padding[1] < low or padding[0] > high:
            values = np.arange(low, high + 1)
            return values.astype(np.float64), values & ((1 << image.bits_allocated) - 1)
    present = np.zeros(1 << image.bits_allocated, bool)
    present[_codes(stored)] = True
    places = np.flatnonzero(present)
    return _sample_values(image)[places], places


def _palette(source: Source, reader: Reader, image: Image, stored: NDArray[Any]) -> NDArray[np.uint8]:
    if image.bits_allocated > 16 or image.kind == "f":
        raise Undecodable("a palette image of more than 16 bits cannot be rendered")
    values = _sample_values(image)
    tables = luts.palette(source, reader, signed=image.kind == "i")
    lookup = np.empty((len(values), 3), np.uint8)
    for channel, table in enumerate(tables):
        entries = table(values)
        lookup[:, channel] = entries / 256 if table.bits == 16 else entries * (255 / ((1 << table.bits) - 1)) + 0.5
    mapped: NDArray[np.uint8] = lookup[_codes(stored)]
    return mapped


def _color(image: Image, array: NDArray[Any], photometric: str) -> NDArray[np.uint8]:
    if image.kind == "f":
        raise Undecodable("colour in floating point cannot be rendered")
    if image.bits_allocated == 8 and image.bits_stored == 8:
        eight = array.view(np.uint8)
    else:
        unsigned = array.astype(f"u{image.bits_allocated // 8}" if image.bits_allocated > 1 else np.uint8)
        shift = image.high_bit + 1 - 8
        eight = ((unsigned >> max(0, shift)) << max(0, -shift)).astype(np.uint8)
    if photometric.startswith("YBR_PARTIAL"):
        return _rgb(eight, offset=16.0, luma=255 / 219, chroma=255 / 224)
    if photometric in ("YBR_FULL", "YBR_FULL_422"):
        return _rgb(eight)
    return np.ascontiguousarray(eight)


def _rgb(ybr: NDArray[np.uint8], offset: float = 0.0, luma: float = 1.0, chroma: float = 1.0) -> NDArray[np.uint8]:
    """ITU-R BT.601 back to RGB (PS3.3 C.7.6.3.1.2)."""
    out = np.empty(ybr.shape, np.uint8)
    for block in _blocks(ybr[..., 0]):
        values = ybr[block].astype(np.float32)
        y, cb, cr = (values[..., 0] - offset) * luma, (values[..., 1] - 128) * chroma, (values[..., 2] - 128) * chroma
        for channel, plane in enumerate((y + 1.402 * cr, y - 0.344136 * cb - 0.714136 * cr, y + 1.772 * cb)):
            out[(*block, slice(None), channel)] = np.clip(plane + 0.5, 0, 255)
    return out


def _is_inverted(source: Source) -> bool:
    """MONOCHROME1, or a Presentation LUT Shape that says the same (PS3.3 C.11.4): not twice when both do."""
    if str(source.value("00280004", "")).strip() == "MONOCHROME1":
        return True
    return str(source.value("20500020", "")).strip() == "INVERSE"


def _fraction_window(source: Source) -> Window | None:
    """Fractional segmentations go from 0 to Maximum Fractional Value, whatever a frame has of it (C.8.20.2.3)."""
    if str(source.value("00620001", "")).strip() != "FRACTIONAL":
        return None
    top = decimal(source.value("0062000E"), 255.0) or 255.0
    return Window(top / 2, top, "LINEAR_EXACT")


def _codes(stored: NDArray[Any]) -> NDArray[Any]:
    return stored.view(f"u{stored.dtype.itemsize}")


def _sample_values(image: Image) -> NDArray[np.float64]:
    """Stored value of every code that a sample of up to 16 bits can have, bits outside it cleared."""
    if image.bits_allocated == 1:
        return np.arange(2, dtype=np.float64)
    codes = np.arange(1 << image.bits_allocated)
    values = (codes >> (image.high_bit + 1 - image.bits_stored)) & ((1 << image.bits_stored) - 1)
    if image.kind == "i":
        values -= (values >> (image.bits_stored - 1)) << image.bits_stored
    return values.astype(np.float64)


def _range(source: Source, values: NDArray[Any], modality: luts.Map) -> tuple[float, float]:
    """Lowest and highest modality value, padding and what is not finite left out."""
    values = values[np.isfinite(values)]
    padding = _padding(source)
    if padding is not None:
        kept = values[(values < padding[0]) | (values > padding[1])]
        values = kept if kept.size else values
    if not values.size:
        return 0.0, 0.0
    mapped = modality(values)
    return float(mapped.min()), float(mapped.max())


def _range_of_blocks(source: Source, image: Image, stored: NDArray[Any], modality: luts.Map) -> tuple[float, float]:
    ranges = [_range(source, stored[block].astype(np.float64), modality) for block in _blocks(stored)]
    return min(low for low, _ in ranges), max(high for _, high in ranges)


def _padding(source: Source) -> tuple[float, float] | None:
    """Pixel Padding Value and Range Limit, low first (PS3.3 C.7.5.1.1.2)."""
    value = decimal(first(source.attributes, "00280120"))
    if value is None:
        return None
    limit = decimal(first(source.attributes, "00280121"), value)
    limit = value if limit is None else limit
    return min(value, limit), max(value, limit)


def _blocks(array: NDArray[Any]) -> list[tuple[slice]]:
    step = max(1, _BLOCK_PIXELS // max(1, array.shape[1]))
    return [(slice(start, start + step),) for start in range(0, array.shape[0], step)]
