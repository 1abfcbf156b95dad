"""An index of an older version and what that version answered, to be migrated by tests.

``index_v3.sqlite.gz`` and ``index_v3.json.gz`` were written by the program before version 5 of the schema, those of
``v7`` by the one before version 8, which knew of jobs but not of their causes:

    git worktree add /tmp/old <commit> && cp tests/unit/index/old_index.py /tmp/old/tests/unit/index/
    cd /tmp/old && python -m tests.unit.index.old_index 3 <this folder>
"""

from __future__ import annotations

import gzip
import random
import sqlite3
import sys
import tempfile
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from pacs.dicom.attributes import UNIQUE_KEYS
from pacs.dicom.matching import Single
from pacs.dicom.model import InstanceRecord, Level, StoredInstance, Target
from pacs.index.base import Fields, Index, Query
from pacs.index.sqlite import SqliteIndex
from tests.contracts.index_records import random_record, record

HERE = Path(__file__).parent
STUDIES = ("1", "2", "3", "4", "9")
DELETED_AT = datetime(2026, 1, 1, tzinfo=UTC)


def answers(index: Index) -> dict[str, Any]:
    """What an index says of everything in it, as JSON can hold it."""
    every = Fields(frozenset(Level), everything=True)
    some = Fields(frozenset(Level), frozenset(UNIQUE_KEYS.values()) | {"00091002", "00180050"})
    return {
        "rows": [
            [row.decode() for row in index.search(Query(level, {}, fields=fields)).rows]
            for level in Level
            for fields in (every, some)
        ],
        "doe": [
            row.decode() for row in index.search(Query(Level.IMAGE, {("00180050",): Single("1")}, fields=every)).rows
        ],
        "metadata": [[one.json.decode() for one in index.metadata(Target(study))] for study in STUDIES],
        "layouts": [
            index.layout(instance.target).to_bytes().decode()
            for study in STUDIES
            for instance in index.locate(Target(study))
        ],
        "stored": [_plain(instance) for instance in index.stored()],
        "discarded": [
            [_plain(one.instance), one.at.isoformat() if one.is_deleted else "", one.is_deleted]
            for one in index.discarded(datetime.now(UTC))
        ],
        "counts": list(map(str, [index.counts()])),
    }


def drop_listing(connection: sqlite3.Connection) -> None:
    """Take out what version 8 has brought."""
    triggers = (
        "SELECT name FROM sqlite_master WHERE type = 'trigger' AND (name GLOB 'listed_*' OR name GLOB 'labels_*')"
    )
    for (name,) in connection.execute(triggers).fetchall():
        connection.execute(f"DROP TRIGGER {name}")
    for table in ("listed", "unlisted", "study_labels", "study_words", "fresh_words"):
        connection.execute(f"DROP TABLE {table}")
    for index in ("series_modality", "study_instances"):
        connection.execute(f"DROP INDEX {index}")


def _plain(instance: StoredInstance) -> list[Any]:
    target, blob = instance.target, instance.blob
    return [
        *(target.study_uid, target.series_uid, target.sop_uid, instance.sop_class_uid, instance.transfer_syntax_uid),
        *(blob.key, blob.size_bytes, blob.digest, instance.data_set_offset),
    ]


def _records() -> list[InstanceRecord]:
    rng = random.Random(5)
    ordinary = [record("9", "9.1", f"9.1.{n}", InstanceNumber=n, SliceLocation=n / 3) for n in range(30)]
    return [
        *(random_record(rng) for _ in range(150)),
        *ordinary,
        record("9", "9.2", "9.2.1", PatientComments="x" * 20000),
    ]


def _ask(index: Index) -> None:
    """Jobs, and labels of a study."""
    from pacs.index.work import NewJob
    from pacs.services.labels import Labels

    index.work.add_jobs([NewJob("send", "waits", payload=b'{"to": "AWAY"}')])
    Labels(index.work).add("9", "teaching")


def write(version: int, folder: Path) -> None:
    with tempfile.TemporaryDirectory() as made:
        path = Path(made) / "index.sqlite"
        with closing(SqliteIndex(path)) as index:
            for one in _records():
                index.put([one], replace=True)
            index.delete(Target("9", "9.1", "9.1.7"), DELETED_AT)
            index.add_index(("00180050",))
            if version >= 6:
                _ask(index)
            found = orjson.dumps(answers(index))
        assert not Path(f"{path}-wal").exists()
        for name, data in ((f"index_v{version}.sqlite.gz", path.read_bytes()), (f"index_v{version}.json.gz", found)):
            (folder / name).write_bytes(gzip.compress(data, 9, mtime=0))


if __name__ == "__main__":
    write(int(sys.argv[1]), Path(sys.argv[2]))
