"""DIMSE-N with pynetdicom as the peer: its SCU at our server, its SCP for our requests, and our reports to it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pynetdicom import AE, build_role, evt
from pynetdicom.association import Association as PynetAssociation

from pacs.dicom.model import Caller
from pacs.dicom.uids import new_uid
from pacs.dimse.association import Message
from pacs.dimse.command import HAS_DATA_SET, Command, Field
from pacs.dimse.outbox import Outbox, event_report
from pacs.dimse.peers import Peer
from pacs.dimse.requests import Requests
from pacs.dimse.service import Service, read_attributes
from pacs.dimse.status import PENDING, Refused, Status
from pacs.dimse.wire import Timeouts
from pacs.errors import Invalid, NotFound, PeerFailed
from tests.builders import ct
from tests.unit.dimse.archive import DimseArchive, dimse_archive
from tests.unit.dimse.peer import CT, EXPLICIT, VERIFICATION, connected

FILM = "1.2.840.10008.5.1.1.1"  # Basic Film Session: pynetdicom's SCP knows all operations of print management
WORKLIST = "1.2.840.10008.5.1.4.31"
COMMITMENT = "1.2.840.10008.1.20.1"
COMMITMENT_INSTANCE = "1.2.840.10008.1.20.1.1"
UPS_PUSH = "1.2.840.10008.5.1.4.34.6.1"
UPS_WATCH = "1.2.840.10008.5.1.4.34.6.2"
CT_CLASS = CT


class Objects:
    """A service that keeps what it is given, and a UPS class of whose contexts one names the other."""

    def __init__(self) -> None:
        self.kept: dict[str, dict[str, Any]] = {}
        self.asked: list[Command] = []
        self.service = Service(
            "objects",
            frozenset({FILM, UPS_PUSH, UPS_WATCH}),
            {
                Field.N_CREATE: self.create,
                Field.N_SET: self.set,
                Field.N_GET: self.get,
                Field.N_ACTION: self.action,
                Field.N_DELETE: self.delete,
            },
        )

    def create(self, message: Message, _: Caller) -> None:
        uid = message.command.sop_uid or new_uid()
        self.kept[uid] = read_attributes(message, limit=10_000)
        message.respond(Status(0), self.kept[uid], sop_uid=uid)

    def set(self, message: Message, _: Caller) -> None:
        changes = read_attributes(message)
        self._found(message).update(changes)
        message.respond(Status(0x0116, "cut", ("00100020",)) if "00100020" in changes else Status(0))

    def get(self, message: Message, _: Caller) -> None:
        found = self._found(message)
        tags = message.command.attribute_list or tuple(found)
        message.respond(Status(0), {tag: found[tag] for tag in tags if tag in found})

    def action(self, message: Message, _: Caller) -> None:
        self.asked.append(message.command)
        match message.command.action_type:
            case 1:
                message.respond(Status(0), {"00741000": {"vr": "CS", "Value": ["IN PROGRESS"]}})
            case 2:
                raise Refused(Status(0xC300, "the correct transaction UID was not given", error_id=7))
            case 3:
                raise RuntimeError("/srv/secret")
            case 4:
                raise Invalid("no such thing")
            case _:
                message.respond(Status(0x0123))  # and leaves the data set unread

    def delete(self, message: Message, _: Caller) -> None:
        self._found(message)
        del self.kept[message.command.instance_uid or ""]
        message.respond(Status(0))

    def _found(self, message: Message) -> dict[str, Any]:
        try:
            return self.kept[message.command.instance_uid or ""]
        except KeyError:
            raise NotFound("no such instance") from None


class Commitment:
    """Answers N-ACTION, and keeps the outboxes for reports."""

    def __init__(self) -> None:
        self.outboxes: list[Outbox] = []
        self.reported: list[dict[str, Any]] = []
        self.service = Service(
            "commitment",
            frozenset({COMMITMENT}),
            {Field.N_ACTION: self.action, Field.N_EVENT_REPORT: self.report},
            may_use=True,
        )

    def action(self, message: Message, _: Caller) -> None:
        message.drain()
        self.outboxes.append(message.association.outbox())
        message.respond(Status(0))

    def report(self, message: Message, _: Caller) -> None:
        self.reported.append(read_attributes(message))
        message.respond(Status(0))


def worklist(message: Message, _: Caller) -> None:
    keys = read_attributes(message)
    message.respond(Status(PENDING), {**keys, "00100020": {"vr": "LO", "Value": ["WL"]}})
    message.respond(Status(0))


@pytest.fixture(scope="module")
def objects() -> Objects:
    return Objects()


@pytest.fixture(scope="module")
def commitment() -> Commitment:
    return Commitment()


@pytest.fixture(scope="module")
def pacs(tmp_path_factory: pytest.TempPathFactory, objects: Objects, commitment: Commitment) -> Iterator[DimseArchive]:
    services = [
        objects.service,
        commitment.service,
        Service("worklist", frozenset({WORKLIST}), {Field.C_FIND: worklist}),
    ]
    with dimse_archive(tmp_path_factory.mktemp("dimse"), services=services) as archive:
        yield archive


@contextmanager
def pynetdicom(pacs: DimseArchive, *classes: str, handlers: Any = (), roles: Any = ()) -> Iterator[PynetAssociation]:
    ae = AE("PYNET")
    for uid in classes:
        ae.add_requested_context(uid, [EXPLICIT])
    association = ae.associate("127.0.0.1", pacs.port, ext_neg=list(roles), evt_handlers=list(handlers))
    assert association.is_established
    yield association
    association.release()
    assert association.is_released


def data_set(**values: Any) -> Dataset:
    made = Dataset()
    for keyword, value in values.items():
        setattr(made, keyword, value)
    return made


# -- pynetdicom asks us ------------------------------------------------------------------------------------------------


def test_an_instance_lives_through_all_operations(pacs: DimseArchive, objects: Objects) -> None:
    uid = new_uid()
    with pynetdicom(pacs, FILM) as association:
        status, attributes = association.send_n_create(data_set(PatientID="A", PatientName="Doe^Jane"), FILM, uid)
        assert (status.Status, attributes.PatientID) == (0, "A")
        status, attributes = association.send_n_set(data_set(PatientID="B"), FILM, uid)
        assert (status.Status, status.ErrorComment, len(attributes)) == (0x0116, "cut", 0)
        status, attributes = association.send_n_get([0x00100020], FILM, uid)
        assert status.Status == 0
        assert attributes == data_set(PatientID="B")
        status, attributes = association.send_n_get([], FILM, uid)
        assert attributes == data_set(PatientID="B", PatientName="Doe^Jane")
        status, attributes = association.send_n_action(data_set(PatientID="C"), 1, FILM, uid)
        assert (status.Status, attributes.ProcedureStepState) == (0, "IN PROGRESS")
        assert association.send_n_delete(FILM, uid).Status == 0
        assert association.send_n_delete(FILM, uid).Status == 0x0112
    assert uid not in objects.kept


def test_the_archive_may_choose_the_uid_of_what_is_created(pacs: DimseArchive, objects: Objects) -> None:
    responses: list[Any] = []
    with pynetdicom(pacs, FILM, handlers=[(evt.EVT_DIMSE_RECV, lambda e: responses.append(e.message))]) as association:
        status, _ = association.send_n_create(None, FILM)
    assert status.Status == 0
    command = responses[0].command_set
    assert objects.kept[command.AffectedSOPInstanceUID] == {}
    assert command.AffectedSOPClassUID == FILM


def test_failures_are_statuses_and_the_association_goes_on(pacs: DimseArchive, caplog: Any) -> None:
    uid = new_uid()
    with pynetdicom(pacs, FILM) as association:
        status, _ = association.send_n_action(data_set(PatientID="A"), 2, FILM, uid)
        assert (status.Status, status.ErrorID) == (0xC300, 7)
        assert status.ErrorComment == "the correct transaction UID was not given"
        status, _ = association.send_n_action(data_set(PatientID="A"), 3, FILM, uid)
        assert (status.Status, status.ErrorComment) == (0x0110, "internal error")
        status, _ = association.send_n_action(None, 4, FILM, uid)
        assert (status.Status, status.ErrorComment) == (0x0106, "no such thing")
        status, _ = association.send_n_action(data_set(TextValue="A" * 50_000), 9, FILM, uid)
        assert status.Status == 0x0123
        status, _ = association.send_n_set(data_set(PatientID="A"), FILM, uid)
        assert status.Status == 0x0112
        status, _ = association.send_n_create(data_set(TextValue="A" * 10_000), FILM, uid)
        assert (status.Status, status.ErrorComment) == (0x0213, "the data set is larger than 10000 bytes")
        assert association.send_n_create(None, FILM, uid)[0].Status == 0


def test_what_no_service_serves_is_refused(pacs: DimseArchive) -> None:
    uid = new_uid()
    with pynetdicom(pacs, FILM, CT_CLASS, WORKLIST, VERIFICATION) as association:
        for sop_class in (CT_CLASS, WORKLIST, VERIFICATION):
            status, _ = association.send_n_create(data_set(PatientID="A"), sop_class, uid)
            assert status.Status == 0x0211
        assert association.send_n_delete(CT_CLASS, uid).Status == 0x0211
        status, _ = association.send_n_event_report(data_set(PatientID="A"), 1, FILM, uid)
        assert status.Status == 0x0211
        status, _ = association.send_n_create(None, UPS_WATCH + ".9", uid, meta_uid=FILM)
        assert status.Status == 0x0122
        with pytest.raises(ValueError, match="No presentation context"):
            association.send_n_create(None, "1.2.840.10008.3.1.2.3.3", uid)


def test_a_service_with_several_classes_takes_the_request_of_one_on_the_context_of_another(
    pacs: DimseArchive, objects: Objects
) -> None:
    with pynetdicom(pacs, UPS_WATCH) as association:
        status, _ = association.send_n_action(None, 1, UPS_PUSH, "1.2.3.4", meta_uid=UPS_WATCH)
    assert status.Status == 0
    assert (objects.asked[-1].class_uid, objects.asked[-1].instance_uid) == (UPS_PUSH, "1.2.3.4")


def test_garbage_for_a_data_set_is_a_status(pacs: DimseArchive) -> None:
    with connected(pacs.port, (FILM, [EXPLICIT])) as peer:
        command = Command(Field.N_CREATE, FILM, message_id=3, sop_uid="1.2.3", data_set_type=HAS_DATA_SET)
        peer.association.send(1, command, b"\x10\0\x20\0ZZ\xff\xff" + bytes(10))
        answer = peer.association.response(3).command
        assert (answer.status, answer.sop_class_uid, answer.sop_uid) == (0x0110, FILM, "1.2.3")
        peer.association.release()


def test_a_query_of_a_service_is_answered_by_it(pacs: DimseArchive) -> None:
    with pynetdicom(pacs, WORKLIST) as association:
        answers = list(association.send_c_find(data_set(PatientID="", PatientName="Doe"), WORKLIST))
    assert [status.Status for status, _ in answers] == [PENDING, 0]
    assert answers[0][1] == data_set(PatientID="WL", PatientName="Doe")


# -- we report on pynetdicom's association -----------------------------------------------------------------------------


class Reported:
    """What a pynetdicom peer was told."""

    def __init__(self, status: int = 0) -> None:
        self.events: list[tuple[int, Dataset]] = []
        self.status = status
        self.handlers = [(evt.EVT_N_EVENT_REPORT, self._receive)]

    def _receive(self, event: Any) -> tuple[int, None]:
        self.events.append((event.event_type, event.event_information))
        return self.status, None


ROLES = (build_role(COMMITMENT, scu_role=True, scp_role=False),)


def commit(association: PynetAssociation) -> None:
    status, _ = association.send_n_action(data_set(TransactionUID="1.2.3"), 1, COMMITMENT, COMMITMENT_INSTANCE)
    assert status.Status == 0


def result(event_type: int = 1) -> Any:
    return event_report(COMMITMENT, COMMITMENT_INSTANCE, event_type, {"00081195": {"vr": "UI", "Value": ["1.2.3"]}})


def test_an_idle_peer_gets_its_report_on_its_own_association(pacs: DimseArchive, commitment: Commitment) -> None:
    told = Reported()
    with pynetdicom(pacs, COMMITMENT, handlers=told.handlers, roles=ROLES) as association:
        commit(association)
        outbox = commitment.outboxes[-1]
        first, second = outbox.post(result(1)), outbox.post(result(2))
        assert (first.result(60).status, second.result(60).status) == (0, 0)
        assert [event_type for event_type, _ in told.events] == [1, 2]
        assert told.events[0][1].TransactionUID == "1.2.3"
    with pytest.raises(PeerFailed, match="ended"):
        outbox.post(result()).result(60)


def test_a_report_that_the_peer_refuses_has_its_status(pacs: DimseArchive, commitment: Commitment) -> None:
    told = Reported(0x0110)
    with pynetdicom(pacs, COMMITMENT, handlers=told.handlers, roles=ROLES) as association:
        commit(association)
        error = commitment.outboxes[-1].post(result()).exception(10)
    assert isinstance(error, PeerFailed)
    assert error.status == 0x0110


def test_a_peer_that_goes_on_storing_loses_nothing_and_gets_its_report(
    pacs: DimseArchive, commitment: Commitment
) -> None:
    told = Reported()
    study_uid = new_uid()
    files = [dcmread(BytesIO(ct(study_uid))) for _ in range(10)]
    with pynetdicom(pacs, COMMITMENT, CT_CLASS, handlers=told.handlers, roles=ROLES) as association:
        commit(association)
        future = commitment.outboxes[-1].post(result())
        assert [association.send_c_store(file).Status for file in files] == [0] * 10
        assert future.result(60).status == 0
        assert association.send_c_store(dcmread(BytesIO(ct(study_uid)))).Status == 0
    assert len(told.events) == 1
    assert pacs.holds(study_uid) == 11


def test_a_peer_that_releases_is_released_and_the_report_says_that_it_was_not_delivered(
    pacs: DimseArchive, commitment: Commitment
) -> None:
    told = Reported()
    with pynetdicom(pacs, COMMITMENT, handlers=told.handlers, roles=ROLES) as association:
        commit(association)
        future = commitment.outboxes[-1].post(result())
    with pytest.raises(PeerFailed, match="ended"):
        future.result(60)
    assert told.events == []


def test_the_server_stops_with_reports_under_way(tmp_path: Any) -> None:
    service = Commitment()
    with (
        dimse_archive(tmp_path, services=[service.service]) as archive,
        connected(archive.port, (COMMITMENT, [EXPLICIT])) as peer,
    ):
        command = Command(
            Field.N_ACTION,
            requested_sop_class_uid=COMMITMENT,
            requested_sop_uid=COMMITMENT_INSTANCE,
            message_id=1,
            action_type=1,
        )
        peer.association.send(1, command)
        assert peer.association.response(1).command.status == 0
        future = service.outboxes[0].post(result())
        message = peer.association.receive(10)
        assert message is not None
        message.drain()  # and never answers
        archive.server.stop(5)
        with pytest.raises(PeerFailed, match="ended"):
            future.result(60)


# -- we ask pynetdicom -------------------------------------------------------------------------------------------------


@contextmanager
def scp(*classes: str, handlers: Any, connected_hook: Callable[[Any], None] | None = None) -> Iterator[Requests]:
    ae = AE("PYSCP")
    for uid in classes:
        ae.add_supported_context(uid, scu_role=True, scp_role=True)
    hooks = [(evt.EVT_ESTABLISHED, connected_hook)] if connected_hook else []
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=[*handlers, *hooks])
    try:
        port = server.socket.getsockname()[1]
        yield Requests(Peer("PYSCP", "127.0.0.1", port), "ARCHIVE", Timeouts(10, 10))
    finally:
        server.shutdown()


PATIENT = {"00100020": {"vr": "LO", "Value": ["P1"]}}


def test_every_operation_is_asked_on_one_association() -> None:
    asked: list[tuple[Any, ...]] = []
    released: list[Any] = []

    def create(event: Any) -> tuple[int, Dataset]:
        asked.append(("create", event.request.AffectedSOPInstanceUID, event.attribute_list.PatientID))
        return 0, event.attribute_list

    def change(event: Any) -> tuple[int, Dataset]:
        asked.append(("set", event.request.RequestedSOPInstanceUID, event.modification_list.PatientID))
        return 0x0107, event.modification_list

    def get(event: Any) -> tuple[int, Dataset]:
        asked.append(("get", event.request.RequestedSOPInstanceUID, [int(tag) for tag in event.attribute_identifiers]))
        return 0, data_set(PatientID="P1")

    def act(event: Any) -> tuple[int, Any]:
        asked.append(("action", event.request.RequestedSOPInstanceUID, event.action_type))
        return (0, data_set(PatientID="acted")) if event.action_type == 1 else (0xC312, None)

    def delete(event: Any) -> int:
        asked.append(("delete", event.request.RequestedSOPInstanceUID))
        return 0

    def report(event: Any) -> tuple[int, None]:
        asked.append(("report", event.request.AffectedSOPInstanceUID, event.event_type))
        return 0, None

    handlers = [
        (evt.EVT_N_CREATE, create),
        (evt.EVT_N_SET, change),
        (evt.EVT_N_GET, get),
        (evt.EVT_N_ACTION, act),
        (evt.EVT_N_DELETE, delete),
        (evt.EVT_N_EVENT_REPORT, report),
        (evt.EVT_RELEASED, released.append),
    ]
    with scp(FILM, handlers=handlers) as requests:
        with requests.normalized([FILM]) as user:
            made = user.create(FILM, "1.2.3", PATIENT)
            assert (made.status, made.sop_uid, made.attributes) == (0, "1.2.3", PATIENT)
            changed = user.set(FILM, "1.2.3", PATIENT)
            assert (changed.status, changed.attributes) == (0x0107, PATIENT)
            assert user.get(FILM, "1.2.3", ["00100020", "7FE00010"]).attributes == PATIENT
            acted = user.action(FILM, "1.2.3", 1, PATIENT)
            assert acted.attributes["00100020"]["Value"] == ["acted"]
            with pytest.raises(PeerFailed, match="PYSCP answered C312H") as caught:
                user.action(FILM, "1.2.3", 2)
            assert caught.value.status == 0xC312
            assert user.report(FILM, "1.2.3", 7, PATIENT).status == 0
            assert user.delete(FILM, "1.2.3").attributes == {}
        deadline = time.monotonic() + 60
        while not released and time.monotonic() < deadline:
            time.sleep(0.01)
    assert len(released) == 1
    assert asked == [
        ("create", "1.2.3", "P1"),
        ("set", "1.2.3", "P1"),
        ("get", "1.2.3", [0x00100020, 0x7FE00010]),
        ("action", "1.2.3", 1),
        ("action", "1.2.3", 2),
        ("report", "1.2.3", 7),
        ("delete", "1.2.3"),
    ]


def test_a_peer_without_the_service_or_that_goes_away_is_a_failure() -> None:
    def vanish(event: Any) -> tuple[int, None]:
        event.assoc.abort()
        return 0, None

    with scp(FILM, handlers=[(evt.EVT_N_ACTION, vanish)]) as requests, requests.normalized([FILM, COMMITMENT]) as user:
        with pytest.raises(PeerFailed, match="PYSCP does not offer this service"):
            user.action(COMMITMENT, COMMITMENT_INSTANCE, 1)
        for _ in range(2):
            with pytest.raises(PeerFailed, match="PYSCP: ") as caught:
                user.action(FILM, "1.2.3", 1)
            assert caught.value.status is None
    with pytest.raises(PeerFailed, match="cannot be reached"), requests.normalized([FILM]):
        pass


def test_a_report_that_the_peer_sends_on_our_association_is_served() -> None:
    commitment = Commitment()
    associations: list[Any] = []

    def act(event: Any) -> tuple[int, None]:
        associations.append(event.assoc)
        return 0, None

    with (
        scp(COMMITMENT, handlers=[(evt.EVT_N_ACTION, act)]) as requests,
        requests.normalized([COMMITMENT], [commitment.service]) as user,
    ):
        assert user.action(COMMITMENT, COMMITMENT_INSTANCE, 1, PATIENT).status == 0
        assert not user.listen(0.05)
        answers: list[Any] = []

        def report() -> None:
            information = data_set(TransactionUID="1.2.3")
            answers.append(
                associations[0].send_n_event_report(information, 1, COMMITMENT, COMMITMENT_INSTANCE)[0].Status
            )

        thread = threading.Thread(target=report)
        thread.start()
        assert user.listen(10)
        thread.join(60)
        assert answers == [0]
        assert user.action(COMMITMENT, COMMITMENT_INSTANCE, 1, PATIENT).status == 0
    assert commitment.reported == [{"00081195": {"vr": "UI", "Value": ["1.2.3"]}}]


def test_a_report_comes_on_an_association_whose_requestor_is_the_scp(
    pacs: DimseArchive, commitment: Commitment
) -> None:
    before = len(commitment.reported)
    requests = Requests(Peer("ARCHIVE", "127.0.0.1", pacs.port), "REMOTE", Timeouts(10, 10))
    with requests.normalized([COMMITMENT], roles={COMMITMENT: (False, True)}) as user:
        assert user.report(COMMITMENT, COMMITMENT_INSTANCE, 1, PATIENT).status == 0
    assert commitment.reported[before:] == [PATIENT]
    role = build_role(COMMITMENT, scu_role=False, scp_role=True)
    with pynetdicom(pacs, COMMITMENT, roles=[role]) as association:
        assert association.accepted_contexts[0].as_scp
        status, _ = association.send_n_event_report(data_set(PatientID="P1"), 1, COMMITMENT, COMMITMENT_INSTANCE)
        assert status.Status == 0
