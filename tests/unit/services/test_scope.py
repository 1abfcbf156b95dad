"""What the services make of a caller's scope, beyond what the table over HTTP and DIMSE shows: shares of studies."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pacs.blobs.filesystem import FilesystemBlobs
from pacs.dicom.model import Caller, Role, Scope, Target
from pacs.dicom.uids import new_uid
from pacs.dimse.peer import Rules
from pacs.errors import Gone, NotFound, StudyMismatch
from pacs.index.sqlite import SqliteIndex
from pacs.services.access import Principal
from pacs.services.change_feed import ChangeFeed
from pacs.services.delete import Delete
from pacs.services.file_key import FileKeyPattern
from pacs.services.labels import Labels
from pacs.services.store import Store
from tests import builders

ALL = Caller("TEST", "127.0.0.1", "test")
MINE, THEIRS = new_uid(), new_uid()
SHARE = Caller("share", "127.0.0.1", "web", Role.WRITER, Scope(studies=frozenset({MINE})))


@pytest.fixture
def index(tmp_path: Path) -> Iterator[SqliteIndex]:
    opened = SqliteIndex(tmp_path / "index.sqlite")
    yield opened
    opened.close()


@pytest.fixture
def blobs(tmp_path: Path) -> FilesystemBlobs:
    return FilesystemBlobs(tmp_path / "files", tmp_path / "incoming")


@pytest.fixture
def store(index: SqliteIndex, blobs: FilesystemBlobs) -> Store:
    return Store(index, blobs, FileKeyPattern("{00080018}"))


def put(store: Store, study: str, caller: Caller = ALL, modality: str = "CT") -> Target:
    with store.spool() as spool:
        spool.write(builders.ct(study, Modality=modality))
        return store.store(spool, caller).instance.target


def test_who_has_some_studies_stores_into_those_alone(store: Store, index: SqliteIndex) -> None:
    assert put(store, MINE, SHARE).study_uid == MINE
    with pytest.raises(StudyMismatch):
        put(store, THEIRS, SHARE)
    assert index.counts().instances == 1


def test_who_sees_a_part_is_not_told_what_was_deleted(store: Store, index: SqliteIndex, blobs: FilesystemBlobs) -> None:
    put(store, THEIRS)
    put(store, MINE)
    delete = Delete(index, blobs)
    delete.delete(Target(THEIRS), ALL)
    with pytest.raises(Gone):
        delete.delete(Target(THEIRS), ALL)
    with pytest.raises(NotFound) as told:
        delete.delete(Target(THEIRS), SHARE)
    assert not isinstance(told.value, Gone)
    assert delete.delete(Target(MINE), SHARE) == 1


def test_changes_are_those_of_what_is_visible_and_cursors_go_on(
    store: Store, index: SqliteIndex, blobs: FilesystemBlobs
) -> None:
    mine, theirs, mr = put(store, MINE), put(store, THEIRS), put(store, MINE, modality="MR")
    Labels(index.work).add(MINE, "mine")
    Delete(index, blobs).delete(theirs, ALL)
    Delete(index, blobs).delete(mr, ALL)
    feed = ChangeFeed(index)

    def seen(scope: Scope) -> list[tuple[str, str]]:
        page = feed.page(0, 100, Caller("one", "", "web", Role.READER, scope))
        assert (page.last, page.looked_at) == (index.work.change_span()[1], 5)
        return [(change.kind.name, change.target.study_uid) for change in page.changes]

    stored, deleted = ("STORED", mine.study_uid), ("DELETED", mine.study_uid)
    assert len(seen(Scope())) == 5
    assert seen(Scope(modalities=frozenset({"CT"}))) == [stored]
    assert seen(Scope(labels=frozenset({"mine"}))) == [stored, deleted]
    assert seen(SHARE.scope) == [stored, deleted]
    assert seen(Scope(studies=frozenset({new_uid()}))) == []


def test_a_user_narrows_what_a_peer_may_do_and_see() -> None:
    rules = Rules(frozenset({"find", "store"}), scope=Scope(frozenset({"CT", "MR"})))
    reader = Principal("anna", Role.READER, Scope(frozenset({"MR", "US"}), frozenset({"mine"})))
    narrowed = rules.within(reader)
    assert narrowed.scope == Scope(frozenset({"MR"}), frozenset({"mine"}))
    assert [name for name in ("find", "store", "get") if narrowed.allows(name)] == ["find"]
    assert rules.within(None) is rules
