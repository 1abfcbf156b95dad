"""Encapsulated pixel data (PS3.5 A.4): its items, and which of them make up which frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from struct import Struct, unpack

from pacs.dicom.buffer import Buffer, release
from pacs.dicom.layout import Span
from pacs.errors import Unreadable

MAX_FRAGMENTS = 1_000_000
_ITEM, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE0DD
_KEPT_PAGES = 4 << 20  # bytes of a mapped file walked before its pages are let go
_ITEM_HEADER = Struct("<HHL").unpack_from
# How a codestream begins: JPEG and JPEG-LS, JPEG 2000 and HTJ2K, JP2 and JPEG XL boxes, JPEG XL.
_STARTS = (b"\xff\xd8\xff", b"\xff\x4f\xff\x51", b"\0\0\0\x0cjP  ", b"\0\0\0\x0cJXL ", b"\xff\x0a")


@dataclass(slots=True)
class Fragments:
    """table: Basic Offset Table's content; spans: fragments without item headers; value: up to the delimiter."""

    value: Span
    table: bytes
    spans: list[Span]
    next: int  # after the sequence delimiter
    delimited: bool  # False: the delimiter is missing; something else, or nothing, follows the last item


def read_fragments(buffer: Buffer, start: int, stop: int) -> Fragments:
    """Walk the items from ``start``. A missing delimiter is tolerated, an item cut short raises Unreadable."""
    spans: list[Span] = []
    table: bytes | None = None
    position = released = start
    following = 0
    while position + 8 <= stop:
        group, element, length = _ITEM_HEADER(buffer, position)
        tag = group << 16 | element
        if tag != _ITEM:
            following = 8 if tag == _SEQUENCE_END else 0
            break
        value = position + 8
        if value + length > stop:
            raise Unreadable("The data set ends early, inside a fragment of pixel data")
        if table is None and not _is_codestream(buffer[value : value + min(length, 8)]):
            if length > 8 * MAX_FRAGMENTS:
                raise Unreadable("The basic offset table is longer than any pixel data have use for")
            table = buffer[value : value + length]
        else:
            table = table or b""
            spans.append(Span(value, length))
            if len(spans) > MAX_FRAGMENTS:
                raise Unreadable(f"Pixel data in more than {MAX_FRAGMENTS} fragments")
        position = value + length
        if position - released > _KEPT_PAGES:
            release(buffer, released, position)
            released = position
    return Fragments(Span(start, position - start), table or b"", spans, position + following, delimited=following > 0)


def frames_of(
    buffer: Buffer,
    fragments: Fragments,
    number_of_frames: int,
    *,
    extended: tuple[bytes, bytes] | None = None,
    one_each: bool = False,
) -> tuple[tuple[Span, ...], ...]:
    """Which fragments make up each frame; as many frames as the data hold, whatever ``number_of_frames`` says.

    extended: contents of Extended Offset Table and its Lengths (PS3.3 C.7.6.3.1.8), little endian. one_each: the
    transfer syntax allows one fragment a frame only (RLE).
    """
    spans = fragments.spans
    if not spans:
        return ()
    if extended is not None and (found := _by_extended_table(spans, *extended)):
        return found
    starts = _table_starts(spans, fragments.table)
    if starts is not None and len(starts) == number_of_frames:
        return _grouped(spans, starts)
    if one_each or len(spans) == number_of_frames:
        return tuple((span,) for span in spans)
    by_codestream = _codestream_starts(buffer, spans)
    if by_codestream is not None and (starts is None or len(by_codestream) == number_of_frames):
        return _grouped(spans, by_codestream)
    if starts is not None:
        return _grouped(spans, starts)
    if number_of_frames > 1 and len(spans) % number_of_frames == 0:
        return _grouped(spans, range(0, len(spans), len(spans) // number_of_frames))
    return (tuple(spans),) if number_of_frames == 1 else tuple((span,) for span in spans)


def _is_codestream(head: bytes) -> bool:
    return head.startswith(_STARTS)


def _grouped(spans: list[Span], starts: Sequence[int]) -> tuple[tuple[Span, ...], ...]:
    ends = [*starts[1:], len(spans)]
    return tuple(tuple(spans[start:end]) for start, end in zip(starts, ends, strict=True))


def _table_starts(spans: list[Span], table: bytes) -> list[int] | None:
    """Index of each frame's first fragment by the Basic Offset Table; None when it is empty or cannot be true."""
    if not table or len(table) % 4:
        return None
    return _starts_at(spans, unpack(f"<{len(table) // 4}L", table))


def _starts_at(spans: list[Span], offsets: Sequence[int]) -> list[int] | None:
    first = spans[0].offset
    index_of = {span.offset - first: index for index, span in enumerate(spans)}
    starts = [index_of.get(offset, -1) for offset in offsets]
    if not starts or starts[0] != 0 or any(a >= b for a, b in pairwise(starts)):
        return None
    return starts


def _by_extended_table(spans: list[Span], offsets: bytes, lengths: bytes) -> tuple[tuple[Span, ...], ...]:
    """Frames by the extended offset table, one fragment each; () when it cannot be true."""
    if not offsets or len(offsets) % 8:
        return ()
    starts = _starts_at(spans, unpack(f"<{len(offsets) // 8}Q", offsets))
    if starts is None or len(starts) != len(spans):
        return ()
    if len(lengths) != len(offsets):
        return tuple((span,) for span in spans)
    exact = unpack(f"<{len(lengths) // 8}Q", lengths)
    return tuple(
        (Span(span.offset, length) if 0 <= span.length - length <= 1 else span,)
        for span, length in zip(spans, exact, strict=True)
    )


def _codestream_starts(buffer: Buffer, spans: list[Span]) -> list[int] | None:
    """Index of each fragment that begins a codestream; None when not even the first does."""
    starts = []
    released = spans[0].offset
    for index, span in enumerate(spans):
        if _is_codestream(buffer[span.offset : span.offset + min(span.length, 8)]):
            starts.append(index)
        if span.offset - released > _KEPT_PAGES:
            release(buffer, released, span.offset)
            released = span.offset
    return starts if starts and starts[0] == 0 else None
