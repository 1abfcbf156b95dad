"""Index and store that do not belong together are kept apart."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pacs.blobs.base import IDENTITY_KEY
from pacs.blobs.filesystem import FilesystemBlobs
from pacs.dicom.model import Target
from pacs.errors import Invalid
from pacs.index.sqlite import SqliteIndex
from pacs.services.store_identity import SETTING, settle
from tests.contracts.index_records import record


class Room:
    """An index, and stores by name."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.index = SqliteIndex(folder / "index.sqlite")

    def blobs(self, name: str) -> FilesystemBlobs:
        return FilesystemBlobs(self.folder / name, self.folder / f"{name}-incoming")

    def settle(self, name: str) -> None:
        settle(self.index, self.blobs(name))

    def fill(self, name: str, sop_uid: str = "1.1.1") -> None:
        """One instance, its file in this store."""
        row = record(sop=sop_uid)
        path = self.folder / "file"
        path.write_bytes(bytes(row.blob.size_bytes))
        self.blobs(name).adopt(path, row.blob.key)
        self.index.put([row])

    @property
    def known(self) -> str | None:
        return self.index.setting(SETTING)


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Room]:
    room = Room(tmp_path)
    yield room
    room.index.close()


def test_two_that_are_new_get_to_know_each_other_for_good(room: Room) -> None:
    room.settle("a")
    assert room.known == room.blobs("a").identity() is not None
    room.fill("a")
    room.settle("a")


def test_a_filled_index_refuses_another_store_and_changes_nothing(room: Room) -> None:
    room.settle("a")
    room.fill("a")
    known = room.known
    room.blobs("b").identify("other")
    with pytest.raises(Invalid, match=f"store {known}, and this is store other"):
        room.settle("b")
    with pytest.raises(Invalid, match="none of the files"):
        room.settle("empty")
    assert room.known == known
    assert room.blobs("empty").identity() is None
    assert room.blobs("b").identity() == "other"


def test_an_index_of_which_all_is_deleted_is_filled_all_the_same(room: Room) -> None:
    room.settle("a")
    room.fill("a")
    room.index.delete(Target("1"), datetime.now(UTC))
    with pytest.raises(Invalid):
        room.settle("b")
    room.settle("a")


def test_an_empty_index_takes_any_store(room: Room) -> None:
    room.settle("a")
    room.blobs("b").identify("other")
    room.settle("b")
    assert room.known == "other"
    room.settle("c")
    assert room.known == room.blobs("c").identity()
    assert len({room.blobs(name).identity() for name in "abc"}) == 3


def test_an_index_older_than_this_takes_the_store_that_has_its_files(room: Room) -> None:
    room.fill("a")
    with pytest.raises(Invalid, match="none of the files"):
        room.settle("b")
    room.blobs("c").identify("other")
    with pytest.raises(Invalid, match="none of the files"):
        room.settle("c")
    assert room.known is None
    room.settle("a")
    assert room.known == room.blobs("a").identity() is not None


def test_a_store_that_lost_its_name_is_known_by_its_files(room: Room, tmp_path: Path) -> None:
    room.settle("a")
    room.fill("a")
    (tmp_path / "a" / IDENTITY_KEY).unlink()
    room.settle("a")
    assert room.blobs("a").identity() == room.known


def test_a_copy_of_the_store_is_the_store(room: Room, tmp_path: Path) -> None:
    room.settle("a")
    room.fill("a")
    shutil.copytree(tmp_path / "a", tmp_path / "copy")
    room.settle("copy")


def test_of_the_files_looked_at_one_is_enough(room: Room) -> None:
    for number in range(5):
        room.index.put([record(sop=f"1.2.{number}")])
    room.fill("a")
    room.settle("a")


def test_many_that_start_at_once_on_nothing_agree(room: Room, tmp_path: Path) -> None:
    indexes = [SqliteIndex(tmp_path / "index.sqlite") for _ in range(4)]
    with ThreadPoolExecutor(16) as threads:
        list(threads.map(lambda n: settle(indexes[n % 4], room.blobs("a")), range(16)))
    for index in indexes:
        index.close()
    assert room.known == room.blobs("a").identity() is not None


def test_of_two_that_start_at_once_with_different_stores_the_slower_one_is_refused(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = room.blobs("b")
    identify = slow.identify

    def overtaken(name: str) -> str:
        room.settle("a")
        return identify(name)

    monkeypatch.setattr(slow, "identify", overtaken)
    with pytest.raises(Invalid):
        settle(room.index, slow)
    assert room.known == room.blobs("a").identity()
