"""Unified Procedure Steps over both index engines, and over two nodes at once."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pymongo
import pytest

from pacs.dicom.keys import from_identifier
from pacs.dicom.model import Caller
from pacs.dicom.uids import new_uid
from pacs.errors import Conflict, NotFound, PacsError, PeerFailed
from pacs.index.base import Index
from pacs.index.mongo import MongoIndex
from pacs.index.sqlite import SqliteIndex
from pacs.services.jobs import JobRunner
from pacs.services.ups import ProcedureSteps
from pacs.services.ups_cleaning import Cleaning
from pacs.services.ups_events import EventReports, Notifications, Reporting, pending
from pacs.services.ups_outcomes import Caveat, UnknownStep, WrongTransaction
from pacs.services.ups_step import Event, Step
from pacs.services.ups_subscriptions import ALL_STEPS, FILTERED_STEPS, GlobalSubscription, Subscriptions
from tests.mongod import replica_set
from tests.ups_builders import as_json, performed, progress, step

CALLER = Caller("TEST", "127.0.0.1", "test")
Open = Callable[[], ProcedureSteps]
Told = list[tuple[int, str]]


@pytest.fixture(scope="module")
def mongod() -> Iterator[str]:
    with replica_set() as uri:
        yield uri


@pytest.fixture(params=["sqlite", "mongo"])
def node(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Open]:
    """Opens one node of the same archive after another."""
    opened: list[Index] = []
    database = f"test_{uuid.uuid4().hex[:12]}"
    if request.param == "mongo":
        uri = request.getfixturevalue("mongod")

    def open_node() -> ProcedureSteps:
        index: Index = MongoIndex(uri, database) if request.param == "mongo" else SqliteIndex(tmp_path / "i.sqlite")
        opened.append(index)
        return ProcedureSteps(index.work, Subscriptions(index.work))

    yield open_node
    for index in opened:
        index.close()
    if request.param == "mongo":
        with pymongo.MongoClient[dict[str, Any]](uri) as client:
            client.drop_database(database)


@pytest.fixture
def steps(node: Open) -> ProcedureSteps:
    return node()


def created(steps: ProcedureSteps, **values: Any) -> str:
    uid = new_uid()
    steps.create(uid, as_json(step(**values)), CALLER)
    return uid


def state_of(steps: ProcedureSteps, uid: str) -> str:
    return str(steps.retrieve(uid, CALLER)["00741000"]["Value"][0])


def subscribe(steps: ProcedureSteps, uid: str, ae_title: str = "WEB", *, lock: bool = False, **options: Any) -> None:
    way = options.pop("way", "web")
    steps.subscriptions.subscribe(uid, ae_title, way, CALLER, has_lock=lock, **options)


def told(steps: ProcedureSteps, ae_title: str = "WEB", way: str = "web") -> Told:
    """(Event Type ID, state or the like) of what waits for an AE; it is taken."""
    events = pending(steps.work, way, ae_title)
    Notifications(steps.work).received(events)
    return [(each.event.kind, _gist(each.event)) for each in events]


def _gist(event: Event) -> str:
    found = event.attributes
    if event.kind == 1:
        return str(found["00741000"]["Value"][0])
    if event.kind == 2:
        return str(found["00741236"]["Value"][0])
    if event.kind == 3:
        return f"{found['00741002']['Value'][0]['00741004']['Value'][0]:g}"
    return ",".join(found)


def complete(steps: ProcedureSteps, uid: str) -> None:
    transaction = new_uid()
    steps.change_state(uid, "IN PROGRESS", transaction, CALLER)
    steps.update(uid, as_json(performed()), transaction, CALLER)
    steps.change_state(uid, "COMPLETED", transaction, CALLER)


# Steps


def test_a_step_survives_with_who_performs_it(node: Open) -> None:
    one = node()
    uid, transaction = created(one), new_uid()
    one.change_state(uid, "IN PROGRESS", transaction, CALLER)
    other = node()
    assert state_of(other, uid) == "IN PROGRESS"
    with pytest.raises(WrongTransaction):
        other.change_state(uid, "COMPLETED", new_uid(), CALLER)
    other.update(uid, as_json(performed()), transaction, CALLER)
    assert other.change_state(uid, "COMPLETED", transaction, CALLER) is None
    assert one.change_state(uid, "COMPLETED", transaction, CALLER) is Caveat.ALREADY_COMPLETED
    assert transaction not in orjson.dumps(dict(one.retrieve(uid, CALLER))).decode()


def test_a_uid_makes_one_step_only(node: Open) -> None:
    uid, nodes = new_uid(), [node(), node()]

    def create(number: int) -> bool:
        try:
            nodes[number % 2].create(uid, as_json(step(ProcedureStepLabel=str(number))), CALLER)
        except Conflict:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(create, range(8))).count(True) == 1


def test_of_two_nodes_that_race_for_a_step_one_gets_it(node: Open) -> None:
    nodes = [node(), node()]
    uids = [created(nodes[0]) for _ in range(10)]
    together = threading.Barrier(4)
    winners: list[tuple[str, str]] = []

    def claim_all(number: int) -> None:
        for uid in uids:
            transaction = new_uid()
            together.wait(30)
            try:
                nodes[number % 2].change_state(uid, "IN PROGRESS", transaction, CALLER)
            except WrongTransaction:
                continue
            winners.append((uid, transaction))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(claim_all, range(4)))
    assert sorted(uid for uid, _ in winners) == sorted(uids)
    for uid, transaction in winners:
        nodes[1].update(uid, as_json(progress()), transaction, CALLER)


def test_updates_from_two_nodes_are_all_kept(node: Open) -> None:
    nodes = [node(), node()]
    uid, transaction = created(nodes[0]), new_uid()
    nodes[0].change_state(uid, "IN PROGRESS", transaction, CALLER)
    tags = [f"0041{number:04X}" for number in range(0x1001, 0x1011)]

    def update(number: int) -> None:
        change = {tags[number]: {"vr": "LO", "Value": [str(number)]}}
        nodes[number % 2].update(uid, change, transaction, CALLER)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(update, range(16)))
    found = nodes[1].retrieve(uid, CALLER)
    assert [found[tag]["Value"] for tag in tags] == [[str(number)] for number in range(16)]


def test_steps_are_found_by_state_name_and_code(steps: ProcedureSteps) -> None:
    ready, late = created(steps), created(steps, PatientName="Doe^Jane", ScheduledProcedureStepStartDateTime="20270101")
    complete(steps, ready)

    def find(**keys: Any) -> list[str]:
        return [str(found["00080018"]["Value"][0]) for found in steps.search(from_identifier(keys).matchers, CALLER)]

    state = {"vr": "CS", "Value": ["COMPLETED"]}
    assert find(**{"00741000": state}) == find(**{"00741000": {"vr": "CS", "Value": ["completed"]}}) == [ready]
    assert find(**{"00741000": {"vr": "CS", "Value": ["SCHEDULED"]}}) == [late]
    assert find(**{"00100010": {"vr": "PN", "Value": [{"Alphabetic": "doe*"}]}}) == [late]
    assert find(**{"00404005": {"vr": "DT", "Value": ["20260601-"]}}) == [late]
    assert find(**{"00080018": {"vr": "UI", "Value": [ready]}, "00741000": state}) == [ready]
    assert find(**{"00080018": {"vr": "UI", "Value": [late]}, "00741000": state}) == []
    item = {"00080100": {"vr": "SH", "Value": ["110001"]}}
    assert sorted(find(**{"00404018": {"vr": "SQ", "Value": [item]}})) == sorted([ready, late])
    assert sorted(find()) == sorted([ready, late])


# Subscriptions: Table CC.2.3-2


def test_a_subscriber_hears_what_happens_to_its_step_in_order(steps: ProcedureSteps) -> None:
    uid, other = created(steps), created(steps)
    subscribe(steps, uid)
    complete(steps, other)
    transaction = new_uid()
    steps.change_state(uid, "IN PROGRESS", transaction, CALLER)
    steps.update(uid, as_json(progress("10")), transaction, CALLER)
    steps.update(uid, as_json(progress("10")), transaction, CALLER)
    steps.request_cancel(uid, "DOCTOR", {}, CALLER)
    steps.update(uid, {"00404041": {"vr": "CS", "Value": ["INCOMPLETE"]}}, transaction, CALLER)
    steps.change_state(uid, "CANCELED", transaction, CALLER)
    events = [(1, "SCHEDULED"), (1, "IN PROGRESS"), (3, "10"), (2, "DOCTOR"), (1, "IN PROGRESS"), (1, "CANCELED")]
    assert told(steps) == events
    assert steps.subscriptions.unsubscribe(uid, "WEB", CALLER)
    assert not steps.subscriptions.unsubscribe(uid, "WEB", CALLER)
    assert told(steps) == []


def test_canceling_a_step_that_nobody_performs_is_told_step_by_step(steps: ProcedureSteps) -> None:
    uid = created(steps)
    subscribe(steps, uid)
    reason = {"00741238": {"vr": "LT", "Value": ["broken"]}}
    assert steps.request_cancel(uid, "DOCTOR", reason, CALLER) is None
    assert told(steps) == [(1, "SCHEDULED"), (2, "DOCTOR"), (1, "IN PROGRESS"), (1, "CANCELED")]
    (item,) = steps.retrieve(uid, CALLER)["00741002"]["Value"]
    assert item["00741238"]["Value"] == ["broken"]
    assert item["0074100E"]["Value"][0]["00080100"]["Value"] == ["110513"]
    assert item["00404052"]["Value"]


@pytest.mark.parametrize("lock", [True, False])
def test_a_global_subscription_covers_what_is_there_and_what_comes(steps: ProcedureSteps, lock: bool) -> None:
    there = created(steps)
    subscribe(steps, ALL_STEPS, lock=lock)
    assert told(steps) == ([(1, "SCHEDULED")] if lock else [])
    created(steps)
    assert told(steps) == [(1, "SCHEDULED")]
    complete(steps, there)
    assert told(steps)[-1] == (1, "COMPLETED")
    assert steps.subscriptions.suspend(ALL_STEPS, "WEB", CALLER)
    assert not steps.subscriptions.suspend(ALL_STEPS, "WEB", CALLER)
    late = created(steps)
    assert told(steps) == []
    subscribe(steps, late)
    assert steps.subscriptions.unsubscribe(ALL_STEPS, "WEB", CALLER)
    told(steps)
    complete(steps, late)
    assert told(steps) == []


def test_assignment_is_told_when_a_step_is_created_and_when_it_changes(steps: ProcedureSteps) -> None:
    subscribe(steps, ALL_STEPS)
    code = {"00080100": "A", "00080102": "99T", "00080104": "station"}
    item = {tag: {"vr": "SH", "Value": [value]} for tag, value in code.items()}
    uid = new_uid()
    attributes = as_json(step())
    steps.create(uid, {**attributes, "00404025": {"vr": "SQ", "Value": [item]}}, CALLER)
    assert told(steps) == [(1, "SCHEDULED"), (5, "00404025")]
    performer = {"00404009": {"vr": "SQ", "Value": [item]}, "00404036": {"vr": "LO", "Value": ["Clinic"]}}
    performer["00404037"] = {"vr": "PN", "Value": [{"Alphabetic": "Doe^Jane"}]}
    steps.update(uid, {"00404034": {"vr": "SQ", "Value": [performer]}}, "", CALLER)
    assert told(steps) == [(5, "00404009,00404025,00404034,00404036")]


def test_a_filtered_subscription_covers_what_matches(steps: ProcedureSteps) -> None:
    match, _ = created(steps, WorklistLabel="CAD"), created(steps)
    subscribe(steps, FILTERED_STEPS, asked=[("WorklistLabel", "CAD")], lock=True)
    subscribe(steps, FILTERED_STEPS, "DIMSE", asked={"00741202": {"vr": "LO", "Value": ["CA*"]}}, way="dimse")
    assert told(steps) == [(1, "SCHEDULED")]
    created(steps)
    assert told(steps) == []
    created(steps, WorklistLabel="CAD")
    assert told(steps) == [(1, "SCHEDULED")]
    assert told(steps, "DIMSE", "dimse") == [(1, "SCHEDULED")]
    complete(steps, match)
    assert told(steps, "DIMSE", "dimse")[-1] == (1, "COMPLETED")
    with pytest.raises(PacsError, match="needs a filter"):
        subscribe(steps, FILTERED_STEPS, asked=[])
    with pytest.raises(UnknownStep):
        subscribe(steps, new_uid())


class Overtaken(Subscriptions):
    """Somebody subscribes to all steps after a new one was told who is subscribed, and before it is stored."""

    def take_over(self, step: Step) -> dict[str, GlobalSubscription]:
        found = super().take_over(step)
        self.subscribe(ALL_STEPS, "WEB", "web", CALLER, has_lock=True)
        self.subscribe(FILTERED_STEPS, "OTHER", "web", CALLER, has_lock=False, asked=[("PatientID", "nobody")])
        return found


def test_who_subscribes_to_all_while_a_step_is_created_does_not_miss_it(node: Open) -> None:
    one, other = node(), node()
    uid = created(ProcedureSteps(one.work, Overtaken(one.work)))
    assert told(other) == [(1, "SCHEDULED")]
    assert told(other, "OTHER") == []
    complete(other, uid)
    assert told(one)[-1] == (1, "COMPLETED")


# Notifications and reports


def test_the_newest_connection_of_an_ae_is_the_one_that_is_served(node: Open) -> None:
    one, other = node(), node()
    subscribe(one, created(one))
    first, second = Notifications(one.work), Notifications(other.work)
    channel = first.open("WEB")
    assert len(first.pending("WEB", channel) or ()) == 1
    newer = second.open("WEB")
    assert first.pending("WEB", channel) is None
    first.close("WEB", channel)
    events = second.pending("WEB", newer)
    assert events is not None
    assert len(events) == 1  # it was not said to have been received
    second.received(events)
    assert second.pending("WEB", newer) == []


class Peers:
    """A double of the SCU side: what it was told, and whether it can be reached."""

    def __init__(self) -> None:
        self.heard: Told = []
        self.failures = 0
        self.is_known = True
        self.refuses = False

    @contextmanager
    def connect(self, ae_title: str) -> Iterator[Reporting]:
        if not self.is_known:
            raise NotFound("AE is not known here")
        if self.failures:
            self.failures -= 1
            raise PeerFailed("nobody listens")

        def report(event: Event) -> None:
            if self.refuses:
                raise PeerFailed("refused", 0x0110)
            self.heard.append((event.kind, _gist(event)))

        yield report


def test_reports_wait_for_a_peer_that_is_away_and_keep_their_order(node: Open) -> None:
    one = node()
    uid, peers = created(one), Peers()
    subscribe(one, uid, "DIMSE", way="dimse")
    complete(one, uid)
    peers.failures = 1
    other = node()
    runner = JobRunner(other.work, [EventReports(other.work, peers.connect).handler])
    runner.start()
    deadline = datetime.now(UTC) + timedelta(seconds=20)
    while other.work.jobs() and datetime.now(UTC) < deadline:
        threading.Event().wait(0.05)
    runner.stop(10)
    assert peers.heard == [(1, "SCHEDULED"), (1, "IN PROGRESS"), (1, "COMPLETED")]
    assert other.work.jobs() == []
    assert pending(one.work, "dimse", "DIMSE") == []


def test_a_report_that_is_refused_does_not_keep_the_others(steps: ProcedureSteps) -> None:
    peers = Peers()
    subscribe(steps, created(steps), "DIMSE", way="dimse")
    peers.refuses = True
    reports = EventReports(steps.work, peers.connect)
    *_, ended = reports.run(steps.work.jobs())
    assert ended is not None
    assert not ended.error
    assert pending(steps.work, "dimse", "DIMSE") == []
    subscribe(steps, created(steps), "DIMSE", way="dimse")
    peers.is_known = False
    *_, ended = reports.run(steps.work.jobs())
    assert ended is not None
    assert "not known" in ended.error
    assert len(pending(steps.work, "dimse", "DIMSE")) == 1


# From time to time


def test_final_steps_go_after_their_time_unless_a_lock_holds_them(steps: ProcedureSteps) -> None:
    held, freed, gone, open_ = (created(steps) for _ in range(4))
    subscribe(steps, held, lock=True)
    subscribe(steps, freed, "OTHER", lock=True)
    subscribe(steps, freed, "OTHER", lock=False)
    for uid in (held, freed, gone):
        complete(steps, uid)
    cleaning = Cleaning(steps.work, steps.subscriptions, keep_days=2)
    now = datetime.now(UTC)
    assert cleaning.clean(now + timedelta(days=1)) == 0
    assert cleaning.clean(now + timedelta(days=3)) == 2
    for uid in (freed, gone):
        with pytest.raises(UnknownStep):
            steps.retrieve(uid, CALLER)
    assert (state_of(steps, held), state_of(steps, open_)) == ("COMPLETED", "SCHEDULED")
    assert told(steps) == []  # its events are as old
    assert steps.subscriptions.unsubscribe(held, "WEB", CALLER)
    assert cleaning.clean(now + timedelta(days=3)) == 1
    assert Cleaning(steps.work, steps.subscriptions, keep_days=0).clean(now + timedelta(days=999)) == 0


def test_every_subscriber_hears_of_a_restart_once(steps: ProcedureSteps) -> None:
    subscribe(steps, created(steps))
    subscribe(steps, ALL_STEPS, "DIMSE", way="dimse")
    told(steps)
    cleaning = Cleaning(steps.work, steps.subscriptions, keep_days=2)
    cleaning.announce_restart()
    cleaning.announce_restart()
    status = [(4, "00741242,00741244,00741246")]
    assert told(steps) == status
    assert told(steps, "DIMSE", "dimse") == status


def test_cleaning_comes_again(steps: ProcedureSteps) -> None:
    cleaning = Cleaning(steps.work, steps.subscriptions, keep_days=2)
    cleaning.begin()
    runner = JobRunner(steps.work, cleaning.handlers)
    runner.start()
    deadline = datetime.now(UTC) + timedelta(seconds=20)
    while [job.kind for job in steps.work.jobs()] != ["ups-clean"] or steps.work.jobs()[0].due < datetime.now(UTC):
        assert datetime.now(UTC) < deadline
        threading.Event().wait(0.05)
    runner.stop(10)
