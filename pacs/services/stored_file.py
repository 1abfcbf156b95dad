"""What the index should say of a stored file: read from the file, and of one that is far away only what it takes."""

from __future__ import annotations

import hashlib
import secrets
from array import array
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from pacs.blobs.base import BlobState, BlobStore
from pacs.dicom.header import read_header
from pacs.dicom.layout import Layout, Span
from pacs.dicom.model import BlobRef, Caller, Header, InstanceRecord
from pacs.errors import Rejected

_CALLER = Caller("pacs", "", "cli")
_HEAD_BYTES = 64 << 10
# What a second look takes in: headers of enhanced multi-frame images go into the hundreds of KiB.
_LONG_HEAD_BYTES = 2 << 20
_TAIL_BYTES = 64 << 10
_HASH_MASK = (1 << 64) - 1


def record_of(blobs: BlobStore, key: str, state: BlobState, *, max_inflated_bytes: int) -> InstanceRecord:
    """The row of a stored file. Raises Rejected kinds, NotFound, OutOfResources and OSError."""
    ref = BlobRef(key, state.size_bytes, "")
    found = None if blobs.is_local else _from_afar(blobs, ref, max_inflated_bytes)
    if found is None:
        with blobs.local(ref) as path:
            header = read_header(path, derive_uids=True, max_inflated_bytes=max_inflated_bytes)
            with path.open("rb") as file:
                file.seek(header.data_set_offset)
                found = header, f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
    header, digest = found
    received_at = datetime.fromtimestamp(state.modified_s, UTC)
    return InstanceRecord(header, BlobRef(key, state.size_bytes, digest), received_at, _CALLER)


def _from_afar(blobs: BlobStore, ref: BlobRef, max_inflated_bytes: int) -> tuple[Header, str] | None:
    """Header and noted digest by the ends of the file; None when these do not do."""
    head = blobs.head(ref, _HEAD_BYTES)
    if not head.digest:
        return None
    begin, end = len(head.data), ref.size_bytes
    with _file_with_a_hole(blobs.incoming(), ref.size_bytes, head.data) as path:
        header = _around(path, Span(begin, end - begin), max_inflated_bytes)
        if header is None and begin < end:
            more = blobs.read(ref, begin, min(_LONG_HEAD_BYTES, end - begin))
            _write(path, begin, more)
            begin += len(more)
            if begin < end:
                end = max(begin, end - _TAIL_BYTES)
                _write(path, end, blobs.read(ref, end, ref.size_bytes - end))
            header = _around(path, Span(begin, end - begin), max_inflated_bytes)
    return None if header is None else (header, head.digest)


def _around(path: Path, hole: Span, max_inflated_bytes: int) -> Header | None:
    """The header of a file with a hole, when reading it went around the hole."""
    try:
        header = read_header(path, derive_uids=True, max_inflated_bytes=max_inflated_bytes)
    except Rejected:
        if hole.length:
            return None  # the hole may be why
        raise
    return header if not hole.length or _is_passed_over(header.layout, hole) else None


def _is_passed_over(layout: Layout, hole: Span) -> bool:
    """Whether the hole lies within one value, whose bytes nobody looks at."""
    if layout.deflated:
        return False
    values = dict(layout.bulk)
    pixels = layout.pixels
    if pixels is not None:
        # Encapsulated pixels are looked at where a fragment ends, and of several also where each begins.
        fragments = [span for frame in pixels.frames for span in frame]
        values.pop(pixels.tag, None)
        if not pixels.encapsulated:
            values[pixels.tag] = pixels.value
        elif len(fragments) == 1:
            values[pixels.tag] = fragments[0]
    stop = hole.offset + hole.length
    return any(span.offset <= hole.offset and stop <= span.offset + span.length for span in values.values())


@contextmanager
def _file_with_a_hole(folder: Path, size_bytes: int, head: bytes) -> Iterator[Path]:
    path = folder / f"{secrets.token_hex(12)}.head"
    try:
        path.write_bytes(head)
        with path.open("r+b") as file:
            file.truncate(size_bytes)
        yield path
    finally:
        path.unlink(missing_ok=True)


def _write(path: Path, offset: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


class Sizes:
    """Sizes of many files by their keys, in 16 bytes a file."""

    def __init__(self, entries: Iterable[tuple[str, BlobState]]) -> None:
        hashes, sizes = array("Q"), array("q")
        for key, state in entries:
            hashes.append(hash(key) & _HASH_MASK)
            sizes.append(state.size_bytes)
        found = np.frombuffer(hashes, np.uint64)
        order = np.argsort(found)
        self._hashes = found[order]
        self._sizes = np.frombuffer(sizes, np.int64)[order]

    def get(self, key: str) -> int | None:
        """None for a key that was not among them."""
        wanted = np.uint64(hash(key) & _HASH_MASK)
        place = int(np.searchsorted(self._hashes, wanted))
        if place == len(self._hashes) or self._hashes[place] != wanted:
            return None
        return int(self._sizes[place])
