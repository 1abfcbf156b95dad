"""What every blob store has to do. A store's test class inherits this and gives the two fixtures.

Checks look at the store through ``raw``, not through the store itself.
"""

from __future__ import annotations

import hashlib
import subprocess
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from pacs.blobs.base import IDENTITY_KEY, BlobStore
from pacs.dicom.model import BlobRef
from pacs.errors import Corrupt, NotFound

Raw = Callable[[str], bytes | None]


class BlobContract:
    """``blobs``: an empty store; ``raw``: the bytes under a key as something else than the store sees them."""

    def put(self, blobs: BlobStore, key: str, data: bytes) -> BlobRef:
        path = blobs.incoming() / f"{abs(hash(key))}.part"
        path.write_bytes(data)
        blobs.adopt(path, key)
        return BlobRef(key, len(data), "")

    def test_an_adopted_file_is_there_whole_and_gone_from_incoming(self, blobs: BlobStore, raw: Raw) -> None:
        self.put(blobs, "2026/11/study/a.dcm", b"abc" * 1000)
        assert raw("2026/11/study/a.dcm") == b"abc" * 1000
        assert list(blobs.incoming().iterdir()) == []

    def test_placed_files_are_there_before_and_after_they_are_settled(self, blobs: BlobStore, raw: Raw) -> None:
        keys = ["a/1.dcm", "a/2.dcm", "b/3.dcm"]
        for key in keys:
            path = blobs.incoming() / "x.part"
            path.write_bytes(key.encode())
            blobs.place(path, key)
            assert not path.exists()
            assert raw(key) == key.encode()
        blobs.settle(keys)
        assert [raw(key) for key in keys] == [key.encode() for key in keys]

    def test_a_key_is_never_overwritten(self, blobs: BlobStore, raw: Raw) -> None:
        self.put(blobs, "a/b.dcm", b"first")
        second = blobs.incoming() / "second.part"
        second.write_bytes(b"second")
        with pytest.raises(Corrupt):
            blobs.adopt(second, "a/b.dcm")
        assert raw("a/b.dcm") == b"first"
        assert second.read_bytes() == b"second"

    @pytest.mark.parametrize("key", ["../x.dcm", "a/../../x.dcm", "/etc/x.dcm", "a//x.dcm", "", ".", IDENTITY_KEY])
    def test_a_key_cannot_lead_out_of_the_store(self, blobs: BlobStore, key: str) -> None:
        path = blobs.incoming() / "x.part"
        path.write_bytes(b"x")
        with pytest.raises(Corrupt):
            blobs.adopt(path, key)
        assert path.read_bytes() == b"x"

    @pytest.mark.parametrize(
        ("offset", "length", "expected"),
        [(0, None, b"0123456789"), (3, None, b"3456789"), (3, 4, b"3456"), (8, 100, b"89"), (10, 5, b""), (0, 0, b"")],
    )
    def test_a_range_is_read_as_asked(self, blobs: BlobStore, offset: int, length: int | None, expected: bytes) -> None:
        ref = self.put(blobs, "a/range.dcm", b"0123456789")
        assert blobs.read(ref, offset, length) == expected
        assert b"".join(blobs.stream(ref, offset, length)) == expected
        assert b"".join(blobs.stream(ref, offset, length, at_once=True)) == expected

    def test_streams_that_were_begun_and_not_read_harm_nobody(self, blobs: BlobStore) -> None:
        ref = self.put(blobs, "a/x.dcm", bytes(5 << 20))
        begun = [blobs.stream(ref, at_once=True) for _ in range(40)]
        del begun
        assert len(blobs.read(ref)) == 5 << 20

    def test_a_head_is_as_long_as_asked_or_as_the_file(self, blobs: BlobStore) -> None:
        ref = self.put(blobs, "a/x.dcm", b"0123456789")
        assert blobs.head(ref, 4).data == b"0123"
        assert blobs.head(ref, 4000).data == b"0123456789"
        assert blobs.head(self.put(blobs, "a/empty.dcm", b""), 10).data == b""
        with pytest.raises(NotFound):
            blobs.head(BlobRef("a/none.dcm", 10, ""), 4)

    def test_a_digest_that_was_noted_comes_back_or_none_does(self, blobs: BlobStore) -> None:
        path = blobs.incoming() / "x.part"
        for size in (10, 17 << 20):
            path.write_bytes(bytes(size))
            blobs.adopt(path, f"a/{size}.dcm", f"sha256:{size}")
            assert blobs.head(BlobRef(f"a/{size}.dcm", size, ""), 4).digest in (f"sha256:{size}", "")
        assert blobs.head(self.put(blobs, "a/unknown.dcm", b"x"), 4).digest == ""

    def test_a_whole_file_can_be_opened_by_another_process(self, blobs: BlobStore, raw: Raw) -> None:
        data = bytes(range(256)) * 30_000
        ref = self.put(blobs, "a/x.dcm", data)
        with blobs.local(ref) as path:
            other = subprocess.run(["/usr/bin/sha256sum", path], capture_output=True, text=True, check=True)
        assert other.stdout.split()[0] == hashlib.sha256(data).hexdigest()
        assert raw("a/x.dcm") == data
        assert list(blobs.incoming().iterdir()) == []

    def test_a_large_file_streams_in_pieces_of_at_most_one_mebibyte(self, blobs: BlobStore) -> None:
        data = bytes(range(256)) * 4096 * 3 + b"tail"
        ref = self.put(blobs, "a/large.dcm", data)
        pieces = list(blobs.stream(ref))
        assert b"".join(pieces) == data
        assert max(map(len, pieces)) <= 1 << 20

    def test_a_key_that_is_not_there_is_not_found(self, blobs: BlobStore) -> None:
        missing = BlobRef("no/such.dcm", 5, "")
        with pytest.raises(NotFound):
            blobs.read(missing)
        with pytest.raises(NotFound):
            next(iter(blobs.stream(missing)))

    def test_deleting_takes_the_file_and_can_be_repeated(self, blobs: BlobStore, raw: Raw) -> None:
        ref = self.put(blobs, "a/b/c.dcm", b"x")
        other = self.put(blobs, "a/other.dcm", b"y")
        blobs.delete(ref)
        blobs.delete(ref)
        assert raw("a/b/c.dcm") is None
        assert blobs.read(other) == b"y"

    def test_keys_are_all_listed_and_incoming_files_are_not(self, blobs: BlobStore) -> None:
        keys = {f"2026/{month:02d}/s/{name}.dcm" for month in range(1, 4) for name in "abc"}
        for key in keys:
            self.put(blobs, key, b"x")
        (blobs.incoming() / "half.part").write_bytes(b"x")
        assert set(blobs.keys()) == keys

    def test_entries_say_what_state_says(self, blobs: BlobStore) -> None:
        for size in range(3):
            self.put(blobs, f"a/{size}/x.dcm", bytes(size))
        assert dict(blobs.entries()) == {f"a/{size}/x.dcm": blobs.state(f"a/{size}/x.dcm") for size in range(3)}

    def test_a_folder_is_listed_alone(self, blobs: BlobStore) -> None:
        for key in ("a/1.dcm", "ab/2.dcm", "a/b/3.dcm", "b/a/4.dcm"):
            self.put(blobs, key, b"x")
        assert set(blobs.keys("a")) == {"a/1.dcm", "a/b/3.dcm"}
        assert {key for key, _ in blobs.entries("a")} == {"a/1.dcm", "a/b/3.dcm"}
        assert list(blobs.keys("none")) == []

    def test_an_identity_is_given_once_and_is_no_file(self, blobs: BlobStore, raw: Raw) -> None:
        assert blobs.identity() is None
        assert blobs.identify("first") == "first"
        assert blobs.identify("second") == "first"
        assert blobs.identity() == "first"
        assert list(blobs.keys()) == [] == list(blobs.entries())
        assert b"first" in (raw(IDENTITY_KEY) or b"")
        assert list(blobs.incoming().iterdir()) == []
        with pytest.raises(Corrupt):
            blobs.delete(BlobRef(IDENTITY_KEY, 1, ""))
        assert blobs.identity() == "first"

    def test_of_many_who_name_a_store_at_once_all_are_told_the_same(self, blobs: BlobStore) -> None:
        with ThreadPoolExecutor(8) as threads:
            told = set(threads.map(lambda number: blobs.identify(f"name-{number}"), range(24)))
        assert told == {blobs.identity()}

    def test_adopting_and_deleting_in_the_same_folder_at_once_loses_nothing(self, blobs: BlobStore, raw: Raw) -> None:
        errors: list[BaseException] = []

        def work(name: int) -> None:
            try:
                for turn in range(40):
                    kept = turn == 39
                    path = blobs.incoming() / f"{name}-{turn}.part"
                    path.write_bytes(b"%d" % name)
                    key = f"shared/folder/{name}-{turn}.dcm"
                    blobs.adopt(path, key)
                    if not kept:
                        blobs.delete(BlobRef(key, 1, ""))
            except BaseException as error:  # noqa: BLE001 - reported by the assertion below
                errors.append(error)

        threads = [threading.Thread(target=work, args=(name,)) for name in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert errors == []
        assert [raw(f"shared/folder/{name}-39.dcm") for name in range(6)] == [b"%d" % name for name in range(6)]

    def test_free_space_is_a_number_or_unknown(self, blobs: BlobStore) -> None:
        free = blobs.free_bytes()
        assert free is None or free > 0
