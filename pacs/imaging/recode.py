"""Data sets from one encoding of PS3.5 into another, element by element, values untouched.

Reads forwards with bounded memory. Text is never decoded, so that no character set can suffer; byte order is turned
where the VR says what a word is. Sequences and items are written with undefined length, which lets them be written
before they are wholly read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from io import BytesIO
from struct import pack, unpack_from
from typing import Any, BinaryIO

from pacs.dicom.json_model import LONG_VRS
from pacs.dicom.model import Attributes
from pacs.errors import Undecodable
from pacs.imaging.frames import little_endian
from pacs.imaging.source import Reader

UNDEFINED = 0xFFFFFFFF
PIECE_BYTES = 1 << 20
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_ICON_SEQUENCE = 0x00880200
# fmt: off
_SHORT_VRS = frozenset((
    "AE", "AS", "AT", "CS", "DA", "DS", "DT", "FD", "FL", "IS", "LO", "LT", "PN", "SH", "SL", "SS", "ST", "TM", "UI",
    "UL", "US",
))
# fmt: on
_WORD_BYTES = {
    **dict.fromkeys(("US", "SS", "OW", "AT"), 2),
    **dict.fromkeys(("UL", "SL", "FL", "OL", "OF"), 4),
    **dict.fromkeys(("FD", "OD", "SV", "UV", "OV"), 8),
}
_BINARY_VRS = frozenset({*_WORD_BYTES, "OB", "UN", "UI"})  # padded with a zero byte, the others with a blank


@dataclass(frozen=True, slots=True)
class Encoding:
    implicit: bool = False
    big_endian: bool = False


@dataclass(frozen=True, slots=True)
class Element:
    """A whole element to put into the top-level data set, in place of what is there."""

    tag: int
    vr: str
    value: bytes


@dataclass(frozen=True, slots=True)
class Changes:
    """To sequences of the top-level data set, by tag, values within untouched.

    kept: items that stay, counted from 0. without: elements left out of the items. added: whole encoded items that come
    after those that are there.
    """

    kept: Mapping[int, frozenset[int]] = field(default_factory=dict)
    without: Mapping[int, frozenset[int]] = field(default_factory=dict)
    added: Mapping[int, bytes] = field(default_factory=dict)


# Writes the top-level pixel data element and returns where the next element begins.
WritePixels = Callable[["Writer", str], int]


class Writer:
    """Elements in little endian, explicit or implicit VR, to a binary file."""

    def __init__(self, file: BinaryIO, *, implicit: bool) -> None:
        self.file = file
        self.implicit = implicit

    def header(self, tag: int, vr: str, length: int) -> None:
        """The element's tag, VR and length; the value is written next. length must be even or UNDEFINED."""
        group, element = tag >> 16, tag & 0xFFFF
        if vr not in LONG_VRS and length > 0xFFFF:
            vr = "UN"  # PS3.5 6.2.2, note 5: what a 16-bit length cannot hold
        if self.implicit or group == 0xFFFE:
            self.file.write(pack("<HHL", group, element, length))
        elif vr in LONG_VRS:
            self.file.write(pack("<HH2sHL", group, element, vr.encode(), 0, length))
        else:
            self.file.write(pack("<HH2sH", group, element, vr.encode(), length))

    def element(self, element: Element) -> None:
        value = element.value + _padding(element.vr, len(element.value))
        self.header(element.tag, element.vr, len(value))
        self.file.write(value)


@dataclass(slots=True)
class _Level:
    """A data set (or item) or a sequence being read. end: None when its length is undefined."""

    is_sequence: bool
    end: int | None
    encoding: Encoding
    attributes: Any  # of an item: its DICOM JSON; of a sequence: the list of its items'
    items: int = 0
    written_from: int = -1  # of an icon: where in the output it began
    tag: int = 0  # of a sequence
    is_left_out: bool = False  # of an item


_NO_CHANGES = Changes()


class Recoder:
    """One run over one data set.

    attributes: the data set's DICOM JSON, which tells the VRs that implicit VR leaves out. replacements: elements that
    stand in for, or are added to, the top level's, ascending. dropped: top-level tags left out. pixels: tag of the
    top-level pixel data element, 0 for none, and what writes it. changes: to sequences that are there.
    """

    def __init__(
        self,
        reader: Reader,
        start: int,
        encoding: Encoding,
        attributes: Attributes,
        writer: Writer,
        *,
        replacements: tuple[Element, ...] = (),
        dropped: frozenset[int] = frozenset(),
        pixels: tuple[int, WritePixels] | None = None,
        changes: Changes = _NO_CHANGES,
    ) -> None:
        self._reader = reader
        self._position = start
        self._buffer, self._buffer_start = b"", start
        self._writer = writer
        self._levels = [_Level(False, None, encoding, attributes)]
        self._replacements = list(replacements)
        self._dropped = dropped
        self._pixels = pixels
        self._changes = changes
        self._after_pixels = False
        self._written: Writer = writer  # while ``_writer`` leads nowhere

    def run(self) -> None:
        """Raises Undecodable when the data set cannot be followed to its end."""
        while self._levels:
            level = self._levels[-1]
            if level.end is not None and self._position >= level.end:
                self._close()
            elif len(head := self._peek(12)) < 8:
                if len(self._levels) > 1:
                    raise Undecodable("the data set ends inside a sequence")
                self._put_replacements(UNDEFINED)
                self._close()
            elif level.is_sequence:
                self._item(level, head)
            elif not self._element(level, head):
                self._put_replacements(UNDEFINED)
                self._levels.clear()

    def _item(self, level: _Level, head: bytes) -> None:
        tag, length = _tag_and_length(head, level.encoding)
        if tag == _SEQUENCE_END:
            self._position += 8
            self._close()
        elif tag == _ITEM_END:  # one too many
            self._position += 8
        elif tag != _ITEM:
            if level.end is None:
                self._close()
            else:
                self._position = level.end
        else:
            self._position += 8
            known = level.attributes[level.items] if level.items < len(level.attributes) else {}
            is_left_out = self._is_left_out(level)
            level.items += 1
            if is_left_out and length != UNDEFINED:
                self._position += length
                return
            encoding = level.encoding
            first = self._peek(8)
            if not encoding.implicit and length and len(first) == 8 and not _is_vr(first[4:6]):
                delimiter = first[:2] in (b"\xfe\xff", b"\xff\xfe")
                encoding = encoding if delimiter else Encoding(True, encoding.big_endian)
            if is_left_out:
                self._written, self._writer = self._writer, Writer(_Nowhere(), implicit=self._writer.implicit)
            self._writer.header(_ITEM, "", UNDEFINED)
            end = None if length == UNDEFINED else self._position + length
            self._levels.append(_Level(False, end, encoding, known, is_left_out=is_left_out))

    def _is_left_out(self, level: _Level) -> bool:
        """Of the next item of a sequence."""
        kept = self._changes.kept.get(level.tag) if len(self._levels) == 2 else None
        return kept is not None and level.items not in kept

    def _is_without(self, tag: int) -> bool:
        """Of an element in an item of a top-level sequence."""
        return len(self._levels) == 3 and tag in self._changes.without.get(self._levels[1].tag, ())

    def _element(self, level: _Level, head: bytes) -> bool:
        """Copy one element, or begin a sequence; False when the data set has ended."""
        tag, _ = _tag_and_length(head, level.encoding)
        top = len(self._levels) == 1
        if tag >> 16 == 0xFFFE:
            if not top and level.end is None:
                self._position += 8 if tag == _ITEM_END else 0
                self._close()
            else:
                self._position += 8
            return True
        if top and (tag == 0 or self._is_trailing(tag, level.encoding, head)):
            return False
        vr, header_bytes, length = self._vr(level, tag, head)
        value = self._position + header_bytes
        if top:
            self._put_replacements(tag)
            if self._pixels is not None and tag == self._pixels[0]:
                self._position = self._pixels[1](self._writer, vr)
                self._after_pixels = True
                return True
        skipped = tag & 0xFFFF == 0 or (top and (tag in self._dropped or tag >> 16 < 3)) or self._is_without(tag)
        if length == UNDEFINED:
            self._undefined(level, tag, vr, value, head)
        elif vr == "SQ" and not skipped:
            self._begin(level, tag, value, value + length, _inner(level.encoding, tag, head))
        else:
            self._position = value
            if top and self._replacements and self._replacements[0].tag == tag:
                self._writer.element(self._replacements.pop(0))
                skipped = True
            self._copy(None if skipped else tag, vr, length, level.encoding)
        return True

    def _undefined(self, level: _Level, tag: int, vr: str, value: int, head: bytes) -> None:
        if vr in ("OB", "OW") or tag >> 24 == 0x7F:
            # Compressed pixels of an icon. An icon is optional (PS3.3 C.7.6.1.1.6); an image without is whole.
            while self._levels and self._levels[-1].written_from < 0:
                self._levels.pop()
            if not self._levels:
                raise Undecodable("a nested element has compressed pixels that cannot be decoded")
            icon = self._levels.pop()
            self._writer.file.seek(icon.written_from)
            self._writer.file.truncate()
            self._position = value
            self._skip_rest(icon)
            return
        self._begin(level, tag, value, None, _inner(level.encoding, tag, head))

    def _begin(self, level: _Level, tag: int, value: int, end: int | None, encoding: Encoding) -> None:
        known = level.attributes.get(f"{tag:08X}", {}).get("Value") or []
        written_from = self._writer.file.tell() if tag == _ICON_SEQUENCE else -1
        self._writer.header(tag, "SQ", UNDEFINED)
        self._position = value
        self._levels.append(_Level(True, end, encoding, known, written_from=written_from, tag=tag))

    def _close(self) -> None:
        level = self._levels.pop()
        if level.is_left_out:
            self._writer = self._written
            return
        if level.is_sequence and len(self._levels) == 1:
            self._writer.file.write(self._changes.added.get(level.tag, b""))
        if self._levels:
            self._writer.header(_SEQUENCE_END if level.is_sequence else _ITEM_END, "", 0)

    def _skip_rest(self, icon: _Level) -> None:
        """From inside a fragment sequence to behind the icon sequence that holds it."""
        self._skip_items()
        if icon.end is not None:
            self._position = icon.end
            return
        # Nothing may follow pixel data in an icon's item but delimiters and trailing padding.
        for _ in range(8):
            tag, _length = _tag_and_length(self._peek(12).ljust(12, b"\0"), icon.encoding)
            if tag not in (_ITEM_END, _SEQUENCE_END):
                break
            self._position += 8
            if tag == _SEQUENCE_END:
                return
        raise Undecodable("the compressed icon cannot be left out")

    def _skip_items(self) -> None:
        while len(head := self._peek(8)) == 8:
            tag, length = _tag_and_length(head, Encoding())
            self._position += 8
            if tag != _ITEM:
                return
            self._position += length

    def _copy(self, tag: int | None, vr: str, length: int, encoding: Encoding) -> None:
        """The value at the position, turned to little endian; only stepped over when ``tag`` is None."""
        end = self._position + length
        if tag is None:
            self._position = end
            return
        padding = _padding(vr, length)
        self._writer.header(tag, vr, length + len(padding))
        unit = _WORD_BYTES.get(vr, 1) if encoding.big_endian else 1
        while self._position < end:
            piece = self._take(min(PIECE_BYTES, end - self._position))
            self._writer.file.write(little_endian(piece, unit))
        self._writer.file.write(padding)

    def _vr(self, level: _Level, tag: int, head: bytes) -> tuple[str, int, int]:
        """VR, bytes of the header and length of the value."""
        known: Mapping[str, Any] = level.attributes.get(f"{tag:08X}", {})
        told = str(known.get("vr", "UN"))
        order = ">" if level.encoding.big_endian else "<"
        (long_length,) = unpack_from(f"{order}L", head, 4)
        if level.encoding.implicit:
            return told, 8, long_length
        vr = head[4:6].decode("latin-1")
        (short_length,) = unpack_from(f"{order}H", head, 6)
        longer = unpack_from(f"{order}L", head, 8)[0] if len(head) == 12 else 0
        if vr in LONG_VRS:
            return vr, 12, longer
        if vr in _SHORT_VRS:
            return vr, 8, short_length
        # As the parser at ingest reads them: implicit VR among explicit, or a VR yet unheard of.
        if not _is_vr(head[4:6]):
            return told, 8, long_length
        return (told, 12, longer) if not short_length else (told, 8, short_length)

    def _is_trailing(self, tag: int, encoding: Encoding, head: bytes) -> bool:
        """Whether what follows the pixel data is no part of the data set."""
        if not self._after_pixels:
            return False
        return tag <= (self._pixels or (0,))[0] or (not encoding.implicit and not _is_vr(head[4:6]))

    def _put_replacements(self, before: int) -> None:
        while self._replacements and self._replacements[0].tag < before:
            self._writer.element(self._replacements.pop(0))

    def _peek(self, size: int) -> bytes:
        at = self._position - self._buffer_start
        if not 0 <= at <= len(self._buffer) - size:
            self._buffer, self._buffer_start = self._reader.some(self._position, 1 << 16), self._position
            at = 0
            while 0 < len(self._buffer) < size:
                more = self._reader.some(self._position + len(self._buffer), size - len(self._buffer))
                if not more:
                    break
                self._buffer += more
        return self._buffer[at : at + size]

    def _take(self, size: int) -> bytes:
        """The next bytes, past them. Raises Undecodable at the end."""
        at = self._position - self._buffer_start
        if 0 <= at <= len(self._buffer) - size:
            piece = self._buffer[at : at + size]
        else:
            piece = b""
            while len(piece) < size:
                more = self._reader.some(self._position + len(piece), size - len(piece))
                if not more:
                    raise Undecodable("the data set ends inside a value")
                piece += more
        self._position += size
        return piece


class _Nowhere(BytesIO):
    """Takes everything, and keeps nothing."""

    def write(self, data: Any, /) -> int:
        return memoryview(data).nbytes


def _inner(encoding: Encoding, tag: int, head: bytes) -> Encoding:
    """Of the items of a sequence: one with VR UN is in implicit VR little endian (PS3.5 6.2.2).

    Public ones that are not are met; their items tell by their first element.
    """
    if encoding.implicit or head[4:6] == b"SQ" or (not tag >> 16 & 1 and not encoding.big_endian):
        return encoding
    return Encoding(implicit=True)


def _tag_and_length(head: bytes, encoding: Encoding) -> tuple[int, int]:
    group, element, length = unpack_from(">HHL" if encoding.big_endian else "<HHL", head)
    return group << 16 | element, length


def _padding(vr: str, length: int) -> bytes:
    return (b"\0" if vr in _BINARY_VRS else b" ") if length % 2 else b""


def _is_vr(vr: bytes) -> bool:
    return vr.isalpha() and vr.isupper()
