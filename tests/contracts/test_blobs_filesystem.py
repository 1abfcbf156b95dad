"""The filesystem store against the contract, and what only a filesystem can get wrong."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from pacs.blobs.base import BlobStore
from pacs.blobs.filesystem import FilesystemBlobs
from pacs.dicom.model import BlobRef
from pacs.errors import OutOfResources
from tests.contracts.blob_contract import BlobContract, Raw


class TestFilesystemBlobs(BlobContract):
    @pytest.fixture
    def blobs(self, tmp_path: Path) -> Iterator[BlobStore]:
        store = FilesystemBlobs(tmp_path / "files", tmp_path / "incoming")
        yield store
        store.close()

    @pytest.fixture
    def raw(self, tmp_path: Path) -> Raw:
        def read(key: str) -> bytes | None:
            path = tmp_path / "files" / key
            return path.read_bytes() if path.exists() else None

        return read

    def test_folders_that_became_empty_go_and_the_root_stays(self, blobs: BlobStore, tmp_path: Path) -> None:
        ref = self.put(blobs, "2026/11/study/series/a.dcm", b"x")
        blobs.delete(ref)
        assert list((tmp_path / "files").iterdir()) == []

    def test_every_folder_and_file_is_synced_before_adopt_returns(
        self, blobs: BlobStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        synced: list[str] = []
        real = os.fsync

        def spy(descriptor: int) -> None:
            synced.append(str(Path(f"/proc/self/fd/{descriptor}").readlink().relative_to(tmp_path)))
            real(descriptor)

        monkeypatch.setattr(os, "fsync", spy)
        self.put(blobs, "2026/11/a.dcm", b"x")
        assert synced[0].startswith("incoming/")
        assert synced[1:] == ["files", "files/2026", "files/2026/11"]

    def test_a_folder_that_someone_removed_is_made_again(self, blobs: BlobStore, tmp_path: Path, raw: Raw) -> None:
        self.put(blobs, "a/1.dcm", b"x")
        (tmp_path / "files/a/1.dcm").unlink()
        (tmp_path / "files/a").rmdir()
        self.put(blobs, "a/2.dcm", b"y")
        assert raw("a/2.dcm") == b"y"

    def test_a_device_that_fails_is_out_of_resources_and_keeps_the_incoming_file(
        self, blobs: BlobStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = blobs.incoming() / "x.part"
        path.write_bytes(b"x")

        def fail(descriptor: int) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fsync", fail)
        with pytest.raises(OutOfResources, match="full"):
            blobs.adopt(path, "a/x.dcm")
        assert path.exists()

    def test_incoming_on_another_filesystem_is_refused_at_start(self, tmp_path: Path) -> None:
        shared_memory = Path("/dev/shm")  # noqa: S108
        if shared_memory.stat().st_dev == tmp_path.stat().st_dev:
            pytest.skip("this machine has one filesystem only")
        with pytest.raises(OutOfResources, match="same filesystem"):
            FilesystemBlobs(tmp_path / "files", shared_memory)

    def test_reading_does_not_keep_files_open(self, blobs: BlobStore) -> None:
        ref = self.put(blobs, "a/x.dcm", bytes(3 << 20))
        before = len(list(Path("/proc/self/fd").iterdir()))
        for _ in range(50):
            pieces = blobs.stream(ref)
            next(iter(pieces))
            pieces.close()  # type: ignore[attr-defined]
            blobs.read(BlobRef(ref.key, ref.size_bytes, ""), 10, 10)
        assert len(list(Path("/proc/self/fd").iterdir())) == before
