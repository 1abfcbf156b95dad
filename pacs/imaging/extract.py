"""Parts of instances: some frames as an instance of their own (PS3.4 Y.3.3), and all but the bulk data (PS3.4 Z.1.3).

Values are copied as they are, element by element; what is encapsulated is not decoded.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from struct import pack
from typing import Any, BinaryIO

from pacs.dicom import file_meta, transfer_syntax
from pacs.dicom.encode import encode_data_set
from pacs.dicom.file_meta import FileMeta
from pacs.dicom.layout import PixelLayout, Span
from pacs.dicom.transfer_syntax import EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN
from pacs.errors import NotAcceptable, OutOfResources
from pacs.imaging import frames
from pacs.imaging.frame_attributes import (
    FRAME_TIME,
    FRAME_TIME_VECTOR,
    GRID_FRAME_OFFSETS,
    PER_FRAME_GROUPS,
    changed,
    outdated,
)
from pacs.imaging.recode import PIECE_BYTES, UNDEFINED, Changes, Element, Encoding, Recoder, Writer
from pacs.imaging.source import Reader, Source

_EXTRACTION, _EQUIPMENT = "00081164", "0018A001"
_OFFSET_TABLES = frozenset({0x7FE00001, 0x7FE00002, 0x7FE00003})
_ITEM, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE0DD
_WAVEFORM_SEQUENCE, _WAVEFORM_DATA = 0x54000100, 0x54001010
# Encapsulated Document, Pixel Data Provider URL, Spectroscopy Data, and pixel data of all kinds.
_BULK = frozenset({0x00420011, 0x00287FE0, 0x56000020, 0x7FE00008, 0x7FE00009, 0x7FE00010, 0x7FE00120, *_OFFSET_TABLES})
# Of repeating groups: Curve Data, Audio Sample Data, Overlay Data.
_REPEATING = {"50": ("3000", "200C"), "60": ("3000",)}
_MAX_BASIC_OFFSET = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class Extraction:
    """numbers: of frames, from 1, ascending. sop_uid: of the new instance.

    asked: the element of the request that named them. equipment: an item of Contributing Equipment Sequence.
    """

    numbers: Sequence[int]
    sop_uid: str
    asked: Mapping[str, Any]
    equipment: Mapping[str, Any]


def kept_syntax(transfer_syntax_uid: str) -> str:
    """What parts of an instance are in: its own transfer syntax, but for big endian and deflated ones."""
    syntax = transfer_syntax.find(transfer_syntax_uid)
    return EXPLICIT_VR_LITTLE_ENDIAN if syntax.big_endian or syntax.deflated else transfer_syntax_uid


def can_extract(source: Source) -> bool:
    """Whether frames of an instance can stand alone."""
    return source.layout.pixels is not None and GRID_FRAME_OFFSETS not in source.attributes


def extract_frames(source: Source, destination: Path, wanted: Extraction) -> None:
    """Write some frames as a Part 10 file; of an instance that ``can_extract``.

    Raises NotAcceptable when the frames cannot be told apart, OutOfResources when there is no room.
    """
    pixels = frames.pixels_of(source)
    uid = kept_syntax(source.transfer_syntax_uid)
    implicit = transfer_syntax.find(uid).implicit
    made: dict[str, Any] = {**changed(source, wanted.numbers), "00080018": _ui(wanted.sop_uid)}
    added = {
        _EXTRACTION: {**wanted.asked, "00081167": _ui(str(source.value("00080018") or ""))},
        _EQUIPMENT: wanted.equipment,
    }
    items = {tag: _item(item, implicit=implicit) for tag, item in added.items()}
    new = [Element(int(tag, 16), element["vr"], _value(tag, element)) for tag, element in made.items()]
    new += [Element(int(tag, 16), "SQ", item) for tag, item in items.items() if tag not in source.attributes]
    dropped = set(outdated(source.attributes))
    if FRAME_TIME_VECTOR in made:
        dropped.add(FRAME_TIME)
    changes = Changes(
        kept={int(PER_FRAME_GROUPS, 16): frozenset(number - 1 for number in wanted.numbers)},
        added={int(tag, 16): item for tag, item in items.items() if tag in source.attributes},
    )
    with _writing(destination) as file, source.open() as reader:
        file.write(file_meta.encode(FileMeta(str(source.value("00080016") or ""), wanted.sop_uid, uid)))
        writer = Writer(file, implicit=implicit)

        def write_pixels(writer: Writer, vr: str) -> int:
            if pixels.encapsulated:
                return _encapsulated_frames(reader, writer, pixels, wanted.numbers)
            return _native_frames(source, reader, writer, vr, wanted.numbers)

        _recoder(
            source,
            reader,
            writer,
            replacements=tuple(sorted(new, key=lambda element: element.tag)),
            dropped=frozenset({*(int(tag, 16) for tag in dropped), *_OFFSET_TABLES}),
            pixels=(int(pixels.tag, 16), write_pixels),
            changes=changes,
        ).run()


def write_without_bulk_data(source: Source, destination: Path, *, implicit: bool) -> None:
    """Write the data set, without file meta information, and without what PS3.4 Table Z.1-1 names."""
    dropped = _BULK | {
        int(tag, 16) for tag in source.attributes if tag[4:] in _REPEATING.get(tag[:2], ()) and tag[3] in "02468ACE"
    }
    pixels = source.layout.pixels
    with _writing(destination) as file, source.open() as reader:
        _recoder(
            source,
            reader,
            Writer(file, implicit=implicit),
            dropped=frozenset(dropped),
            pixels=(int(pixels.tag, 16), lambda writer, vr: _end_of(reader, pixels)) if pixels else None,
            changes=Changes(without={_WAVEFORM_SEQUENCE: frozenset({_WAVEFORM_DATA})}),
        ).run()


@contextmanager
def _writing(path: Path) -> Iterator[BinaryIO]:
    try:
        with path.open("wb", buffering=PIECE_BYTES) as file:
            yield file
    except OSError as error:
        raise OutOfResources("there is no room for what is sent in part") from error


def _recoder(source: Source, reader: Reader, writer: Writer, **options: Any) -> Recoder:
    syntax = transfer_syntax.find(source.transfer_syntax_uid)
    start = 0 if source.layout.deflated else source.data_set_offset
    encoding = Encoding(syntax.implicit, syntax.big_endian)
    return Recoder(reader, start, encoding, source.attributes, writer, **options)


def _native_frames(source: Source, reader: Reader, writer: Writer, vr: str, numbers: Sequence[int]) -> int:
    pixels = frames.pixels_of(source)
    length = pixels.frame_length
    if not length:
        raise NotAcceptable("frames that do not begin on a byte are not taken apart")
    unit = 1
    if transfer_syntax.find(source.transfer_syntax_uid).big_endian:
        image = frames.image_of(source)
        unit = 2 if image.swapped_bytes else max(1, image.bits_allocated // 8)
    size = length * len(numbers)
    writer.header(int(pixels.tag, 16), vr, size + size % 2)
    for number in numbers:
        offset = pixels.value.offset + (number - 1) * length
        for start in range(0, length, PIECE_BYTES):
            piece = reader.read(Span(offset + start, min(PIECE_BYTES, length - start)))
            writer.file.write(frames.little_endian(piece, unit))
    writer.file.write(b"\0" * (size % 2))
    return pixels.value.offset + pixels.value.length


def _encapsulated_frames(reader: Reader, writer: Writer, pixels: PixelLayout, numbers: Sequence[int]) -> int:
    """Fragments as they are, behind a Basic Offset Table (an empty one where that could not hold the offsets)."""
    if len(pixels.frames) != pixels.number_of_frames:
        raise NotAcceptable("the frames cannot be told apart without decoding them")
    chosen = [pixels.frames[number - 1] for number in numbers]
    sizes = [sum(8 + fragment.length + fragment.length % 2 for fragment in frame) for frame in chosen]
    offsets = list(accumulate(sizes[:-1], initial=0))
    table = pack(f"<{len(offsets)}L", *offsets) if offsets[-1] <= _MAX_BASIC_OFFSET else b""
    writer.header(int(pixels.tag, 16), "OB", UNDEFINED)
    writer.header(_ITEM, "", len(table))
    writer.file.write(table)
    for frame in chosen:
        for fragment in frame:
            _fragment(reader, writer.file, writer, fragment)
    writer.header(_SEQUENCE_END, "", 0)
    return _end_of(reader, pixels)


def _fragment(reader: Reader, file: BinaryIO, writer: Writer, fragment: Span) -> None:
    writer.header(_ITEM, "", fragment.length + fragment.length % 2)
    for start in range(0, fragment.length, PIECE_BYTES):
        file.write(reader.read(Span(fragment.offset + start, min(PIECE_BYTES, fragment.length - start))))
    file.write(b"\0" * (fragment.length % 2))


def _end_of(reader: Reader, pixels: PixelLayout) -> int:
    """Where the element after the pixel data begins."""
    end = pixels.value.offset + pixels.value.length
    return end + 8 if pixels.encapsulated and reader.some(end, 4)[:4] == b"\xfe\xff\xdd\xe0" else end


def _ui(uid: str) -> dict[str, Any]:
    return {"vr": "UI", "Value": [uid]}


def _item(attributes: Mapping[str, Any], *, implicit: bool) -> bytes:
    uid = IMPLICIT_VR_LITTLE_ENDIAN if implicit else EXPLICIT_VR_LITTLE_ENDIAN
    content = encode_data_set(dict(sorted(attributes.items())), uid)
    return pack("<HHL", 0xFFFE, 0xE000, len(content)) + content


def _value(tag: str, element: Mapping[str, Any]) -> bytes:
    """The bytes of a value, without padding where that is up to the writer. ASCII only."""
    return encode_data_set({tag: element}, IMPLICIT_VR_LITTLE_ENDIAN)[8:]
