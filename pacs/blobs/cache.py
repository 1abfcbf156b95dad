"""Copies of what was stored or read last, on this machine, in front of a store that is far away.

A file never changes under its key, so that a copy is never out of date. Several processes may share the folder.
"""

from __future__ import annotations

import hashlib
import logging
import mmap
import os
import secrets
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

from pacs.blobs.base import BlobHead, BlobState, BlobStore
from pacs.blobs.cache_space import CacheSpace
from pacs.dicom import file_meta
from pacs.dicom.model import BlobRef

log = logging.getLogger(__name__)

PIECE_BYTES = 1 << 20
# Up to this size the whole file is fetched when any of it is wanted; of a larger one when it is wanted a second time.
_SMALL_BYTES = 8 << 20
# No file may take more of the room than this part of it.
_LARGEST_PART = 4
_FETCHERS = 8
_REMEMBERED = 100_000


class CachedBlobs:
    """``store`` with whole files of at most max_bytes together in ``folder``, on the filesystem of ``store.incoming``.

    keep_free_bytes: nothing is added when less than this would be left on the disk. Every copy is compared with its
    digest when this process meets it for the first time; what differs is dropped.
    """

    is_local = False

    def __init__(self, store: BlobStore, folder: Path, max_bytes: int, *, keep_free_bytes: int = 0) -> None:
        self.store = store
        self.hits = self.misses = 0  # about right, where threads count at once
        self._folder = folder
        self._largest = max_bytes // _LARGEST_PART
        self._space = CacheSpace(folder, max_bytes, keep_free_bytes)
        self._fetchers = ThreadPoolExecutor(_FETCHERS, "cache")
        self._lock = threading.Lock()  # guards the three that follow
        self._fetching: dict[str, Future[None]] = {}
        self._sound: set[str] = set()  # keys whose copies this process has seen to be right
        self._wanted: set[str] = set()  # keys of large files that were read in part

    def incoming(self) -> Path:
        return self.store.incoming()

    def adopt(self, path: Path, key: str, digest: str = "") -> None:
        self.place(path, key, digest)
        self.settle([key])

    def settle(self, keys: Sequence[str]) -> None:
        self.store.settle(keys)

    def place(self, path: Path, key: str, digest: str = "") -> None:
        """As the store does; a second name of the file makes the copy, at no cost."""
        size_bytes = path.stat().st_size if path.exists() else 0
        part = self._space.reserve(size_bytes, path) if digest and 0 < size_bytes <= self._largest else None
        try:
            self.store.place(path, key, digest)
            if part is not None:
                self._keep(part, key, size_bytes)
                part = None
        finally:
            if part is not None:
                self._space.give_back(part, size_bytes)

    def read(self, ref: BlobRef, offset: int = 0, length: int | None = None) -> bytes:
        wanted = ref.size_bytes - offset if length is None else length
        file = self._wait_and_open(ref)
        if file is None:
            return self.store.read(ref, offset, length)
        try:
            return b"".join(_pieces_of(file, offset, wanted))
        finally:
            os.close(file)

    def stream(
        self, ref: BlobRef, offset: int = 0, length: int | None = None, *, at_once: bool = False
    ) -> Iterator[bytes]:
        if at_once and not self._is_there(ref):
            if not (self._is_cacheable(ref) and ref.size_bytes <= _SMALL_BYTES):
                return self.store.stream(ref, offset, length, at_once=True)
            self._fetch(ref)
        return self._stream(ref, offset, length)

    def _stream(self, ref: BlobRef, offset: int, length: int | None) -> Iterator[bytes]:
        file = self._wait_and_open(ref)
        if file is None:
            yield from self.store.stream(ref, offset, length)
            return
        try:
            yield from _pieces_of(file, offset, ref.size_bytes - offset if length is None else length)
        finally:
            os.close(file)

    @contextmanager
    def local(self, ref: BlobRef) -> Iterator[Path]:
        if not self._is_there(ref) and self._is_cacheable(ref):
            self._fetch(ref).result()
        link = self.incoming() / f"{secrets.token_hex(12)}.copy"
        try:
            # A name of its own, which stays when the copy has to go.
            if self._is_there(ref):
                with suppress(OSError):
                    os.link(self._path(ref.key), link)
            if link.exists():
                yield link
                return
        finally:
            link.unlink(missing_ok=True)
        with self.store.local(ref) as path:
            yield path

    def head(self, ref: BlobRef, length: int) -> BlobHead:
        return self.store.head(ref, length)

    def state(self, key: str) -> BlobState:
        return self.store.state(key)

    def delete(self, ref: BlobRef) -> None:
        self.store.delete(ref)
        self._drop(ref.key)

    def entries(self, folder: str = "") -> Iterator[tuple[str, BlobState]]:
        return self.store.entries(folder)

    def keys(self, folder: str = "") -> Iterator[str]:
        return self.store.keys(folder)

    def identity(self) -> str | None:
        return self.store.identity()

    def identify(self, name: str) -> str:
        return self.store.identify(name)

    def free_bytes(self) -> int | None:
        return self.store.free_bytes()

    def close(self) -> None:
        self._fetchers.shutdown(cancel_futures=True)
        self._space.close()
        self.store.close()

    def _path(self, key: str) -> Path:
        name = hashlib.sha256(key.encode()).hexdigest()
        return self._folder / name[:2] / name

    def _is_cacheable(self, ref: BlobRef) -> bool:
        return 0 < ref.size_bytes <= self._largest and bool(ref.digest)

    def _is_worth_it(self, ref: BlobRef) -> bool:
        """Whether to wait for the whole file for a part of it."""
        if not self._is_cacheable(ref):
            return False
        if ref.size_bytes <= _SMALL_BYTES:
            return True
        with self._lock:
            if len(self._wanted) > _REMEMBERED:
                self._wanted.clear()
            is_second = ref.key in self._wanted
            self._wanted.add(ref.key)
        if is_second:
            self._fetch(ref)  # beside this, for those that follow
        return False

    def _wait_and_open(self, ref: BlobRef) -> int | None:
        """The copy, made first where that is worth waiting for."""
        file = self._open(ref)
        if file is None:
            self.misses += 1
        else:
            self.hits += 1
        if file is None and self._is_worth_it(ref):
            self._fetch(ref).result()
            file = self._open(ref)
        return file

    def _is_there(self, ref: BlobRef) -> bool:
        file = self._open(ref)
        if file is not None:
            os.close(file)
        return file is not None

    def _open(self, ref: BlobRef) -> int | None:
        """The copy as a file descriptor; None when there is none that is right."""
        if not ref.digest:
            return None
        path = self._path(ref.key)
        try:
            file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            state = os.fstat(file)
            if state.st_size == ref.size_bytes and (ref.key in self._sound or self._is_sound(file, ref)):
                with suppress(OSError):
                    os.utime(file)  # the clock of what was used last
                return file
        except OSError as error:
            log.warning("a copy cannot be read: %s", error.strerror)
        os.close(file)
        log.warning("dropped a copy that is not the stored file: key=%s", ref.key)
        self._drop(ref.key)
        return None

    def _is_sound(self, file: int, ref: BlobRef) -> bool:
        if _digest_of(file, ref.size_bytes) != ref.digest:
            return False
        self._note_sound(ref.key)
        return True

    def _note_sound(self, key: str) -> None:
        with self._lock:
            if len(self._sound) > _REMEMBERED:
                self._sound.clear()
            self._sound.add(key)

    def _fetch(self, ref: BlobRef) -> Future[None]:
        """Begin to copy a file; done, with or without a copy, or failed when the store did."""
        with self._lock:
            under_way = self._fetching.get(ref.key)
            if under_way is None:
                under_way = self._fetching[ref.key] = self._fetchers.submit(self._copy, ref)
                under_way.add_done_callback(lambda _: self._end_fetching(ref.key))
            return under_way

    def _end_fetching(self, key: str) -> None:
        # Called in _fetch itself, which holds the lock, when the copy was quicker than it.
        self._fetching.pop(key, None)

    def _copy(self, ref: BlobRef) -> None:
        if self._is_there(ref):
            return
        part = self._space.reserve(ref.size_bytes)
        if part is None:
            return
        try:
            with part.open("r+b") as file:
                for piece in self.store.stream(ref):
                    file.write(piece)
                file.flush()
                is_whole = file.tell() == ref.size_bytes and _digest_of(file.fileno(), ref.size_bytes) == ref.digest
            if is_whole:
                self._keep(part, ref.key, ref.size_bytes)
                part = None
            else:
                log.warning("not copied, it is not what the index says: key=%s", ref.key)
        except OSError as error:
            log.warning("a copy cannot be written: %s", error.strerror)
        finally:
            if part is not None:
                self._space.give_back(part, ref.size_bytes)

    def _keep(self, part: Path, key: str, size_bytes: int) -> None:
        """A part that is whole becomes the copy."""
        path = self._path(key)
        try:
            replaced = path.exists()
            if not replaced:
                path.parent.mkdir(exist_ok=True)
            part.replace(path)
        except OSError as error:
            log.warning("a copy cannot be kept: %s", error.strerror)
            self._space.give_back(part, size_bytes)
            return
        if replaced:  # by another process, with the same bytes
            self._space.give_back(None, size_bytes)
        self._note_sound(key)

    def _drop(self, key: str) -> None:
        with self._lock:
            self._sound.discard(key)
        self._space.drop(self._path(key))


def _digest_of(file: int, size_bytes: int) -> str:
    """ "sha256:…" of the data set of a Part 10 file, as it was made when the file came."""
    digest = hashlib.sha256()
    with mmap.mmap(file, 0, access=mmap.ACCESS_READ) as content:
        _, offset = file_meta.read(content)
    for piece in _pieces_of(file, offset, size_bytes - offset):
        digest.update(piece)
    return f"sha256:{digest.hexdigest()}"


def _pieces_of(file: int, offset: int, length: int) -> Iterator[bytes]:
    while length > 0 and (piece := os.pread(file, min(length, PIECE_BYTES), offset)):
        offset += len(piece)
        length -= len(piece)
        yield piece
