"""Tables of the SQLite index, and how an older file becomes a newer one.

A row of a level holds: one column per indexed attribute in its normal form (see ``sqlite_rows``), ``fragment`` (the
default answer's attributes as JSON) and ``rest`` (the other attributes that the level keeps); those of instances are
compressed (``sqlite_contents``). Ids come from one counter, so their order is the order of first storage; ``seq`` of an
instance is the order of last storage.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping

from pacs.dicom.attributes import ALL, BY_TAG, DATE_TIME_PAIRS, Attribute
from pacs.dicom.model import Level
from pacs.errors import Corrupt
from pacs.index.rows import attributes_of, columns

TABLES = {Level.PATIENT: "patients", Level.STUDY: "studies", Level.SERIES: "series", Level.IMAGE: "instances"}
ALIASES = {Level.PATIENT: "p", Level.STUDY: "s", Level.SERIES: "e", Level.IMAGE: "i"}

# Counters change with every instance; an index over them would be rewritten as often.
_UNINDEXED = frozenset(a.tag for a in ALL if a.counted and a.vr == "IS")
# Of few values, each in a good part of all rows: another key of the same level leads to fewer.
COMMON = frozenset(
    {
        *("00100021", "00100040", "00102160", "00080061", "00080062", "00080201", "00101010", "00080060", "00080070"),
        *(
            "00080031",
            "00400245",
            "00080032",
            "00080033",
            "00080080",
            "00081010",
            "00081040",
            "00081090",
            "00180015",
            "00200011",
            "00200060",
            "00080008",
            "00080016",
        ),
        *("00083002", "00200012", "00200013", "00280008", "00280010", "00280011", "00280100", "0040A491", "0040A493"),
    }
)
# Held by unique indexes already.
_UNIQUE = frozenset({"0020000D", "0020000E", "00080018"})
# Dates and times of the large tables share an index, which is gone through for a time without a date. (An index of
# their own would scatter a series' instances over its pages, and those pages are most of what storing one writes.)
PAIRED = {day: time for day, time in DATE_TIME_PAIRS.items() if BY_TAG[day].level >= Level.SERIES}
# The same for Instance Number, in the index over the series of instances.
GONE_THROUGH = frozenset({*PAIRED.values(), "00200013"})


Step = Callable[[sqlite3.Connection], None]
SCHEMA_VERSION = 8  # the newest that a step makes, here or among ``more``


def migrate(connection: sqlite3.Connection, *, more: Mapping[int, Step], backfill: Step) -> bool:
    """Bring the schema up to date in one transaction; whether anything of an older file was changed.

    more: further steps by the version that they make. backfill: fills the attribute columns of all rows from metadata;
    called when the attribute table has grown. Raises Corrupt when the file was made by a newer version of this program.
    """
    steps = {**_MIGRATIONS, **more}
    newest = max(steps)
    connection.execute("BEGIN IMMEDIATE")
    try:
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version > newest:
            raise Corrupt(f"the index is newer than this program: it has schema {version}, known are up to {newest}")
        for number in sorted(steps):
            if number > version:
                steps[number](connection)
        if _add_columns(connection):
            backfill(connection)
        connection.execute(f"PRAGMA user_version = {newest}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return bool(0 < version < newest)


def _create(connection: sqlite3.Connection) -> None:
    """Version 1. Attribute columns are those of today's table; ``_add_columns`` looks after what comes later."""
    common = "id INTEGER PRIMARY KEY, fragment BLOB NOT NULL, rest BLOB NOT NULL"
    parts = {
        Level.PATIENT: "identity TEXT NOT NULL UNIQUE, last_instance INTEGER NOT NULL, digest INTEGER NOT NULL",
        Level.STUDY: (
            "patient_id INTEGER NOT NULL REFERENCES patients, last_instance INTEGER NOT NULL, digest INTEGER NOT NULL,"
            "inconsistent INTEGER NOT NULL, modalities TEXT NOT NULL, classes TEXT NOT NULL"
        ),
        Level.SERIES: (
            "study_id INTEGER NOT NULL REFERENCES studies, last_instance INTEGER NOT NULL, digest INTEGER NOT NULL,"
            "modality TEXT NOT NULL"
        ),
        Level.IMAGE: (
            "seq INTEGER NOT NULL, study_id INTEGER NOT NULL REFERENCES studies,"
            "series_id INTEGER NOT NULL REFERENCES series, number, study_digest INTEGER NOT NULL,"
            "sop_class_uid TEXT NOT NULL, transfer_syntax_uid TEXT NOT NULL, blob_key TEXT NOT NULL,"
            "size_bytes INTEGER NOT NULL, digest TEXT NOT NULL, data_set_offset INTEGER NOT NULL,"
            "received_at TEXT NOT NULL, source_name TEXT NOT NULL, source_address TEXT NOT NULL,"
            "source_protocol TEXT NOT NULL"
        ),
    }
    for level, table in TABLES.items():
        # No type: values keep theirs, so that an odd value is told from an ordinary one.
        named = ", ".join(name for attribute in attributes_of(level) for name in columns(attribute))
        connection.execute(f"CREATE TABLE {table} ({common}, {parts[level]}, {named})")
        for attribute in attributes_of(level):
            create_index(connection, attribute)
    for statement in (
        "CREATE UNIQUE INDEX study_uid ON studies (c0020000D)",
        "CREATE INDEX study_patient ON studies (patient_id)",
        "CREATE UNIQUE INDEX series_uid ON series (c0020000E, study_id)",
        "CREATE INDEX series_study ON series (study_id)",
        "CREATE UNIQUE INDEX instance_uid ON instances (c00080018, series_id)",
        "CREATE INDEX instance_series ON instances (series_id, number, c00080018)",
        "CREATE INDEX instance_study ON instances (study_id, seq)",
        "CREATE INDEX instance_blob ON instances (blob_key)",
        "CREATE TABLE contents (id INTEGER PRIMARY KEY, metadata BLOB NOT NULL, layout BLOB NOT NULL)",
        "CREATE TABLE study_classes (study_id INTEGER NOT NULL, sop_class_uid TEXT NOT NULL,"
        " instances INTEGER NOT NULL, PRIMARY KEY (study_id, sop_class_uid)) WITHOUT ROWID",
        "CREATE TABLE superseded (id INTEGER PRIMARY KEY, study_uid TEXT NOT NULL, series_uid TEXT NOT NULL,"
        " sop_uid TEXT NOT NULL, sop_class_uid TEXT NOT NULL, transfer_syntax_uid TEXT NOT NULL,"
        " blob_key TEXT NOT NULL, size_bytes INTEGER NOT NULL, digest TEXT NOT NULL, data_set_offset INTEGER NOT NULL,"
        " superseded_at TEXT NOT NULL)",
        "CREATE INDEX superseded_uids ON superseded (study_uid, series_uid, sop_uid)",
        "CREATE INDEX superseded_blob ON superseded (blob_key)",
        "CREATE TABLE archive (next_id INTEGER NOT NULL, size_bytes INTEGER NOT NULL)",
        "INSERT INTO archive VALUES (1, 0)",
    ):
        connection.execute(statement)


def _create_added(connection: sqlite3.Connection) -> None:
    """Version 3: indexes over attributes outside the table (``sqlite_added``)."""
    for statement in (
        "CREATE TABLE added_indexes (id INTEGER PRIMARY KEY AUTOINCREMENT, path TEXT NOT NULL UNIQUE,"
        " filled_to INTEGER NOT NULL, complete INTEGER NOT NULL)",
        "CREATE TABLE added_values (index_id INTEGER NOT NULL, kind TEXT NOT NULL, value NOT NULL,"
        " instance_id INTEGER NOT NULL, PRIMARY KEY (index_id, kind, value, instance_id)) WITHOUT ROWID",
        "CREATE INDEX added_instance ON added_values (instance_id)",
    ):
        connection.execute(statement)


def _add_columns(connection: sqlite3.Connection) -> bool:
    """Columns for attributes that the table of attributes gained since the file was made; whether there were any."""
    added = False
    for level, table in TABLES.items():
        present = {row[1] for row in connection.execute(f"PRAGMA table_info({table})")}
        for attribute in attributes_of(level):
            missing = [name for name in columns(attribute) if name not in present]
            for name in missing:
                connection.execute(f"ALTER TABLE {table} ADD COLUMN {name}")
                added = True
    for attribute in ALL if added else ():
        create_index(connection, attribute)
    return added


def create_index(connection: sqlite3.Connection, attribute: Attribute) -> None:
    """The index of one attribute, if it is not there; none for those that have another, or change too often."""
    if attribute.tag in _UNINDEXED | _UNIQUE | GONE_THROUGH:
        return
    if attribute.tag in PAIRED:
        day, time = f"c{attribute.tag}", f"c{PAIRED[attribute.tag]}"
        # What searches of the levels above ask for as well.
        parents = "study_id, series_id" if attribute.level is Level.IMAGE else "study_id"
        connection.execute(f"CREATE INDEX IF NOT EXISTS i{day} ON {TABLES[attribute.level]} ({day}, {time}, {parents})")
        return
    for name in columns(attribute):
        # Partial: an absent attribute costs nothing.
        table = TABLES[attribute.level]
        connection.execute(f"CREATE INDEX IF NOT EXISTS i{name} ON {table} ({name}) WHERE {name} IS NOT NULL")


def _add_deleted(connection: sqlite3.Connection) -> None:
    """Versions that were deleted. blob_key NULL: its file has been removed as well; the row still says "gone"."""
    connection.execute(
        "CREATE TABLE deleted (id INTEGER PRIMARY KEY, study_uid TEXT NOT NULL, series_uid TEXT NOT NULL,"
        " sop_uid TEXT NOT NULL, sop_class_uid TEXT NOT NULL, transfer_syntax_uid TEXT NOT NULL, blob_key TEXT,"
        " size_bytes INTEGER NOT NULL, digest TEXT NOT NULL, data_set_offset INTEGER NOT NULL,"
        " deleted_at TEXT NOT NULL)"
    )
    connection.execute("CREATE INDEX deleted_uids ON deleted (study_uid, series_uid, sop_uid)")
    connection.execute("CREATE UNIQUE INDEX deleted_blob ON deleted (blob_key) WHERE blob_key IS NOT NULL")


def _create_settings(connection: sqlite3.Connection) -> None:
    """Version 4: what is to be known of the archive as a whole, such as the store that its files are in."""
    connection.execute("CREATE TABLE settings (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID")


_MIGRATIONS: Mapping[int, Step] = {1: _create, 2: _add_deleted, 3: _create_added, 4: _create_settings}
