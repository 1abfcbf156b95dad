"""The object store against the contract, on a real S3 server, and what only an object store can get wrong."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path

import obstore
import pytest

from pacs.blobs.base import BlobStore
from pacs.blobs.objectstore import ObjectStoreBlobs
from pacs.dicom.model import BlobRef
from pacs.errors import Corrupt, OutOfResources
from tests.contracts.blob_contract import BlobContract, Raw
from tests.seaweedfs import SeaweedFS
from tests.server import free_port


class TestObjectStoreBlobs(BlobContract):
    @pytest.fixture
    def prefix(self, s3: SeaweedFS) -> str:
        return s3.new_prefix()

    @pytest.fixture
    def blobs(self, s3: SeaweedFS, prefix: str, tmp_path: Path) -> Iterator[BlobStore]:
        store = ObjectStoreBlobs(f"s3://pacs/{prefix}", tmp_path / "incoming", s3.options)
        yield store
        store.close()

    @pytest.fixture
    def raw(self, s3: SeaweedFS, prefix: str) -> Raw:
        def read(key: str) -> bytes | None:
            try:
                return bytes(obstore.get(s3.store, f"{prefix}/{key}").bytes())
            except FileNotFoundError:
                return None

        return read

    def test_a_file_that_goes_up_in_parts_is_whole_and_never_overwrites(self, blobs: BlobStore, raw: Raw) -> None:
        data = secrets.token_bytes(20_000_003)
        ref = self.put(blobs, "a/big.dcm", data)
        assert raw("a/big.dcm") == data
        assert blobs.read(ref, 19_999_999, 100) == data[-4:]
        second = blobs.incoming() / "second.part"
        second.write_bytes(bytes(20 << 20))
        with pytest.raises(Corrupt):
            blobs.adopt(second, "a/big.dcm")
        assert raw("a/big.dcm") == data
        assert second.exists()

    def test_size_and_age_are_those_of_the_object(self, blobs: BlobStore) -> None:
        self.put(blobs, "a/x.dcm", b"12345")
        state = blobs.state("a/x.dcm")
        assert state.size_bytes == 5
        assert state.changed_s > 1_700_000_000

    def test_a_server_that_is_not_there_is_out_of_resources_at_start(self, s3: SeaweedFS, tmp_path: Path) -> None:
        options = {**s3.options, "endpoint": f"http://127.0.0.1:{free_port()}"}
        with pytest.raises(OutOfResources):
            ObjectStoreBlobs("s3://pacs/x", tmp_path / "incoming", options, timeout_s=0.4)

    def test_wrong_credentials_are_out_of_resources(self, s3: SeaweedFS, tmp_path: Path) -> None:
        with pytest.raises(OutOfResources):
            ObjectStoreBlobs("s3://pacs/x", tmp_path / "incoming", {**s3.options, "secret_access_key": "wrong"})

    def test_ranges_past_the_end_of_a_wrongly_sized_reference_end_quietly(self, blobs: BlobStore) -> None:
        self.put(blobs, "a/x.dcm", bytes(4 << 20))
        assert sum(map(len, blobs.stream(BlobRef("a/x.dcm", 1 << 30, "")))) == 4 << 20
