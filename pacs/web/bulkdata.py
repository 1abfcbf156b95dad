"""WADO-RS: bulk data (PS3.18 10.4.1.1.5), one value or all of an instance, series or study."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from http import HTTPStatus

from aiohttp import web

from pacs import __version__
from pacs.dicom import transfer_syntax as syntaxes
from pacs.dicom.model import StoredInstance, Target
from pacs.errors import NotFound
from pacs.services.retrieve import BulkContent, Retrieve
from pacs.web import single
from pacs.web.bridge import Bridge
from pacs.web.links import Links, url_of
from pacs.web.multipart import Writer
from pacs.web.negotiate import OCTET_STREAM, Offer, accepted, choose
from pacs.web.target import target_of


class BulkData:
    """Values that metadata name by BulkDataURI."""

    def __init__(self, retrieve: Retrieve, bridge: Bridge, links: Links) -> None:
        self._retrieve = retrieve
        self._bridge = bridge
        self._links = links

    def routes(self) -> list[web.RouteDef]:
        """Paths below the API root."""
        series = "/studies/{study}/series/{series}"
        instance = f"{series}/instances/{{instance}}"
        return [
            *(web.get(f"{path}/bulkdata", self.everything) for path in ("/studies/{study}", series, instance)),
            web.get(f"{instance}/bulkdata/{{path:.+}}", self.bulkdata),
        ]

    async def everything(self, request: web.Request) -> web.StreamResponse:
        """All values of a study, series or instance, one a part; Content-Location is each one's BulkDataURI."""
        ranges = accepted(request.headers.getall("Accept", []), request.query.getall("accept", []))
        choose(ranges, [Offer(OCTET_STREAM, multipart=True)])
        target = target_of(request)
        instances = await self._bridge.run(self._retrieve.instances, target, self._links.caller(request))
        places = await self._bridge.run(self._places, instances)
        if not places:
            raise NotFound("There are no bulk data here")
        writer = Writer()
        headers = {"Content-Type": writer.content_type(OCTET_STREAM), "Vary": "Accept"}
        pieces = self._parts(places, writer, self._links.base(request))
        return await self._bridge.send(request, web.StreamResponse(headers=headers), pieces)

    async def bulkdata(self, request: web.Request) -> web.StreamResponse:
        """One value; a byte range of it also within a multipart answer, as clients ask for that too."""
        ranges = accepted(request.headers.getall("Accept", []), request.query.getall("accept", []))
        target = target_of(request)
        path = "/".join(
            piece.upper() if len(piece) == 8 else piece for piece in request.match_info["path"].strip("/").split("/")
        )
        (instance, *_) = await self._bridge.run(self._retrieve.instances, target, self._links.caller(request))
        content = await self._bridge.run(self._retrieve.bulkdata, target, path)
        offer = choose(ranges, _bulk_offers(content))
        etag = single.etag_of(__version__, instance.blob.digest, path, str(offer))
        if not offer.multipart:

            def read(offset: int, length: int | None) -> Iterator[bytes]:
                if (offset, length) == (0, None):
                    return content.chunks
                # Deferred to the thread that reads: opening may decode.
                return _later(self._retrieve, target, path, offset, length)

            return await single.answer(
                request,
                self._bridge,
                etag=etag,
                media_type=str(offer),
                size_bytes=content.size_bytes,
                read=read,
                headers={"Vary": "Accept", "Content-Location": self._links.here(request)},
            )
        writer = Writer()
        fields = {"Content-Location": self._links.here(request)}
        status = HTTPStatus.OK
        wanted = single.asked_range(request, etag)
        if wanted is not None:
            span = single.resolve_range(wanted, content.size_bytes)
            if span is None:
                outside = {"Content-Range": f"bytes */{content.size_bytes}"}
                return web.Response(status=HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, headers=outside)
            content = await self._bridge.run(self._retrieve.bulkdata, target, path, *span)
            status = HTTPStatus.PARTIAL_CONTENT
            fields["Content-Range"] = f"bytes {span[0]}-{span[0] + span[1] - 1}/{content.size_bytes}"
        headers = {"Content-Type": writer.content_type(offer.media_type), "Vary": "Accept"}
        response = web.StreamResponse(status=status, headers=headers)
        part_type = str(Offer(offer.media_type, offer.transfer_syntax_uid))
        return await self._bridge.send(request, response, _one_part(writer, part_type, fields, content.chunks))

    def _places(self, instances: Sequence[StoredInstance]) -> list[tuple[Target, str]]:
        return [(each.target, path) for each in instances for path in self._retrieve.layout(each.target).bulk]

    def _parts(self, places: Sequence[tuple[Target, str]], writer: Writer, base: str) -> Iterator[bytes]:
        """The whole multipart body; blocking."""
        for target, path in places:
            content = self._retrieve.bulkdata(target, path)
            part_type = str(Offer(OCTET_STREAM, _transfer_syntax(content)))
            yield writer.part(part_type, {"Content-Location": f"{url_of(base, target)}/bulkdata/{path}"})
            yield from content.chunks
        yield writer.end()


def _bulk_offers(content: BulkContent) -> list[Offer]:
    types = dict.fromkeys((content.media_type, OCTET_STREAM))
    uid = _transfer_syntax(content)
    forms = [Offer(media_type, uid, multipart) for multipart in (False, True) for media_type in types]
    # Asked without a transfer syntax, an encapsulated value is still the only one there is.
    return forms + [Offer(form.media_type, "", form.multipart) for form in forms if uid]


def _later(retrieve: Retrieve, target: Target, path: str, offset: int, length: int | None) -> Iterator[bytes]:
    yield from retrieve.bulkdata(target, path, offset, length).chunks


def _one_part(writer: Writer, part_type: str, fields: dict[str, str], chunks: Iterator[bytes]) -> Iterator[bytes]:
    yield writer.part(part_type, fields)
    yield from chunks
    yield writer.end()


def _transfer_syntax(content: BulkContent) -> str:
    """It says something about encapsulated pixel data only; any other value has none."""
    return content.transfer_syntax_uid if syntaxes.find(content.transfer_syntax_uid).encapsulated else ""
