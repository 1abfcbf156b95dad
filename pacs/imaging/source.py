"""One stored instance as the imaging room sees it: attributes, and ranged reads of its bulk data."""

from __future__ import annotations

import base64
import os
import zlib
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from math import isfinite
from pathlib import Path
from typing import Any, Protocol

import orjson

from pacs.dicom import transfer_syntax
from pacs.dicom.layout import Layout, Span
from pacs.dicom.model import Attributes
from pacs.errors import Corrupt, NotFound, Undecodable

_PIECE = 1 << 20


class Reader(Protocol):
    """Bytes by the offsets that ``Layout`` uses."""

    def read(self, span: Span) -> bytes:
        """All bytes of the span. Raises Corrupt when the file ends before."""

    def some(self, offset: int, limit: int) -> bytes:
        """1 to ``limit`` bytes from an offset, none at the end of the file."""


@dataclass(frozen=True)
class Source:
    """A stored instance; picklable, so that worker processes can open it.

    path: the Part 10 file. data_set_offset: bytes before the data set. metadata: the data set as DICOM JSON, bulk data
    left out. layout: where bulk data and frames lie.
    """

    path: Path
    transfer_syntax_uid: str
    data_set_offset: int
    metadata: bytes
    layout: Layout

    @cached_property
    def attributes(self) -> Attributes:
        parsed: Attributes = orjson.loads(self.metadata)
        return parsed

    def at(self, path: Path) -> Source:
        """The same with another file; what was parsed already is not parsed again."""
        found = replace(self, path=path)
        if "attributes" in self.__dict__:
            found.__dict__["attributes"] = self.attributes
        return found

    def __reduce__(self) -> tuple[Any, ...]:
        # Without the parsed attributes: parsing them again takes less than passing them on.
        return Source, (self.path, self.transfer_syntax_uid, self.data_set_offset, self.metadata, self.layout)

    def value(self, tag: str, default: Any = None) -> Any:
        """First value of a top-level attribute, ``default`` when absent or empty. tag: "GGGGEEEE"."""
        return first(self.attributes, tag, default)

    def number(self, tag: str, default: int) -> int:
        """First value as an integer. Raises Undecodable when it is not one."""
        found = decimal(self.value(tag), default)
        if found is None:
            raise Undecodable(f"attribute {tag} is not a number")
        return int(found)

    @contextmanager
    def open(self) -> Iterator[Reader]:
        """Read ranges of the file, or of the inflated data set. Raises NotFound when the file is gone."""
        try:
            descriptor = os.open(self.path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
        except FileNotFoundError as err:
            raise NotFound("the instance's file is gone") from err
        try:
            yield _Inflating(descriptor, self.data_set_offset) if self.layout.deflated else _Plain(descriptor)
        finally:
            os.close(descriptor)

    def bulk(self, reader: Reader, path: str, element: Any) -> bytes:
        """A binary element of the metadata, inline or in the file, in little endian words. Empty when it has none."""
        if "InlineBinary" in element:
            return base64.b64decode(element["InlineBinary"])
        span = self.layout.bulk.get(path)
        if span is None:
            return b""
        data = reader.read(span)
        if transfer_syntax.find(self.transfer_syntax_uid).big_endian:
            words = array("H", data[: len(data) // 2 * 2])
            words.byteswap()
            return words.tobytes()
        return data


def first(attributes: Attributes, tag: str, default: Any = None) -> Any:
    """First value of an attribute of a DICOM JSON data set, ``default`` when absent, empty or null."""
    values = attributes.get(tag, {}).get("Value")
    return values[0] if values and values[0] is not None else default


def decimal(value: Any, default: float | None = None) -> float | None:
    """A number out of DICOM JSON, where it may be text as well; ``default`` for null, None for what is no number."""
    if value is None:
        return default
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if isfinite(number) else None


def items(attributes: Attributes, tag: str) -> list[Attributes]:
    """Items of a sequence; none when it is absent."""
    return [item for item in attributes.get(tag, {}).get("Value", ()) if isinstance(item, dict)]


class _Plain:
    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def read(self, span: Span) -> bytes:
        # The size is checked first: a hostile length must not make us allocate.
        if span.offset < 0 or span.length < 0 or span.offset + span.length > os.fstat(self._descriptor).st_size:
            raise Corrupt("the stored file ends before its pixel or bulk data")
        return _whole(self, span)

    def some(self, offset: int, limit: int) -> bytes:
        return os.pread(self._descriptor, limit, offset)


class _Inflating:
    """Inflates forwards and keeps only what was asked for: a bomb costs time, which the pool limits, not memory."""

    def __init__(self, descriptor: int, start: int) -> None:
        self._descriptor = descriptor
        self._start = start
        self._rewind()

    def read(self, span: Span) -> bytes:
        return _whole(self, span)

    def some(self, offset: int, limit: int) -> bytes:
        if offset < self._position:
            self._rewind()
        while self._position < offset:
            if not self._inflate(min(_PIECE, offset - self._position)):
                return b""
        return self._inflate(min(_PIECE, limit))

    def _rewind(self) -> None:
        self._inflater = zlib.decompressobj(-zlib.MAX_WBITS)  # PS3.5 A.5: RFC 1951, no zlib header
        self._file_offset = self._start
        self._input = b""
        self._position = 0

    def _inflate(self, limit: int) -> bytes:
        """1 to ``limit`` next bytes, none at the end."""
        while True:
            if not self._input:
                self._input = os.pread(self._descriptor, _PIECE, self._file_offset)
                self._file_offset += len(self._input)
            if not self._input or self._inflater.eof:
                return b""
            try:
                piece = self._inflater.decompress(self._input, limit)
            except zlib.error as err:
                raise Undecodable("the deflated data set cannot be inflated") from err
            self._input = self._inflater.unconsumed_tail
            if piece:
                self._position += len(piece)
                return piece


def _whole(reader: Reader, span: Span) -> bytes:
    pieces = []
    offset, left = span
    while left > 0:
        piece = reader.some(offset, left)
        if not piece:
            raise Corrupt("the stored file ends before its pixel or bulk data")
        pieces.append(piece)
        offset += len(piece)
        left -= len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)
