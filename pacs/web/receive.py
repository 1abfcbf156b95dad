"""A STOW-RS body taken apart as it comes (PS3.18 10.5.1): into spools that are ready to be stored."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from pacs.errors import Invalid, PacsError, TooLarge, Unreadable
from pacs.services.spool import Spool
from pacs.services.store import Store, Stored
from pacs.web.inflate import Inflater
from pacs.web.multipart import PartBegin, PartEnd, Reader
from pacs.web.negotiate import DICOM, OCTET_STREAM, parse_media_type

# How much is spooled before a group is committed.
_GROUP_BYTES = 64 << 20
_GROUP_PARTS = 32


@dataclass(slots=True)
class Part:
    """One object of a request. result: None until it is stored or refused.

    make: makes the spool of an object that did not come as a file; blocking, raises PacsError. discarded: attributes
    that were left out of it.
    """

    spool: Spool | None = None
    result: Stored | PacsError | None = None
    make: Callable[[Part], Spool] | None = None
    discarded: tuple[str, ...] = ()


class Sink(Protocol):
    """Takes the parts of a body in turn: begin, write …, end. Blocking; used by one thread at a time."""

    parts: list[Part]  # all objects of the request
    ready: list[Part]  # those that wait to be stored

    def begin(self, headers: Mapping[str, str]) -> None: ...

    def write(self, data: bytes | memoryview) -> None: ...

    def end(self, *, complete: bool) -> None: ...

    def close(self) -> None:
        """The body is over. Raises Invalid when nothing in it can be an object."""

    def discard(self) -> None:
        """Remove temporary files that nobody needs any more."""


class Receiver:
    """Feeds a sink with the parts of a body. Blocking; used by one thread at a time. reader None: it is one part."""

    def __init__(
        self,
        sink: Sink,
        reader: Reader | None,
        max_bytes: int | None,
        inflater: Inflater | None = None,
        content_type: str = "",
    ) -> None:
        self._sink = sink
        self._reader = reader
        self._max_bytes = max_bytes
        self._inflater = inflater
        self._received = 0
        if reader is None:
            sink.begin({"content-type": content_type})

    @property
    def parts(self) -> list[Part]:
        return self._sink.parts

    @property
    def is_group_ready(self) -> bool:
        return len(self._sink.ready) >= _GROUP_PARTS or _size_of(self._sink.ready) >= _GROUP_BYTES

    def feed(self, block: Sequence[bytes]) -> None:
        """Raises TooLarge past the limit of a request, OutOfResources for a full disk, Invalid for bad framing."""
        for received in block:
            for data in self._inflater.feed(received) if self._inflater else (received,):
                self._received += len(data)
                if self._max_bytes is not None and self._received > self._max_bytes:
                    raise TooLarge(f"The request is larger than {self._max_bytes} bytes")
                if self._reader is None:
                    self._sink.write(data)
                    continue
                for event in self._reader.feed(data):
                    self._take(event)

    def close(self) -> None:
        """The body is over. Raises Invalid when there was nothing in it."""
        if self._inflater is not None:
            self._inflater.close()
        if self._received == 0:
            raise Invalid("The request has no body", "body")
        if self._reader is None:
            self._sink.end(complete=True)
        else:
            for event in self._reader.close():
                self._take(event)
            if not self._reader.parts:
                raise Invalid("The request holds no part: the boundary does not occur in it", "boundary")
        self._sink.close()

    def take_ready(self) -> list[Part]:
        """A group of the whole parts that wait to be stored; they are the caller's now."""
        group, self._sink.ready = self._sink.ready[:_GROUP_PARTS], self._sink.ready[_GROUP_PARTS:]
        return group

    def discard(self) -> None:
        """Remove what was neither taken nor stored."""
        for part in self._sink.ready:
            if part.spool is not None:
                part.spool.discard()
        self._sink.discard()

    def _take(self, event: PartBegin | PartEnd | memoryview) -> None:
        if isinstance(event, PartBegin):
            self._sink.begin(event.headers)
        elif isinstance(event, PartEnd):
            self._sink.end(complete=event.complete)
        else:
            self._sink.write(event)


class InstanceSink:
    """Each part is a DICOM file, and goes into a spool."""

    def __init__(self, store: Store) -> None:
        self.parts: list[Part] = []
        self.ready: list[Part] = []
        self._store = store
        self._open: Part | None = None

    def begin(self, headers: Mapping[str, str]) -> None:
        self._open = Part()
        self.parts.append(self._open)
        content_type = headers.get("content-type")
        if content_type and not _is_dicom(content_type):
            self._open.result = Unreadable(f"the part is {content_type[:64]}; only {DICOM} can be stored")
            return
        self._open.spool = self._store.spool()

    def write(self, data: bytes | memoryview) -> None:
        part = self._open
        if part is None or part.spool is None:
            return
        try:
            part.spool.write(data)
        except TooLarge as error:
            part.spool.discard()
            part.spool, part.result = None, error

    def end(self, *, complete: bool) -> None:
        part, self._open = self._open, None
        if part is None or part.spool is None:
            return
        if not complete:
            part.spool.discard()
            part.spool, part.result = None, Unreadable("the request ended before the part did")
            return
        # Closed now: a block can hold thousands of small parts, and a process may not open that many files.
        part.spool.finish()
        self.ready.append(part)

    def close(self) -> None:
        pass

    def discard(self) -> None:
        if self._open is not None and self._open.spool is not None:
            self._open.spool.discard()


def _size_of(parts: Sequence[Part]) -> int:
    return sum(part.spool.size_bytes for part in parts if part.spool is not None)


def _is_dicom(content_type: str) -> bool:
    try:
        return parse_media_type(content_type).name in (DICOM, OCTET_STREAM)
    except Invalid:
        return True  # the bytes will tell
