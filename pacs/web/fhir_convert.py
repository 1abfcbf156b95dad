"""``POST /fhir-convert``: DICOM instances in, FHIR resources out; nothing is stored."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any
from uuid import uuid5

import orjson
from aiohttp import web

from pacs.dicom.header import read_header
from pacs.dicom.model import Attributes
from pacs.errors import Invalid, PacsError, TooLarge
from pacs.services import fhir_resources
from pacs.services.fhir_archive import FhirArchive, contents_of
from pacs.services.fhir_ids import patient_key
from pacs.services.fhir_values import Json
from pacs.services.store import Store
from pacs.web import problem
from pacs.web.additions import Addition
from pacs.web.bridge import Bridge
from pacs.web.fhir import media_type_of
from pacs.web.fhir_capabilities import CONVERSION
from pacs.web.fhir_outcome import outcome
from pacs.web.links import Links
from pacs.web.multipart import Reader
from pacs.web.negotiate import DICOM, MULTIPART, MediaType, parse_media_type
from pacs.web.receive import InstanceSink, Part, Receiver
from pacs.web.stow import blocks, inflater_of

_MAX_INSTANCES = 20_000
# All that resources are made of: the rest of an instance is not kept until its request is over.
_KEPT = frozenset(
    {
        *("00080005", "00080016", "00080018", "00080020", "00080021", "00080030", "00080031", "00080050", "00080051"),
        *("00080060", "00080090", "00080201", "00081030", "00081032", "0008103E", "00081050", "00081060"),
        *("00081070", "00082218", "00100010", "00100020", "00100021", "00100024", "00100030", "00100040", "00120062"),
        *("00180015", "0020000D", "0020000E", "00200010", "00200011", "00200013", "00200060", "00400244", "00400245"),
        *("0040A043", "00700080"),
    }
)


class _ConvertSink(InstanceSink):
    """Reads each instance as soon as it is there, and lets go of its file."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.instances: list[Attributes] = []

    def end(self, *, complete: bool) -> None:
        super().end(complete=complete)
        while self.ready:
            self._read(self.ready.pop())

    def _read(self, part: Part) -> None:
        spool, part.spool = part.spool, None
        assert spool is not None
        try:
            with spool.mapped() as content:
                attributes = read_header(spool.path, content=content, known_meta=spool.known_meta).attributes
            self.instances.append({tag: attributes[tag] for tag in _KEPT & attributes.keys()})
        except PacsError as error:
            part.result = error
        finally:
            spool.discard()
        if len(self.instances) > _MAX_INSTANCES:
            raise TooLarge(f"At most {_MAX_INSTANCES} instances are converted at once")


def addition(archive: FhirArchive, store: Store, *, max_body_bytes: int | None) -> Addition:
    return Addition(
        (CONVERSION,),
        lambda bridge, links: FhirConvert(archive, store, bridge, links, max_body_bytes=max_body_bytes).routes(),
    )


class FhirConvert:
    """max_body_bytes: of one request, None for no limit."""

    def __init__(
        self,
        archive: FhirArchive,
        store: Store,
        bridge: Bridge,
        links: Links,
        *,
        max_body_bytes: int | None,
    ) -> None:
        self._archive = archive
        self._store = store
        self._bridge = bridge
        self._links = links
        self._max_body_bytes = max_body_bytes

    def routes(self) -> list[web.RouteDef]:
        """Paths below the API root."""
        return [web.post("/fhir-convert", self.convert)]

    async def convert(self, request: web.Request) -> web.Response:
        """A Bundle (collection). What cannot be read is told within it; 400 when nothing can."""
        media_type = media_type_of(request)
        media = _media_type(request)
        reader = Reader(media.parameters.get("boundary", "")) if media.name == MULTIPART else None
        if self._max_body_bytes is not None and (request.content_length or 0) > self._max_body_bytes:
            raise TooLarge(f"The request is larger than {self._max_body_bytes} bytes")
        sink = _ConvertSink(self._store)
        receiver = await self._bridge.run(
            Receiver, sink, reader, self._max_body_bytes, inflater_of(request), media.name
        )
        try:
            try:
                async for block in blocks(request, self._bridge.idle_s):
                    await self._bridge.run(receiver.feed, block)
                await self._bridge.run(receiver.close)
            except web.RequestPayloadError as error:
                raise Invalid("The body cannot be read: its chunks are malformed", "body") from error
        finally:
            await asyncio.shield(self._bridge.run(receiver.discard))
        failed = [part.result for part in sink.parts if isinstance(part.result, PacsError)]
        if not sink.instances:
            raise Invalid(str(failed[0]) if failed else "There is no instance in the request", "body")
        bundle = await self._bridge.run(self._bundle, sink.instances, failed, self._links.base(request))
        return web.Response(body=orjson.dumps(bundle), content_type=media_type, headers={"Vary": "Accept"})

    def _bundle(self, instances: Sequence[Attributes], failed: Sequence[PacsError], address: str) -> Json:
        archive, namespaces = self._archive, self._archive.namespaces
        endpoint = f"urn:uuid:{uuid5(namespaces.archive, 'Endpoint')}"
        resources: dict[str, Json] = {endpoint: fhir_resources.endpoint(namespaces.archive, address)}
        for study in contents_of(instances):
            key = patient_key(study.attributes)
            patient = None
            if key is not None:
                patient = f"urn:uuid:{uuid5(namespaces.archive, f'Patient {key.resource_id}')}"
                resources[patient] = fhir_resources.patient(study.attributes, namespaces)
            made = archive.resource_of(study, patient_reference=patient, endpoint_reference=endpoint)
            resources[f"urn:uuid:{uuid5(namespaces.archive, f'ImagingStudy {study.study_uid}')}"] = made
        entries: list[Mapping[str, Any]] = [{"fullUrl": url, "resource": made} for url, made in resources.items()]
        entries += [{"resource": outcome("error", "structure", str(error))} for error in failed]
        return {"resourceType": "Bundle", "type": "collection", "entry": entries}


def _media_type(request: web.Request) -> MediaType:
    """What the body is. Raises UnsupportedMediaType for anything but DICOM files."""
    try:
        media = parse_media_type(request.headers.get("Content-Type", ""))
    except Invalid:
        media = MediaType("")
    if media.name != DICOM and (media.name != MULTIPART or media.parameters.get("type", DICOM).lower() != DICOM):
        detail = f'The request must be {MULTIPART}; type="{DICOM}" or {DICOM}'
        raise problem.Answered(problem.problem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, detail))
    return media
