"""Patterns on Patient's Name find what the reference matcher finds, however an index is led to it."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import orjson
import pymongo
import pytest

from pacs.dicom import person_name
from pacs.dicom.criteria import Glob
from pacs.dicom.matching import Wildcard, matches_all
from pacs.dicom.model import Level, Target
from pacs.index import mongo_backfill
from pacs.index.base import Fields, Index, Query
from pacs.index.mongo import MongoIndex
from pacs.index.parts import LENGTH, begin_of, parts_of
from pacs.index.sqlite import SqliteIndex
from tests.builders import json_of
from tests.contracts.index_records import record
from tests.mongod import replica_set
from tests.unit.index.old_index import drop_listing

NAME = ("00100010",)
NAMES: list[Any] = [
    *(
        "Hoffmann^Anna Maria^^Dr.^",
        "HOFMANN^ANNA",
        "Schröder^Jörg",
        "Lefèvre^Éloïse^J.",
        "O'Neil^Pat[rick]",
        "Ng",
        "Li^A",
    ),
    *(
        "Yamada^Tarou=山田^太郎=やまだ^たろう",
        "=山田",
        "Hong^Gildong=洪^吉洞=홍^길동",
        "Παπαδόπουλος^Γιώργος",
        "X_%*?^Y\\Z",
    ),
    *("Wiśniewski^Łukasz", "WISNIEWSKI^LUKASZ", "Straße^Groß", "aaaaaaa^aaaaaaaaa", "Ａｄａ", "", "^^^", ...),
    *(["Doe^Jane", "Roe^Joann=田"], ["Hoffmann"], "🙂🙂^a", "Long" * 40),
]
RENAMED: list[Any] = ["Anders^Hanna", "=中山", "Hoffnung", ..., "Li^A", ["Mann^B", "Beck"], "Nguyễn^Thị"]

Open = Callable[[], Index]
Age = Callable[[], None]  # makes what is stored look as the version before wrote it


@pytest.fixture(scope="module")
def mongod() -> Iterator[str]:
    with replica_set() as uri:
        yield uri


@pytest.fixture(params=["sqlite", "mongo"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Open, Age]:
    if request.param == "sqlite":
        path = tmp_path / "index.sqlite"
        return lambda: SqliteIndex(path), lambda: _age_sqlite(path)
    uri, name = request.getfixturevalue("mongod"), f"names_{tmp_path.name}"
    return lambda: MongoIndex(uri, name), lambda: _age_mongo(uri, name)


def _age_sqlite(path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for name in ("insert", "update", "delete"):
            connection.execute(f"DROP TRIGGER name_parts_{name}")
        connection.execute("DROP TABLE name_parts")
        drop_listing(connection)
        connection.execute("PRAGMA user_version = 6")


def _age_mongo(uri: str, name: str) -> None:
    with pymongo.MongoClient[dict[str, Any]](uri) as client:
        database = client[name]
        for collection, field in (("patients", "k.00100010_parts"), ("studies", "p.k.00100010_parts")):
            database[collection].update_many({}, {"$unset": {field: ""}})
            database[collection].drop_index(f"{field}_1")
        database["meta"].update_one({"_id": "archive"}, {"$set": {"schema": 2}})


def fill(index: Index) -> dict[str, Any]:
    """Names by study: a patient each, some with two studies."""
    names = {str(n): name for n, name in enumerate(NAMES, 1)}
    index.put(
        [record(study, f"{study}.1", f"{study}.1.1", PatientID=study, PatientName=names[study]) for study in names]
    )
    for study in ("1", "4", "8"):
        own = f"{study}00"
        names[own] = names[study]
        index.put([record(own, f"{own}.1", f"{own}.1.1", PatientID=study, PatientName=names[study])])
    return names


def rename(index: Index, names: dict[str, Any]) -> None:
    """Patients get other names, by what is stored last and by what is removed."""
    for study, name in zip(("1", "8", "2", "3", "20", "12", "13"), RENAMED, strict=True):
        index.put([record(study, f"{study}.1", f"{study}.1.2", PatientID=study, PatientName=name)])
        for own in (study, f"{study}00"):
            if own in names:
                names[own] = name
    index.put([record("6", "6.1", "6.1.2", PatientID="6", PatientName="Meanwhile^Else")])
    index.remove([Target("6", "6.1", "6.1.2"), Target("5")])
    del names["5"]


def patterns(names: dict[str, Any]) -> list[str]:
    rng = random.Random(6)
    found = [
        "*",
        "*^*",
        "**",
        "*a*",
        "?",
        "??*",
        "*=*",
        "*山*=*",
        "=*田*",
        "*=*中*",
        "*[*",
        "*%*",
        "*\\z",
        "*_%?*",
        "*🙂*",
        "*^",
    ]
    texts = [group for name in names.values() for group in _groups(name) if group]
    for text in texts:
        for _ in range(6):
            length = rng.choice((1, 2, 3, 3, 4, 5, LENGTH, LENGTH + 1, 12))
            at = rng.randrange(len(text))
            run = text[at : at + length]
            other = rng.choice(texts)
            found += [
                f"*{run}*",
                f"*{run}",
                f"{run}*",
                f"?{run}*",
                f"*{run}?",
                f"*{run[:2]}?{run[3:]}*",
                f"*{run}*{text[-2:]}",
            ]
            found += [f"*{run.upper()}*", f"{text[:1]}*{run}*", f"*{run}*{other[:3]}*", f"*{run}^*", f"*{run}*=*"]
    return sorted(set(found))


def _groups(name: Any) -> list[str]:
    values = name if isinstance(name, list) else [] if name is ... else [name]
    # Folded or not is the same to who asks: both are.
    return [group for value in values for group in (*person_name.groups(value), *value.split("="))]


def check(index: Index, names: dict[str, Any]) -> None:
    stored = {
        study: json_of({} if name is ... else {"PatientName": name, "PatientID": study})
        for study, name in names.items()
    }
    asked = patterns(names)
    assert len(asked) > 1000
    hits = 0
    for pattern in asked:
        expected = {study for study, attributes in stored.items() if matches_all({NAME: Wildcard(pattern)}, attributes)}
        hits += bool(expected) and len(expected) < len(names)
        query = Query(Level.STUDY, {NAME: Wildcard(pattern)}, fields=Fields(frozenset({Level.STUDY})), count=True)
        page = index.search(query)
        found = [orjson.loads(row)["0020000D"]["Value"][0] for row in page.rows]
        assert set(found) == expected, pattern
        assert page.total == len(found) == len(expected), pattern
    assert hits > 500


def test_every_pattern_finds_what_the_reference_finds(engine: tuple[Open, Age]) -> None:
    opened, _ = engine
    with closing(opened()) as index:
        names = fill(index)
        check(index, names)
        rename(index, names)
        check(index, names)


def test_the_same_after_the_version_before(engine: tuple[Open, Age], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mongo_backfill, "_PAGE", 7)
    opened, age = engine
    with closing(opened()) as index:
        names = fill(index)
    age()
    with closing(opened()) as index:
        rename(index, names)
        check(index, names)
    with closing(opened()) as index:
        check(index, names)
        patients = index.search(Query(Level.PATIENT, {NAME: Wildcard("*anna*")}, count=True))
        assert patients.total == 1
        index.remove([Target(study) for study in names])
        assert index.search(Query(Level.STUDY, {NAME: Wildcard("*a*")}, count=True)).total == 0


def test_what_a_node_of_the_version_before_goes_on_to_write_is_found(mongod: str, tmp_path: Path) -> None:
    database = f"names_{tmp_path.name}"
    with closing(MongoIndex(mongod, database)) as index:
        names = fill(index)
        with pymongo.MongoClient[dict[str, Any]](mongod) as client:
            # It writes all keys of a patient at once, and knows of no parts.
            for study in ("1", "8", "9"):
                client[database]["patients"].update_many(
                    {"k.00100010": {"$ne": None}}, {"$unset": {"k.00100010_parts": ""}}
                )
                client[database]["studies"].update_one({"_id": study}, {"$unset": {"p.k.00100010_parts": ""}})
        check(index, names)
        assert index.search(Query(Level.PATIENT, {NAME: Wildcard("*ofma*")}, count=True)).total == 1


def test_parts_begin_at_every_character() -> None:
    assert parts_of(["anna^b", "na"]) == ["^b", "a", "a^b", "anna^b", "b", "na", "na^b", "nna^b"]
    assert begin_of(Glob("*abc*de")) == "abc"
    assert begin_of(Glob("abc*de")) is None
    assert begin_of(Glob("a?bcdefghi*")) == "bcdefg"
    assert begin_of(Glob("*?*")) is None
