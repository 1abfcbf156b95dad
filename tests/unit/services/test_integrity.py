"""Verify, repair and rebuild over the real index and the real filesystem store, damaged by hand."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from pacs.blobs.filesystem import FilesystemBlobs
from pacs.dicom.model import Caller, Target
from pacs.index.sqlite import SqliteIndex
from pacs.services.delete import Delete
from pacs.services.file_key import FileKeyPattern
from pacs.services.integrity import Fault, Integrity, Problem, count
from pacs.services.store import Store, Stored
from tests import builders

CALLER = Caller("TEST", "127.0.0.1", "cli")
PATTERN = FileKeyPattern("{0020000D}/{00080018}")


@dataclass
class Room:
    folder: Path
    index: SqliteIndex
    blobs: FilesystemBlobs

    def send(self, data: bytes, *, replace: bool = False) -> Stored:
        store = Store(self.index, self.blobs, PATTERN, replace=replace)
        spool = store.spool()
        spool.write(data)
        return store.store(spool, CALLER)

    def integrity(self, *, alone: bool = True) -> Integrity:
        return Integrity(self.index, self.blobs, self.folder / "orphans", alone=alone, max_inflated_bytes=1 << 20)

    def verify(self, *, digests: bool = True, repair: bool = False, alone: bool = True) -> list[Problem]:
        return list(self.integrity(alone=alone).verify(digests=digests, repair=repair))

    def path(self, stored: Stored) -> Path:
        return self.folder / "files" / stored.instance.blob.key

    def orphan(self, data: bytes, key: str = "lost/x.dcm", age_s: float = 0) -> Path:
        path = self.folder / "files" / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        _make_older(path, age_s)
        return path


def _make_older(path: Path, age_s: float) -> None:
    then = time.time() - age_s
    os.utime(path, (then, then))


def _faults(problems: list[Problem]) -> list[tuple[Fault, str]]:
    return [(problem.fault, problem.repair) for problem in problems]


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Room]:
    index = SqliteIndex(tmp_path / "index.sqlite")
    yield Room(tmp_path, index, FilesystemBlobs(tmp_path / "files", tmp_path / "incoming"))
    index.close()


def test_a_sound_archive_has_no_problems(room: Room) -> None:
    for _ in range(70):  # more than one batch
        room.send(builders.ct(rows=4, columns=4))
    done = []

    problems = list(room.integrity().verify(digests=True, repair=True, progress=done.append))

    assert problems == []
    assert sum(done) == 140


def test_missing_file_is_reported_and_its_row_taken_out_only_by_repair(room: Room) -> None:
    lost, kept = room.send(builders.ct()), room.send(builders.ct())
    room.path(lost).unlink()

    assert _faults(room.verify()) == [(Fault.MISSING, "")]
    assert room.index.counts().instances == 2
    assert _faults(room.verify(repair=True)) == [(Fault.MISSING, "removed from the index")]

    assert room.index.locate(lost.instance.target) == []
    assert room.index.locate(kept.instance.target) == [kept.instance]
    assert room.verify() == []


def test_changed_bytes_are_found_by_digest_and_never_touched(room: Room) -> None:
    path = room.path(room.send(builders.ct()))
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)

    assert room.verify(digests=False) == []
    assert _faults(room.verify(repair=True)) == [(Fault.DIGEST, "")]

    assert path.read_bytes() == data
    assert room.index.counts().instances == 1


def test_truncated_file_is_found_without_digests(room: Room) -> None:
    path = room.path(room.send(builders.ct()))
    os.truncate(path, path.stat().st_size - 2)

    (problem,) = room.verify(digests=False, repair=True)

    assert (problem.fault, problem.repair) == (Fault.SIZE, "")
    assert path.exists()


def test_readable_orphan_is_indexed_where_it_lies(room: Room) -> None:
    data = builders.ct(study_uid="1.2.3", series_uid="1.2.3.4", sop_uid="1.2.3.4.5")
    path = room.orphan(data)

    assert _faults(room.verify()) == [(Fault.ORPHAN, "")]
    assert room.index.counts().instances == 0
    assert _faults(room.verify(repair=True)) == [(Fault.ORPHAN, "indexed")]

    (instance,) = room.index.locate(Target("1.2.3", "1.2.3.4", "1.2.3.4.5"))
    assert instance.blob.key == "lost/x.dcm"
    assert path.read_bytes() == data
    assert room.verify() == []


@pytest.mark.parametrize("same", [True, False])
def test_orphan_of_a_stored_instance_is_moved_aside_and_not_deleted(room: Room, same: bool) -> None:
    uids = {"study_uid": "1.2.3", "series_uid": "1.2.3.4", "sop_uid": "1.2.3.4.5"}
    stored = room.send(builders.ct(**uids))
    data = builders.ct(**uids) if same else builders.ct(**uids, PatientName="Other")
    path = room.orphan(data)

    (problem,) = room.verify(repair=True)

    assert problem.repair == "moved to the orphans folder"
    assert problem.detail.endswith("with other bytes") is not same
    assert (room.folder / "orphans" / "lost" / "x.dcm").read_bytes() == data
    assert not path.parent.exists()
    assert room.index.locate(stored.instance.target) == [stored.instance]
    assert room.verify() == []


def test_two_orphans_of_one_name_are_both_kept(room: Room) -> None:
    for content in (b"one", b"two"):
        room.orphan(content)
        room.verify(repair=True)

    moved = sorted((room.folder / "orphans" / "lost").iterdir())

    assert [path.read_bytes() for path in moved] == [b"one", b"two"]


@pytest.mark.parametrize("data", [b"", b"notes of somebody", builders.ct()[:-100]], ids=["empty", "text", "cut short"])
def test_file_that_is_no_whole_instance_is_moved_aside(room: Room, data: bytes) -> None:
    room.orphan(data)

    assert _faults(room.verify()) == [(Fault.FOREIGN, "")]
    assert _faults(room.verify(repair=True)) == [(Fault.FOREIGN, "moved to the orphans folder")]

    assert (room.folder / "orphans" / "lost" / "x.dcm").read_bytes() == data
    assert room.index.counts().instances == 0
    assert room.verify() == []


def test_young_files_are_left_alone_while_a_server_runs(room: Room) -> None:
    room.orphan(builders.ct())
    (room.blobs.incoming() / "young.part").write_bytes(b"half")

    assert room.verify(repair=True, alone=False) == []

    assert (room.blobs.incoming() / "young.part").exists()
    assert room.index.counts().instances == 0


def test_leftovers_are_removed_when_cut_short_and_moved_aside_when_whole(room: Room) -> None:
    data = builders.ct()
    (room.blobs.incoming() / "half.part").write_bytes(data[:-100])
    (room.blobs.incoming() / "whole.part").write_bytes(data)

    assert count(room.verify()) == {"leftover": 2}
    half, whole = room.verify(repair=True)

    assert half.repair.startswith("removed")
    assert whole.repair == "moved to the orphans folder"
    assert list(room.blobs.incoming().iterdir()) == []
    assert (room.folder / "orphans" / "incoming" / "whole.part").read_bytes() == data


def test_earlier_version_comes_back_when_the_current_file_is_lost(room: Room) -> None:
    uids = {"study_uid": "1.2.3", "series_uid": "1.2.3.4", "sop_uid": "1.2.3.4.5"}
    first = room.send(builders.ct(**uids))
    second = room.send(builders.ct(**uids, PatientName="Newer"), replace=True)
    room.path(second).unlink()

    room.verify(repair=True)

    (instance,) = room.index.locate(first.instance.target)
    assert instance.blob.key == first.instance.blob.key
    assert room.verify() == []


def test_lost_earlier_version_does_not_take_the_current_one_along(room: Room) -> None:
    uids = {"study_uid": "1.2.3", "series_uid": "1.2.3.4", "sop_uid": "1.2.3.4.5"}
    first = room.send(builders.ct(**uids))
    second = room.send(builders.ct(**uids, PatientName="Newer"), replace=True)
    room.path(first).unlink()

    (problem,) = room.verify(repair=True)

    assert (problem.fault, problem.key) == (Fault.MISSING, first.instance.blob.key)
    assert room.index.locate(second.instance.target) == [second.instance]


def test_rebuilding_gives_the_same_index(room: Room, tmp_path: Path) -> None:
    for number in range(70):
        room.send(builders.ct(study_uid=f"1.2.{number % 5}", series_uid=f"1.2.{number % 5}.1"))
    fresh = SqliteIndex(tmp_path / "fresh.sqlite")
    integrity = Integrity(fresh, room.blobs, tmp_path / "orphans", alone=True, max_inflated_bytes=1 << 20)

    rebuilt = integrity.rebuild(replace=False)

    assert (rebuilt.indexed, rebuilt.problems) == (70, [])
    assert fresh.counts() == room.index.counts()
    assert set(fresh.stored()) == set(room.index.stored())
    for number in range(5):
        before = {(each.target, each.json) for each in room.index.metadata(Target(f"1.2.{number}"))}
        assert {(each.target, each.json) for each in fresh.metadata(Target(f"1.2.{number}"))} == before
    fresh.close()


@pytest.mark.parametrize("replace", [False, True])
def test_rebuilding_takes_versions_in_order_of_arrival(room: Room, replace: bool) -> None:
    uids = {"study_uid": "1.2.3", "series_uid": "1.2.3.4", "sop_uid": "1.2.3.4.5"}
    # The names are in the other order than the times.
    room.orphan(builders.ct(**uids), "b.dcm", age_s=200)
    room.orphan(builders.ct(**uids, PatientName="Newer"), "a.dcm", age_s=100)

    rebuilt = room.integrity().rebuild(replace=replace)

    (instance,) = room.index.locate(Target("1.2.3"))
    assert instance.blob.key == ("a.dcm" if replace else "b.dcm")
    assert [problem.key for problem in rebuilt.problems] == ([] if replace else ["a.dcm"])


def test_rebuilding_names_what_it_cannot_read(room: Room) -> None:
    room.orphan(builders.ct(), "good.dcm")
    path = room.orphan(b"nonsense", "bad.dcm")

    rebuilt = room.integrity().rebuild(replace=False)

    assert rebuilt.indexed == 1
    assert [(problem.fault, problem.key) for problem in rebuilt.problems] == [(Fault.FOREIGN, "bad.dcm")]
    assert path.exists()


def test_catching_up_takes_in_and_deletes_what_happened_since(room: Room) -> None:
    room.send(builders.ct("1.1", "1.1.1", "1.1.1.1"))
    early = room.send(builders.ct("1.2", "1.2.1", "1.2.1.1"))
    with sqlite3.connect(room.folder / "index.sqlite") as now, sqlite3.connect(room.folder / "backup") as backup:
        now.backup(backup)
    Delete(room.index, room.blobs).delete(Target("1.1"), CALLER)
    room.send(builders.ct("1.3", "1.3.1", "1.3.1.1"))
    later = room.send(builders.ct("1.2", "1.2.1", "1.2.1.1", PatientName="Later^Name"), replace=True)
    room.orphan(b"not DICOM", "notes.txt")
    room.orphan(b"\xff\xd8\xff", "2023/05/a/b/IM1.0.jpg")
    room.index.close()

    old = SqliteIndex(room.folder / "backup")
    integrity = Integrity(old, room.blobs, room.folder / "orphans", alone=True, max_inflated_bytes=1 << 20)
    caught_up = integrity.catch_up(replace=True)

    assert (caught_up.indexed, caught_up.deleted) == (2, 1)
    assert [(problem.fault, problem.key) for problem in caught_up.problems] == [(Fault.FOREIGN, "notes.txt")]
    assert [instance.blob.key for instance in old.locate(Target("1.2"))] == [later.instance.blob.key]
    assert old.holds_key(early.instance.blob.key)
    assert (old.locate(Target("1.1")), old.is_deleted(Target("1.1"))) == ([], True)
    assert len(old.locate(Target("1.3"))) == 1
    assert room.path(early).exists()
    old.close()


def test_more_than_half_missing_is_only_repaired_by_force(room: Room) -> None:
    stored = [room.send(builders.ct()) for _ in range(3)]
    orphan = room.orphan(builders.ct(study_uid="1.2.3", series_uid="1.2.3.4", sop_uid="1.2.3.4.5"))
    for one in stored[:2]:
        room.path(one).unlink()
    integrity = room.integrity()

    problems = list(integrity.verify(digests=False, repair=True))

    assert integrity.refusal.startswith("2 of 3 files are missing")
    assert _faults(problems) == [(Fault.MISSING, ""), (Fault.MISSING, ""), (Fault.ORPHAN, "")]
    assert room.index.counts().instances == 3
    assert orphan.exists()

    integrity = room.integrity()
    problems = list(integrity.verify(digests=False, repair=True, force=True))

    assert integrity.refusal == ""
    assert [problem.repair for problem in problems] == ["removed from the index"] * 2 + ["indexed"]
    assert room.index.counts().instances == 2
