"""Ready JSON of instances as it lies in the SQLite index: compressed against a template of their series.

Instances of a series say nearly the same. The first one becomes the series' template, and of each instance only what
differs is kept: deflate with the template as preset dictionary (RFC 1950), 7 kB of metadata in some 200 bytes. Reading
is one inflate of 3 µs; the bytes that come out are those that went in.

A stored value is one of
    plain     what begins with "{": JSON as it is
    alone     a zlib stream
    0x02 id   a zlib stream whose dictionary is the template's metadata
    0x03 id   the same with the template's layout, rest and fragment, joined
with the template's id in five bytes, big-endian. The stream carries the checksum of its dictionary and of its content,
so that neither a wrong template nor a damaged byte can pass for metadata.

A template is written once, never changed, and goes with its series; its id is never used again.
"""

from __future__ import annotations

import sqlite3
import zlib
from typing import NamedTuple

from isal import isal_zlib

from pacs.errors import Corrupt

_METADATA, _SMALL = b"\x02", b"\x03"
_ID_BYTES = 5
_LEVEL = 6
# What is compressed lies behind its dictionary in one window of 32 KiB: of longer ones nothing would be found again.
_LONGEST = 15 * 1024
# Some streams are longer than what they hold.
_SHORTEST = 64
# When less than an eighth is saved by, an instance is of another kind than the template: the series gets one more,
# but at most one for so many instances.
_POOR = 8
_INSTANCES_A_TEMPLATE = 16
_KEPT = 256


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
        self._templates: dict[int, _Template] = {}

    def read(self, stored: bytes) -> bytes:
        """The JSON. Raises Corrupt."""
        try:
            kind = stored[:1]
            if kind == b"{":
                return stored
            if kind in (_METADATA, _SMALL):
                template = self._template(int.from_bytes(stored[1 : 1 + _ID_BYTES], "big"))
                stream = zlib.decompressobj(zdict=template.metadata if kind == _METADATA else template.small)
                found = stream.decompress(stored[1 + _ID_BYTES :])
            else:
                stream = zlib.decompressobj()
                found = stream.decompress(stored)
            if not stream.eof or stream.unused_data:
                raise Corrupt("the index is damaged: contents of an instance do not end where they should")
        except (zlib.error, TypeError) as error:
            raise Corrupt("the index is damaged: contents of an instance cannot be read") from error
        return found

    def _template(self, template_id: int) -> _Template:
        known = self._templates.get(template_id)
        if known is None:
            row = self._connection.execute(
                "SELECT small_bytes, content FROM templates WHERE id = ?", (template_id,)
            ).fetchone()
            if row is None:
                raise Corrupt("the index is damaged: a template of contents is missing")
            known = _template(template_id, *row)
            while len(self._templates) >= _KEPT:
                del self._templates[next(iter(self._templates))]
            self._templates[template_id] = known
        return known


class Packer:
    """Makes stored values, and templates, inside one transaction of the writer. Not to be kept for the next one."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._latest: dict[int, _Template] = {}  # by series; only what this transaction reads or makes

    def pack(self, series_id: int, contents: Contents) -> Contents:
        """The stored form of an instance's contents. Its series need not be there yet."""
        if len(contents.metadata) > _LONGEST:
            return Contents(*map(_alone, contents))
        template = self._of(series_id)
        if template is None:
            template = self._add(series_id, contents)
        packed = _packed(template, contents)
        if len(packed.metadata) * _POOR > len(contents.metadata) and self._may_add(series_id):
            packed = _packed(self._add(series_id, contents), contents)
        return packed

    def pack_small(self, series_id: int, fragment: bytes, rest: bytes) -> tuple[bytes, bytes]:
        """Fragment and rest of an instance that has been packed before."""
        template = self._of(series_id)
        if template is None:
            return _alone(fragment), _alone(rest)
        return _small(template, fragment), _small(template, rest)

    def _of(self, series_id: int) -> _Template | None:
        """The series' last template."""
        known = self._latest.get(series_id)
        if known is None:
            row = self._connection.execute(
                "SELECT id, small_bytes, content FROM templates WHERE series_id = ? ORDER BY id DESC LIMIT 1",
                (series_id,),
            ).fetchone()
            if row is None:
                return None
            known = self._keep(series_id, _template(*row))
        return known

    def _keep(self, series_id: int, template: _Template) -> _Template:
        while len(self._latest) >= _KEPT:
            del self._latest[next(iter(self._latest))]
        self._latest[series_id] = template
        return template

    def _may_add(self, series_id: int) -> bool:
        templates, instances = self._connection.execute(
            "SELECT (SELECT COUNT(*) FROM templates WHERE series_id = ?1),"
            " (SELECT COUNT(*) FROM instances WHERE series_id = ?1)",
            (series_id,),
        ).fetchone()
        return bool(instances >= templates * _INSTANCES_A_TEMPLATE)

    def _add(self, series_id: int, contents: Contents) -> _Template:
        small = contents.layout + contents.rest + contents.fragment
        if len(small) > _LONGEST:
            small = contents.rest[:_LONGEST] + contents.fragment[:_LONGEST]
        (template_id,) = self._connection.execute(
            "INSERT INTO templates (series_id, small_bytes, content) VALUES (?, ?, ?) RETURNING id",
            (series_id, len(small), zlib.compress(small + contents.metadata, 6)),
        ).fetchone()
        self._latest.pop(series_id, None)
        return self._keep(series_id, _Template(_prefix(template_id), small, contents.metadata))


class _Template(NamedTuple):
    prefix: bytes  # its id as values carry it
    small: bytes
    metadata: bytes


def _template(template_id: int, small_bytes: int, content: bytes) -> _Template:
    try:
        whole = zlib.decompress(content)
    except (zlib.error, TypeError) as error:
        raise Corrupt("the index is damaged: a template of contents cannot be read") from error
    return _Template(_prefix(template_id), whole[:small_bytes], whole[small_bytes:])


def _prefix(template_id: int) -> bytes:
    return template_id.to_bytes(_ID_BYTES, "big")


def _packed(template: _Template, contents: Contents) -> Contents:
    return Contents(
        _small(template, contents.fragment),
        _small(template, contents.rest),
        _METADATA + template.prefix + _deflate(contents.metadata, template.metadata),
        _small(template, contents.layout),
    )


def _small(template: _Template, content: bytes) -> bytes:
    if len(content) <= _SHORTEST:
        return content
    if len(content) > _LONGEST:
        return _alone(content)
    return _SMALL + template.prefix + _deflate(content, template.small)


def _alone(content: bytes) -> bytes:
    return content if len(content) <= _SHORTEST else isal_zlib.compress(content, 2)


def _deflate(content: bytes, dictionary: bytes) -> bytes:
    stream = zlib.compressobj(_LEVEL, zdict=dictionary)
    return stream.compress(content) + stream.flush()
