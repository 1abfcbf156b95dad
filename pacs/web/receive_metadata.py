"""STOW-RS bodies of metadata and bulk data (PS3.18 10.5.1.2): instances in JSON or XML, their bulk data beside them.

Bulk data go into temporary files. A BulkDataURI names the part whose Content-Location it is; frames of compressed
Pixel Data are parts of the same Content-Location, in order, or of it and "/frames/{number}".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any
from urllib.parse import unquote, urljoin

from pacs.dicom.file_meta import FileMeta
from pacs.dicom.json_reader import MAX_MARKS, checked, marks_in, read_json
from pacs.dicom.xml_model import from_xml
from pacs.errors import Invalid, Rejected, TooLarge, Unreadable
from pacs.services.assembly import BulkPart, assemble
from pacs.services.bulk_file import BulkFile
from pacs.services.spool import Spool
from pacs.services.store import Store
from pacs.web.negotiate import DICOM, DICOM_JSON, DICOM_XML, OCTET_STREAM, MediaType, parse_media_type
from pacs.web.receive import Part

# Of all metadata of a request; they are held, in contrast to the bulk data.
MAX_METADATA_BYTES = 32 << 20
MAX_BULK_PARTS = 100_000
_FRAME = re.compile(r"(.+)/frames/(\d{1,9})/?")


class MetadataSink:
    """kind: media type of the metadata. url: of the request; relative locations are meant from there."""

    def __init__(self, store: Store, kind: str, url: str) -> None:
        self.parts: list[Part] = []
        self.ready: list[Part] = []
        self._store = store
        self._kind = kind
        self._bulk = _Bulk(url)
        self._files: list[BulkFile] = []
        self._documents: list[tuple[str, bytes]] = []
        self._metadata_bytes = 0
        # Of the part that is open:
        self._headers: Mapping[str, str] = {}
        self._media = MediaType("")
        self._document: bytearray | None = None
        self._file: BulkFile | None = None

    def begin(self, headers: Mapping[str, str]) -> None:
        self._headers = headers
        self._media = self._media_of(headers.get("content-type", ""))
        self._document = self._file = None
        if self._media.name in (DICOM_JSON, DICOM_XML):
            self._document = bytearray()
        elif self._media.name == DICOM:
            self.parts.append(Part(result=Unreadable(f"files ({DICOM}) are not taken beside metadata")))
        elif len(self._files) >= MAX_BULK_PARTS:
            raise TooLarge(f"The request has more than {MAX_BULK_PARTS} parts of bulk data")
        else:
            self._file = self._store.bulk_file()
            self._files.append(self._file)

    def write(self, data: bytes | memoryview) -> None:
        if self._document is not None:
            self._metadata_bytes += len(data)
            if self._metadata_bytes > MAX_METADATA_BYTES:
                raise TooLarge(f"The metadata are larger than {MAX_METADATA_BYTES} bytes")
            self._document += data
        elif self._file is not None:
            self._file.write(data)

    def end(self, *, complete: bool) -> None:
        if self._document is not None:
            if complete:
                self._documents.append((self._media.name, bytes(self._document)))
            else:
                self.parts.append(Part(result=Unreadable("the request ended before the metadata did")))
        elif self._file is not None:
            self._file.finish()
            if complete:
                self._bulk.add(self._headers, self._part(self._file))
        self._document = self._file = None

    def close(self) -> None:
        """Raises Invalid when there are no metadata, or JSON that is none."""
        documents, self._documents = self._documents, []
        if sum(marks_in(document) for media_type, document in documents if media_type == DICOM_JSON) > MAX_MARKS:
            raise TooLarge("The metadata have too many values")
        for media_type, document in documents:
            if media_type == DICOM_JSON:
                for data_set in read_json(document):
                    self._add(partial(_as_it_is, data_set))
            else:
                # Parsed when its turn comes: as objects it is many times as large.
                self._add(partial(from_xml, document))
        if not self.parts:
            raise Invalid("The request holds no metadata of any instance", "body")

    def discard(self) -> None:
        for file in self._files:
            file.discard()
        self._files = []

    def _add(self, read: Callable[[], Any]) -> None:
        part = Part(make=partial(self._make, read))
        self.parts.append(part)
        self.ready.append(part)

    def _make(self, read: Callable[[], Any], part: Part) -> Spool:
        """Put one instance together in a spool. Raises PacsError, a Rejected kind with the UIDs that are known."""
        attributes: Any = None
        try:
            attributes = read()
            metadata = checked(attributes)
            assembled = assemble(metadata.attributes, metadata.transfer_syntax_uid, self._bulk)
            spool = self._store.spool(
                FileMeta(_uid(attributes, "00080016"), _uid(attributes, "00080018"), assembled.transfer_syntax_uid)
            )
            try:
                for chunk in assembled.chunks():
                    spool.write(chunk)
            except BaseException:
                spool.discard()
                raise
        except Rejected as error:
            error.sop_class_uid, error.sop_uid = _uid(attributes, "00080016"), _uid(attributes, "00080018")
            raise
        part.discarded = metadata.discarded
        return spool

    def _media_of(self, content_type: str) -> MediaType:
        """A part without a type is metadata when it comes first, else bulk data."""
        if content_type:
            try:
                return parse_media_type(content_type)
            except Invalid:
                pass
        is_first = not (self._documents or self._files or self.parts)
        return MediaType(self._kind if is_first else OCTET_STREAM)

    def _part(self, file: BulkFile) -> BulkPart:
        return BulkPart(file, self._media.content, self._media.parameters.get("transfer-syntax", ""))


class _Bulk(Mapping[str, Sequence[BulkPart]]):
    """Parts by BulkDataURI. Addresses are compared as absolute ones, and however they are percent-encoded."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._parts: dict[str, list[BulkPart]] = {}
        self._frames: dict[str, dict[int, BulkPart]] = {}

    def add(self, headers: Mapping[str, str], part: BulkPart) -> None:
        location = headers.get("content-location")
        if location is None and "content-id" in headers:
            location = f"cid:{headers['content-id'].strip('<>')}"
        if location is None:
            return  # nobody can name it
        place = self._absolute(location)
        self._parts.setdefault(place, []).append(part)
        frame = _FRAME.fullmatch(place)
        if frame:
            self._frames.setdefault(frame[1], {})[int(frame[2])] = part

    def __getitem__(self, uri: str) -> Sequence[BulkPart]:
        place = self._absolute(uri)
        if place in self._parts:
            return self._parts[place]
        frames = self._frames[place]
        return [frames[number] for number in sorted(frames)]

    def __iter__(self) -> Iterator[str]:
        return iter(self._parts)

    def __len__(self) -> int:
        return len(self._parts)

    def _absolute(self, uri: str) -> str:
        try:
            return unquote(urljoin(self._url, uri.strip()))
        except ValueError:
            return uri


def _as_it_is(data_set: Any) -> Any:
    return data_set


def _uid(data_set: Any, tag: str) -> str:
    """A UID of a data set that may be anything."""
    element = data_set.get(tag) if isinstance(data_set, Mapping) else None
    values = element.get("Value") if isinstance(element, Mapping) else None
    first = values[0] if isinstance(values, list) and values else None
    return first.strip(" \0")[:64] if isinstance(first, str) else ""
