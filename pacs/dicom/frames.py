"""Where each frame of a data set's pixel data lies."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from pacs.dicom.buffer import Buffer
from pacs.dicom.dictionary import first_value
from pacs.dicom.encapsulation import MAX_FRAGMENTS, frames_of
from pacs.dicom.layout import PixelLayout
from pacs.dicom.parsed import Parsed, Pixels
from pacs.dicom.transfer_syntax import RLE_LOSSLESS, find

_FLOAT_BITS = {0x7FE00008: 32, 0x7FE00009: 64}


def pixel_layout(parsed: Parsed, buffer: Buffer, transfer_syntax_uid: str) -> PixelLayout | None:
    """Layout of the top-level pixel data; None when there are none, or no byte of them."""
    pixels = parsed.pixels
    if pixels is None:
        return None
    tag = f"{pixels.tag:08X}"
    claimed = _positive(parsed.attributes, "00280008") or 1
    if pixels.fragments is None:
        number, length = _native(parsed.attributes, pixels, claimed)
        return PixelLayout(tag, pixels.value, False, number, length)
    spans = pixels.fragments.spans
    if not spans:
        return None
    if find(transfer_syntax_uid).video:
        return PixelLayout(tag, pixels.value, True, 1, 0, (tuple(spans),))
    frames = frames_of(
        buffer,
        pixels.fragments,
        claimed,
        extended=_extended_table(parsed, buffer),
        one_each=transfer_syntax_uid == RLE_LOSSLESS,
    )
    return PixelLayout(tag, pixels.value, True, len(frames), 0, frames)


def _native(attributes: Mapping[str, Any], pixels: Pixels, claimed: int) -> tuple[int, int]:
    """Number of frames that are there, and bytes of one; 0 bytes when that cannot be said or is no whole number."""
    rows, columns = _positive(attributes, "00280010"), _positive(attributes, "00280011")
    samples = _positive(attributes, "00280002") or 1
    allocated = _FLOAT_BITS.get(pixels.tag) or _positive(attributes, "00280100")
    bits = rows * columns * samples * allocated
    photometric = first_value(attributes, "00280004")
    if photometric == "YBR_FULL_422" and samples == 3:
        bits = bits // 3 * 2  # two chroma samples are shared by two pixels (PS3.3 C.7.6.3.1.2)
        if rows * columns * 3 * allocated // 8 * claimed <= pixels.value.length:
            bits = rows * columns * 3 * allocated  # says so, but is not subsampled
    if bits == 0:
        return 1, 0
    available = pixels.value.length * 8 // bits
    number = max(1, min(claimed, available))
    if available == 0 or (bits % 8 and number > 1):
        return number, 0
    return number, -(-bits // 8)


def _extended_table(parsed: Parsed, buffer: Buffer) -> tuple[bytes, bytes] | None:
    offsets, lengths = (_bytes_of(parsed, buffer, tag) for tag in ("7FE00001", "7FE00002"))
    return (offsets, lengths) if offsets else None


def _bytes_of(parsed: Parsed, buffer: Buffer, tag: str) -> bytes:
    span = parsed.bulk.get(tag)
    if span is not None:
        return buffer[span.offset : span.offset + span.length] if span.length <= 8 * MAX_FRAGMENTS else b""
    inline = parsed.attributes.get(tag, {}).get("InlineBinary", "")
    return base64.b64decode(inline)


def _positive(attributes: Mapping[str, Any], tag: str) -> int:
    value = first_value(attributes, tag)
    return value if isinstance(value, int) and value > 0 else 0
