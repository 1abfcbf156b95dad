"""Encapsulated pixel data (PS3.5 A.4) made of whatever is stored: frames, offset tables, and what the data set says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from struct import pack
from typing import Any, BinaryIO

import numpy as np

from pacs.dicom.transfer_syntax import HTJ2K_LOSSLESS, HTJ2K_LOSSLESS_RPCL, RLE_LOSSLESS
from pacs.errors import NotAcceptable, Undecodable
from pacs.imaging import codecs, decode, encode, frames
from pacs.imaging.recode import PIECE_BYTES, UNDEFINED, Writer
from pacs.imaging.source import Reader, Source

_PIXEL_DATA, _ITEM, _SEQUENCE_END = 0x7FE00010, 0xFFFEE000, 0xFFFEE0DD
_MAX_BASIC_OFFSET = 0xFFFFFFFF
# May be sent unasked in place of what is stored, so each frame is decoded again and compared: it takes a millisecond.
_VERIFIED = frozenset({HTJ2K_LOSSLESS, HTJ2K_LOSSLESS_RPCL})


@dataclass(frozen=True, slots=True)
class Encoded:
    """sizes: bytes of each frame. photometric: Photometric Interpretation of the codestreams."""

    sizes: tuple[int, ...]
    photometric: str

    @property
    def offsets(self) -> list[int]:
        """Of each frame's item from the first one's (PS3.5 A.4)."""
        return list(accumulate((8 + size + size % 2 for size in self.sizes[:-1]), initial=0))

    @property
    def is_extended(self) -> bool:
        """Whether a Basic Offset Table cannot hold the offsets."""
        return self.offsets[-1] > _MAX_BASIC_OFFSET

    def extended_table(self) -> dict[str, bytes]:
        """Extended Offset Table and its Lengths (PS3.3 C.7.6.3.1.8) where they are needed: tag → value."""
        if not self.is_extended:
            return {}
        count = len(self.sizes)
        return {"7FE00001": pack(f"<{count}Q", *self.offsets), "7FE00002": pack(f"<{count}Q", *self.sizes)}


def encoded_frames(source: Source, numbers: Sequence[int], transfer_syntax_uid: str) -> list[bytes]:
    """Frames as codestreams of a transfer syntax. numbers: from 1. Raises NotFound, NotAcceptable, Undecodable."""
    image = frames.image_of(source)
    with source.open() as reader:
        return [_encoded(source, reader, image, number, transfer_syntax_uid)[0] for number in numbers]


def encode_all(source: Source, reader: Reader, transfer_syntax_uid: str, out: BinaryIO) -> Encoded:
    """All frames one behind the other into ``out``. Raises NotAcceptable, Undecodable."""
    pixels, image = frames.pixels_of(source), frames.image_of(source)
    if pixels.encapsulated and len(pixels.frames) < pixels.number_of_frames:
        raise Undecodable("not all frames are there")
    sizes: list[int] = []
    photometric = ""
    for number in range(1, pixels.number_of_frames + 1):
        codestream, color = _encoded(source, reader, image, number, transfer_syntax_uid)
        if color != (photometric or color):
            raise Undecodable("the frames do not agree on their colours")
        photometric = color
        out.write(codestream)
        sizes.append(len(codestream))
    return Encoded(tuple(sizes), photometric)


def changed_attributes(source: Source, transfer_syntax_uid: str, encoded: Encoded) -> dict[str, str | int]:
    """Attributes of the Image Pixel and General Image Modules that differ once encoded: tag → value (PS3.5 8.2)."""
    image = frames.image_of(source)
    changed = decode.changed_attributes(source)
    changed["00280004"] = encoded.photometric
    if image.samples > 1:
        # RLE has planes whatever is declared, so that what was declared can stay.
        was_planar = decode.stays_planar(source, image) if frames.pixels_of(source).encapsulated else image.planar
        changed["00280006"] = int(transfer_syntax_uid == RLE_LOSSLESS and was_planar)
    if len(encoded.sizes) != 1 and str(source.value("00280008", "")) != str(len(encoded.sizes)):
        changed["00280008"] = str(len(encoded.sizes))
    if transfer_syntax_uid in encode.LOSSY:
        native_bytes = image.rows * image.columns * image.samples * image.bits_allocated // 8 * len(encoded.sizes)
        ratio = native_bytes / max(1, sum(encoded.sizes))
        changed["00282110"] = "01"
        changed["00282112"] = _appended(source, "00282112", f"{ratio:.2f}")
        changed["00282114"] = _appended(source, "00282114", encode.LOSSY_METHODS[transfer_syntax_uid])
    return {tag: value for tag, value in changed.items() if source.value(tag) != value}


def write(writer: Writer, codestreams: BinaryIO, encoded: Encoded) -> None:
    """The Pixel Data element: an offset table, one fragment a frame, each of even length."""
    codestreams.seek(0)
    writer.header(_PIXEL_DATA, "OB", UNDEFINED)
    table = b"" if encoded.is_extended else pack(f"<{len(encoded.sizes)}L", *encoded.offsets)
    writer.header(_ITEM, "", len(table))
    writer.file.write(table)
    for size in encoded.sizes:
        writer.header(_ITEM, "", size + size % 2)
        left = size
        while left:
            piece = codestreams.read(min(left, PIECE_BYTES))
            writer.file.write(piece)
            left -= len(piece)
        writer.file.write(b"\0" * (size % 2))
    writer.header(_SEQUENCE_END, "", 0)


def _encoded(
    source: Source, reader: Reader, image: frames.Image, number: int, transfer_syntax_uid: str
) -> tuple[bytes, str]:
    array, color = frames.frame_array(source, reader, image, number)
    made = encode.encode(transfer_syntax_uid, array, image, color)
    photometric = encode.photometric_of(transfer_syntax_uid, color)
    if transfer_syntax_uid in _VERIFIED:
        decoded, _ = codecs.decode(transfer_syntax_uid, made, replace(image.wanted, photometric=photometric))
        if not np.array_equal(decoded, array):
            raise NotAcceptable("the encoder does not keep these pixels as they are")
    return made, photometric


def _appended(source: Source, tag: str, value: str) -> str:
    """Each lossy step adds a value to those before it (PS3.3 C.7.6.1.1.5)."""
    values: list[Any] = source.attributes.get(tag, {}).get("Value") or []
    return "\\".join([*(str(each) for each in values if each is not None), value])
