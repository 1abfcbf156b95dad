"""Eight-bit arrays to image files, cropped, turned and scaled."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pacs.errors import Invalid, NotAcceptable
from pacs.imaging.options import MEDIA_TYPES, RenderOptions, Viewport

Bytes = NDArray[np.uint8]


def encode(pixels: Bytes, options: RenderOptions, aspect: float = 1.0) -> bytes:
    """(rows, columns) grey or (rows, columns, 3) RGB as ``options`` ask. aspect: height by width of one pixel."""
    return compress(fitted(pixels, options, aspect), options)


def fitted(pixels: Bytes, options: RenderOptions, aspect: float = 1.0, least_side: int = 0) -> Bytes:
    """Cropped, turned and scaled. least_side: the longer side gets so many pixels where no size is asked."""
    if options.viewport is not None:
        pixels = _in_viewport(pixels, options.viewport, aspect)
    elif options.max_size is None and max(pixels.shape[:2]) < least_side:
        pixels = _scaled(pixels, least_side, least_side, aspect, True)
    if options.max_size is not None:
        pixels = _scaled(pixels, options.max_size, options.max_size, aspect if options.viewport is None else 1.0, False)
    return pixels


def compress(pixels: Bytes, options: RenderOptions, icc_profile: bytes | None = None) -> bytes:
    """The file of a picture that is ready. icc_profile: to be embedded, where the type can (not GIF)."""
    if options.media_type == "image/png":
        return _png(pixels, icc_profile)
    out = io.BytesIO()
    image = Image.fromarray(np.ascontiguousarray(pixels))
    if options.media_type == "image/jpeg":
        image.save(out, "JPEG", quality=options.quality, icc_profile=icc_profile)
    elif options.media_type == "image/gif":
        image.save(out, "GIF")
    else:
        raise NotAcceptable(f"cannot render as {options.media_type}", MEDIA_TYPES)
    return out.getvalue()


def animated(pictures: Iterable[Bytes], delays_ms: Sequence[int]) -> bytes:
    """A GIF that plays for ever. delays_ms: how long each picture stays."""
    first, *rest = (Image.fromarray(np.ascontiguousarray(pixels)) for pixels in pictures)
    out = io.BytesIO()
    first.save(out, "GIF", save_all=True, append_images=rest, duration=list(delays_ms), loop=0, optimize=False)
    return out.getvalue()


def _in_viewport(pixels: Bytes, viewport: Viewport, aspect: float) -> Bytes:
    rows, columns = pixels.shape[:2]
    left, right = _extent(viewport.source_x, viewport.source_width, columns)
    top, bottom = _extent(viewport.source_y, viewport.source_height, rows)
    pixels = pixels[top:bottom, left:right]
    if (viewport.source_width or 1) < 0:
        pixels = pixels[:, ::-1]
    if (viewport.source_height or 1) < 0:
        pixels = pixels[::-1]
    return _scaled(pixels, viewport.width, viewport.height, aspect, True)


def _extent(start: float, length: float | None, size: int) -> tuple[int, int]:
    """First and last + 1 of the pixels that a side of the region covers. Raises Invalid when it covers none."""
    begin = max(0, round(abs(start)))
    end = size if length is None else min(size, round(abs(start) + abs(length)))
    if begin >= end:
        raise Invalid("the viewport's region is outside the image", "viewport")
    return begin, end


def _scaled(pixels: Bytes, width: int, height: int, aspect: float, may_grow: bool) -> Bytes:
    """Fit into width and height, proportions kept."""
    rows, columns = pixels.shape[:2]
    tall = rows * aspect
    factor = min(width / columns, height / tall)
    if not may_grow:
        factor = min(1.0, factor)
    size = max(1, round(columns * factor)), max(1, round(tall * factor))
    if size == (columns, rows):
        return pixels
    image = Image.fromarray(np.ascontiguousarray(pixels))
    return np.asarray(image.resize(size, Image.Resampling.BILINEAR, reducing_gap=3.0))


def _png(pixels: Bytes, icc_profile: bytes | None = None) -> bytes:
    """PNG with the Up filter on every row: five times faster than trying all filters, hardly larger on images."""
    rows, columns = pixels.shape[:2]
    channels = 1 if pixels.ndim == 2 else 3
    flat = pixels.reshape(rows, columns * channels)
    filtered = np.empty((rows, columns * channels + 1), np.uint8)
    filtered[:, 0] = 2
    filtered[0, 1:] = flat[0]
    np.subtract(flat[1:], flat[:-1], out=filtered[1:, 1:])
    header = struct.pack(">LLBBBBB", columns, rows, 8, 0 if channels == 1 else 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", _deflated(filtered)), (b"IEND", b"")]
    if icc_profile:
        chunks.insert(1, (b"iCCP", b"ICC Profile\0\0" + zlib.compress(icc_profile)))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(name, data) for name, data in chunks)


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">L", len(data)) + name + data + struct.pack(">L", zlib.crc32(data, zlib.crc32(name)))


def _deflated(data: NDArray[Any]) -> bytes:
    try:
        from isal import isal_zlib
    except ImportError:  # no wheel for every platform
        return zlib.compress(data.data, 1)
    compressed: bytes = isal_zlib.compress(data.data, 1)
    return compressed
