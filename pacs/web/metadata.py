"""WADO-RS: metadata of studies, series and instances (PS3.18 10.4.1.1.2), joined from what was made at ingest."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator

import orjson
from aiohttp import web
from isal import isal_zlib

from pacs import __version__
from pacs.dicom.xml_model import to_xml
from pacs.index.base import InstanceMetadata
from pacs.services.retrieve import Retrieve
from pacs.web import single
from pacs.web.bridge import Bridge
from pacs.web.links import Links, url_of
from pacs.web.multipart import Writer, boundary_of
from pacs.web.negotiate import DICOM_JSON, DICOM_XML, Offer, accepted, choose
from pacs.web.target import target_of

_PIECE_BYTES = 256 * 1024
_OFFERS = (Offer(DICOM_JSON), Offer("application/json"), Offer(DICOM_XML, multipart=True))
_XML_ALONE = Offer(DICOM_XML)


class Metadata:
    """All attributes but the bulk data, as DICOM JSON or in the Native DICOM Model."""

    def __init__(self, retrieve: Retrieve, bridge: Bridge, links: Links) -> None:
        self._retrieve = retrieve
        self._bridge = bridge
        self._links = links

    def routes(self) -> list[web.RouteDef]:
        """Paths below the API root."""
        return [
            web.get(f"{path}/metadata", self.metadata)
            for path in (
                "/studies/{study}",
                "/studies/{study}/series/{series}",
                "/studies/{study}/series/{series}/instances/{instance}",
            )
        ]

    async def metadata(self, request: web.Request) -> web.StreamResponse:
        """A JSON array with one object an instance, or one XML document an instance in a multipart/related."""
        ranges = accepted(request.headers.getall("Accept", []), request.query.getall("accept", []))
        target = target_of(request)
        # One instance's document may also come by itself.
        offer = choose(ranges, (*_OFFERS, _XML_ALONE) if target.sop_uid else _OFFERS)
        caller = self._links.caller(request)
        base = self._links.base(request)
        is_gzip = _accepts_gzip(request)
        instances = await self._bridge.run(self._retrieve.instances, target, caller)
        digests = (f"{each.target.series_uid} {each.target.sop_uid} {each.blob.digest}" for each in instances)
        etag = single.etag_of(__version__, base, str(is_gzip), str(offer), *digests)
        boundary = boundary_of(etag)
        headers = {"Vary": "Accept, Accept-Encoding"}
        if is_gzip:
            headers["Content-Encoding"] = "gzip"

        def pieces() -> Iterator[bytes]:
            found = self._retrieve.metadata(target, caller)
            if offer.multipart:
                made = _documents(found, base, Writer(boundary))
            elif offer is _XML_ALONE:
                made = (to_xml(orjson.loads(each.json), _bulk_base(each, base)) for each in found)
            else:
                made = _joined(found, base)
            return _gzipped(made) if is_gzip else made

        def read(offset: int, length: int | None) -> Iterator[bytes]:
            return single.cut(pieces(), offset, length)

        return await single.answer(
            request,
            self._bridge,
            etag=etag,
            media_type=Writer(boundary).content_type(DICOM_XML) if offer.multipart else offer.media_type,
            size_bytes=lambda: sum(len(piece) for piece in pieces()),
            read=read,
            headers=headers,
        )


def _bulk_base(fragment: InstanceMetadata, base: str) -> str:
    return f"{url_of(base, fragment.target)}/bulkdata/"


def _documents(fragments: Iterable[InstanceMetadata], base: str, writer: Writer) -> Iterator[bytes]:
    """The whole multipart body."""
    for fragment in fragments:
        yield writer.part(DICOM_XML, {"Content-Location": f"{url_of(base, fragment.target)}/metadata"})
        yield to_xml(orjson.loads(fragment.json), _bulk_base(fragment, base))
    yield writer.end()


def _joined(fragments: Iterable[InstanceMetadata], base: str) -> Iterator[bytes]:
    """The fragments as one array, BulkDataURI made absolute.

    Replacing text in JSON is safe here: within a string a quote is escaped, so ``"BulkDataURI":"`` can only be the
    member of that name, and no attribute can be called so.
    """
    held: list[bytes] = []
    size = 0
    separator = b"["
    for fragment in fragments:
        absolute = f'"BulkDataURI":"{_bulk_base(fragment, base)}'.encode("ascii")
        held += [separator, fragment.json.replace(b'"BulkDataURI":"', absolute)]
        separator = b",\n"
        size += len(held[-1])
        if size >= _PIECE_BYTES:
            yield b"".join(held)
            held, size = [], 0
    held.append(b"]" if separator != b"[" else b"[]")
    yield b"".join(held)


def _gzipped(pieces: Iterator[bytes]) -> Iterator[bytes]:
    packer = isal_zlib.compressobj(level=1, wbits=zlib.MAX_WBITS | 16)
    for piece in pieces:
        packed = packer.compress(piece)
        if packed:
            yield packed
    yield packer.flush()


def _accepts_gzip(request: web.Request) -> bool:
    for value in request.headers.getall("Accept-Encoding", []):
        for item in value.lower().split(","):
            coding, _, parameters = item.partition(";")
            if coding.strip() in ("gzip", "x-gzip") and parameters.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00"):
                return True
    return False
