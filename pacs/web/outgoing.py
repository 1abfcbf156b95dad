"""Instances on their way out as DICOM files: in which transfer syntax, and made a few ahead of the one being sent."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass

from pacs.dicom import transfer_syntax as syntaxes
from pacs.dicom.model import StoredInstance
from pacs.errors import NotAcceptable, PacsError, TooLarge, TooSlow, Undecodable
from pacs.imaging.transcode import NATIVE, TARGETS
from pacs.services.file_span import Piece
from pacs.services.retrieve import Content, Retrieve
from pacs.web.bridge import Bridge
from pacs.web.links import url_of
from pacs.web.multipart import Writer
from pacs.web.negotiate import DICOM, MediaType, Offer, choose

# Pixels that must be decoded may turn out to be undecodable. So many instances are made before the status goes out, so
# that it can say 206; past that a failure cuts the connection.
_PREPARED_INSTANCES = 64
_PREPARED_BYTES = 512 << 20
_AHEAD = 4
# What concerns one instance and not the whole request.
_FAILURES = (NotAcceptable, Undecodable, TooLarge, TooSlow)


@dataclass(slots=True, eq=False)
class Planned:
    """One instance and how it goes out. transfer_syntax_uid None: as stored. made: being made, or made, ahead."""

    instance: StoredInstance
    transfer_syntax_uid: str | None
    made: Future[Content] | None = None

    def close(self) -> None:
        """Let go of what was made and not sent. Idempotent, from any thread."""
        made, self.made = self.made, None
        if made is not None and not made.cancel():
            made.add_done_callback(_close_made)


class Outgoing:
    """Plans answers of several instances, and gives their bodies. All methods but the constructor block."""

    def __init__(self, retrieve: Retrieve, bridge: Bridge) -> None:
        self._retrieve = retrieve
        self._bridge = bridge

    def syntax(self, instance: StoredInstance, ranges: Sequence[MediaType], *, is_multipart: bool) -> str | None:
        """The transfer syntax to send in, None for the stored one, which wins among equals: it costs nothing.

        Raises NotAcceptable, naming what can be made of this instance.
        """
        stored = instance.transfer_syntax_uid
        try:
            chosen = _chosen([stored, *TARGETS], ranges, is_multipart)
            if chosen == stored or (chosen in NATIVE and not may_fail(instance)):
                return None if chosen == stored else chosen
        except NotAcceptable:
            pass  # said again, with what there really is
        chosen = _chosen(self._retrieve.transfer_syntaxes(instance), ranges, is_multipart)
        return None if chosen == stored else chosen

    def plan(
        self, instances: Iterable[StoredInstance], ranges: Sequence[MediaType]
    ) -> tuple[list[Planned], list[PacsError]]:
        """What can be sent in a multipart answer, and why the rest cannot."""
        planned: list[Planned] = []
        failures: list[PacsError] = []
        for instance in instances:
            try:
                planned.append(Planned(instance, self.syntax(instance, ranges, is_multipart=True)))
            except _FAILURES as error:
                failures.append(error)
        doubtful = [each for each in planned if each.transfer_syntax_uid is not None and may_fail(each.instance)]
        doubtful = doubtful[:_PREPARED_INSTANCES]
        prepared_bytes = 0
        try:
            for position, each in enumerate(doubtful):
                if prepared_bytes >= _PREPARED_BYTES:
                    break
                self._begin(doubtful[position : position + _AHEAD])
                try:
                    prepared_bytes += self._content(each).size_bytes
                except _FAILURES as error:
                    failures.append(error)
                    planned.remove(each)
        except BaseException:
            close_all(planned)
            raise
        return planned, failures

    def size_bytes(self, planned: Sequence[Planned], boundary: str, base: str) -> int | None:
        """Length of what ``parts`` gives; None when not all of it is there yet."""
        if any(each.transfer_syntax_uid is not None for each in planned):
            return None
        writer = Writer(boundary)
        size = 0
        for each in planned:
            instance = each.instance
            size += len(_header(writer, instance, instance.transfer_syntax_uid, base)) + instance.blob.size_bytes
        return size + len(writer.end())

    def parts(self, planned: Sequence[Planned], writer: Writer, base: str) -> Iterator[Piece]:
        """The whole multipart body."""
        for position, each in enumerate(planned):
            self._begin(planned[position : position + _AHEAD])
            content = self._content(each)
            yield _header(writer, each.instance, content.transfer_syntax_uid, base)
            try:
                yield from content.segments()
            finally:
                content.close()
                each.made = None
        yield writer.end()

    def _begin(self, planned: Iterable[Planned]) -> None:
        for each in planned:
            uid = each.transfer_syntax_uid
            if each.made is None and uid is not None:
                each.made = self._bridge.ahead(self._retrieve.file, each.instance, uid, in_turn=True)
            elif each.made is None:  # a store that is far away begins to read it
                each.made = Future()
                each.made.set_result(self._retrieve.file(each.instance, at_once=True))

    def _content(self, each: Planned) -> Content:
        return self._retrieve.file(each.instance) if each.made is None else each.made.result()


def _header(writer: Writer, instance: StoredInstance, transfer_syntax_uid: str, base: str) -> bytes:
    """Of a part."""
    location = {"Content-Location": url_of(base, instance.target)}
    return writer.part(f"{DICOM}; transfer-syntax={transfer_syntax_uid}", location)


def may_fail(instance: StoredInstance) -> bool:
    """Whether making another transfer syntax of it means decoding something."""
    syntax = syntaxes.find(instance.transfer_syntax_uid)
    return syntax.encapsulated or syntax.deflated or instance.transfer_syntax_uid not in syntaxes.BY_UID


def close_all(planned: Iterable[Planned]) -> None:
    """Of a plan that is not, or not wholly, sent."""
    for each in planned:
        each.close()


def _chosen(candidates: Iterable[str], ranges: Sequence[MediaType], is_multipart: bool) -> str:
    offers = [Offer(DICOM, uid, is_multipart) for uid in dict.fromkeys(candidates)]
    return choose(ranges, offers).transfer_syntax_uid


def _close_made(made: Future[Content]) -> None:
    if not made.cancelled() and made.exception() is None:
        made.result().close()
