"""Instances put together from metadata and bulk data that came apart (PS3.18 10.5.1.2 and 10.5.2).

Bulk data of an image or video media type become encapsulated Pixel Data of the transfer syntax that their codestream
is of; what the codestream says of the image fills in what the metadata leave out, and must not contradict the rest.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from struct import pack
from typing import Any

from pacs.dicom import transfer_syntax as syntaxes
from pacs.dicom.dictionary import first_value
from pacs.dicom.encode import BulkValue, encode_around_bulk
from pacs.dicom.json_model import LONG_VRS
from pacs.dicom.transfer_syntax import EXPLICIT_VR_LITTLE_ENDIAN, OCTET_STREAM
from pacs.errors import InvalidValue, TooLarge, Undecodable, Unreadable
from pacs.imaging.identify import HEADER_BYTES, Identified, identify
from pacs.services.bulk_file import BulkFile

PIXEL_DATA, ENCAPSULATED_DOCUMENT = "7FE00010", "00420011"
_ITEM_START = b"\xfe\xff\x00\xe0"
_LONGEST = 0xFFFFFFFE  # of a value, or of one fragment
_FRAGMENT_BYTES = 0x7FFFFFFE
_SEQUENCE_END = pack("<HHL", 0xFFFE, 0xE0DD, 0)
# Transfer syntax of media types whose data do not tell (PS3.18 Table 8.7.3-5).
_DEFAULT_SYNTAX = {
    "image/dicom-rle": syntaxes.RLE_LOSSLESS,
    "video/mpeg2": "1.2.840.10008.1.2.4.100",
    "video/mpeg": "1.2.840.10008.1.2.4.100",
    "video/mp4": "1.2.840.10008.1.2.4.102",
    "video/h265": "1.2.840.10008.1.2.4.107",
    "image/jxl": "1.2.840.10008.1.2.4.110",
}
_METHODS = {
    "image/jpeg": "ISO_10918_1",
    "image/jls": "ISO_14495_1",
    "image/jp2": "ISO_15444_1",
    "image/jphc": "ISO_15444_15",
}


@dataclass(frozen=True, slots=True)
class BulkPart:
    """One value, or one frame of it, as it came. transfer_syntax_uid: of its Content-Type, "" when it names none."""

    file: BulkFile
    media_type: str = OCTET_STREAM
    transfer_syntax_uid: str = ""


@dataclass(frozen=True, slots=True)
class Assembled:
    """A data set in pieces. What is here of bulk data are the files, so memory does not grow with them."""

    transfer_syntax_uid: str
    pieces: Sequence[bytes | BulkValue]
    pixels: Sequence[BulkPart]
    bulk: Mapping[str, Sequence[BulkPart]]

    def chunks(self) -> Iterator[bytes]:
        """The data set's bytes in order."""
        for piece in self.pieces:
            if isinstance(piece, bytes):
                yield piece
            elif piece.tag == PIXEL_DATA and piece.depth == 0 and syntaxes.find(self.transfer_syntax_uid).encapsulated:
                yield from _encapsulated(self.pixels, self.transfer_syntax_uid)
            else:
                yield from _plain(piece, self.bulk[piece.uri][0].file)


def assemble(attributes: Mapping[str, Any], stated_uid: str, bulk: Mapping[str, Sequence[BulkPart]]) -> Assembled:
    """Put one instance together. bulk: parts of each BulkDataURI, frames in order.

    stated_uid: transfer syntax that the metadata name, "" for none. Raises Unreadable for bulk data that are not
    there, InvalidValue where metadata and bulk data do not fit.
    """
    made = dict(attributes)
    _check_presence(made, bulk)
    uid = EXPLICIT_VR_LITTLE_ENDIAN
    pixels: Sequence[BulkPart] = ()
    element = made.get(PIXEL_DATA)
    if element and "BulkDataURI" in element:
        pixels = bulk[element["BulkDataURI"]]
        uid = _of_pixels(made, pixels, stated_uid)
    elif element and "InlineBinary" in element:
        _check_native(made, len(base64.b64decode(element["InlineBinary"])))
    document = made.get(ENCAPSULATED_DOCUMENT)
    if document and "BulkDataURI" in document:
        _of_document(made, bulk[document["BulkDataURI"]][0])
    return Assembled(uid, encode_around_bulk(dict(sorted(made.items()))), pixels, bulk)


def _check_presence(attributes: Mapping[str, Any], bulk: Mapping[str, Sequence[BulkPart]]) -> None:
    data_sets: list[Mapping[str, Any]] = [attributes]
    for data_set in data_sets:  # grows meanwhile
        for tag, element in data_set.items():
            if element["vr"] == "SQ":
                data_sets += filter(None, element.get("Value", ()))
            parts = bulk.get(element["BulkDataURI"], ()) if "BulkDataURI" in element else None
            if parts is None:
                continue
            if not parts:
                raise Unreadable(f"The bulk data of ({tag[:4]},{tag[4:]}) are not in the request")
            if len(parts) > 1 and (tag != PIXEL_DATA or data_set is not attributes):
                raise InvalidValue(f"({tag[:4]},{tag[4:]}) has several parts")


def _of_pixels(attributes: dict[str, Any], parts: Sequence[BulkPart], stated_uid: str) -> str:
    """The transfer syntax; fills in what the codestream knows."""
    first = parts[0]
    named = first.transfer_syntax_uid or stated_uid
    if any(
        (part.media_type, part.transfer_syntax_uid) != (first.media_type, first.transfer_syntax_uid) for part in parts
    ):
        raise InvalidValue("Frames of Pixel Data differ in their media types")
    if first.media_type == OCTET_STREAM and not syntaxes.find(named).encapsulated:
        head = first.file.head(4)
        if head != _ITEM_START or named:
            if len(parts) > 1:
                raise InvalidValue("Uncompressed Pixel Data are one part")
            if named and syntaxes.find(named).big_endian:
                raise InvalidValue("Uncompressed bulk data are little endian")
            _check_native(attributes, first.file.size_bytes)
            return EXPLICIT_VR_LITTLE_ENDIAN
        raise InvalidValue("Encapsulated Pixel Data come without their transfer syntax")
    attributes[PIXEL_DATA] = {**attributes[PIXEL_DATA], "vr": "OB"}
    if first.media_type == OCTET_STREAM:
        if first.file.head(4) == _ITEM_START and len(parts) > 1:
            raise InvalidValue("Encapsulated Pixel Data are one part")
        return named
    uid = _codestreams(attributes, parts, named)
    syntax = syntaxes.find(uid)
    if not syntax.video:
        _number_of_frames(attributes, len(parts))
    elif len(parts) > 1:
        raise InvalidValue("A video is one part")
    if syntax.lossy and not first_value(attributes, "00282110"):
        attributes["00282110"] = {"vr": "CS", "Value": ["01"]}
        if first.media_type in _METHODS and not first_value(attributes, "00282114"):
            attributes["00282114"] = {"vr": "CS", "Value": [_METHODS[first.media_type]]}
    return uid


def _codestreams(attributes: dict[str, Any], parts: Sequence[BulkPart], named: str) -> str:
    media_type = parts[0].media_type
    default = _DEFAULT_SYNTAX.get(media_type)
    if default is not None:
        uid = named or default
        if syntaxes.find(uid).media_type.lower() != media_type and uid != default:
            raise InvalidValue(f"Transfer syntax {uid[:64]} is not one of {media_type}")
        return uid
    uid = ""
    for part in parts:
        try:
            found = identify(media_type, part.file.head(HEADER_BYTES))
        except Undecodable as error:
            raise InvalidValue(f"Bulk data of type {media_type[:40]}: {error}") from error
        if uid and found.transfer_syntax_uid != uid:
            raise InvalidValue("Frames of Pixel Data differ in their transfer syntaxes")
        uid = found.transfer_syntax_uid
        _fill_in(attributes, found)
    if named and named != uid and not _may_stand_for(named, uid):
        raise InvalidValue(f"The codestream is of transfer syntax {uid}, not of {named[:64]}")
    return named or uid


def _may_stand_for(named: str, found: str) -> bool:
    """Transfer syntaxes that allow more than one kind of codestream (PS3.5 A.4)."""
    allowed = {
        syntaxes.JPEG_EXTENDED: {syntaxes.JPEG_BASELINE},
        syntaxes.JPEG_LOSSLESS: {syntaxes.JPEG_LOSSLESS_SV1},
        syntaxes.JPEG_LS_NEAR_LOSSLESS: {syntaxes.JPEG_LS_LOSSLESS},
        syntaxes.JPEG_2000: {syntaxes.JPEG_2000_LOSSLESS},
        syntaxes.HTJ2K_LOSSLESS_RPCL: {syntaxes.HTJ2K_LOSSLESS},
        syntaxes.HTJ2K: {syntaxes.HTJ2K_LOSSLESS},
    }
    return found in allowed.get(named, ())


def _fill_in(attributes: dict[str, Any], found: Identified) -> None:
    """Image Pixel Description attributes from the codestream. Raises InvalidValue where they differ from it."""
    stream = found.codestream
    for tag, name, value in (
        ("00280010", "Rows", stream.rows),
        ("00280011", "Columns", stream.columns),
        ("00280002", "Samples per Pixel", stream.components),
    ):
        stated = first_value(attributes, tag)
        if stated is None:
            attributes[tag] = {"vr": "US", "Value": [value]}
        elif stated != value:
            raise InvalidValue(f"{name} is {str(stated)[:8]}, and the codestream has {value}")
    allocated = first_value(attributes, "00280100")
    if isinstance(allocated, int) and allocated < stream.precision:
        raise InvalidValue(f"Bits Allocated is {allocated}, and the codestream has {stream.precision} bits")
    stored = first_value(attributes, "00280101") or stream.precision
    missing: dict[str, tuple[str, Any]] = {
        "00280004": ("CS", found.photometric),
        "00280100": ("US", 8 if stream.precision <= 8 else 16 if stream.precision <= 16 else 32),
        "00280101": ("US", stored),
        "00280102": ("US", stored - 1 if isinstance(stored, int) else 0),
        "00280103": ("US", int(stream.signed)),
    }
    if stream.components > 1:
        missing["00280006"] = ("US", 0)
    for tag, (vr, value) in missing.items():
        if first_value(attributes, tag) is None:
            attributes[tag] = {"vr": vr, "Value": [value]}


def _number_of_frames(attributes: dict[str, Any], parts: int) -> None:
    stated = first_value(attributes, "00280008")
    if stated is None:
        if parts > 1:
            attributes["00280008"] = {"vr": "IS", "Value": [parts]}
    elif stated != parts:
        raise InvalidValue(f"Number of Frames is {str(stated)[:12]}, and there are {parts} parts of Pixel Data")


def _check_native(attributes: Mapping[str, Any], length: int) -> None:
    """Raises InvalidValue when pixels are missing. More than there should be are met, and harm nobody."""
    numbers = []
    for tag, otherwise in (("00280010", 0), ("00280011", 0), ("00280002", 1), ("00280100", 0), ("00280008", 1)):
        value = first_value(attributes, tag)
        numbers.append(value if isinstance(value, int) and value > 0 else otherwise)
    rows, columns, samples, bits, frames = numbers
    needed = rows * columns * samples * bits * frames
    if first_value(attributes, "00280004") in ("YBR_FULL_422", "YBR_PARTIAL_422") and samples == 3:
        needed = needed // 3 * 2
    if length * 8 < needed:
        raise InvalidValue(f"Pixel Data have {length} bytes, and {-(-needed // 8)} are needed for the image")


def _of_document(attributes: dict[str, Any], part: BulkPart) -> None:
    """MIME Type and length of an encapsulated document (PS3.3 C.24.2) from the part that it came in."""
    stated = first_value(attributes, "00420012")
    if part.media_type != OCTET_STREAM:
        if stated is None:
            attributes["00420012"] = {"vr": "LO", "Value": [part.media_type]}
        elif str(stated).lower() != part.media_type:
            raise InvalidValue(f"MIME Type of Encapsulated Document is {str(stated)[:40]}, not {part.media_type[:40]}")
    size = part.file.size_bytes
    length = first_value(attributes, "00420015")
    if length is None:
        attributes["00420015"] = {"vr": "UL", "Value": [size]}
    elif length not in (size, size - 1):
        raise InvalidValue(f"Encapsulated Document Length is {str(length)[:12]}, and the document has {size} bytes")


def _plain(value: BulkValue, file: BulkFile) -> Iterator[bytes]:
    """A whole element in Explicit VR Little Endian."""
    size = file.size_bytes + file.size_bytes % 2
    if size > _LONGEST:
        raise TooLarge(f"({value.tag[:4]},{value.tag[4:]}) is longer than an attribute can be")
    vr = value.vr if value.vr in LONG_VRS or size < 0xFFFF else "UN"  # PS3.5 6.2.2 note 3
    group, element = int(value.tag[:4], 16), int(value.tag[4:], 16)
    if vr in LONG_VRS:
        yield pack("<HH2sHL", group, element, vr.encode(), 0, size)
    else:
        yield pack("<HH2sH", group, element, vr.encode(), size)
    yield from file.pieces()
    if file.size_bytes % 2:
        is_text = value.vr not in ("OB", "OD", "OF", "OL", "OV", "OW", "UI", "UN")
        yield b" " if is_text else b"\0"


def _encapsulated(parts: Sequence[BulkPart], uid: str) -> Iterator[bytes]:
    """Pixel Data in items (PS3.5 A.4); what came as items already goes as it is."""
    yield pack("<HH2sHL", 0x7FE0, 0x0010, b"OB", 0, 0xFFFFFFFF)
    first = parts[0].file
    if first.head(4) == _ITEM_START:
        yield from first.pieces()
        yield _SEQUENCE_END
        return
    starts = [_codestream_start(part) for part in parts]
    sizes = [part.file.size_bytes - start for part, start in zip(parts, starts, strict=True)]
    yield _offset_table(sizes, is_video=syntaxes.find(uid).video)
    for part, start, size in zip(parts, starts, sizes, strict=True):
        left = size
        pieces = part.file.pieces(start)
        held = b""
        while True:  # fragments; one for all that is not a huge video
            length = min(left, _FRAGMENT_BYTES)
            left -= length
            yield _ITEM_START + pack("<L", length + length % 2)
            while length > 0:
                piece = held or next(pieces)
                yield piece[:length]
                held = piece[length:]
                length -= min(len(piece), length)
            if left <= 0:
                break
        if size % 2:
            yield b"\0"
    yield _SEQUENCE_END


def _offset_table(sizes: Sequence[int], *, is_video: bool) -> bytes:
    """The Basic Offset Table's item; empty for one frame, and where 32 bits do not suffice."""
    offsets, position = [], 0
    for size in sizes:
        offsets.append(position)
        position += 8 + size + size % 2
    if is_video or len(sizes) < 2 or position > 0xFFFFFFFF:
        return _ITEM_START + pack("<L", 0)
    return _ITEM_START + pack("<L", 4 * len(offsets)) + pack(f"<{len(offsets)}L", *offsets)


def _codestream_start(part: BulkPart) -> int:
    """Where the codestream begins: JP2 boxes around it have no place in Pixel Data (PS3.5 A.4.4)."""
    head = part.file.head(4096)
    if head[4:8] == b"jP  ":
        return max(head.find(b"\xff\x4f\xff\x51"), 0)
    return 0
