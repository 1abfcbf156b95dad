"""The archive's hot path: bytes of a data set → DICOM JSON and where its bulk data lie.

Reads every encoding of PS3.5 (explicit and implicit VR, both byte orders; deflated ones after inflating) straight into
dicts. Bulk data are stepped over, never read. Nesting is kept on a stack of our own: its depth costs no recursion.
"""

from __future__ import annotations

from collections.abc import Mapping
from struct import Struct
from typing import Any, NamedTuple

from pacs.dicom import charset as charsets
from pacs.dicom.buffer import Buffer
from pacs.dicom.dictionary import AMBIGUOUS, public_vrs, resolve, vr_within
from pacs.dicom.encapsulation import read_fragments
from pacs.dicom.json_model import ValueType, inline, value_types
from pacs.dicom.layout import Span
from pacs.dicom.parsed import Encoding, Parsed, Pixels
from pacs.dicom.repeats import LONGEST, LONGEST_RUN, Known, Repeats, repeats_of
from pacs.errors import Unreadable

UNDEFINED = 0xFFFFFFFF
MAX_DEPTH = 320  # its JSON is three times as deep, and the fastest reader of JSON stops at 1024
MAX_ELEMENTS = 2_000_000  # about 1 GB as Python objects; nothing real comes near
MAX_PENDING = 10_000
MAX_VALUE_BYTES = 1 << 20  # longer values of any VR are bulk data: no header needs more memory than this for one

PIXEL_TAGS = frozenset({0x7FE00008, 0x7FE00009, 0x7FE00010})
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_EXPLICIT = (Struct("<HH2sH").unpack_from, Struct(">HH2sH").unpack_from)
_IMPLICIT = (Struct("<HHL").unpack_from, Struct(">HHL").unpack_from)
_UINT32 = (Struct("<L").unpack_from, Struct(">L").unpack_from)
_DATA_SET_ENDS = -1  # instead of the next element's position


# A sequence with VR UN, whatever the encoding around it (PS3.5 6.2.2).
_UN_SEQUENCE = Encoding(implicit=True, big_endian=False)


def parse(
    buffer: Buffer, start: int, encoding: Encoding, *, bulk_threshold: int | None, into: Parsed | None = None
) -> Parsed:
    """Read the data set from ``start`` to the end of ``buffer``. Raises Unreadable.

    bulk_threshold: longer values of OB OD OF OL OV OW UN become BulkDataURI, and top-level pixel data always; None:
    everything is inline. into: filled as far as it goes, so that the UIDs are there when this raises.
    """
    parsed = into if into is not None else Parsed()
    parser = _Parser(buffer, start, encoding, bulk_threshold, parsed)
    parser.run()
    parsed.character_set = parser.charset.terms
    return parsed


class _Sequence(NamedTuple):
    """A sequence whose items are being read, and what is taken up again after it."""

    key: str
    items: list[dict[str, Any]]
    stop: int
    undefined: bool
    encoding: Encoding  # of its items
    outer: _Outer


class _Outer(NamedTuple):
    data_set: dict[str, Any]
    stop: int
    undefined: bool
    encoding: Encoding
    charset: charsets.Charset


class _Parser:
    """One run over one buffer: the data set that is being read, and a stack of the sequences around it."""

    def __init__(
        self, buffer: Buffer, start: int, encoding: Encoding, bulk_threshold: int | None, parsed: Parsed
    ) -> None:
        self.buffer = buffer
        self.size = len(buffer)
        self.bulk_threshold = bulk_threshold
        self.parsed = parsed
        self.sequences: list[_Sequence] = []
        self.pending: list[tuple[int, bytes, bool, list[dict[str, Any]]]] = []
        self.elements_left = MAX_ELEMENTS
        # of the data set being read:
        self.data_set = parsed.attributes
        self.position = start
        self.stop = self.size
        self.undefined = False
        self.encoding = encoding
        self.charset = charsets.DEFAULT

    def run(self) -> None:
        self.elements()
        while self.sequences:
            if not self.next_item():
                outer = self.sequences.pop().outer
                self.data_set, self.stop, self.undefined, self.encoding, self.charset = outer
            self.elements()
        for tag, raw, big_endian, enclosing in self.pending:
            vr = resolve(tag, "US or SS", len(raw), False, enclosing)
            convert = value_types(charsets.DEFAULT, big_endian)[vr].convert
            if convert is not None:
                enclosing[0][f"{tag:08X}"] = convert(raw)
        for key in [key for key in self.data_set if key < "0003" and key[3] in "02"]:
            del self.data_set[key]  # command and file meta elements have no place in a data set

    def elements(self) -> None:
        """Read elements until the data set ends or a sequence begins."""
        buffer, data_set, position, stop = self.buffer, self.data_set, self.position, self.stop
        implicit, big_endian = self.encoding
        header = (_IMPLICIT if implicit else _EXPLICIT)[big_endian]
        uint32 = _UINT32[big_endian]
        types, repeats = self.types_and_repeats()
        vrs = public_vrs() if implicit else {}
        count = 0
        known_from = position
        known_ones: list[Known] = []  # the elements read last, as long as all of them were known
        for count in range(self.elements_left):  # noqa: B007 - how many were read
            run = repeats.run_at(buffer, position, stop)
            if run is not None:
                data_set.update(run.elements)
                if known_ones:
                    repeats.keep_run(buffer[known_from:position], known_ones)
                position += len(run.raw)
                known_from, known_ones = position, []
                continue
            value = position + 8
            if value > stop:
                self.end(position)
                break
            if implicit:
                group, element, length = header(buffer, position)
                kind = types.get(vrs.get(group << 16 | element, ""))
            else:
                group, element, vr_bytes, length = header(buffer, position)
                kind = types.get(vr_bytes)
                if kind is not None and kind[1]:
                    kind = None if value + 4 > stop else kind
                    if kind is not None:
                        length = uint32(buffer, value)[0]
                        value += 4
            end = value + length
            if kind is None or (convert := kind[2]) is None or end > stop or length > MAX_VALUE_BYTES:
                if known_ones:
                    repeats.keep_run(buffer[known_from:position], known_ones)
                position = self.special(position)
                if position < 0:
                    break
                known_from, known_ones = position, []
                types, repeats = self.types_and_repeats()  # the element may have changed the character set
                continue
            whole = buffer[position:end] if end - position <= LONGEST else b""
            known = repeats.elements.get(whole)
            if known is not None and len(known_ones) < LONGEST_RUN:
                data_set[known.key] = known.element
                known_ones.append(known)
                position = end
                continue
            if known_ones:
                repeats.keep_run(buffer[known_from:position], known_ones)
            position, known_from, known_ones = end, end, []
            if not element:  # group length (PS3.5 7.2)
                continue
            key = f"{group:04X}{element:04X}"
            read = data_set[key] = convert(buffer[value:end]) if length else {"vr": kind[0]}
            if key == "00080005":
                self.use_charset(buffer[value:end])
                types, repeats = self.types_and_repeats()
            elif whole:
                repeats.keep(whole, key, read)
        else:
            raise Unreadable(f"The data set has more than {MAX_ELEMENTS} elements")
        self.elements_left -= count

    def types_and_repeats(self) -> tuple[Mapping[str | bytes, ValueType], Repeats]:
        return value_types(self.charset, self.encoding.big_endian), repeats_of(self.charset, self.encoding)

    def special(self, position: int) -> int:
        """Read an element that is not a plain value. Returns where the next begins, or _DATA_SET_ENDS."""
        buffer, (implicit, big_endian) = self.buffer, self.encoding
        group, element, length = _IMPLICIT[big_endian](buffer, position)
        tag = group << 16 | element
        if group == 0xFFFE:
            return self.delimiter(position, tag)
        if not self.sequences and self.is_padding(position, tag):
            self.position = self.size
            return _DATA_SET_ENDS
        vr, value, length = self.explicit_vr(position) if not implicit else ("UN", position + 8, length)
        if vr == "UN":
            vr = self.known_vr(tag, length, value, implicit)
        if vr in AMBIGUOUS:
            vr = self.settled_vr(tag, vr, value, length)
        key = f"{group:04X}{element:04X}"
        if length == UNDEFINED:
            if tag >> 24 == 0x7F or (vr in ("OB", "OW") and not implicit):
                return self.encapsulated(tag, key, vr if vr == "OW" and not implicit else "OB", value)
            return self.sequence(key, value, UNDEFINED, self.sequence_encoding(position))
        if value + length > self.stop:
            raise Unreadable(
                f"The data set ends early, inside ({group:04X},{element:04X})"
                if value + length > self.size
                else f"({group:04X},{element:04X}) is longer than the item that holds it"
            )
        if not element:
            return value + length
        if vr == "SQ" and length:
            return self.sequence(key, value, length, self.sequence_encoding(position))
        return self.one_value(tag, key, vr, value, length)

    def one_value(self, tag: int, key: str, vr: str, value: int, length: int) -> int:
        is_pixels = tag in PIXEL_TAGS and not self.sequences
        convert = value_types(self.charset, self.encoding.big_endian)[vr].convert
        limit = MAX_VALUE_BYTES if convert is not None else self.bulk_threshold
        if length == 0:
            self.data_set[key] = {"vr": vr}
        elif self.bulk_threshold is not None and (is_pixels or length > (limit or 0)):
            self.bulk(key, vr, Span(value, length))
            if is_pixels:
                self.parsed.pixels = Pixels(tag, Span(value, length), None)
        else:
            raw = self.buffer[value : value + length]
            self.data_set[key] = convert(raw) if convert else inline(vr, raw, self.encoding.big_endian)
            if key == "00080005":
                self.use_charset(raw)
        return value + length

    def bulk(self, key: str, vr: str, span: Span) -> None:
        path = [part for sequence in self.sequences for part in (sequence.key, str(len(sequence.items)))]
        uri = "/".join([*path, key])
        self.parsed.bulk[uri] = span
        self.data_set[key] = {"vr": vr, "BulkDataURI": uri}

    def encapsulated(self, tag: int, key: str, vr: str, value: int) -> int:
        fragments = read_fragments(self.buffer, value, self.stop)
        if self.bulk_threshold is None:
            self.data_set[key] = inline(vr, self.buffer[value : value + fragments.value.length], False)
        else:
            self.bulk(key, vr, fragments.value)
            if tag in PIXEL_TAGS and not self.sequences:
                self.parsed.pixels = Pixels(tag, fragments.value, fragments)
        return fragments.next

    def sequence(self, key: str, value: int, length: int, encoding: Encoding) -> int:
        if len(self.sequences) >= MAX_DEPTH:
            raise Unreadable(f"Sequences are nested more than {MAX_DEPTH} deep")
        items: list[dict[str, Any]] = []
        self.data_set[key] = {"vr": "SQ", "Value": items}
        outer = _Outer(self.data_set, self.stop, self.undefined, self.encoding, self.charset)
        undefined = length == UNDEFINED
        stop = self.stop if undefined else value + length
        self.sequences.append(_Sequence(key, items, stop, undefined, encoding, outer))
        self.position = value
        self.parsed.depth = max(self.parsed.depth, len(self.sequences))
        return _DATA_SET_ENDS

    def next_item(self) -> bool:
        """Begin the innermost sequence's next item; False when it has no more: its outer data set is next."""
        sequence = self.sequences[-1]
        big_endian = sequence.encoding.big_endian
        while self.position + 8 <= sequence.stop:
            group, element, length = _IMPLICIT[big_endian](self.buffer, self.position)
            tag = group << 16 | element
            if tag == _ITEM_END:  # one too many
                self.position += 8
                continue
            if tag != _ITEM:
                self.close(sequence, self.position + 8 if tag == _SEQUENCE_END else self.position)
                return False
            self.position += 8
            self.undefined = length == UNDEFINED
            self.stop = sequence.stop if self.undefined else self.position + length
            if self.stop > sequence.stop:
                self.fail_in(sequence.key, beyond_end=self.stop > self.size)
            self.data_set = {}
            sequence.items.append(self.data_set)
            self.charset = sequence.outer.charset
            self.encoding = self.item_encoding(sequence)
            return True
        if sequence.undefined and sequence.stop == self.size:
            self.fail_in(sequence.key, beyond_end=True)
        self.close(sequence, sequence.stop)
        return False

    def item_encoding(self, sequence: _Sequence) -> Encoding:
        """Encoding by the item's first element: senders mix implicit VR into explicit, and the reverse."""
        implicit, big_endian = sequence.encoding
        if self.position + 8 > self.stop:
            return sequence.encoding
        group, _, vr, _ = _EXPLICIT[big_endian](self.buffer, self.position)
        if not implicit and group != 0xFFFE and not _is_vr(vr):
            return Encoding(True, big_endian)
        if implicit and not sequence.outer.encoding.implicit and vr in value_types(self.charset, False):
            length = _UINT32[big_endian](self.buffer, self.position + 4)[0]
            if self.position + 8 + length > self.stop:
                return sequence.outer.encoding
        return sequence.encoding

    def close(self, sequence: _Sequence, position: int) -> None:
        self.position = position if sequence.undefined else sequence.stop
        if not sequence.items:
            del sequence.outer.data_set[sequence.key]["Value"]

    def delimiter(self, position: int, tag: int) -> int:
        """A delimiter where an element was expected: it ends the item, or is one too many."""
        if self.sequences and self.undefined:
            # Without its own delimiter an item ends with its sequence, or where the next one begins.
            self.end_item(position + 8 if tag == _ITEM_END else position)
            return _DATA_SET_ENDS
        if tag == _ITEM:
            raise Unreadable("The data set has an item outside any sequence")
        return position + 8

    def end(self, position: int) -> None:
        """There is no room for another element."""
        if self.sequences:
            if self.undefined and self.stop == self.size:
                self.fail_in(self.sequences[-1].key, beyond_end=True)
            self.end_item(self.stop)
            return
        rest = self.buffer[position : self.size]
        if rest.strip(b"\0") and self.parsed.pixels is None:
            raise Unreadable("The data set ends early, inside the tag or length of an element")
        _sort(self.data_set)
        self.position = self.size

    def end_item(self, position: int) -> None:
        _sort(self.data_set)
        self.position = position

    def is_padding(self, position: int, tag: int) -> bool:
        """Whether the rest of the file is no part of the data set: zeros, or anything odd after pixel data."""
        pixels = self.parsed.pixels
        if pixels is not None and tag <= pixels.tag:
            return True
        if pixels is not None and not self.encoding.implicit and not _is_vr(self.buffer[position + 4 : position + 6]):
            return True
        return tag == 0 and not self.buffer[position : position + 65536].strip(b"\0")

    def explicit_vr(self, position: int) -> tuple[str, int, int]:
        """VR, value's position and length of an element in explicit VR; an unknown or malformed VR as UN."""
        big_endian = self.encoding.big_endian
        _, _, vr, length = _EXPLICIT[big_endian](self.buffer, position)
        kind = value_types(self.charset, big_endian).get(vr)
        room = position + 12 <= self.stop
        if kind is not None and not kind.long:
            return kind.vr, position + 8, length
        long_length = _UINT32[big_endian](self.buffer, position + 8)[0] if room else 0
        if kind is not None:
            if not room:
                raise Unreadable("The data set ends early, inside the length of an element")
            return kind.vr, position + 12, long_length
        if not _is_vr(vr):
            # Some writers fall into implicit VR for single elements; blanks and "??" stand for "unknown" in others.
            implicit_length = _UINT32[big_endian](self.buffer, position + 4)[0]
            if implicit_length == UNDEFINED or position + 8 + implicit_length <= self.stop:
                return "UN", position + 8, implicit_length
        elif room and not length and position + 12 + long_length <= self.stop:
            return "UN", position + 12, long_length  # VRs to come have the long form (PS3.5 7.1.2)
        return "UN", position + 8, length

    def known_vr(self, tag: int, length: int, value: int, implicit: bool) -> str:
        """VR from the dictionaries for an element that bears none; UN when they do not know it either."""
        vr = vr_within(tag, self.data_set)
        if vr == "SQ" and length not in (0, UNDEFINED) and not implicit:
            starts_an_item = self.buffer[value : value + 4] == b"\xfe\xff\x00\xe0"
            return "SQ" if starts_an_item and not tag >> 16 & 1 else "UN"
        return vr or "UN"

    def sequence_encoding(self, position: int) -> Encoding:
        """Encoding of the items of a sequence with defined length; UN that turned out to be one is implicit VR."""
        if not self.encoding.implicit and self.buffer[position + 4 : position + 6] != b"SQ":
            return _UN_SEQUENCE
        return self.encoding

    def settled_vr(self, tag: int, vr: str, value: int, length: int) -> str:
        # The nearest few and the outermost, so that depth times elements stays bounded.
        around = [*self.sequences[:1], *self.sequences[1:][-8:]]
        enclosing = [self.data_set, *(sequence.outer.data_set for sequence in reversed(around))]
        postponed = vr == "US or SS" and length <= MAX_VALUE_BYTES and len(self.pending) < MAX_PENDING
        if postponed and all("00280103" not in each for each in enclosing):
            # Pixel Representation may follow: settled at the end.
            raw = self.buffer[value : value + length]
            self.pending.append((tag, raw, self.encoding.big_endian, enclosing))
        return resolve(tag, vr, length, self.encoding.implicit, enclosing)

    def use_charset(self, raw: bytes) -> None:
        terms = charsets.split(raw.decode("latin-1"))
        self.charset = charsets.of(terms)
        # The JSON is UTF-8 whatever the file was.
        self.data_set["00080005"] = {"vr": "CS", "Value": [charsets.UTF_8]} if terms else {"vr": "CS"}

    def fail_in(self, key: str, *, beyond_end: bool) -> None:
        name = f"({key[:4]},{key[4:]})"
        raise Unreadable(
            f"The data set ends early, inside the sequence {name}"
            if beyond_end
            else f"An item of {name} is longer than the sequence"
        )


def _is_vr(vr: bytes) -> bool:
    return vr.isalpha() and vr.isupper()


def _sort(data_set: dict[str, Any]) -> None:
    keys = list(data_set)
    ordered = sorted(keys)
    if keys != ordered:
        values = dict(data_set)
        data_set.clear()
        data_set.update((key, values[key]) for key in ordered)
