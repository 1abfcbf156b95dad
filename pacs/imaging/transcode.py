"""Part 10 files in another transfer syntax."""

from __future__ import annotations

import errno
from pathlib import Path

import numpy as np

from pacs.dicom import file_meta, transfer_syntax
from pacs.dicom.layout import Span
from pacs.errors import NotAcceptable, OutOfResources, Undecodable
from pacs.imaging import decode, frames
from pacs.imaging.frames import Array
from pacs.imaging.recode import PIECE_BYTES, Element, Encoding, Recoder, Writer
from pacs.imaging.source import Reader, Source

# What can be made of every stored instance whose pixels can be decoded, best first.
TARGETS = (transfer_syntax.EXPLICIT_VR_LITTLE_ENDIAN, transfer_syntax.IMPLICIT_VR_LITTLE_ENDIAN)

_MAX_VALUE_BYTES = 0xFFFFFFFE
# Extended Offset Table, its Lengths, Encapsulated Pixel Data Value Total Length: of encapsulated pixel data only.
_OFFSET_TABLES = frozenset({0x7FE00001, 0x7FE00002, 0x7FE00003})
_VRS = {"00280004": "CS", "00280006": "US", "00280008": "IS", "00282110": "CS"}


def can_transcode(source_transfer_syntax_uid: str, transfer_syntax_uid: str) -> bool:
    """Whether ``transcode`` can make the second out of the first."""
    return transfer_syntax_uid in TARGETS and decode.can_decode(source_transfer_syntax_uid)


def transcode(source: Source, destination: Path, transfer_syntax_uid: str) -> None:
    """Write the instance as a Part 10 file at ``destination``, frame by frame; nothing is left there on failure.

    Raises NotAcceptable (with what is available) for a target that cannot be made, Undecodable when the pixels cannot
    be decoded, OutOfResources when the disk is full.
    """
    if not can_transcode(source.transfer_syntax_uid, transfer_syntax_uid):
        available = TARGETS if decode.can_decode(source.transfer_syntax_uid) else (source.transfer_syntax_uid,)
        raise NotAcceptable("the instance cannot be made in this transfer syntax", available)
    try:
        _write(source, destination, transfer_syntax_uid)
    except OSError as err:
        destination.unlink(missing_ok=True)
        if err.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG, errno.EIO, errno.EACCES):
            raise OutOfResources("there is no room for the transcoded instance") from err
        raise
    except BaseException:
        destination.unlink(missing_ok=True)
        raise


def _write(source: Source, destination: Path, transfer_syntax_uid: str) -> None:
    syntax = transfer_syntax.find(source.transfer_syntax_uid)
    pixels = source.layout.pixels
    is_encapsulated = pixels is not None and pixels.encapsulated
    with destination.open("wb", buffering=PIECE_BYTES) as file, source.open() as reader:
        file.write(file_meta.encode(_meta(source, transfer_syntax_uid)))
        writer = Writer(file, implicit=transfer_syntax.find(transfer_syntax_uid).implicit)

        def write_pixels(writer: Writer, vr: str) -> int:
            if is_encapsulated:
                return _decoded(source, reader, writer)
            return _native(source, reader, writer, vr)

        Recoder(
            reader,
            0 if source.layout.deflated else source.data_set_offset,
            Encoding(syntax.implicit, syntax.big_endian),
            source.attributes,
            writer,
            replacements=_replacements(source),
            dropped=_OFFSET_TABLES if is_encapsulated else frozenset(),
            pixels=(int(pixels.tag, 16), write_pixels) if pixels else None,
        ).run()


def _meta(source: Source, transfer_syntax_uid: str) -> file_meta.FileMeta:
    stored = None
    if source.data_set_offset:
        with source.path.open("rb") as file:
            stored, _ = file_meta.read(file.read(source.data_set_offset))
    return file_meta.FileMeta(
        str(source.value("00080016") or (stored.sop_class_uid if stored else "")),
        str(source.value("00080018") or (stored.sop_uid if stored else "")),
        transfer_syntax_uid,
        stored.source_ae_title if stored else "",
    )


def _replacements(source: Source) -> tuple[Element, ...]:
    changed = sorted(decode.changed_attributes(source).items())
    return tuple(
        Element(
            int(tag, 16),
            _VRS[tag],
            value.to_bytes(2, "little") if isinstance(value, int) else value.encode("ascii"),
        )
        for tag, value in changed
    )


def _decoded(source: Source, reader: Reader, writer: Writer) -> int:
    """Encapsulated pixel data as native; where the next element begins."""
    pixels, image = frames.pixels_of(source), frames.image_of(source)
    if len(pixels.frames) < pixels.number_of_frames:
        raise Undecodable("not all frames are there")
    size = (image.frame_bits * pixels.number_of_frames + 7) // 8
    _header(writer, 0x7FE00010, "OB" if image.bits_allocated <= 8 else "OW", size)
    planar, photometric, rest = decode.stays_planar(source, image), "", np.empty(0, np.uint8)
    for number in range(1, pixels.number_of_frames + 1):
        array, color = frames.frame_array(source, reader, image, number)
        if color != (photometric or color):
            raise Undecodable("the frames do not agree on their colours")
        photometric = color
        if image.bits_allocated == 1 and image.frame_bits % 8:
            rest = _write_bits(writer, rest, array)
        else:
            writer.file.write(frames.packed(array, image, planar))
    writer.file.write(np.packbits(rest, bitorder="little").tobytes())
    writer.file.write(b"\0" * (size % 2))
    return _after_items(reader, pixels.value)


def _write_bits(writer: Writer, rest: Array, array: Array) -> Array:
    """Single bits run on from frame to frame (PS3.5 8.1.1); returns those that do not fill a byte yet."""
    bits = np.concatenate([rest, array.reshape(-1)])
    whole = len(bits) // 8 * 8
    writer.file.write(np.packbits(bits[:whole], bitorder="little").tobytes())
    return bits[whole:]


def _native(source: Source, reader: Reader, writer: Writer, vr: str) -> int:
    """Native pixel data copied in pieces; where the next element begins."""
    pixels = frames.pixels_of(source)
    offset, length = pixels.value
    unit = 1
    if transfer_syntax.find(source.transfer_syntax_uid).big_endian:
        image = frames.image_of(source)
        unit = 2 if image.swapped_bytes else max(1, image.bits_allocated // 8)
    _header(writer, int(pixels.tag, 16), vr, length)
    for start in range(0, length, PIECE_BYTES):
        piece = reader.read(Span(offset + start, min(PIECE_BYTES, length - start)))
        writer.file.write(frames.little_endian(piece, unit))
    writer.file.write(b"\0" * (length % 2))
    return offset + length


def _header(writer: Writer, tag: int, vr: str, size: int) -> None:
    if size > _MAX_VALUE_BYTES:
        raise NotAcceptable("the pixel data are too long to be native: 4 GB is what an element can hold")
    writer.header(tag, vr, size + size % 2)


def _after_items(reader: Reader, value: Span) -> int:
    end = value.offset + value.length
    return end + 8 if reader.some(end, 4)[:4] == b"\xfe\xff\xdd\xe0" else end
