"""The Mongo engine keeps the contract, also with several nodes, with a server that fails, and over time."""

from __future__ import annotations

import itertools
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import orjson
import pymongo
import pytest
from pymongo.monitoring import CommandListener, CommandStartedEvent

from pacs.blobs.filesystem import FilesystemBlobs
from pacs.dicom.attributes import ALL
from pacs.dicom.matching import Matcher, Range, Single, TagPath, UidList, Wildcard
from pacs.dicom.model import Caller, Level, Scope, Target
from pacs.dicom.normal import Kind, kind_of
from pacs.errors import Corrupt, OutOfResources, Uncertain
from pacs.index.base import Counts, Fields, Index, Order, Put, Query
from pacs.index.listing import LABELS
from pacs.index.mongo import MongoIndex
from pacs.index.mongo_abandoned import APP_NAME
from pacs.index.mongo_documents import WHOLE_BYTES
from pacs.index.mongo_tables import Tables, shard_key
from pacs.index.work import RecordWrite
from pacs.services.file_key import FileKeyPattern
from pacs.services.store import Store
from tests import builders
from tests.contracts.index_contract import IndexContract, Reopen, rows, uids, value
from tests.contracts.index_records import record
from tests.contracts.work_contract import WorkContract
from tests.mongod import replica_set

Open = Callable[[], MongoIndex]


@pytest.fixture(scope="module")
def mongod() -> Iterator[str]:
    with replica_set("--setParameter", "enableTestCommands=1") as uri:
        yield uri


@pytest.fixture
def database(mongod: str) -> Iterator[str]:
    name = f"test_{uuid.uuid4().hex[:12]}"
    yield name
    with pymongo.MongoClient[dict[str, Any]](mongod) as client:
        client.drop_database(name)


@pytest.fixture
def node(mongod: str, database: str) -> Iterator[Open]:
    """Opens one node of the same index after another."""
    opened: list[MongoIndex] = []

    def open_node() -> MongoIndex:
        opened.append(MongoIndex(mongod, database))
        return opened[-1]

    yield open_node
    for index in opened:
        index.close()


class _OnMongo:
    @pytest.fixture
    def reopen(self, mongod: str, database: str) -> Reopen:
        def open_index() -> Index:
            return MongoIndex(mongod, database)

        return open_index


class TestMongoIndex(_OnMongo, IndexContract): ...


class TestMongoWork(_OnMongo, WorkContract): ...


# Several nodes


def test_two_nodes_with_the_same_series_interleaved_count_exactly(node: Open) -> None:
    nodes = [node(), node()]
    outcomes: list[Put] = []
    failures: list[BaseException] = []

    def send(index: MongoIndex, first: int) -> None:
        try:
            for number in range(first, 80, 3):
                modality = "MR" if number % 2 else "CT"
                one = record("1", f"1.{number % 2}", f"1.{number % 2}.{number}", Modality=modality)
                outcomes.extend(result.outcome for result in index.put([one]))
        except BaseException as error:  # noqa: BLE001 - reported below
            failures.append(error)

    # Every instance is sent through both nodes.
    threads = [threading.Thread(target=send, args=(index, first)) for index in nodes for first in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert (outcomes.count(Put.STORED), outcomes.count(Put.SAME)) == (80, 80)
    for index in nodes:
        counts = index.counts()
        assert (counts.patients, counts.studies, counts.series, counts.instances) == (1, 1, 2, 80)
        (study,) = rows(index, Level.STUDY)
        assert (value(study, "00201206"), value(study, "00201208")) == (2, 80)
        assert study["00080061"]["Value"] == ["CT", "MR"]
        assert [value(row, "00201209") for row in rows(index, Level.SERIES)] == [40, 40]


def test_a_node_that_remembers_what_another_changed_goes_by_what_is_there(node: Open) -> None:
    one, other = node(), node()
    one.put([record(sop="1.1.1")])
    other.put([record(sop="1.1.2", PatientName="Second^Name")])
    one.put([record(sop="1.1.3")])
    assert one.put([record(sop="1.1.2", PatientName="Second^Name")])[0].outcome is Put.SAME
    other.remove([Target("1", "1.1", "1.1.1")])
    one.put([record(sop="1.1.4")])
    other.remove([Target("1")])
    assert one.put([record(sop="1.1.5")])[0].outcome is Put.STORED
    other.add_index(("00180050",))
    one.put([record(sop="1.1.6", SliceThickness=7)])
    while not other.fill_index(("00180050",)):
        pass
    assert uids(other, {("00180050",): Single("7")}) == ["1.1.6"]
    (study,) = rows(other, Level.STUDY)
    assert (value(study, "00201206"), value(study, "00201208")) == (1, 2)
    assert other.counts() == one.counts()
    assert (one.counts().patients, one.counts().studies, one.counts().series, one.counts().instances) == (1, 1, 1, 2)


def test_nodes_that_start_at_once_on_nothing_agree(mongod: str, database: str) -> None:
    found: list[MongoIndex | BaseException] = []

    def start() -> None:
        try:
            found.append(MongoIndex(mongod, database))
        except BaseException as error:  # noqa: BLE001 - reported below
            found.append(error)

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [type(one) for one in found] == [MongoIndex] * 4
    nodes = [one for one in found if isinstance(one, MongoIndex)]
    nodes[0].put([record()])
    assert [one.counts().instances for one in nodes] == [1] * 4
    for one in nodes:
        one.close()


def test_an_index_added_by_one_node_misses_nothing_that_another_stores_meanwhile(node: Open) -> None:
    storing, adding = node(), node()
    stop = threading.Event()
    stored = 0

    def store() -> None:
        nonlocal stored
        while not stop.is_set():
            storing.put([record(sop=f"1.1.{stored}", SliceThickness=2.5)])
            stored += 1

    thread = threading.Thread(target=store)
    thread.start()
    path: TagPath = ("00180050",)

    def store_ten_more() -> None:
        so_many = stored + 10
        while thread.is_alive() and stored < so_many:
            time.sleep(0.01)

    store_ten_more()
    adding.add_index(path)
    while not adding.fill_index(path):
        pass
    store_ten_more()
    stop.set()
    thread.join()
    assert stored >= 20
    assert len(uids(adding, {path: Single("2.5")})) == stored


def test_what_a_killed_node_was_changing_is_free_again_soon(node: Open, mongod: str, database: str) -> None:
    index = node()
    index.put([record("1", "1.1", "1.1.1")])
    with pymongo.MongoClient[dict[str, Any]](mongod, appname=APP_NAME) as client:
        studies = next(name for name in client[database].list_collection_names() if "studies" in name)
        with client.start_session() as session:
            session.start_transaction()
            client[database][studies].update_many({}, {"$set": {"changed": 1}}, session=session)
            # As a node leaves it that is killed here: nobody ends it.

            begin = time.monotonic()
            results = index.put([record("1", "1.1", "1.1.2")])

            assert [result.outcome for result in results] == [Put.STORED]
            assert 1 < time.monotonic() - begin < 10  # the server itself would take a minute
            with pytest.raises(pymongo.errors.PyMongoError):
                session.commit_transaction()
    (study,) = rows(index, Level.STUDY)
    assert value(study, "00201208") == 2


def test_who_works_alone_is_alone(node: Open) -> None:
    one, other = node(), node()
    with one.occupy("pacs serve"):
        with other.occupy("pacs serve"):
            pass
        with pytest.raises(OutOfResources, match="pacs serve"), other.occupy("pacs reindex", exclusive=True):
            pass
    with one.occupy("pacs reindex", exclusive=True):
        for exclusive in (False, True):
            with pytest.raises(OutOfResources, match="pacs reindex"), other.occupy("pacs serve", exclusive=exclusive):
                pass
    with other.occupy("pacs serve"):
        pass


def test_a_node_that_was_killed_does_not_keep_others_out_for_ever(node: Open, mongod: str, database: str) -> None:
    index = node()
    with pymongo.MongoClient[dict[str, Any]](mongod) as client:
        client[database]["nodes"].update_one(
            {"_id": "killed"},
            [{"$set": {"what": "pacs serve", "host": "h", "pid": 1, "until": {"$add": ["$$NOW", 1000]}}}],
            upsert=True,
        )
    with pytest.raises(OutOfResources, match="process 1 on h"), index.occupy("pacs reindex", exclusive=True):
        pass
    time.sleep(1.2)
    with index.occupy("pacs reindex", exclusive=True):
        pass


# Rebuilding and growing


def test_a_rebuilt_index_takes_over_only_when_it_is_done(node: Open) -> None:
    index = node()
    index.put([record(sop="1.1.1"), record("2", "2.1", "2.1.1")])
    index.add_index(("00180050",))
    with suppress(ZeroDivisionError), index.rebuilding() as new:
        new.put([record(sop="1.1.7")])
        raise ZeroDivisionError
    assert uids(index, {}) == ["1.1.1", "2.1.1"]
    with index.rebuilding() as new:
        assert new.counts() == Counts(0, 0, 0, 0, 0)
        assert [one.path for one in new.added_indexes()] == [("00180050",)]
        new.put([record(sop="1.1.9")])
        assert uids(index, {}) == ["1.1.1", "2.1.1"]
    assert uids(index, {}) == ["1.1.9"]
    assert uids(node(), {}) == ["1.1.9"]
    with index.rebuilding() as new:
        new.put([record(sop="1.1.10")])
    assert uids(node(), {}) == ["1.1.10"]


def test_keys_of_another_table_of_attributes_are_made_anew(node: Open, mongod: str, database: str) -> None:
    index = node()
    records = [record(sop=f"1.1.{n}", InstanceNumber=n, PatientName="A^B") for n in range(3)]
    index.put([*records, record("2", "2.1", "2.1.1", Modality="SR", PatientID="other")])
    before = {level: rows(index, level) for level in Level}
    with pymongo.MongoClient[dict[str, Any]](mongod) as client:
        db = client[database]
        for name in ("patients", "studies", "series", "instances"):
            db[name].update_many({}, {"$set": {"k": {}, "f": b"{}", "r": b"{}"}})
        db["studies"].update_many({}, {"$set": {"p": {}}})
        db["meta"].update_one({"_id": "archive"}, {"$set": {"attributes": "of an older version"}})
    again = node()
    assert {level: rows(again, level) for level in Level} == before
    assert uids(again, {("00100010",): Wildcard("a*"), ("00200013",): Single("2")}) == ["1.1.2"]
    assert uids(again, {("00080061",): Single("SR")}) == ["2.1.1"]


def test_studies_of_an_older_version_are_listed_when_it_is_opened(node: Open, mongod: str, database: str) -> None:
    index = node()
    index.put([record("1", StudyDate="20250101"), record("2", "2.1", "2.1.1", PatientName="Röntgen")])
    index.work.write_records([RecordWrite(LABELS, "2", b'["teaching"]')])
    with pymongo.MongoClient[dict[str, Any]](mongod) as client:
        db = client[database]
        db["studies"].update_many({}, {"$unset": dict.fromkeys(("w", "s", "m", "labels"), "")})
        db["meta"].update_one({"_id": "archive"}, {"$set": {"schema": 3}})
    again = node()
    assert [value(row, "0020000D") for row in rows(again, Level.STUDY, text="rontg teach")] == ["2"]
    assert [value(row, "0020000D") for row in rows(again, Level.STUDY, order=Order("00080020"))] == ["2", "1"]
    assert again.label_counts(scope=Scope(modalities=frozenset({"CT"}))) == {"teaching": 1}


def test_an_index_of_a_newer_version_is_left_alone(node: Open, mongod: str, database: str) -> None:
    node()
    with pymongo.MongoClient[dict[str, Any]](mongod) as client:
        client[database]["meta"].update_one({"_id": "archive"}, {"$set": {"schema": 99}})
    with pytest.raises(Corrupt, match="newer"):
        node()


@pytest.mark.parametrize("size", [WHOLE_BYTES + 1, 40 << 20])
def test_metadata_longer_than_a_document_come_back_whole(node: Open, size: int) -> None:
    index = node()
    long = record(sop="1.1.1", ImageComments="x" * size)
    index.put([long, record(sop="1.1.2", InstanceNumber=2)])
    found = {one.target.sop_uid: one.json for one in index.metadata(Target("1"))}
    assert found["1.1.1"] == long.header.json
    assert index.layout(long.header.target) == long.header.layout
    held = index.held(long.header.target)
    assert held is not None
    assert (held.layout, held.metadata) == (long.header.layout, long.header.json)
    assert uids(index, {("00204000",): Wildcard("x*")}) == ["1.1.1"]
    index.put([record(sop="1.1.1", ImageComments="short", version="other")], replace=True)
    assert orjson.loads(next(iter(index.metadata(long.header.target))).json)["00204000"]["Value"] == ["short"]
    index.put([record(sop="1.1.1", ImageComments="y" * size, version="third")], replace=True)
    index.remove([Target("1")])
    assert list(index.metadata(Target("1"))) == []
    assert index._tables["contents"].count_documents({}) == 0


# A server that fails


def test_a_transaction_that_meets_another_is_run_again(node: Open, mongod: str) -> None:
    index = node()
    with _failing(mongod, "update", times=3, errorCode=112, errorLabels=["TransientTransactionError"]):
        assert index.put([record()])[0].outcome is Put.STORED
    assert index.counts().instances == 1


@pytest.mark.parametrize("failure", [{"closeConnection": True}, {"errorCode": 11602}, {"errorCode": 10107}])
def test_a_commit_whose_answer_is_lost_is_asked_after(node: Open, mongod: str, failure: dict[str, Any]) -> None:
    index = node()
    with _failing(mongod, "commitTransaction", times=2, **failure):
        assert index.put([record()])[0].outcome is Put.STORED
    assert index.counts().instances == 1
    assert index.put([record()])[0].outcome is Put.SAME


def test_a_commit_that_nobody_answers_is_uncertain(mongod: str, database: str) -> None:
    index = MongoIndex(mongod, database, timeout_s=2)
    with _failing(mongod, "commitTransaction", times=1000, closeConnection=True), pytest.raises(Uncertain):
        index.put([record()])
    assert index.put([record()])[0].outcome in (Put.STORED, Put.SAME)
    index.close()


def test_a_file_whose_row_is_uncertain_is_kept(mongod: str, database: str, tmp_path: Path) -> None:
    index, blobs = MongoIndex(mongod, database, timeout_s=2), FilesystemBlobs(tmp_path / "files", tmp_path / "incoming")
    store = Store(index, blobs, FileKeyPattern("{00080018}.dcm"))
    content = builders.ct(rows=4, columns=4)
    with _failing(mongod, "commitTransaction", times=1000, closeConnection=True):
        spool = store.spool()
        spool.write(content)
        with pytest.raises(Uncertain):
            store.store(spool, Caller("TEST", "127.0.0.1", "dimse"))
    assert len(list(blobs.keys())) == 1
    index.close()


def test_a_server_that_is_not_there_is_said_to_be_away_in_time() -> None:
    began = time.monotonic()
    with pytest.raises(OutOfResources, match="MongoDB"):
        MongoIndex("mongodb://127.0.0.1:1/?replicaSet=rs0", "nothing", timeout_s=1)
    assert time.monotonic() - began < 10


def _failing(mongod: str, command: str, *, times: int, **failure: Any) -> Any:
    return _FailPoint(mongod, {"failCommands": [command], **failure}, times)


class _FailPoint:
    """mongod fails the next commands of a kind."""

    def __init__(self, uri: str, data: dict[str, Any], times: int) -> None:
        self._client: pymongo.MongoClient[dict[str, Any]] = pymongo.MongoClient(uri)
        self._data, self._times = data, times

    def __enter__(self) -> None:
        self._client.admin.command("configureFailPoint", "failCommand", mode={"times": self._times}, data=self._data)

    def __exit__(self, *_: object) -> None:
        self._client.admin.command("configureFailPoint", "failCommand", mode="off")
        self._client.close()


# Plans


class _Commands(CommandListener):
    def __init__(self) -> None:
        self.found: list[dict[str, Any]] = []

    def started(self, event: CommandStartedEvent) -> None:
        if event.command_name in ("find", "aggregate", "count", "distinct"):
            keep = ("find", "aggregate", "filter", "sort", "limit", "skip", "pipeline", "projection", "query")
            command = {name: event.command[name] for name in event.command if name in keep}
            if event.command_name == "aggregate":
                command["cursor"] = {}
            self.found.append(command)

    def succeeded(self, event: Any) -> None:
        pass

    def failed(self, event: Any) -> None:
        pass


@pytest.fixture(scope="module")
def watched(mongod: str) -> Iterator[tuple[MongoIndex, _Commands]]:
    """An index with enough in it for plans to differ, and what it asks the server."""
    commands = _Commands()
    pymongo.monitoring.register(commands)
    index = MongoIndex(mongod, "plans")
    pymongo.monitoring._LISTENERS.command_listeners.remove(commands)
    index.put(
        [
            record(
                f"1.{n // 40}",
                f"1.{n // 40}.{n // 10}",
                f"1.{n // 40}.{n // 10}.{n}",
                PatientID=f"P{n // 80}",
                PatientName=f"NAME{n // 80}^X",
                StudyDate=f"2020{1 + n // 200 % 12:02}{1 + n // 40 % 28:02}",
                AccessionNumber=f"A{n // 40}",
                InstanceNumber=n,
            )
            for n in range(4000)
        ]
    )
    commands.found.clear()
    yield index, commands
    index.close()


# The named exceptions: instance number and times of instances, asked for alone.
_WITHIN = {"00200013", "00080032", "00080033"}
_SEARCHED = [one for one in ALL if not (one.counted and one.vr == "IS") and one.tag not in _WITHIN]


def _matchers(vr: str) -> list[Matcher]:
    match kind_of(vr):
        case Kind.UID:
            return [UidList(("1.2.3",))]
        case Kind.DATE:
            return [Single("20200105"), Range("20200103", "20200105")]
        case Kind.TIME:
            return [Single("1000"), Range("1000", "1005")]
        case Kind.DATE_TIME:
            return [Single("20200105"), Range("20200103", "20200105")]
        case Kind.NUMBER:
            return [Single("7")]
        case _:
            return [Single("NAME7"), Wildcard("NAME7*")]


@pytest.mark.parametrize("attribute", _SEARCHED, ids=[one.keyword for one in _SEARCHED])
def test_no_standard_key_reads_a_whole_collection(watched: tuple[MongoIndex, _Commands], attribute: Any) -> None:
    """At its own level, at studies, and at instances."""
    index, commands = watched
    levels = sorted({attribute.level, Level.STUDY, Level.IMAGE})
    for level, matcher in itertools.product(levels, _matchers(attribute.vr)):
        query = Query(level, {(attribute.tag,): matcher}, fields=Fields(frozenset(Level)), limit=100, count=True)
        _check_plans(index, commands, lambda query=query: index.search(query))  # type: ignore[misc]


@pytest.mark.parametrize("level", list(Level), ids=[one.name for one in Level])
@pytest.mark.parametrize("pattern", ["*E17*", "*me17^x", "N*17*", "*17*"])
def test_a_name_is_led_to_by_what_stands_in_it(
    watched: tuple[MongoIndex, _Commands], level: Level, pattern: str
) -> None:
    index, commands = watched
    commands.found.clear()
    index.search(Query(level, {("00100010",): Wildcard(pattern)}, limit=100, count=True))
    parts = "k.00100010_parts_1" if level is Level.PATIENT else "p.k.00100010_parts_1"
    command = next(one for one in commands.found if "parts" in str(one))
    found = index._tables.meta.database.command("explain", command, verbosity="executionStats")
    stages = found["stages"][0]["$cursor"] if "stages" in found else found
    assert parts in str(stages["queryPlanner"]["winningPlan"]), command
    # One patient has it, with two studies.
    assert stages["executionStats"]["totalDocsExamined"] <= 2


@pytest.mark.parametrize("tag", sorted(_WITHIN))
def test_keys_without_an_index_are_led_to_by_series_study_or_date(
    watched: tuple[MongoIndex, _Commands], tag: str
) -> None:
    index, commands = watched
    for within in (Target("1.7"), Target("1.7", "1.7.28")):
        query = Query(Level.IMAGE, {(tag,): Single("100000")}, within=within, limit=100, count=True)
        _check_plans(index, commands, lambda query=query: index.search(query))  # type: ignore[misc]
    query = Query(Level.IMAGE, {(tag,): Single("100000"), ("00080022",): Single("20200105")}, limit=100, count=True)
    _check_plans(index, commands, lambda: index.search(query))


@pytest.mark.parametrize("level", list(Level), ids=[one.name for one in Level])
def test_a_page_of_all_and_a_subtree_read_no_whole_collection(
    watched: tuple[MongoIndex, _Commands], level: Level
) -> None:
    index, commands = watched
    for within in (None, Target("1.7"), Target("1.7", "1.7.28"), Target("1.7", "1.7.28", "1.7.28.280")):
        query = Query(level, {}, within=within, fields=Fields(frozenset(Level)), limit=100)
        _check_plans(index, commands, lambda query=query: index.search(query))  # type: ignore[misc]
    _check_plans(index, commands, lambda: index.locate(Target("1.7")))
    _check_plans(index, commands, lambda: list(index.metadata(Target("1.7", "1.7.28"))))
    _check_plans(index, commands, lambda: index.is_deleted(Target("1.7")))
    _check_plans(index, commands, lambda: index.holds_key("nothing"))


def _check_plans(index: MongoIndex, commands: _Commands, ask: Callable[[], object]) -> None:
    commands.found.clear()
    ask()
    asked = [one for one in commands.found if one.get("find", one.get("aggregate")) not in ("added", "meta", "totals")]
    assert asked
    for command in list(asked):
        plan = orjson.dumps(
            index._tables.meta.database.command("explain", command, verbosity="queryPlanner"), default=str
        )
        assert b'"COLLSCAN"' not in plan, command


# Shards: there is no mongos to be had for tests, so that these look at the commands alone.


def test_big_collections_are_spread_by_hashed_study() -> None:
    sent: list[tuple[Any, ...]] = []

    class Admin:
        def command(self, *args: Any, **more: Any) -> None:
            sent.append((*args, more))

    tables = Tables(pymongo.MongoClient("mongodb://127.0.0.1:1", connect=False), "db", sharded=True)
    tables.client = type("Client", (), {"admin": Admin()})()  # type: ignore[assignment]
    for name in ("studies", "series", "instances", "contents"):
        tables._shard(name)
    sharded = {args[1]: args[2]["key"] for args in sent if args[0] == "shardCollection"}
    assert sharded == {
        "db.studies": {"_id": "hashed"},
        **{f"db.{name}": {"study_uid": "hashed"} for name in ("series", "instances", "contents")},
    }
    assert ("enableSharding", "db", {}) in sent
    assert shard_key("instances") == {"study_uid": "hashed"}


def test_sharding_of_a_replica_set_is_refused(mongod: str, database: str) -> None:
    with pytest.raises(OutOfResources, match="mongos"):
        MongoIndex(mongod, database, sharded=True)
