"""Instances for people: pictures, texts and documents. Retrieve is the way in.

What draws is imported when first needed: an archive that nobody looks into does without Pillow.
"""

from __future__ import annotations

import base64
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

import orjson

from pacs.blobs.base import BlobStore
from pacs.dicom import transfer_syntax as syntaxes
from pacs.dicom.layout import Span
from pacs.dicom.model import EVERYTHING, Scope, StoredInstance, Target
from pacs.errors import NotAcceptable, NotFound, PacsError
from pacs.imaging import forms
from pacs.imaging.forms import Form
from pacs.imaging.options import RenderOptions
from pacs.imaging.pool import Pool
from pacs.imaging.source import Source, decimal, first
from pacs.index.base import Held, Index

# How many instances are looked at for one with pixels before a study or series is said to have no picture.
_REPRESENTATIVE_TRIES = 20
_SECONDS_A_FRAME = 0.1
_DOCUMENT_LENGTH = "00420015"

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Rendered:
    """An encoded picture."""

    media_type: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Document:
    """A document or film as it was put into its instance. pieces: (offset, length or None for the rest) → bytes.

    data: all of it, where it is in memory anyway.
    """

    media_type: str
    size_bytes: int
    pieces: Callable[[int, int | None], Iterator[bytes]] = field(compare=False)
    data: bytes | None = field(default=None, compare=False, repr=False)


class Showing:
    """What can be seen of an instance, and that. Safe to call from any thread.

    read: all that is known of an instance. open_source: gives it as a file that a worker process can open. Raises as
    Retrieve does.
    """

    def __init__(
        self,
        index: Index,
        blobs: BlobStore,
        pool: Pool,
        read: Callable[[Target], Held],
        open_source: Callable[[Held], AbstractContextManager[Source]],
    ) -> None:
        self._index = index
        self._blobs = blobs
        self._pool = pool
        self.read = read
        self._open = open_source

    def form(self, held: Held) -> Form:
        """What an instance can be shown as."""
        instance, layout, metadata = held
        if layout.pixels is None:
            return forms.of_attributes(orjson.loads(metadata), layout)
        if not syntaxes.find(instance.transfer_syntax_uid).video:
            return forms.IMAGE
        offset, length = layout.pixels.frames[0][0]
        return forms.of_video(instance.transfer_syntax_uid, self._blobs.read(instance.blob, offset, min(16, length)))

    def number_of_frames(self, held: Held) -> int:
        """Frames that can be asked for; 0 when there are none, as in a film."""
        pixels = held.layout.pixels
        is_film = syntaxes.find(held.instance.transfer_syntax_uid).video
        return 0 if pixels is None or is_film else pixels.number_of_frames

    def picture(self, held: Held, frame: int | None, options: RenderOptions) -> Rendered:
        """A picture of an instance whose form is one. frame None: the one that stands for it.

        As GIF, all frames of an image without a size limit are one animation.
        """
        from pacs.imaging import quick, show

        layout, form = held.layout, self.form(held)
        count = layout.pixels.number_of_frames if layout.pixels else 1
        if not form.is_picture:
            raise NotAcceptable("There is no picture of this instance", form.media_types)
        if frame is not None and (not 1 <= frame <= count or layout.pixels is None):
            raise NotFound(f"there is no frame {frame}: the instance has {count if layout.pixels else 0}")
        with self._open(held) as source:
            if frame is None and count > 1 and options.media_type == "image/gif" and options.max_size is None:
                timeout_s = self._pool.timeout_s + min(count, show.MOST_FRAMES) * _SECONDS_A_FRAME
                return Rendered(options.media_type, self._pool.run_for(timeout_s, show.animation, source, options))
            made = _made_here(source, form, frame, options) if quick.is_quick(source, form, options) else None
            return Rendered(options.media_type, made or self._pool.run(show.picture, source, form, frame, options))

    def report(self, held: Held, media_type: str, base: str) -> bytes:
        """A structured report as text/html or text/plain. base: URL of the DICOMweb root."""
        from pacs.imaging import report

        with self._open(held) as source:
            return self._pool.run(report.html if media_type == "text/html" else report.text, source, base)

    def document(self, held: Held, media_type: str) -> Document:
        """The encapsulated document, or the film, of an instance."""
        instance, layout, metadata = held
        if layout.pixels is not None:
            return self._stream(instance, media_type, [span for frame in layout.pixels.frames for span in frame])
        attributes = orjson.loads(metadata)
        said = int(decimal(first(attributes, _DOCUMENT_LENGTH)) or 0)
        span = layout.bulk.get(forms.DOCUMENT)
        if span is not None and not layout.deflated:
            return self._stream(instance, media_type, [Span(span.offset, _unpadded(span.length, said))])
        if span is None:
            data = base64.b64decode(attributes.get(forms.DOCUMENT, {}).get("InlineBinary", ""))
        else:
            with self._open(held) as source, source.open() as reader:
                data = reader.read(span)
        data = data[: _unpadded(len(data), said)]
        return Document(media_type, len(data), lambda offset, length: _cut(data, offset, length))

    def icon(self, label: str, options: RenderOptions) -> bytes:
        """A picture that stands for what has none."""
        from pacs.imaging import icon

        return self._pool.run(icon.icon, label, options)

    def representative(self, target: Target, scope: Scope = EVERYTHING) -> StoredInstance:
        """The instance that stands for a study or series: the middle one, or one near it that can be shown.

        An image if there is one near, else a drawing, else a document or report, else the middle one. scope: of who is
        to see it.
        """
        found = self._index.locate(target, scope=scope)
        if not found:
            raise NotFound(f"no such {target.level.name.lower()} in the archive")
        middle = len(found) // 2
        by_distance = sorted(range(len(found)), key=lambda position: abs(position - middle))
        ranked = []
        for place, position in enumerate(by_distance[:_REPRESENTATIVE_TRIES]):
            form = self.form(self.read(found[position].target))
            if form.kind == "image":
                return found[position]
            ranked.append((not form.is_picture, form.kind == "none", place, found[position]))
        return min(ranked, key=lambda entry: entry[:3])[3]

    def _stream(self, instance: StoredInstance, media_type: str, spans: Sequence[Span]) -> Document:
        def pieces(offset: int, length: int | None) -> Iterator[bytes]:
            left = size - offset if length is None else length
            for span in spans:
                if offset < span.length and left > 0:
                    here = min(left, span.length - offset)
                    yield from self._blobs.stream(instance.blob, span.offset + offset, here)
                    left -= here
                offset = max(0, offset - span.length)

        size = sum(span.length for span in spans)
        return Document(media_type, size, pieces)


def _made_here(source: Source, form: Form, frame: int | None, options: RenderOptions) -> bytes | None:
    """A picture without a worker process; None when it cannot be made so."""
    from pacs.imaging import show

    try:
        return show.picture(source, form, frame, options)
    except PacsError:
        raise
    except Exception:
        log.warning("a picture is left to a worker sop=%s", first(source.attributes, "00080018"), exc_info=True)
        return None


def _unpadded(length: int, said: int) -> int:
    """What a document of ``length`` bytes is without the padding that made its length even."""
    return said if said == length - 1 else length


def _cut(data: bytes, offset: int, length: int | None) -> Iterator[bytes]:
    yield data[offset : None if length is None else offset + length]
