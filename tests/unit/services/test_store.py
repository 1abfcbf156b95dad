"""The store service over the real index and the real filesystem store."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from pacs.blobs.filesystem import FilesystemBlobs
from pacs.dicom.file_meta import FileMeta
from pacs.dicom.model import BlobRef, Caller
from pacs.errors import (
    ClassMismatch,
    Conflict,
    MissingAttribute,
    MissingValue,
    OutOfResources,
    StudyMismatch,
    TooLarge,
    Unreadable,
)
from pacs.index.base import Put
from pacs.index.sqlite import SqliteIndex
from pacs.services.file_key import FileKeyPattern
from pacs.services.store import Store, Stored
from tests import builders

CALLER = Caller("TEST", "127.0.0.1", "cli")
PATTERN = FileKeyPattern("{now,date,yyyy/MM}/{0020000D}/{0020000E}/{00080018}")


@dataclass
class Room:
    store: Store
    index: SqliteIndex
    blobs: FilesystemBlobs
    folder: Path

    def send(self, data: bytes, **options: object) -> Stored:
        spool = self.store.spool()
        for start in range(0, len(data), 1000):
            spool.write(data[start : start + 1000])
        return self.store.store(spool, CALLER, **options)  # type: ignore[arg-type]

    def files(self) -> list[Path]:
        return [path for path in (self.folder / "files").rglob("*") if path.is_file()]

    def is_clean(self) -> bool:
        """Nothing half-received, and every file has its row."""
        keys = {instance.blob.key for instance in self.index.stored()}
        return not list(self.blobs.incoming().iterdir()) and set(self.blobs.keys()) == keys


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Room]:
    index = SqliteIndex(tmp_path / "index.sqlite")
    blobs = FilesystemBlobs(tmp_path / "files", tmp_path / "incoming")
    yield Room(Store(index, blobs, PATTERN), index, blobs, tmp_path)
    index.close()


def test_a_part_10_file_is_kept_byte_for_byte_and_indexed(room: Room) -> None:
    data = builders.ct()
    stored = room.send(data)
    assert stored.outcome is Put.STORED
    (file,) = room.files()
    assert file.read_bytes() == data
    (located,) = room.index.locate(stored.instance.target)
    assert located == stored.instance
    assert located.blob.size_bytes == len(data)
    assert located.blob.digest == "sha256:" + hashlib.sha256(builders.data_set_of(data)).hexdigest()
    assert room.is_clean()


def test_a_preamble_is_zeroed_and_the_rest_kept(room: Room) -> None:
    data = builders.ct()
    room.send(b"MZ\x90\x00" * 32 + data[128:])
    (file,) = room.files()
    assert file.read_bytes() == bytes(128) + data[128:]


def test_a_bare_data_set_of_a_c_store_gets_a_file_meta_information(room: Room) -> None:
    data = builders.ct(sop_uid="1.2.3.9")
    meta = FileMeta(builders.CT_IMAGE_STORAGE, "1.2.3.9", "1.2.840.10008.1.2.1", "MODALITY")
    with room.store.spool(meta) as spool:
        spool.write(builders.data_set_of(data))
        stored = room.store.store(spool, CALLER)
    (file,) = room.files()
    content = file.read_bytes()
    assert content[:132] == bytes(128) + b"DICM"
    assert content[stored.instance.data_set_offset :] == builders.data_set_of(data)
    assert room.send(data).outcome is Put.SAME


def test_a_bare_data_set_without_command_gets_one_too(room: Room) -> None:
    data = builders.ct()
    stored = room.send(builders.data_set_of(data))
    (file,) = room.files()
    content = file.read_bytes()
    assert content[128:132] == b"DICM"
    assert content[stored.instance.data_set_offset :] == builders.data_set_of(data)
    layout = room.index.layout(stored.instance.target)
    assert layout.pixels is not None
    span = layout.pixels.value
    assert content[span.offset : span.offset + span.length] == data[-span.length :]


def test_sequences_nested_hundreds_deep_are_kept_whole(room: Room) -> None:
    item: dict[str, object] = {"CodeValue": "innermost"}
    for _ in range(300):
        item = {"ConceptCodeSequence": [item]}
    data = builders.ct(PixelData=..., **item)
    stored = room.send(builders.data_set_of(data))
    (metadata,) = room.index.metadata(stored.instance.target)
    assert metadata.json.count(b'"00400100"') + metadata.json.count(b'"0040A168"') >= 300
    assert b"innermost" in metadata.json


def test_the_same_bytes_again_are_the_same_and_write_nothing(room: Room) -> None:
    data = builders.ct()
    first = room.send(data)
    again = room.send(data)
    assert again.outcome is Put.SAME
    assert again.instance == first.instance
    assert len(room.files()) == 1
    assert room.is_clean()


def test_other_bytes_under_a_known_uid_conflict_and_the_first_stays(room: Room) -> None:
    uids = {"study_uid": "1.2.3", "series_uid": "1.2.3.4", "sop_uid": "1.2.3.4.5"}
    data = builders.ct(**uids)
    room.send(data)
    with pytest.raises(Conflict) as caught:
        room.send(builders.ct(**uids, PatientComments="other"))
    assert caught.value.sop_uid == "1.2.3.4.5"
    (file,) = room.files()
    assert file.read_bytes() == data
    assert room.is_clean()


def test_replacing_keeps_the_earlier_file(room: Room) -> None:
    uids = {"study_uid": "1.2.3", "series_uid": "1.2.3.4", "sop_uid": "1.2.3.4.5"}
    store = Store(room.index, room.blobs, PATTERN, replace=True)
    versions = [builders.ct(**uids), builders.ct(**uids, PatientComments="other")]
    for data in versions:
        spool = store.spool()
        spool.write(data)
        stored = store.store(spool, CALLER)
    assert stored.outcome is Put.REPLACED
    assert room.blobs.read(stored.instance.blob) == versions[1]
    assert sorted(path.read_bytes() for path in room.files()) == sorted(versions)
    assert room.index.counts().instances == 1
    assert room.is_clean()


def test_each_of_many_succeeds_or_fails_by_itself(room: Room) -> None:
    good = [builders.ct(study_uid="1.2.3") for _ in range(3)]
    parts = [good[0], b"garbage" * 50, good[1], b"", builders.ct(study_uid="9.9"), good[2], good[0]]
    spools = []
    for part in parts:
        spool = room.store.spool()
        spool.write(part)
        spools.append(spool)
    results = room.store.store_many(spools, CALLER, study_uid="1.2.3")
    kinds = [result.outcome if isinstance(result, Stored) else type(result) for result in results]
    assert kinds == [Put.STORED, Unreadable, Put.STORED, Unreadable, StudyMismatch, Put.STORED, Put.SAME]
    assert room.index.counts().instances == 3
    assert room.is_clean()


def test_uids_of_the_command_have_to_be_those_of_the_data_set(room: Room) -> None:
    data = builders.ct()
    spool = room.store.spool(FileMeta(builders.CT_IMAGE_STORAGE, "1.2.3.999", "1.2.840.10008.1.2.1"))
    spool.write(builders.data_set_of(data))
    with pytest.raises(ClassMismatch):
        room.store.store(spool, CALLER)
    assert room.files() == []
    assert room.is_clean()


def test_missing_study_uid_is_refused_or_derived_as_asked(room: Room) -> None:
    with pytest.raises(MissingValue):
        room.send(builders.ct(StudyInstanceUID=None))
    data = builders.ct(sop_uid="1.2.77", StudyInstanceUID=..., SeriesInstanceUID=...)
    with pytest.raises(MissingAttribute):
        room.send(data)
    stored = room.send(data, derive_uids=True)
    assert stored.instance.target.study_uid.startswith("2.25.")
    assert room.files()[0].read_bytes() == data
    assert room.send(data, derive_uids=True).outcome is Put.SAME


@pytest.mark.parametrize("step", ["place", "settle"])
def test_a_device_that_fails_leaves_nothing_half_stored(room: Room, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    def fail(*arguments: object) -> None:
        raise OutOfResources("the disk is full")

    monkeypatch.setattr(room.blobs, step, fail)
    with pytest.raises(OutOfResources):
        room.send(builders.ct())
    assert room.index.counts().instances == 0
    assert room.is_clean()
    assert room.files() == []
    monkeypatch.undo()
    assert room.send(builders.ct()).outcome is Put.STORED


def test_an_index_that_cannot_write_takes_the_file_back(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(records: object, **options: object) -> list[object]:
        raise OutOfResources("the disk is full")

    monkeypatch.setattr(room.index, "put", fail)
    with pytest.raises(OutOfResources):
        room.send(builders.ct())
    assert room.files() == []


def test_an_object_over_the_limit_is_too_large_and_leaves_nothing(room: Room) -> None:
    store = Store(room.index, room.blobs, PATTERN, max_object_bytes=1000)
    with store.spool() as spool:
        spool.write(bytes(900))
        with pytest.raises(TooLarge):
            spool.write(bytes(101))
    assert room.is_clean()


def test_the_reserve_of_free_space_is_never_used(room: Room) -> None:
    store = Store(room.index, room.blobs, PATTERN, min_free_bytes=1 << 60)
    with pytest.raises(OutOfResources, match="full"):
        store.spool()


def test_many_senders_of_the_same_instance_at_once_store_it_once(room: Room) -> None:
    data = builders.ct()
    outcomes: list[Put] = []
    threads = [threading.Thread(target=lambda: outcomes.append(room.send(data).outcome)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcome.value for outcome in outcomes) == ["same"] * 7 + ["stored"]
    assert len(room.files()) == 1
    assert room.is_clean()


def test_a_file_whose_meta_contradicts_its_data_set_is_stored_under_the_data_set_s(room: Room) -> None:
    data = builders.ct(sop_uid="1.2.3.4.5.6")
    wrong = data.replace(b"1.2.3.4.5.6", b"1.2.3.4.5.7", 1)
    stored = room.send(wrong)
    assert stored.instance.target.sop_uid == "1.2.3.4.5.6"
    assert stored.warnings
    content = room.blobs.read(BlobRef(stored.instance.blob.key, stored.instance.blob.size_bytes, ""))
    assert content[stored.instance.data_set_offset :] == builders.data_set_of(data)
    assert b"1.2.3.4.5.7" not in content
