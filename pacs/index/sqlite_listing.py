"""Version 8 of the schema: words of studies, keys that studies are ordered by, and labels that can be searched by.

Triggers note the studies that something of it has changed for, a process of an older version's changes too; what is
noted is made anew before the transaction ends (``settle``), so that a study that changes often in it is written once.

A full-text table writes and merges a piece of its index with each transaction, which would be a good part of what a new
study costs. So words wait in a small plain table, where searches look as well, until they are some hundred studies'.
A study's words are in one of both.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from typing import Any

import orjson

from pacs.dicom.attributes import BY_TAG
from pacs.dicom.model import Level
from pacs.index.listing import INSTANCES, KEYS, LABELS, PATIENT_NAME, SOURCES, listing
from pacs.index.rows import columns
from pacs.index.sqlite_conditions import Condition

_NAMES = tuple(KEYS.values())
# Studies that are listed at a time, and whose words may wait.
_MANY = 256
# Those that large archives are gone through by, a page at a time.
_INDEXED = ("date", "name", "patient")
_STUDY = tuple(f"c{tag}" for tag in SOURCES if BY_TAG[tag].level is Level.STUDY)
_PATIENT = tuple(name for tag in SOURCES if BY_TAG[tag].level is Level.PATIENT for name in columns(BY_TAG[tag]))
# Where the columns of each of SOURCES are among these.
_PLACES = tuple((tag, [(*_STUDY, *_PATIENT).index(name) for name in columns(BY_TAG[tag])]) for tag in SOURCES)
_WORDS = (
    # Whole words, and what one to three letters find, which would be most of all words.
    "CREATE VIRTUAL TABLE study_words USING fts5(words, detail = none, columnsize = 0, prefix = '1 2 3',"
    " tokenize = 'ascii')"
)
_FRESH = "CREATE TABLE fresh_words (study_id INTEGER PRIMARY KEY, words TEXT NOT NULL)"
_NOTED = (
    f"SELECT u.study_id, s.id, {', '.join([*(f's.{name}' for name in _STUDY), *(f'p.{name}' for name in _PATIENT)])},"
    " (SELECT json_group_array(label) FROM study_labels WHERE study_uid = s.c0020000D),"
    " l.study_id IS NOT NULL AND f.study_id IS NULL"
    " FROM unlisted u LEFT JOIN studies s ON s.id = u.study_id LEFT JOIN patients p ON p.id = s.patient_id"
    " LEFT JOIN listed l ON l.study_id = u.study_id LEFT JOIN fresh_words f ON f.study_id = u.study_id"
    f" ORDER BY u.study_id LIMIT {_MANY}"
)
_WRITE = f"INSERT OR REPLACE INTO listed (study_id, {', '.join(_NAMES)}) VALUES (?{', ?' * len(_NAMES)})"


def create(connection: sqlite3.Connection) -> None:
    for statement in (
        f"CREATE TABLE listed (study_id INTEGER PRIMARY KEY, {', '.join(f'{name} TEXT' for name in _NAMES)})",
        *(f"CREATE INDEX listed_{name} ON listed ({name}) WHERE {name} IS NOT NULL" for name in _INDEXED),
        "CREATE TABLE unlisted (study_id INTEGER PRIMARY KEY)",
        "CREATE TABLE study_labels (study_uid TEXT NOT NULL, label TEXT NOT NULL, PRIMARY KEY (study_uid, label))"
        " WITHOUT ROWID",
        "CREATE INDEX label_studies ON study_labels (label, study_uid)",
        # Written anew with every instance, which costs a hundredth of what storing it does: without it a page in this
        # order would go through all studies.
        f"CREATE INDEX study_instances ON studies (c{INSTANCES})",
        # What is visible to who may see some modalities.
        "CREATE INDEX series_modality ON series (modality, study_id)",
        _WORDS,
        _FRESH,
        *_triggers(),
        _labelled("records", "records.", f" WHERE kind = '{LABELS}'"),
        "INSERT INTO unlisted SELECT id FROM studies",
    ):
        connection.execute(statement)
    settle(connection)


def settle(connection: sqlite3.Connection) -> None:
    """List anew what has changed; within the transaction of the change."""
    while found := connection.execute(_NOTED).fetchall():
        _list(connection, found)
        connection.execute("DELETE FROM unlisted WHERE study_id <= ?", (found[-1][0],))
        if connection.execute(f"SELECT 1 FROM fresh_words LIMIT 1 OFFSET {_MANY}").fetchone():
            connection.execute(
                "INSERT INTO study_words (rowid, words) SELECT study_id, words FROM fresh_words ORDER BY study_id"
            )
            connection.execute("DELETE FROM fresh_words")
        if len(found) < _MANY:
            break


def clear(connection: sqlite3.Connection) -> None:
    """Forget all studies; labels stay, as the records do that they are from."""
    for table in ("listed", "unlisted", "fresh_words"):
        connection.execute(f"DELETE FROM {table}")
    # Its rows would be taken out one by one.
    connection.execute("DROP TABLE study_words")
    connection.execute(_WORDS)


def words(begins: Sequence[str]) -> tuple[Condition, Condition]:
    """Conditions on study_words and fresh_words: each is the beginning of some word. They are letters and digits."""
    settled = "study_words MATCH ?", [" ".join(f'"{begin}"*' for begin in begins)]
    fresh = " AND ".join("instr(words, ?)" for _ in begins), [f" {begin}" for begin in begins]
    return settled, fresh


def _list(connection: sqlite3.Connection, rows: Sequence[Sequence[Any]]) -> None:
    """Rows: of _NOTED."""
    outdated = [(row[0],) for row in rows if row[-1]]
    if outdated:
        connection.executemany("DELETE FROM study_words WHERE rowid = ?", outdated)
    gone = [(row[0],) for row in rows if row[1] is None]
    for table in ("listed", "fresh_words") if gone else ():
        connection.executemany(f"DELETE FROM {table} WHERE study_id = ?", gone)
    keys, texts = [], []
    for study_id, there, *values, labels, _ in rows:
        if there is not None:
            found = listing(dict(_values(values)), orjson.loads(labels))
            keys.append((study_id, *(found.keys[name] for name in _NAMES)))
            # A space before each, so that a word's beginning is found.
            texts.append((study_id, "".join(f" {word}" for word in found.words)))
    connection.executemany(_WRITE, keys)
    connection.executemany("INSERT OR REPLACE INTO fresh_words VALUES (?, ?)", texts)


def _values(row: Sequence[Any]) -> Iterator[tuple[str, list[Any]]]:
    for tag, places in _PLACES:
        own = [row[place] for place in places]
        if isinstance(own[0], bytes):
            several = orjson.loads(own[0])
            own = [part for name in several for part in name] if tag == PATIENT_NAME else several
        yield tag, [one for one in own if one is not None and one != ""]


def _triggers() -> Iterator[str]:
    def changed(names: tuple[str, ...]) -> str:
        return " OR ".join(f"OLD.{name} IS NOT NEW.{name}" for name in names)

    own = (*_STUDY, "patient_id")
    for name, event, when, body in (
        ("study_insert", "INSERT ON studies", "", "VALUES (NEW.id)"),
        ("study_delete", "DELETE ON studies", "", "VALUES (OLD.id)"),
        ("study_update", f"UPDATE OF {', '.join(own)} ON studies", changed(own), "VALUES (NEW.id)"),
        (
            "patient_update",
            f"UPDATE OF {', '.join(_PATIENT)} ON patients",
            changed(_PATIENT),
            "SELECT id FROM studies WHERE patient_id = NEW.id",
        ),
    ):
        condition = f" WHEN {when}" if when else ""
        yield f"CREATE TRIGGER listed_{name} AFTER {event}{condition} BEGIN INSERT OR IGNORE INTO unlisted {body}; END"
    for event, row in (("INSERT", "NEW"), ("UPDATE", "NEW"), ("DELETE", "OLD")):
        # A row that is replaced is inserted, without having been deleted.
        label = "" if event == "DELETE" else f" {_labelled('', 'NEW.', '')};"
        yield (
            f"CREATE TRIGGER labels_{event.lower()} AFTER {event} ON records WHEN {row}.kind = '{LABELS}' BEGIN"
            f" DELETE FROM study_labels WHERE study_uid = {row}.key;{label}"
            f" INSERT OR IGNORE INTO unlisted SELECT id FROM studies WHERE c0020000D = {row}.key; END"
        )


def _labelled(source: str, row: str, where: str) -> str:
    tables = f"{source}, " if source else ""
    return (
        f"INSERT OR IGNORE INTO study_labels SELECT {row}key, j.value FROM"
        f" {tables}json_each(CAST({row}content AS TEXT)) j{where}"
    )
