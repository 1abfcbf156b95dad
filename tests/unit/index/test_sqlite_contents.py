"""Compressed contents of instances: what went in comes out, and what is damaged is told."""

from __future__ import annotations

import random
import sqlite3
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import orjson
import pytest
import zstandard

from pacs.dicom.matching import Single
from pacs.dicom.model import InstanceRecord, Level, Target
from pacs.errors import Corrupt
from pacs.index.base import Fields, Put, Query
from pacs.index.sqlite import SqliteIndex
from pacs.index.sqlite_contents import Contents, Packer, Reader
from tests.contracts.index_records import random_record, record

EVERYTHING = Query(Level.IMAGE, {}, fields=Fields(frozenset({Level.IMAGE}), everything=True))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "index.sqlite"


@pytest.fixture
def connection(path: Path) -> Iterator[sqlite3.Connection]:
    SqliteIndex(path).close()
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        yield connection


def slices(count: int, series: str = "1.1", **attributes: object) -> list[InstanceRecord]:
    """As a scanner makes them: alike, but for position and times."""
    return [
        record(
            "1",
            series,
            f"{series}.{n}",
            InstanceNumber=n,
            ContentTime=f"1015{n % 60:02d}.{n:06d}",
            ImagePositionPatient=[-250.5, -412.25, n * 1.5],
            StudyDescription="CT THORAX W CONTRAST",
            PatientComments="A long comment that all of them share " * 20,
            **attributes,
        )
        for n in range(1, count + 1)
    ]


def metadata(path: Path, study: str = "1") -> list[bytes]:
    with closing(SqliteIndex(path)) as index:
        return [one.json for one in index.metadata(Target(study))]


def test_every_byte_comes_out_as_it_went_in(path: Path) -> None:
    rng = random.Random(3)
    stored: dict[Target, InstanceRecord] = {}
    with closing(SqliteIndex(path)) as index:
        for _ in range(200):
            one = random_record(rng)
            index.put([one], replace=True)
            stored[one.header.target] = one
        for study in {target.study_uid for target in stored}:
            for found in index.metadata(Target(study)):
                assert found.json == stored[found.target].header.json
                assert index.layout(found.target) == stored[found.target].header.layout
        located = [instance for target in stored for instance in index.locate(target)]
        assert {one.target: one.blob for one in located} == {target: one.blob for target, one in stored.items()}


def test_of_a_series_only_the_differences_are_kept(path: Path) -> None:
    records = slices(100)
    with closing(SqliteIndex(path)) as index:
        index.put(records)
    with closing(sqlite3.connect(path)) as connection:
        longest, total = connection.execute(
            "SELECT MAX(LENGTH(metadata)), SUM(LENGTH(metadata)) FROM contents"
        ).fetchone()
        templates = connection.execute("SELECT COUNT(*) FROM templates").fetchone()[0]
    assert templates == 1
    assert longest < 200
    assert total < 0.1 * sum(len(one.header.json) for one in records)
    assert metadata(path) == [one.header.json for one in records]


def test_a_series_of_two_kinds_gets_a_second_template_but_not_one_an_instance(path: Path) -> None:
    rng = random.Random(1)

    def noise() -> str:
        return "".join(rng.choice("abcdefghijklmnopqrstuvwxyz0123456789") for _ in range(2000))

    localizer = record("1", "1.1", "1.1.0", InstanceNumber=0, ImageComments=noise())
    same = noise()
    axial = [record("1", "1.1", f"1.1.{n}", InstanceNumber=n, ImageComments=same) for n in range(1, 60)]
    noisy = [record("1", "1.2", f"1.2.{n}", InstanceNumber=n, ImageComments=noise()) for n in range(64)]
    with closing(SqliteIndex(path)) as index:
        index.put([localizer, *axial, *noisy])
    with closing(sqlite3.connect(path)) as connection:
        listed = [
            n for (n,) in connection.execute("SELECT COUNT(*) FROM templates GROUP BY series_id ORDER BY series_id")
        ]
        last = connection.execute(
            "SELECT LENGTH(metadata) FROM contents WHERE id = (SELECT id FROM instances WHERE c00080018 = '1.1.59')"
        ).fetchone()[0]
    assert listed[0] == 2
    assert last < 200
    assert listed[1] <= 64 // 16 + 1
    assert metadata(path) == [one.header.json for one in [localizer, *axial, *noisy]]


def test_long_metadata_and_long_layouts_are_kept_by_themselves(path: Path) -> None:
    rng = random.Random(2)
    records = [
        record("1", "1.1", f"1.1.{n}", InstanceNumber=n, PatientComments=rng.randbytes(30000).hex()) for n in range(3)
    ]
    with closing(SqliteIndex(path)) as index:
        index.put(records)
        assert [one.json for one in index.metadata(Target("1"))] == [one.header.json for one in records]
        assert (
            len(
                index.search(
                    Query(Level.IMAGE, {("00104000",): Single(records[1].header.attributes["00104000"]["Value"][0])})
                ).rows
            )
            >= 0
        )


def test_templates_go_with_their_series(path: Path) -> None:
    with closing(SqliteIndex(path)) as index:
        index.put([*slices(3), *slices(3, "1.2")])
        index.remove([Target("1", "1.1", "1.1.1"), Target("1", "1.2")])
        assert [one.target.sop_uid for one in index.metadata(Target("1"))] == ["1.1.2", "1.1.3"]
        with closing(sqlite3.connect(path)) as connection:
            assert connection.execute("SELECT COUNT(*) FROM templates").fetchone()[0] == 1
        index.clear()
        with closing(sqlite3.connect(path)) as connection:
            assert connection.execute("SELECT COUNT(*) FROM templates").fetchone()[0] == 0


def test_a_template_of_a_transaction_that_failed_is_never_used(path: Path) -> None:
    """Its id is given again; a reader or writer that remembered it would make nonsense of the next series."""
    with closing(SqliteIndex(path)) as index:
        index.put(slices(2))
        with closing(sqlite3.connect(path)) as connection:
            connection.execute(
                "CREATE TRIGGER stop BEFORE INSERT ON instances WHEN NEW.c00080018 = '1.2.2'"
                " BEGIN SELECT RAISE(ABORT, 'no'); END"
            )
        with pytest.raises(Corrupt):
            index.put(slices(2, "1.2"))
        others = slices(2, "1.3", ImageComments="of another kind " * 50)
        assert [one.outcome for one in index.put(others)] == [Put.STORED] * 2
        assert [one.json for one in index.metadata(Target("1", "1.3"))] == [one.header.json for one in others]
        assert len(list(index.metadata(Target("1", "1.1")))) == 2


def test_two_processes_share_templates(path: Path) -> None:
    with closing(SqliteIndex(path)) as one, closing(SqliteIndex(path)) as other:
        records = slices(8)
        for position, each in enumerate(records):
            (one, other)[position % 2].put([each])
        for index in (one, other):
            assert [found.json for found in index.metadata(Target("1"))] == [each.header.json for each in records]


def _cut(value: bytes) -> bytes:
    return value[: len(value) // 2]


def _flipped(value: bytes) -> bytes:
    middle = len(value) - 6
    return value[:middle] + bytes((value[middle] ^ 0x10,)) + value[middle + 1 :]


DAMAGE: dict[str, Callable[[bytes], object]] = {
    "cut off": _cut,
    "empty": lambda value: b"",
    "one bit": _flipped,
    "longer": lambda value: value + b"\0",
    "zeros": lambda value: bytes(len(value)),
    "another kind": lambda value: b"\x07" + value[1:],
    "no such template": lambda value: value[:1] + b"\xff" * 5 + value[6:],
    "not by the template": lambda value: value[6:],
    "two frames": lambda value: value + zstandard.compress(b"{}"),
    "a length that cannot be": lambda value: b"\x28\xb5\x2f\xfd\xe0" + (1 << 45).to_bytes(8, "little") + b"\0\0\0",
    "another format": lambda value: zlib.compress(b"{}"),
    "text": lambda value: "{}" + "x" * 10,
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damaged_contents_are_an_error_and_never_other_metadata(path: Path, kind: str) -> None:
    with closing(SqliteIndex(path)) as index:
        index.put(slices(3))
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        instance_id, stored = connection.execute(
            "SELECT id, metadata FROM contents ORDER BY id DESC LIMIT 1"
        ).fetchone()
        connection.execute("UPDATE contents SET metadata = ? WHERE id = ?", (DAMAGE[kind](stored), instance_id))
    with closing(SqliteIndex(path)) as index:
        with pytest.raises(Corrupt, match="damaged"):
            list(index.metadata(Target("1")))
        with pytest.raises(Corrupt, match="damaged"):
            index.search(EVERYTHING)
        # The others are there.
        assert len(list(index.metadata(Target("1", "1.1", "1.1.1")))) == 1


@pytest.mark.parametrize(
    "damage",
    ["DELETE FROM templates", "UPDATE templates SET content = x'789c'", "UPDATE templates SET content = 'text'"],
)
def test_a_damaged_template_is_an_error(path: Path, damage: str) -> None:
    with closing(SqliteIndex(path)) as index:
        index.put(slices(2))
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(damage)
    with closing(SqliteIndex(path)) as index, pytest.raises(Corrupt, match="template"):
        list(index.metadata(Target("1")))


def test_a_template_of_another_series_is_noticed(connection: sqlite3.Connection) -> None:
    packer = Packer(connection)
    some = Contents(b"{}", b"{}", orjson.dumps({"a": "x" * 300}), b"{}")
    other = Contents(b"{}", b"{}", orjson.dumps({"b": "y" * 300}), b"{}")
    stored = packer.pack(1, some).metadata
    foreign = packer.pack(2, other).metadata
    assert stored[1:6] != foreign[1:6]
    with pytest.raises(Corrupt):
        Reader(connection).read(stored[:1] + foreign[1:6] + stored[6:])


def test_a_reader_forgets_templates_that_it_no_longer_needs(connection: sqlite3.Connection) -> None:
    packer, reader = Packer(connection), Reader(connection)
    values = [
        (packer.pack(n, Contents(b"{}", b"{}", content, b"{}")).metadata, content)
        for n in range(600)
        for content in [orjson.dumps({"a": f"{n}" * 100})]
    ]
    for _ in range(2):
        for stored, content in values:
            assert reader.read(stored) == content
    assert len(reader._templates) <= 32
    assert len(packer._latest) <= 32
