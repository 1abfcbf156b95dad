"""Frames as they lie in stored files: where, in which transfer syntaxes, and on their way out unread."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from pacs.blobs.base import BlobStore
from pacs.dicom import transfer_syntax as syntaxes
from pacs.dicom.layout import Layout, PixelLayout, Span
from pacs.dicom.model import StoredInstance
from pacs.errors import NotFound
from pacs.imaging.transcode import NATIVE
from pacs.services.file_span import FileSpan, Piece

_SMALL_BYTES = 256 << 10  # so much is read sooner than it is left to others to send


@dataclass(frozen=True, slots=True)
class StoredFrame:
    """data: all of it, when it is small. pieces: gives it anew with every call."""

    size_bytes: int
    data: bytes | None
    pieces: Callable[[], Iterator[Piece]] = field(compare=False)


def stored_frame(blobs: BlobStore, instance: StoredInstance, pixels: PixelLayout, number: int) -> StoredFrame:
    """One frame; of video it may be gigabytes. Raises NotFound when there is no such frame."""
    # A file that was cut short before it came to us gives what there is.
    end = instance.blob.size_bytes
    spans = [Span(span.offset, max(0, min(span.length, end - span.offset))) for span in spans_of(pixels, number)]
    size = sum(span.length for span in spans)
    data = read(blobs, instance, spans) if size <= _SMALL_BYTES else None
    return StoredFrame(size, data, lambda: _pieces(blobs, instance, spans))


def read(blobs: BlobStore, instance: StoredInstance, spans: Sequence[Span]) -> bytes:
    """The spans' bytes, joined."""
    pieces = [blobs.read(instance.blob, span.offset, span.length) for span in spans]
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def file_span(blobs: BlobStore, instance: StoredInstance, offset: int, length: int) -> FileSpan | None:
    """Part of a stored file; None where files lie elsewhere."""
    if not blobs.is_local:
        return None
    with blobs.local(instance.blob) as path:  # the file itself, which stays
        return FileSpan(path, offset, length)


def is_native(pixels: PixelLayout, wanted: str) -> bool:
    """Whether frames in a transfer syntax are uncompressed."""
    return wanted in NATIVE or not (pixels.encapsulated or syntaxes.find(wanted).encapsulated)


def is_as_stored(instance: StoredInstance, layout: Layout, wanted: str) -> bool:
    """Whether frames in a transfer syntax are bytes of the stored file."""
    pixels = layout.pixels
    if pixels is None or layout.deflated:
        return False
    if pixels.encapsulated:
        return wanted == instance.transfer_syntax_uid
    is_little = not syntaxes.find(instance.transfer_syntax_uid).big_endian
    return pixels.frame_length > 0 and is_little and is_native(pixels, wanted)


def spans_of(pixels: PixelLayout, number: int) -> Sequence[Span]:
    """Where a frame lies. Raises NotFound when there is no such frame."""
    if not pixels.encapsulated:
        return [Span(pixels.value.offset + (number - 1) * pixels.frame_length, pixels.frame_length)]
    if not 1 <= number <= len(pixels.frames):
        raise NotFound(f"there is no frame {number}: the instance has {len(pixels.frames)}")
    return pixels.frames[number - 1]


def _pieces(blobs: BlobStore, instance: StoredInstance, spans: Sequence[Span]) -> Iterator[Piece]:
    for span in spans:
        part = file_span(blobs, instance, span.offset, span.length)
        if part is not None:
            yield part
        else:
            yield from blobs.stream(instance.blob, span.offset, span.length)
