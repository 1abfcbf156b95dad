"""The row of a stored file is the same whether all of it was read or only its ends."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pacs.blobs.base import BlobHead, BlobState
from pacs.blobs.filesystem import FilesystemBlobs
from pacs.dicom.model import BlobRef
from pacs.errors import PacsError
from pacs.services import stored_file
from pacs.services.stored_file import Sizes, record_of
from tests import builders


class FarAway(FilesystemBlobs):
    """Files that have to be fetched; how many bytes were is counted."""

    is_local = False

    def __init__(self, folder: Path) -> None:
        super().__init__(folder / "files", folder / "incoming")
        self.fetched = 0
        self.digest = "sha256:as noted"

    def head(self, ref: BlobRef, length: int) -> BlobHead:
        return BlobHead(self.read(ref, 0, length), self.digest)

    def read(self, *args: Any) -> bytes:
        data = super().read(*args)
        self.fetched += len(data)
        return data

    def stream(self, *args: Any, **kwargs: Any) -> Iterator[bytes]:
        for piece in super().stream(*args, **kwargs):
            self.fetched += len(piece)
            yield piece

    def local(self, ref: BlobRef) -> Any:
        self.fetched += ref.size_bytes
        return super().local(ref)


class Near(FilesystemBlobs):
    def __init__(self, folder: Path) -> None:
        super().__init__(folder / "files", folder / "incoming")


def row_of(blobs: FilesystemBlobs, key: str) -> Any:
    try:
        record = record_of(blobs, key, blobs.state(key), max_inflated_bytes=1 << 26)
    except PacsError as error:
        return type(error), str(error)
    header = record.header
    return header.target, header.attributes, header.layout.to_bytes(), header.data_set_offset, record.received_at


@pytest.mark.parametrize("head_bytes", [1024, 4096])
@pytest.mark.parametrize("path", [path for path, _ in builders.real_files()], ids=lambda path: path.name)
def test_a_real_file_has_the_row_that_the_whole_of_it_gives(
    path: Path, head_bytes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stored_file, "_HEAD_BYTES", head_bytes)
    monkeypatch.setattr(stored_file, "_LONG_HEAD_BYTES", head_bytes)
    monkeypatch.setattr(stored_file, "_TAIL_BYTES", 64)
    part = tmp_path / "x.part"
    far, near = FarAway(tmp_path), Near(tmp_path)
    part.write_bytes(path.read_bytes())
    far.adopt(part, "x.dcm")
    assert row_of(far, "x.dcm") == row_of(near, "x.dcm")
    assert list(far.incoming().iterdir()) == []


def test_of_a_large_file_only_the_ends_are_fetched(tmp_path: Path) -> None:
    far = FarAway(tmp_path)
    builders.write_multiframe(far.incoming() / "x.part", 30 << 20)
    far.adopt(far.incoming() / "x.part", "x.dcm")
    record = record_of(far, "x.dcm", far.state("x.dcm"), max_inflated_bytes=1 << 26)
    assert record.blob.digest == "sha256:as noted"
    assert record.blob.size_bytes > 30 << 20
    assert far.fetched <= 64 << 10


def test_without_a_noted_digest_the_whole_file_is_read(tmp_path: Path) -> None:
    far = FarAway(tmp_path)
    far.digest = ""
    data = builders.ct(rows=512, columns=512)
    (far.incoming() / "x.part").write_bytes(data)
    far.adopt(far.incoming() / "x.part", "x.dcm")
    record = record_of(far, "x.dcm", far.state("x.dcm"), max_inflated_bytes=1 << 26)
    data_set = data[record.header.data_set_offset :]
    assert record.blob.digest == f"sha256:{hashlib.sha256(data_set).hexdigest()}"


def test_sizes_are_found_by_key() -> None:
    entries = [(f"a/{number}.dcm", BlobState(number * 7, 0.0, 0.0)) for number in range(1000)]
    sizes = Sizes(entries)
    assert [sizes.get(key) for key, _ in entries] == [state.size_bytes for _, state in entries]
    assert sizes.get("a/1000.dcm") is None
    assert Sizes([]).get("a") is None
