"""A cache in front of a store keeps the store's contract, and what only a cache can get wrong."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from pacs.blobs.base import BlobStore
from pacs.blobs.cache import CachedBlobs
from pacs.blobs.filesystem import FilesystemBlobs
from pacs.dicom.file_meta import read
from pacs.dicom.model import BlobRef
from pacs.errors import OutOfResources
from tests import builders
from tests.contracts.blob_contract import BlobContract, Raw

ROOM_BYTES = 400_000


class Counted(FilesystemBlobs):
    """A store that counts how often its files are read, or fails at that."""

    is_local = False

    def __init__(self, folder: Path) -> None:
        super().__init__(folder / "files", folder / "incoming")
        self.reads = 0
        self.is_away = False

    def stream(self, *args: Any, **kwargs: Any) -> Iterator[bytes]:
        self._count()
        return super().stream(*args, **kwargs)

    def read(self, *args: Any, **kwargs: Any) -> bytes:
        self._count()
        return super().read(*args, **kwargs)

    def _count(self) -> None:
        self.reads += 1
        if self.is_away:
            raise OutOfResources("the store is away")


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data[read(data)[1] :]).hexdigest()}"


class TestCachedBlobs(BlobContract):
    @pytest.fixture
    def blobs(self, tmp_path: Path) -> Iterator[BlobStore]:
        store = CachedBlobs(
            FilesystemBlobs(tmp_path / "files", tmp_path / "incoming"), tmp_path / "cache", 256 << 20, keep_free_bytes=0
        )
        yield store
        store.close()

    @pytest.fixture
    def raw(self, tmp_path: Path) -> Raw:
        def raw(key: str) -> bytes | None:
            path = tmp_path / "files" / key
            return path.read_bytes() if path.exists() else None

        return raw

    def put(self, blobs: BlobStore, key: str, data: bytes) -> BlobRef:
        path = blobs.incoming() / f"{abs(hash(key))}.part"
        path.write_bytes(data)
        blobs.adopt(path, key, digest_of(data))
        return BlobRef(key, len(data), digest_of(data))


class Room:
    """A store with files that were put there by somebody else, and caches in front of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = Counted(folder)
        self.opened: list[CachedBlobs] = []

    def cache(self, room_bytes: int = ROOM_BYTES, **more: int) -> CachedBlobs:
        self.opened.append(CachedBlobs(self.store, self.folder / "cache", room_bytes, **more))
        return self.opened[-1]

    def put(self, number: int, data: bytes) -> BlobRef:
        path = self.store.incoming() / f"{number}.part"
        path.write_bytes(data)
        self.store.adopt(path, f"a/{number}.dcm")
        return BlobRef(f"a/{number}.dcm", len(data), digest_of(data))

    def copies(self) -> list[Path]:
        return [path for path in (self.folder / "cache").rglob("*") if path.is_file() and path.name != ".used"]

    def used(self) -> int:
        return sum(path.stat().st_size for path in self.copies())


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Room]:
    room = Room(tmp_path)
    yield room
    for cache in room.opened:
        cache.close()


def content(number: int = 0) -> bytes:
    """A Part 10 file of about 34 kB."""
    return builders.ct(rows=128, columns=128, InstanceNumber=number)


def test_what_was_read_is_not_asked_for_again_not_even_after_a_restart(room: Room) -> None:
    data = content()
    ref = room.put(1, data)
    for cache in (room.cache(), room.cache()):
        assert cache.read(ref, 200, 50) == data[200:250]
        assert b"".join(cache.stream(ref, 100)) == data[100:]
        assert b"".join(cache.stream(ref, at_once=True)) == data
        with cache.local(ref) as path:
            assert path.read_bytes() == data
    assert room.store.reads == 1
    assert list(room.store.incoming().iterdir()) == []


def test_what_was_stored_is_not_asked_for(room: Room) -> None:
    cache, data = room.cache(), content()
    path = cache.incoming() / "x.part"
    path.write_bytes(data)
    cache.adopt(path, "a/x.dcm", digest_of(data))
    assert cache.read(BlobRef("a/x.dcm", len(data), digest_of(data))) == data
    assert room.store.reads == 0
    assert not path.exists()


def test_what_was_used_longest_ago_goes_first(room: Room) -> None:
    cache = room.cache()
    refs = [room.put(number, content(number)) for number in range(ROOM_BYTES // 34_000 + 4)]
    cache.read(refs[0])
    for ref in refs[1:]:
        time.sleep(0.01)
        cache.read(refs[0])
        cache.read(ref)
    reads = room.store.reads
    for ref in (refs[0], refs[-1], refs[-2]):
        cache.read(ref)
    assert room.store.reads == reads
    cache.read(refs[1])
    assert room.store.reads == reads + 1


def test_the_room_is_never_exceeded_by_threads_of_several_processes(room: Room) -> None:
    contents = [content(number) for number in range(40)]
    refs = [room.put(number, data) for number, data in enumerate(contents)]
    caches = [room.cache() for _ in range(3)]
    most = 0
    is_done = False

    def watch() -> None:
        nonlocal most
        while not is_done:
            sizes = 0
            for path in room.copies():
                try:
                    sizes += path.stat().st_size
                except FileNotFoundError:
                    continue
            most = max(most, sizes)

    def work(turn: int) -> None:
        ref, cache = refs[turn * 7 % 40], caches[turn % 3]
        if turn % 5 == 0:
            with cache.local(ref) as path:
                assert path.read_bytes() == contents[turn * 7 % 40]
        else:
            assert b"".join(cache.stream(ref)) == contents[turn * 7 % 40]

    with ThreadPoolExecutor(9) as threads:
        watching = threads.submit(watch)
        list(threads.map(work, range(600)))
        is_done = True
        watching.result()
    # One look takes a while, in which a file may go and another come: each may be counted.
    assert ROOM_BYTES / 2 < most <= ROOM_BYTES * 1.2
    assert room.used() <= ROOM_BYTES
    assert [path for path in room.copies() if path.suffix == ".part"] == []
    ledger = int.from_bytes((room.folder / "cache/.used").read_bytes(), "little")
    assert room.used() <= ledger <= ROOM_BYTES


@pytest.mark.parametrize("harm", ["another byte", "cut short", "emptied"])
def test_a_copy_that_was_harmed_is_dropped_and_fetched_anew(room: Room, harm: str) -> None:
    data = content()
    ref = room.put(1, data)
    room.cache().read(ref)
    (copy,) = room.copies()
    copy.write_bytes({"another byte": data[:-1] + b"\xff", "cut short": data[:-1], "emptied": b""}[harm])
    cache = room.cache()
    assert cache.read(ref) == data
    assert room.store.reads == 2
    (copy,) = room.copies()
    assert copy.read_bytes() == data


def test_a_stored_file_that_is_not_what_the_index_says_is_read_as_it_is_and_not_copied(room: Room) -> None:
    data = content()
    ref = room.put(1, data[:-1] + b"\xff")
    cache = room.cache()
    assert cache.read(BlobRef(ref.key, ref.size_bytes, digest_of(data))) == data[:-1] + b"\xff"
    assert room.copies() == []


def test_a_store_that_is_away_is_told_and_leaves_nothing(room: Room) -> None:
    cache, ref = room.cache(), room.put(1, content())
    room.store.is_away = True
    for ask in (
        lambda: cache.read(ref),
        lambda: list(cache.stream(ref)),
        lambda: list(cache.stream(ref, at_once=True)),
        lambda: cache.local(ref).__enter__(),
    ):
        with pytest.raises(OutOfResources, match="away"):
            ask()
    assert room.copies() == []
    room.store.is_away = False
    assert len(cache.read(ref)) == ref.size_bytes


def test_what_would_take_too_much_of_the_room_or_of_the_disk_is_not_copied(room: Room) -> None:
    big = builders.ct(rows=256, columns=256)
    ref = room.put(1, big)
    cache = room.cache()
    assert cache.read(ref) == big
    with cache.local(ref) as path:
        assert path.read_bytes() == big
    assert room.copies() == []
    cache = room.cache(keep_free_bytes=1 << 60)
    assert len(cache.read(room.put(2, content()))) > 0
    assert room.copies() == []


def test_a_large_file_is_copied_when_parts_of_it_are_wanted_again(room: Room, tmp_path: Path) -> None:
    path = tmp_path / "big.dcm"
    builders.write_multiframe(path, 12 << 20)
    data = path.read_bytes()
    ref = room.put(1, data)
    cache = room.cache(64 << 20)
    assert cache.read(ref, 5000, 100) == data[5000:5100]
    assert room.copies() == []
    assert cache.read(ref, 6000, 100) == data[6000:6100]
    deadline = time.monotonic() + 60
    while room.store.reads < 3 or [copy for copy in room.copies() if copy.suffix == ".part"]:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert cache.read(ref, 7000, 100) == data[7000:7100]
    assert room.store.reads == 3


def test_a_file_that_is_open_stays_whole_while_its_copy_goes(room: Room) -> None:
    data = content()
    ref = room.put(1, data)
    cache = room.cache()
    with cache.local(ref) as path:
        cache.delete(ref)
        assert room.copies() == []
        assert path.read_bytes() == data
    assert not path.exists()


def test_a_smaller_room_than_before_is_made_at_the_start(room: Room) -> None:
    cache = room.cache()
    for number in range(8):
        cache.read(room.put(number, content(number)))
    assert room.used() > 200_000
    room.cache(100_000)
    assert 0 < room.used() <= 100_000
