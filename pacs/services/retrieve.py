"""The one way out: C-MOVE, C-GET and WADO-RS read here."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from pacs.blobs.base import BlobStore
from pacs.dicom import transfer_syntax as syntaxes
from pacs.dicom.layout import Layout, Span
from pacs.dicom.matching import Matcher, TagPath
from pacs.dicom.model import EVERYTHING, Attributes, Caller, Scope, StoredInstance, Target
from pacs.errors import Corrupt, Gone, NotFound, OutOfResources, TooLarge
from pacs.imaging.decode import decode_frames
from pacs.imaging.encapsulate import encoded_frames
from pacs.imaging.options import RenderOptions
from pacs.imaging.pool import Pool
from pacs.imaging.source import Source, decimal
from pacs.imaging.transcode import targets_of, transcode
from pacs.index.base import Held, Index, InstanceMetadata
from pacs.services.file_span import FileSpan, Piece, file_pieces
from pacs.services.made_frames import MadeFrames
from pacs.services.showing import Rendered, Showing
from pacs.services.stored_frame import StoredFrame, file_span, is_as_stored, is_native, read, spans_of, stored_frame

log = logging.getLogger(__name__)

_SECONDS_A_FRAME = 0.1
_SECONDS_A_MEGAPIXEL = 0.5
_WORD_BYTES = {"OW": 2, "US": 2, "SS": 2, "OF": 4, "OL": 4, "OD": 8, "OV": 8}


@dataclass
class Content:
    """A whole file or data set on its way out. ``close`` when done, read to the end or not."""

    size_bytes: int
    transfer_syntax_uid: str
    pieces: Iterator[bytes]
    temporary: Path | None = None
    span: FileSpan | None = None

    def segments(self) -> Iterator[Piece]:
        """The same as ``chunks`` for those who can send part of a file as it lies."""
        return self.pieces if self.span is None else iter([self.span])

    def chunks(self) -> Iterator[bytes]:
        """The bytes, once, in pieces of at most 1 MiB."""
        return self.pieces

    def close(self) -> None:
        close = getattr(self.pieces, "close", None)
        if close is not None:
            close()
        if self.temporary is not None:
            self.temporary.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class FrameSet:
    """transfer_syntax_uid: of the frames: the stored one, or what they were made into."""

    transfer_syntax_uid: str
    frames: list[bytes]


@dataclass(frozen=True, slots=True)
class BulkContent:
    """size_bytes: of the whole value, whatever range was asked; offset, length: of what ``chunks`` gives."""

    size_bytes: int
    offset: int
    length: int
    media_type: str
    transfer_syntax_uid: str
    chunks: Iterator[bytes] = field(compare=False)


class Retrieve:
    """Reads instances, metadata, frames and pictures. Safe to call from any thread.

    What a caller asks for is what that caller sees; the rest is as if it were not there. What takes no caller is for
    instances that such an answer named.

    max_frame_pixels: rows × columns of a frame that is decoded at all. made: where codestreams that were made of frames
    are kept. preferred_frames: transfer syntax in which frames of uncompressed images go out when the client leaves the
    choice; "": as stored.

    Raises NotFound for what is not there, Undecodable for pixels that cannot be decoded, TooLarge for frames past the
    limit, NotAcceptable for a transfer syntax that cannot be made, OutOfResources when too busy, TooSlow when an image
    takes longer than it may.
    """

    def __init__(
        self,
        index: Index,
        blobs: BlobStore,
        pool: Pool,
        *,
        max_frame_pixels: int = 1 << 28,
        made: MadeFrames | None = None,
        preferred_frames: str = "",
    ) -> None:
        self._index = index
        self._blobs = blobs
        self._pool = pool
        self._max_frame_pixels = max_frame_pixels
        self._made = made
        self._preferred_frames = preferred_frames
        self.showing = Showing(index, blobs, pool, self._held, self._source)

    def made_uses(self) -> tuple[int, int]:
        """How many codestreams were found made, and how many were not, since the process began."""
        return (self._made.hits, self._made.misses) if self._made is not None else (0, 0)

    def instances(self, target: Target, caller: Caller) -> list[StoredInstance]:
        """All instances of a subtree, in order of series and Instance Number."""
        found = self._index.locate(target, scope=caller.scope)
        if not found:
            raise missing(self._index, target, caller.scope)
        log.info(
            "retrieves study=%s series=%s sop=%s from=%s instances=%d",
            target.study_uid,
            target.series_uid or "",
            target.sop_uid or "",
            caller.name,
            len(found),
        )
        return found

    def held(self, target: Target, caller: Caller) -> Held:
        """One instance with all that the index knows of it."""
        held = self._held(target, caller.scope)
        log.info(
            "retrieves study=%s series=%s sop=%s from=%s instances=1",
            target.study_uid,
            target.series_uid,
            target.sop_uid,
            caller.name,
        )
        return held

    def select(self, keys: Mapping[TagPath, Matcher], caller: Caller) -> list[StoredInstance]:
        """All instances that match; may be none."""
        found = self._index.select(keys, scope=caller.scope)
        log.info("retrieves from=%s instances=%d", caller.name, len(found))
        return found

    def metadata(self, target: Target, caller: Caller) -> Iterator[InstanceMetadata]:
        """Metadata of a subtree. NotFound is raised here, not at the first piece."""
        pages = iter(self._index.metadata(target, scope=caller.scope))
        first = next(pages, None)
        if first is None:
            raise missing(self._index, target, caller.scope)
        return chain((first,), pages)

    def attributes(self, target: Target) -> Attributes:
        """All attributes of one instance, bulk data left out."""
        parsed: Attributes = orjson.loads(self._held(target).metadata)
        return parsed

    def layout(self, target: Target) -> Layout:
        """Where bulk data and frames of one instance lie."""
        return self._index.layout(target)

    def number_of_frames(self, target: Target) -> int:
        """Frames of one instance; 0 when it has no pixels."""
        pixels = self._index.layout(target).pixels
        return pixels.number_of_frames if pixels else 0

    def file(
        self,
        instance: StoredInstance,
        transfer_syntax_uid: str | None = None,
        *,
        in_turn: bool = False,
        at_once: bool = False,
    ) -> Content:
        """A Part 10 file, as stored or in another transfer syntax.

        in_turn: never too busy, but later then: for the rest of an answer that has begun. at_once: as in
        ``BlobStore.stream``.
        """
        return self._content(instance, transfer_syntax_uid, with_meta=True, in_turn=in_turn, at_once=at_once)

    def data_set(
        self, instance: StoredInstance, transfer_syntax_uid: str | None = None, *, at_once: bool = False
    ) -> Content:
        """A data set without preamble and file meta information, as C-STORE sends it."""
        return self._content(instance, transfer_syntax_uid, with_meta=False, at_once=at_once)

    def transfer_syntaxes(self, instance: StoredInstance) -> tuple[str, ...]:
        """What the instance can be sent in, the stored one first. Told by its metadata: no file is opened."""
        held = self._held(instance.target)
        return tuple(dict.fromkeys((held.instance.transfer_syntax_uid, *targets_of(_header(held)))))

    def preferred_syntax(self, instance: StoredInstance) -> str:
        """Transfer syntax in which its frames go out when the client leaves the choice; "" for the stored one.

        A stored codestream is never made into another unasked.
        """
        uid = self._preferred_frames
        if not uid or syntaxes.find(instance.transfer_syntax_uid).encapsulated:
            return ""
        # What was made before can be made: its metadata need not be read again for each frame.
        is_made = self._made is not None and not self._made.lacks(instance.blob, 1, uid)
        return uid if is_made or uid in self.transfer_syntaxes(instance) else ""

    def frames(self, target: Target, numbers: Sequence[int], transfer_syntax_uid: str | None = None) -> FrameSet:
        """Frames by number, from 1: in a native transfer syntax as little endian bytes, else codestreams.

        transfer_syntax_uid None: as stored. Native frames are always those of Explicit VR Little Endian.
        """
        held = self._held(target)
        instance, layout, _ = held
        pixels = layout.pixels
        if pixels is None:
            raise NotFound("the instance has no pixel data")
        for number in numbers:
            if not 1 <= number <= pixels.number_of_frames:
                raise NotFound(f"there is no frame {number}: the instance has {pixels.number_of_frames}")
        wanted = transfer_syntax_uid or instance.transfer_syntax_uid
        as_native = is_native(pixels, wanted)
        if is_as_stored(instance, layout, wanted):
            frames = [read(self._blobs, instance, spans_of(pixels, number)) for number in numbers]
            return FrameSet(wanted if pixels.encapsulated else syntaxes.EXPLICIT_VR_LITTLE_ENDIAN, frames)

        def make(absent: list[int]) -> list[bytes]:
            with self._source(held) as source:
                return self._pool.run_for(self._timeout_s(source, len(absent)), encoded_frames, source, absent, wanted)

        if not as_native:
            made = self._made
            frames = made.frames(instance.blob, numbers, wanted, make) if made is not None else make(list(numbers))
            return FrameSet(wanted, frames)
        with self._source(held) as source:
            frames = self._pool.run_for(self._timeout_s(source, len(numbers)), decode_frames, source, list(numbers))
        return FrameSet(syntaxes.EXPLICIT_VR_LITTLE_ENDIAN, frames)

    def stored_frame(
        self, instance: StoredInstance, layout: Layout, number: int, transfer_syntax_uid: str
    ) -> StoredFrame | None:
        """One frame as it lies in the store, of video gigabytes; None when ``frames`` has to make it.

        layout: of the instance. Raises NotFound when there is no such frame.
        """
        if layout.pixels is None or not is_as_stored(instance, layout, transfer_syntax_uid):
            return None
        return stored_frame(self._blobs, instance, layout.pixels, number)

    def bulkdata(self, target: Target, path: str, offset: int = 0, length: int | None = None) -> BulkContent:
        """The value at a tag path, or a range of it, in little endian byte order (PS3.18 8.7.3.2)."""
        held = self._held(target)
        instance, layout, metadata = held
        span = layout.bulk.get(path)
        if span is None:
            raise NotFound("the instance has no such bulk data")
        wanted = span.length - offset if length is None else min(length, span.length - offset)
        if offset < 0 or wanted < 0:
            raise NotFound("the range begins beyond the bulk data")
        part = Span(span.offset + offset, wanted)
        if layout.deflated:
            with self._source(held) as source, source.open() as reader:
                chunks = iter([reader.read(part)])
        elif syntaxes.find(instance.transfer_syntax_uid).big_endian:
            whole = self._blobs.read(instance.blob, span.offset, span.length)
            swapped = _swapped(whole, _element_at(orjson.loads(metadata), path).get("vr", "UN"))
            chunks = iter([swapped[offset : offset + wanted]])
        else:
            chunks = self._blobs.stream(instance.blob, part.offset, part.length)
        encapsulated = layout.pixels is not None and layout.pixels.encapsulated and path == layout.pixels.tag
        uid = instance.transfer_syntax_uid if encapsulated else syntaxes.EXPLICIT_VR_LITTLE_ENDIAN
        return BulkContent(span.length, offset, wanted, "application/octet-stream", uid, chunks)

    def rendered(self, target: Target, frame: int | None, options: RenderOptions) -> Rendered:
        """One frame of an instance as a picture. frame None: the one that stands for it. See ``Showing.picture``."""
        return self.showing.picture(self._held(target), frame, options)

    def representative(self, target: Target, scope: Scope = EVERYTHING) -> Target:
        """The instance that stands for a study or series in a picture."""
        return self.showing.representative(target, scope).target

    def _content(
        self,
        instance: StoredInstance,
        transfer_syntax_uid: str | None,
        *,
        with_meta: bool,
        in_turn: bool = False,
        at_once: bool = False,
    ) -> Content:
        if transfer_syntax_uid in (None, instance.transfer_syntax_uid):
            start = 0 if with_meta else instance.data_set_offset
            size = instance.blob.size_bytes - start
            pieces = self._stored_pieces(self._blobs.stream(instance.blob, start, at_once=at_once), size)
            span = file_span(self._blobs, instance, start, size)
            return Content(size, instance.transfer_syntax_uid, pieces, span=span)
        assert transfer_syntax_uid is not None
        # In the meantime it may have been replaced: then the other version goes out, all of it.
        held = self._held(instance.target)
        temporary = self._blobs.incoming() / f"{secrets.token_hex(12)}.transcoded"
        try:
            with self._source(held) as source:
                pixels = held.layout.pixels
                timeout_s = self._timeout_s(source, pixels.number_of_frames if pixels else 1)
                run = self._pool.run_in_turn if in_turn else self._pool.run_for
                run(timeout_s, transcode, source, temporary, transfer_syntax_uid)
            size = temporary.stat().st_size
            start = 0 if with_meta else _data_set_offset(temporary)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise OutOfResources("the data folder cannot be written") from error
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        return Content(size - start, transfer_syntax_uid, file_pieces(temporary, start), temporary)

    def _stored_pieces(self, pieces: Iterator[bytes], size: int) -> Iterator[bytes]:
        """size: bytes of all of them. A file that was cut short on the disk must not arrive as a whole instance."""
        left = size
        try:
            for piece in pieces:
                left -= len(piece)
                yield piece
        except NotFound as error:
            raise Corrupt("the stored file is missing; run pacs verify") from error
        if left > 0:
            raise Corrupt("the stored file is shorter than it was; run pacs verify")

    def _timeout_s(self, source: Source, frames: int) -> float:
        """The limit of one image, and more for further frames: whole instances may hold thousands."""
        a_frame = max(_SECONDS_A_FRAME, _frame_pixels(source) / 1e6 * _SECONDS_A_MEGAPIXEL)
        return self._pool.timeout_s + (frames - 1) * a_frame

    def _held(self, target: Target, scope: Scope = EVERYTHING) -> Held:
        held = self._index.held(target, scope=scope)
        if held is None:
            raise missing(self._index, target, scope)
        return held

    @contextmanager
    def _source(self, held: Held) -> Iterator[Source]:
        """The instance as a file that a worker process can open. Raises TooLarge for frames past the limit."""
        header = _header(held)
        if held.layout.pixels is not None and _frame_pixels(header) > self._max_frame_pixels:
            raise TooLarge(f"frames of more than {self._max_frame_pixels} pixels are not decoded here")
        with self._blobs.local(held.instance.blob) as path:
            yield header.at(path)


def missing(index: Index, target: Target, scope: Scope = EVERYTHING) -> NotFound:
    """Why nothing is found at ``target``: it never was there, or it has been deleted.

    Who sees a part of the archive is not told that something was deleted: it may never have been theirs to see.
    """
    name = target.level.name.lower()
    if scope.is_everything and index.is_deleted(target):
        return Gone(f"the {name} has been deleted")
    return NotFound(f"no such {name} in the archive")


def _header(held: Held) -> Source:
    """The instance without its file: what does not open it."""
    instance, layout, metadata = held
    return Source(Path(), instance.transfer_syntax_uid, instance.data_set_offset, metadata, layout)


def _frame_pixels(source: Source) -> int:
    """Rows × columns as the data set has them; 0 when it has none that are numbers."""
    rows, columns = (decimal(source.value(tag), 0.0) or 0.0 for tag in ("00280010", "00280011"))
    return int(max(0.0, rows) * max(0.0, columns))


def _data_set_offset(path: Path) -> int:
    """Of a file that we wrote: 132 bytes of preamble and prefix, then (0002,0000) with the length of what follows."""
    with path.open("rb") as file:
        head = file.read(144)
    return 144 + int.from_bytes(head[140:144], "little")


def _element_at(attributes: Attributes, path: str) -> Mapping[str, Any]:
    tag, *rest = path.split("/")
    element: Mapping[str, Any] = attributes.get(tag, {})
    for item, inner in zip(rest[::2], rest[1::2], strict=True):
        element = element["Value"][int(item) - 1].get(inner, {})
    return element


def _swapped(data: bytes, vr: str) -> bytes:
    word = _WORD_BYTES.get(vr, 1)
    if word == 1:
        return data
    whole = len(data) - len(data) % word
    return np.frombuffer(data[:whole], f">u{word}").astype(f"<u{word}").tobytes() + data[whole:]
