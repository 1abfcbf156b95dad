"""Ready JSON of instances as it lies in the SQLite index: compressed against a template of their series.

Instances of a series say nearly the same. The first one becomes the series' template, and of each instance only what
differs is kept: Zstandard (RFC 8878) with the template as its dictionary, 7 kB of metadata in some 130 bytes. Reading
takes 2 µs; the bytes that come out are those that went in.

A stored value is one of
    plain      what begins with "{": JSON as it is
    alone      a Zstandard frame
    templated  0x02, the template's id in five bytes, big-endian, a frame whose dictionary is the template
A frame carries a checksum of its content, so that neither a wrong template nor a damaged byte passes for metadata.

A template is written once, never changed, and goes with its series; its id is never used again once it was committed.
It holds what its instance says even when that instance is removed and others of the series stay.
"""

from __future__ import annotations

import sqlite3
from typing import NamedTuple, TypeVar

from zstandard import DICT_TYPE_RAWCONTENT, ZstdCompressionDict, ZstdCompressor, ZstdDecompressor, ZstdError

from pacs.errors import Corrupt

Key = TypeVar("Key")
Value = TypeVar("Value")
_TEMPLATED = b"\x02"
_ID_BYTES = 5
_LEVEL = 3
_TEMPLATE_LEVEL = 9  # written once a series
# A longer one gains little, and is rarely one of many in its series.
_LONGEST = 64 * 1024
# Some frames are longer than what they hold.
_SHORTEST = 64
# When less than seven eighths are saved, an instance is of another kind than the template: the series gets one more,
# but at most one for so many instances.
_POOR = 8
_INSTANCES_A_TEMPLATE = 16
# Templates that stay ready, 0.2 MB each.
_KEPT = 32


class Contents(NamedTuple):
    """What an instance's rows hold as JSON."""

    fragment: bytes
    rest: bytes
    metadata: bytes
    layout: bytes


class Reader:
    """Reads stored values. Keeps the templates that it read last; not to be used by two threads at once.

    connection: its templates are looked up, in whatever transaction is open.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._alone = ZstdDecompressor()
        self._templates: dict[bytes, ZstdDecompressor] = {}

    def read(self, stored: bytes) -> bytes:
        """The JSON. Raises Corrupt."""
        try:
            kind = stored[:1]
            if kind == b"{":
                return stored
            if kind == _TEMPLATED:
                decompressor = self._template(stored[1 : 1 + _ID_BYTES])
                return decompressor.decompress(stored[1 + _ID_BYTES :], allow_extra_data=False)
            return self._alone.decompress(stored, allow_extra_data=False)
        # MemoryError: a length that cannot be. TypeError: no bytes.
        except (ZstdError, MemoryError, TypeError) as error:
            raise Corrupt("the index is damaged: contents of an instance cannot be read") from error

    def _template(self, template_id: bytes) -> ZstdDecompressor:
        known = self._templates.get(template_id)
        if known is None:
            row = self._connection.execute(
                "SELECT content FROM templates WHERE id = ?", (int.from_bytes(template_id, "big"),)
            ).fetchone()
            if row is None:
                raise Corrupt("the index is damaged: a template of contents is missing")
            known = ZstdDecompressor(dict_data=_dictionary(_template_content(row[0])))
            _keep(self._templates, template_id, known)
        return known


class Packer:
    """Makes stored values, and templates, inside one transaction of the writer. Not to be kept for the next one.

    (A template whose transaction failed leaves its id to another.)
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._alone = ZstdCompressor(level=_LEVEL, write_checksum=True)
        self._latest: dict[int, _Template] = {}  # by series

    def pack(self, series_id: int, contents: Contents) -> Contents:
        """The stored form of an instance's contents. Its series need not be there yet."""
        if sum(map(len, contents)) > _LONGEST:
            return Contents(*(self._packed(None, content) for content in contents))
        template = self._of(series_id)
        is_new = template is None
        if template is None:
            template = self._add(series_id, contents)
        packed = Contents(*(self._packed(template, content) for content in contents))
        if not is_new and len(packed.metadata) * _POOR > len(contents.metadata) and self._may_add(series_id):
            template = self._add(series_id, contents)
            packed = Contents(*(self._packed(template, content) for content in contents))
        return packed

    def pack_one(self, series_id: int, content: bytes) -> bytes:
        """One part of an instance that was packed before."""
        return self._packed(self._of(series_id), content)

    def _packed(self, template: _Template | None, content: bytes) -> bytes:
        if len(content) <= _SHORTEST:
            return content
        if template is None or len(content) > _LONGEST:
            return self._alone.compress(content)
        return template.prefix + template.compressor.compress(content)

    def _of(self, series_id: int) -> _Template | None:
        """The series' last template."""
        known = self._latest.get(series_id)
        if known is None:
            row = self._connection.execute(
                "SELECT id, content FROM templates WHERE series_id = ? ORDER BY id DESC LIMIT 1", (series_id,)
            ).fetchone()
            if row is None:
                return None
            known = _template(row[0], _template_content(row[1]))
            _keep(self._latest, series_id, known)
        return known

    def _may_add(self, series_id: int) -> bool:
        templates, instances = self._connection.execute(
            "SELECT (SELECT COUNT(*) FROM templates WHERE series_id = ?1),"
            " (SELECT COUNT(*) FROM instances WHERE series_id = ?1)",
            (series_id,),
        ).fetchone()
        return bool(instances >= templates * _INSTANCES_A_TEMPLATE)

    def _add(self, series_id: int, contents: Contents) -> _Template:
        content = b"".join(contents)
        stored = ZstdCompressor(level=_TEMPLATE_LEVEL, write_checksum=True).compress(content)
        (template_id,) = self._connection.execute(
            "INSERT INTO templates (series_id, content) VALUES (?, ?) RETURNING id", (series_id, stored)
        ).fetchone()
        template = _template(template_id, content)
        _keep(self._latest, series_id, template)
        return template


class _Template(NamedTuple):
    prefix: bytes  # what values that are made with it begin with
    compressor: ZstdCompressor


def _template(template_id: int, content: bytes) -> _Template:
    compressor = ZstdCompressor(level=_LEVEL, dict_data=_dictionary(content), write_checksum=True, write_dict_id=False)
    return _Template(_TEMPLATED + template_id.to_bytes(_ID_BYTES, "big"), compressor)


def _template_content(stored: bytes) -> bytes:
    try:
        return ZstdDecompressor().decompress(stored, allow_extra_data=False)
    except (ZstdError, MemoryError, TypeError) as error:
        raise Corrupt("the index is damaged: a template of contents cannot be read") from error


def _dictionary(content: bytes) -> ZstdCompressionDict:
    return ZstdCompressionDict(content, dict_type=DICT_TYPE_RAWCONTENT)


def _keep(kept: dict[Key, Value], key: Key, value: Value) -> None:
    """Keep one more; the oldest goes when there are too many."""
    kept.pop(key, None)
    while len(kept) >= _KEPT:
        del kept[next(iter(kept))]
    kept[key] = value
