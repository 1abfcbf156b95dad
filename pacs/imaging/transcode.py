"""Part 10 files in another transfer syntax."""

from __future__ import annotations

import errno
import zlib
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryFile
from typing import BinaryIO, cast

import numpy as np

from pacs.dicom import file_meta, transfer_syntax
from pacs.dicom.layout import Span
from pacs.errors import NotAcceptable, OutOfResources, Undecodable
from pacs.imaging import decode, encapsulate, encode, frames
from pacs.imaging.frames import Array
from pacs.imaging.recode import PIECE_BYTES, Element, Encoding, Recoder, WritePixels, Writer
from pacs.imaging.source import Reader, Source

# Without compressed pixels, and so made of every stored instance whose pixels can be decoded.
NATIVE = (
    transfer_syntax.EXPLICIT_VR_LITTLE_ENDIAN,
    transfer_syntax.IMPLICIT_VR_LITTLE_ENDIAN,
    transfer_syntax.DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
)
# Everything that can be made, lossless ones before lossy ones; ``targets_of`` says of what.
TARGETS = NATIVE + encode.LOSSLESS + encode.LOSSY

_MAX_VALUE_BYTES = 0xFFFFFFFE
# Extended Offset Table, its Lengths, Encapsulated Pixel Data Value Total Length: of encapsulated pixel data only.
_OFFSET_TABLES = frozenset({0x7FE00001, 0x7FE00002, 0x7FE00003})
_VRS = {
    "00280004": "CS",
    "00280006": "US",
    "00280008": "IS",
    "00282110": "CS",
    "00282112": "DS",
    "00282114": "CS",
    "7FE00001": "OV",
    "7FE00002": "OV",
}


def targets_of(source: Source) -> tuple[str, ...]:
    """Transfer syntaxes that ``transcode`` makes of an instance; none when its pixels cannot be decoded.

    Told by the data set alone: the source's file is not opened.
    """
    if not decode.can_decode(source.transfer_syntax_uid):
        return ()
    if source.layout.pixels is None:
        return NATIVE
    try:
        image = frames.image_of(source)
    except Undecodable:
        return () if source.layout.pixels.encapsulated else NATIVE
    photometric = frames.expected_photometric(source, image)
    return NATIVE + tuple(uid for uid in TARGETS if encode.can_hold(uid, image, photometric))


def transcode(source: Source, destination: Path, transfer_syntax_uid: str) -> None:
    """Write the instance as a Part 10 file at ``destination``, frame by frame; nothing is left there on failure.

    A lossy result says so (PS3.3 C.7.6.1.1.5) and keeps its SOP Instance UID: it is a form of the stored instance, not
    a new one. Raises NotAcceptable (with what is available) for a target that cannot be made, Undecodable when the
    pixels cannot be decoded, OutOfResources when the disk is full.
    """
    targets = targets_of(source)
    if transfer_syntax_uid not in targets:
        available = tuple(dict.fromkeys((source.transfer_syntax_uid, *targets)))
        raise NotAcceptable(
            f"the instance cannot be made in transfer syntax {transfer_syntax_uid}, only in: {', '.join(available)}",
            available,
        )
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
    target = transfer_syntax.find(transfer_syntax_uid)
    with destination.open("wb", buffering=PIECE_BYTES) as file, source.open() as reader:
        file.write(file_meta.encode(_meta(source, transfer_syntax_uid)))
        if target.encapsulated:
            with _beside(destination) as codestreams:
                encoded = encapsulate.encode_all(source, reader, transfer_syntax_uid, codestreams)
                _write_encapsulated(source, reader, file, transfer_syntax_uid, encoded, codestreams)
        elif target.deflated:
            with _beside(destination) as plain:
                _write_native(source, reader, plain, implicit=False)
                _deflate(plain, file)
        else:
            _write_native(source, reader, file, implicit=target.implicit)


def _beside(destination: Path) -> BinaryIO:
    """A file without a name, on the same disk: it is gone whatever happens to this process."""
    return cast(BinaryIO, TemporaryFile(dir=destination.parent, buffering=PIECE_BYTES))


def _write_native(source: Source, reader: Reader, file: BinaryIO, *, implicit: bool) -> None:
    pixels = source.layout.pixels
    is_encapsulated = pixels is not None and pixels.encapsulated

    def write_pixels(writer: Writer, vr: str) -> int:
        if is_encapsulated:
            return _decoded(source, reader, writer)
        return _native(source, reader, writer, vr)

    _recoder(
        source,
        reader,
        Writer(file, implicit=implicit),
        _elements(decode.changed_attributes(source)),
        _OFFSET_TABLES if is_encapsulated else frozenset(),
        (int(pixels.tag, 16), write_pixels) if pixels else None,
    ).run()


def _write_encapsulated(
    source: Source,
    reader: Reader,
    file: BinaryIO,
    transfer_syntax_uid: str,
    encoded: encapsulate.Encoded,
    codestreams: BinaryIO,
) -> None:
    pixels = frames.pixels_of(source)

    def write_pixels(writer: Writer, vr: str) -> int:
        encapsulate.write(writer, codestreams, encoded)
        end = pixels.value.offset + pixels.value.length
        return _after_items(reader, pixels.value) if pixels.encapsulated else end

    changed = {
        **encapsulate.changed_attributes(source, transfer_syntax_uid, encoded),
        **encoded.extended_table(),
    }
    writer = Writer(file, implicit=False)
    _recoder(source, reader, writer, _elements(changed), _OFFSET_TABLES, (int(pixels.tag, 16), write_pixels)).run()


def _recoder(
    source: Source,
    reader: Reader,
    writer: Writer,
    replacements: tuple[Element, ...],
    dropped: frozenset[int],
    pixels: tuple[int, WritePixels] | None,
) -> Recoder:
    syntax = transfer_syntax.find(source.transfer_syntax_uid)
    return Recoder(
        reader,
        0 if source.layout.deflated else source.data_set_offset,
        Encoding(syntax.implicit, syntax.big_endian),
        source.attributes,
        writer,
        replacements=replacements,
        dropped=dropped,
        pixels=pixels,
    )


def _deflate(plain: BinaryIO, file: BinaryIO) -> None:
    """PS3.5 A.5: RFC 1951 without header, of even length."""
    plain.seek(0)
    deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    size = 0
    while piece := plain.read(PIECE_BYTES):
        size += file.write(deflater.compress(piece))
    size += file.write(deflater.flush())
    file.write(b"\0" * (size % 2))


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


def _elements(changed: Mapping[str, str | int | bytes]) -> tuple[Element, ...]:
    return tuple(Element(int(tag, 16), _VRS[tag], _value(value)) for tag, value in sorted(changed.items()))


def _value(value: str | int | bytes) -> bytes:
    if isinstance(value, int):
        return value.to_bytes(2, "little")
    return value.encode("ascii") if isinstance(value, str) else value


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
