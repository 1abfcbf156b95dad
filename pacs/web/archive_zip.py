"""ZIP archives with a DICOMDIR (PS3.18 8.7.3, ``application/zip``), streamed.

Entries are stored, not deflated: they can be made as fast as they are sent, and pixels hardly shrink. Each has its CRC
and sizes in its local header, so that readers that go from front to back are served too. Zip64 where it is needed.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import orjson
from aiohttp import web

from pacs import __version__
from pacs.dicom import transfer_syntax as syntaxes
from pacs.dicom.dicomdir import NAME, Directory
from pacs.dicom.model import Caller, StoredInstance, Target
from pacs.errors import NotAcceptable
from pacs.services.retrieve import Content, Retrieve
from pacs.web import single
from pacs.web.bridge import Bridge
from pacs.web.links import Links
from pacs.web.negotiate import DICOM, MULTIPART, MediaType, Offer, choose
from pacs.web.target import target_of

ZIP = "application/zip"

# A file up to this size is held while its CRC is taken; a larger one is read twice.
_HELD_BYTES = 8 << 20
_FULL_32 = 0xFFFFFFFF
_FULL_16 = 0xFFFF
_LOCAL = struct.Struct("<4sHHHHHLLLHH")
_CENTRAL = struct.Struct("<4sHHHHHHLLLHHHHHLL")
_END_64 = struct.Struct("<4sQHHLLQQQQ")
_LOCATOR_64 = struct.Struct("<4sLQL")
_END = struct.Struct("<4sHHHHLLH")
_DATE = (1980 - 1980) << 9 | 1 << 5 | 1  # the earliest there is: the same request gives the same bytes
_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"


class Zip:
    """Studies, series and instances as one ZIP file."""

    def __init__(self, retrieve: Retrieve, bridge: Bridge, links: Links) -> None:
        self._retrieve = retrieve
        self._bridge = bridge
        self._links = links

    async def answer(self, request: web.Request, ranges: Sequence[MediaType]) -> web.StreamResponse:
        """Files as stored, or in the transfer syntax that the media type asks for. Raises NotAcceptable."""
        target = target_of(request)
        caller = self._links.caller(request)
        instances = await self._bridge.run(self._retrieve.instances, target, caller)
        chosen = await self._bridge.run(lambda: [self._chosen_syntax(instance, ranges) for instance in instances])
        digests = (
            f"{each.target.series_uid} {each.target.sop_uid} {each.blob.digest} {uid}"
            for each, uid in zip(instances, chosen, strict=True)
        )

        def pieces() -> Iterator[bytes]:
            return self._pieces(target, caller, instances, chosen)

        name = f"{target.sop_uid or target.series_uid or target.study_uid}.zip"
        return await single.answer(
            request,
            self._bridge,
            etag=single.etag_of(__version__, ZIP, *digests),
            media_type=ZIP,
            size_bytes=lambda: sum(len(piece) for piece in pieces()),
            read=lambda offset, length: single.cut(pieces(), offset, length),
            headers={"Vary": "Accept", "Content-Disposition": f'attachment; filename="{_safe(name)}"'},
        )

    def _chosen_syntax(self, instance: StoredInstance, ranges: Sequence[MediaType]) -> str | None:
        """The transfer syntax to send in, None for the stored one, which is also what comes unasked."""
        stored = instance.transfer_syntax_uid
        zips = [media for media in ranges if media.name == ZIP]
        if any(media.parameters.get("transfer-syntax", "*") == "*" for media in zips if media.q > 0):
            return None
        try:
            offers = [Offer(ZIP, uid) for uid in self._retrieve.transfer_syntaxes(instance)]
            uid = choose(zips, offers).transfer_syntax_uid
        except NotAcceptable as error:
            name = syntaxes.find(stored).name
            raise NotAcceptable(f"an instance stored in {name} cannot be sent so", error.available) from error
        return None if uid == stored else uid

    def _pieces(
        self, target: Target, caller: Caller, instances: Sequence[StoredInstance], chosen: Sequence[str | None]
    ) -> Iterator[bytes]:
        """The whole file; blocking. The directory comes last, when it is known what there is."""
        archive = ZipWriter()
        directory = Directory()
        metadata = self._retrieve.metadata(target, caller)
        known = next(metadata, None)
        places = {instance.target: place for place, instance in enumerate(instances)}
        series: dict[str | None, int] = {}
        for place, (instance, uid) in enumerate(zip(instances, chosen, strict=True)):
            # Both come in the same order. What was stored since the instances were listed is passed over, and so are
            # instances that were deleted since.
            while known is not None and places.get(known.target, -1) < place:
                known = next(metadata, None)
            if known is None or known.target != instance.target:
                continue
            folder = series.setdefault(instance.target.series_uid, len(series) + 1)
            file_id = ("DICOM", f"SE{_base36(folder)}", f"IM{_base36(place + 1)}")
            content = self._retrieve.file(instance, uid)
            try:
                yield from self._entry(archive, "/".join(file_id), instance, content)
            finally:
                content.close()
            directory.add(instance, orjson.loads(known.json), file_id, content.transfer_syntax_uid)
        listing = directory.encode()
        yield archive.begin(NAME, len(listing), zlib.crc32(listing))
        yield listing
        yield from archive.end()

    def _entry(self, archive: ZipWriter, name: str, instance: StoredInstance, content: Content) -> Iterator[bytes]:
        if content.size_bytes <= _HELD_BYTES:
            held = list(content.chunks())
            yield archive.begin(name, sum(map(len, held)), _crc(held))
            yield from held
            return
        yield archive.begin(name, content.size_bytes, self._crc_ahead(instance, content))
        yield from content.chunks()

    def _crc_ahead(self, instance: StoredInstance, content: Content) -> int:
        """The CRC of a large file, without taking anything from ``content``."""
        if content.temporary is not None:
            with content.temporary.open("rb") as file:
                return _crc(iter(lambda: file.read(1 << 20), b""))
        first = self._retrieve.file(instance)
        try:
            return _crc(first.chunks())
        finally:
            first.close()


def is_wanted(ranges: Sequence[MediaType]) -> bool:
    """Whether a ZIP file is what the client likes best among what an instance can be sent as."""
    asked = [(-media.q, place) for place, media in enumerate(ranges) if media.name == ZIP and media.q > 0]
    others = [(-media.q, place) for place, media in enumerate(ranges) if media.q > 0 and _is_of_dicom(media)]
    return bool(asked) and (not others or min(asked) < min(others))


def _is_of_dicom(media: MediaType) -> bool:
    if media.name == MULTIPART:
        return media.content in (DICOM, "*/*")
    return media.name in (DICOM, "application/*", "multipart/*", "*/*")


@dataclass(slots=True)
class ZipWriter:
    """Headers of a ZIP file whose entries are all stored (APPNOTE 6.3). The caller sends the contents in between."""

    _offset: int = 0
    _entries: list[tuple[bytes, int, int, int]] = field(default_factory=list)

    def begin(self, name: str, size_bytes: int, crc: int) -> bytes:
        """The local header of the next entry, to be followed by exactly size_bytes bytes."""
        encoded = name.encode("ascii")
        extra = b""
        listed = size_bytes
        if size_bytes >= _FULL_32:
            extra = struct.pack("<HHQQ", 1, 16, size_bytes, size_bytes)
            listed = _FULL_32
        version = 45 if extra else 20
        header = _LOCAL.pack(
            b"PK\3\4", version, 0, 0, 0, _DATE, crc, listed, listed, len(encoded), len(extra)
        )  # fmt: skip
        self._entries.append((encoded, size_bytes, crc, self._offset))
        self._offset += len(header) + len(encoded) + len(extra) + size_bytes
        return header + encoded + extra

    def end(self) -> Iterator[bytes]:
        """The central directory."""
        size = 0
        for encoded, size_bytes, crc, offset in self._entries:
            entry = _central(encoded, size_bytes, crc, offset)
            size += len(entry)
            yield entry
        count, start = len(self._entries), self._offset
        if count >= _FULL_16 or size >= _FULL_32 or start >= _FULL_32:
            yield _END_64.pack(b"PK\6\6", 44, 45, 45, 0, 0, count, count, size, start)
            yield _LOCATOR_64.pack(b"PK\6\7", 0, start + size, 1)
        yield _END.pack(
            b"PK\5\6", 0, 0, min(count, _FULL_16), min(count, _FULL_16), min(size, _FULL_32), min(start, _FULL_32), 0
        )


def _central(encoded: bytes, size_bytes: int, crc: int, offset: int) -> bytes:
    large = b""
    if size_bytes >= _FULL_32:
        large += struct.pack("<QQ", size_bytes, size_bytes)
    if offset >= _FULL_32:
        large += struct.pack("<Q", offset)
    extra = struct.pack("<HH", 1, len(large)) + large if large else b""
    version = 45 if large else 20
    listed = min(size_bytes, _FULL_32)
    made_by = 3 << 8 | version  # Unix: file modes are in the external attributes
    fields = (made_by, version, 0, 0, 0, _DATE, crc, listed, listed, len(encoded), len(extra), 0, 0, 0)
    return _CENTRAL.pack(b"PK\1\2", *fields, 0o100644 << 16, min(offset, _FULL_32)) + encoded + extra


def _crc(pieces: Iterable[bytes]) -> int:
    crc = 0
    for piece in pieces:
        crc = zlib.crc32(piece, crc)
    return crc


def _base36(number: int) -> str:
    """Six digits of 0-9 and A-Z, for a File ID component of eight characters (PS3.10 8.2)."""
    text = ""
    while number or len(text) < 6:
        number, digit = divmod(number, 36)
        text = _DIGITS[digit] + text
    return text


def _safe(name: str) -> str:
    return "".join(c if c.isalnum() or c in "._-" else "_" for c in name)
