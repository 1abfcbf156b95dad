"""Unified Procedure Steps on a running server: pynetdicom is the SCU of all classes, aiohttp the UPS-RS user agent."""

from __future__ import annotations

import asyncio
import gzip
import queue
import threading
import time
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import requests
from pydicom.dataset import Dataset
from pynetdicom import AE, evt
from pynetdicom.association import Association

from pacs.dicom.uids import new_uid
from pacs.dicom.xml_model import from_xml, to_xml
from tests.server import Server, free_port
from tests.unit.web.running import RunningArchive
from tests.ups_builders import (
    ALL_STEPS,
    FILTERED_STEPS,
    UPS_EVENT,
    UPS_PULL,
    UPS_PUSH,
    UPS_QUERY,
    UPS_WATCH,
    as_json,
    change,
    code,
    performed,
    progress,
    step,
    with_values,
)

JSON = {"Content-Type": "application/dicom+json"}


@pytest.fixture(scope="module")
def watcher_port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, watcher_port: int) -> Iterator[Server]:
    # Requests and connections go to now this process, now that.
    running = Server(tmp_path_factory.mktemp("ups"), {"SERVER_WORKERS": "2"})
    running.add_peer("WATCHER", watcher_port)
    with running:
        yield running


@pytest.fixture
def root(server: Server) -> str:
    return f"{server.dicomweb_url}/workitems"


class Peer:
    """A pynetdicom SCU that is sure to be ready for the next request.

    Its own thread takes the answer for a request, now and then, when one follows the other before it has gone on.
    """

    def __init__(self, association: Association) -> None:
        self._association = association

    def __getattr__(self, name: str) -> Any:
        if name.startswith("send_"):
            deadline = time.monotonic() + 60
            while self._association._is_paused and time.monotonic() < deadline:
                time.sleep(0.001)
        return getattr(self._association, name)


@contextmanager
def associated(server: Server, *classes: str) -> Iterator[Peer]:
    ae = AE("PYNET")
    for uid in classes:
        ae.add_requested_context(uid)
    association = ae.associate("127.0.0.1", server.dimse_port)
    assert association.is_established
    assert len(association.accepted_contexts) == len(classes)
    yield Peer(association)
    association.release()


class Watcher:
    """The SCP of our N-EVENT-REPORT: pynetdicom, which keeps what it hears."""

    def __init__(self, port: int) -> None:
        self.heard: queue.Queue[tuple[str, int, Dataset]] = queue.Queue()
        self._ae = AE("WATCHER")
        self._ae.add_supported_context(UPS_EVENT, scu_role=False, scp_role=True)
        self._port = port

    def __enter__(self) -> Watcher:
        handlers = [(evt.EVT_N_EVENT_REPORT, self._hear)]
        self._server = self._ae.start_server(("127.0.0.1", self._port), block=False, evt_handlers=handlers)
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()

    def _hear(self, event: Any) -> tuple[int, None]:
        request = event.request
        assert request.AffectedSOPClassUID == UPS_PUSH
        self.heard.put((str(request.AffectedSOPInstanceUID), int(request.EventTypeID), event.event_information))
        return 0x0000, None

    def next(self, *uids: str) -> tuple[str, int, Dataset]:
        """What it hears next of these instances."""
        while True:
            uid, kind, information = self.heard.get(timeout=30)
            if uid in uids:
                return uid, kind, information


def subscribe(association: Peer, uid: str, *, action: int = 3, ae_title: str = "WATCHER", **keys: Any) -> int:
    asked = with_values(Dataset(), ReceivingAE=ae_title, **keys)
    if action == 3:
        asked.DeletionLock = keys.get("DeletionLock", "FALSE")
    return int(association.send_n_action(asked, action, UPS_PUSH, uid, meta_uid=UPS_WATCH)[0].Status)


# -- DIMSE: the five SOP classes ---------------------------------------------------------------------------------------


def test_a_step_is_pushed_pulled_performed_and_completed(server: Server) -> None:
    uid, transaction = new_uid(), new_uid()
    with associated(server, UPS_PUSH, UPS_PULL, UPS_QUERY) as peer:
        status, _ = peer.send_n_create(step(ReferencedRequestSequence=[]), UPS_PUSH, uid)
        assert status.Status == 0x0000
        keys = with_values(
            Dataset(), SOPInstanceUID="", ProcedureStepState="SCHEDULED", PatientName="MÜLLER*", PatientID=""
        )
        keys.SpecificCharacterSet = "ISO_IR 192"
        keys.ScheduledWorkitemCodeSequence = [with_values(Dataset(), CodeValue="110001", CodeMeaning="")]
        for model in (UPS_PULL, UPS_QUERY):
            pending = [found for status, found in peer.send_c_find(keys, model) if status.Status == 0xFF00]
            (found,) = [found for found in pending if found.SOPInstanceUID == uid]
            assert found.PatientName == "Müller^Jürgen"
            assert found.ScheduledWorkitemCodeSequence[0].CodeMeaning == "Image Processing"
            assert "ProcedureStepLabel" not in found
        claim = change("IN PROGRESS", transaction)
        assert peer.send_n_action(claim, 1, UPS_PUSH, uid, meta_uid=UPS_PULL)[0].Status == 0
        changes = with_values(performed(), TransactionUID=transaction)
        assert peer.send_n_set(changes, UPS_PUSH, uid, meta_uid=UPS_PULL)[0].Status == 0
        done = change("COMPLETED", transaction)
        assert peer.send_n_action(done, 1, UPS_PUSH, uid, meta_uid=UPS_PULL)[0].Status == 0
        assert peer.send_n_set(changes, UPS_PUSH, uid, meta_uid=UPS_PULL)[0].Status == 0xC300
        status, found = peer.send_n_get([0x00741000, 0x00741216], UPS_PUSH, uid)
        assert (status.Status, found.ProcedureStepState) == (0, "COMPLETED")
        assert found.UnifiedProcedureStepPerformedProcedureSequence[0].OutputInformationSequence == []
        status, found = peer.send_n_get([], UPS_PUSH, uid)
        assert found.SOPClassUID == UPS_PUSH
        assert found.ScheduledProcedureStepModificationDateTime
        assert "TransactionUID" not in found
        assert peer.send_n_get([0x00081195], UPS_PUSH, uid)[0].Status == 0x0001
        assert peer.send_n_get([], UPS_PUSH, new_uid())[0].Status == 0xC307


@pytest.mark.parametrize(
    ("values", "status", "about"),
    [
        ({"ProcedureStepState": "IN PROGRESS"}, 0xC309, ""),
        ({"ProcedureStepState": None}, 0x0120, "(0074,1000)"),
        ({"InputReadinessState": None}, 0x0120, "(0040,4041)"),
        ({"ProcedureStepLabel": ""}, 0x0121, "(0074,1204)"),
        ({"ScheduledProcedureStepPriority": "SOON"}, 0x0106, "(0074,1200)"),
        ({"ScheduledProcedureStepStartDateTime": "tomorrow"}, 0x0106, "(0040,4005)"),
        ({"TransactionUID": "1.2.3"}, 0x0106, "(0008,1195)"),
        ({"ProcedureStepProgressInformationSequence": [progress()]}, 0x0106, "(0074,1002)"),
        ({"ScheduledStationNameCodeSequence": [with_values(Dataset(), CodeMeaning="?")]}, 0x0120, "(0040,4025)"),
        ({"ScheduledHumanPerformersSequence": [with_values(Dataset(), HumanPerformerName="A")]}, 0x0120, "(0040,4009)"),
        ({"CommentsOnTheScheduledProcedureStep": None, "WorklistLabel": ""}, 0x0000, ""),
        ({"ScheduledProcedureStepModificationDateTime": "2020"}, 0xB300, ""),
    ],
)
@pytest.mark.filterwarnings("ignore:Invalid value for VR")
def test_what_table_cc_2_5_3_asks_of_a_new_step(server: Server, values: Any, status: int, about: str) -> None:
    with associated(server, UPS_PUSH) as peer:
        answer, _ = peer.send_n_create(step(**values), UPS_PUSH, new_uid())
        assert f"{answer.Status:04X}" == f"{status:04X}"
        assert about in answer.get("ErrorComment", "")
    web = requests.post(f"{server.dicomweb_url}/workitems", json=as_json(step(**values)), headers=JSON, timeout=60)
    assert web.status_code == (201 if status in (0, 0xB300) else 400), web.text
    assert ("The Workitem was created with modifications." in web.headers.get("Warning", "")) == (status == 0xB300)


@pytest.mark.parametrize(
    ("changes", "status", "code"),
    [
        (with_values(Dataset(), PatientName="Other^Name"), 0x0105, 400),
        (with_values(Dataset(), PatientID="UPS-1", ProcedureStepLabel="New"), 0x0000, 200),
        (with_values(Dataset(), ProcedureStepState="COMPLETED"), 0x0105, 400),
        (with_values(Dataset(), ProcedureStepLabel=""), 0x0121, 400),
        (with_values(Dataset(), TransactionUID="1.2.3"), 0xC310, 409),
        (with_values(Dataset(), ScheduledProcedureStepModificationDateTime="2020"), 0xB305, 200),
        (with_values(Dataset(), ScheduledWorkitemCodeSequence=[]), 0x0121, 400),
        (with_values(Dataset(), InputInformationSequence=[]), 0x0000, 200),
    ],
)
def test_what_table_cc_2_5_3_asks_of_a_change(server: Server, changes: Dataset, status: int, code: int) -> None:
    uid = new_uid()
    with associated(server, UPS_PUSH, UPS_PULL) as peer:
        peer.send_n_create(step(), UPS_PUSH, uid)
        answer, _ = peer.send_n_set(changes, UPS_PUSH, uid, meta_uid=UPS_PULL)
        assert f"{answer.Status:04X}" == f"{status:04X}"
    web = requests.post(f"{server.dicomweb_url}/workitems/{uid}", json=as_json(changes), headers=JSON, timeout=60)
    assert web.status_code == code, web.text


def test_operations_that_a_class_has_not_are_refused(server: Server) -> None:
    uid = new_uid()
    with associated(server, UPS_PUSH, UPS_WATCH, UPS_QUERY, UPS_EVENT) as peer:
        peer.send_n_create(step(), UPS_PUSH, uid)
        (answer, _), *_ = peer.send_c_find(with_values(Dataset(), SOPInstanceUID=""), UPS_PUSH)
        assert answer.Status == 0x0211
        assert peer.send_n_get([], UPS_PUSH, uid, meta_uid=UPS_QUERY)[0].Status == 0x0211
        assert peer.send_n_action(None, 9, UPS_PUSH, uid)[0].Status == 0x0123
        assert subscribe(peer, uid, ae_title="NOBODY") == 0xC308
        assert subscribe(peer, uid, action=5) == 0xC314
        assert subscribe(peer, new_uid()) == 0xC307
        assert subscribe(peer, uid, action=4) == 0x0000
        assert peer.send_n_action(change("FINISHED", "1.2"), 1, UPS_PUSH, uid)[0].Status == 0x0106


def test_a_watcher_is_told_on_an_association_that_the_archive_opens(server: Server, watcher_port: int) -> None:
    uid, transaction = new_uid(), new_uid()
    with Watcher(watcher_port) as watcher, associated(server, UPS_PUSH, UPS_PULL, UPS_WATCH) as peer:
        peer.send_n_create(step(), UPS_PUSH, uid)
        assert subscribe(peer, uid) == 0
        peer.send_n_action(change("IN PROGRESS", transaction), 1, UPS_PUSH, uid, meta_uid=UPS_PULL)
        for changes in (progress("40"), Dataset()):
            if not changes:
                changes.ScheduledStationNameCodeSequence = [code("WS1")]
            changes.TransactionUID = transaction
            assert peer.send_n_set(changes, UPS_PUSH, uid, meta_uid=UPS_PULL)[0].Status == 0
        reason = with_values(Dataset(), ReasonForCancellation="wrong side", ContactDisplayName="Dr. Doe")
        assert peer.send_n_action(reason, 2, UPS_PUSH, uid, meta_uid=UPS_WATCH)[0].Status == 0
        heard = [watcher.next(uid) for _ in range(5)]
        assert [kind for _, kind, _ in heard] == [1, 1, 3, 5, 2]
        first, second, third, fourth, fifth = (information for _, _, information in heard)
        assert (first.ProcedureStepState, first.InputReadinessState) == ("SCHEDULED", "READY")
        assert second.ProcedureStepState == "IN PROGRESS"
        assert third.ProcedureStepProgressInformationSequence[0].ProcedureStepProgress == 40
        assert fourth.ScheduledStationNameCodeSequence[0].CodeValue == "WS1"
        assert (fifth.RequestingAE, fifth.ReasonForCancellation) == ("PYNET", "wrong side")
        assert fifth.ContactDisplayName == "Dr. Doe"


def test_global_and_filtered_subscriptions_over_dimse(server: Server, watcher_port: int) -> None:
    label = new_uid()[-16:]
    one, other, third = new_uid(), new_uid(), new_uid()
    with Watcher(watcher_port) as watcher, associated(server, UPS_PUSH, UPS_WATCH) as peer:
        peer.send_n_create(step(WorklistLabel=label), UPS_PUSH, one)
        assert subscribe(peer, FILTERED_STEPS, WorklistLabel=label, DeletionLock="TRUE") == 0
        assert watcher.next(one)[1] == 1
        peer.send_n_create(step(), UPS_PUSH, other)
        peer.send_n_create(step(WorklistLabel=label), UPS_PUSH, third)
        assert watcher.next(other, third)[0] == third
        assert subscribe(peer, ALL_STEPS, action=5) == 0
        assert subscribe(peer, ALL_STEPS, action=4) == 0
        assert peer.send_n_action(None, 2, UPS_PUSH, third)[0].Status == 0
        assert subscribe(peer, other) == 0
        assert watcher.next(other, third)[0] == other


# -- UPS-RS ------------------------------------------------------------------------------------------------------------


def create(root: str, uid: str | None = None, **values: Any) -> str:
    uid = uid or new_uid()
    answer = requests.post(f"{root}?workitem={uid}", json=as_json(step(**values)), headers=JSON, timeout=60)
    assert answer.status_code == 201, answer.text
    assert answer.headers["Location"] == f"{root}/{uid}"
    return uid


def test_workitems_in_json_and_xml(root: str) -> None:
    uid = new_uid()
    document = to_xml(as_json(step(PatientID="XML")))
    headers = {"Content-Type": "application/dicom+xml"}
    assert requests.post(f"{root}?{uid}", data=document, headers=headers, timeout=60).status_code == 201
    assert requests.post(f"{root}?{uid}", data=document, headers=headers, timeout=60).status_code == 409
    answer = requests.get(f"{root}/{uid}", timeout=60)
    (found,) = answer.json()
    assert answer.headers["Content-Type"].startswith("application/dicom+json")
    assert found["00100010"]["Value"] == [{"Alphabetic": "Müller^Jürgen"}]
    assert found["00080005"]["Value"] == ["ISO_IR 192"]
    plain = requests.get(f"{root}/{uid}", headers={"Accept": "application/dicom+xml"}, timeout=60)
    assert from_xml(plain.content)["00100020"]["Value"] == ["XML"]
    parts = requests.get(
        f"{root}/{uid}", headers={"Accept": 'multipart/related; type="application/dicom+xml"'}, timeout=30
    )
    assert parts.headers["Content-Type"].startswith('multipart/related; type="application/dicom+xml"')
    assert plain.content in parts.content
    assert requests.get(f"{root}/{uid}", headers={"Accept": "image/png"}, timeout=60).status_code == 406
    assert requests.get(f"{root}/{new_uid()}", timeout=60).status_code == 404
    assert requests.post(root, data=b"{", headers=JSON, timeout=60).status_code == 400
    assert requests.post(root, data=b"x", headers={"Content-Type": "text/plain"}, timeout=60).status_code == 415
    packed = {**headers, "Content-Encoding": "gzip", "Accept": "image/png"}
    assert requests.post(f"{root}?{new_uid()}", data=gzip.compress(document), headers=packed, timeout=60).ok
    bomb = gzip.compress(bytes(5 << 20))
    assert requests.post(f"{root}?{new_uid()}", data=bomb, headers=packed, timeout=60).status_code == 413
    wrong = {**headers, "Content-Encoding": "br"}
    assert requests.post(f"{root}?{new_uid()}", data=document, headers=wrong, timeout=60).status_code == 415
    part = b"--b\r\nContent-Type: application/dicom+xml\r\n\r\n" + document + b"\r\n"
    related = {"Content-Type": 'multipart/related; type="application/dicom+xml"; boundary=b'}
    for count, status in ((1, 201), (2, 400)):
        answer = requests.post(f"{root}?{new_uid()}", data=part * count + b"--b--\r\n", headers=related, timeout=60)
        assert answer.status_code == status
    named = requests.post(root, json=[as_json(step(SOPInstanceUID="1.2.3.99"))], headers=JSON, timeout=60)
    assert named.headers["Location"].endswith("/1.2.3.99")


def test_workitems_are_searched_page_by_page(root: str) -> None:
    label = new_uid()[-16:]
    uids = sorted(create(root, WorklistLabel=label, PatientID=f"P{number}") for number in range(3))
    answer = requests.get(f"{root}?WorklistLabel={label}&limit=2", timeout=60)
    assert answer.status_code == 206
    assert "1 additional results" in answer.headers["Warning"]
    rows = answer.json()
    rest = requests.get(answer.links["next"]["url"], timeout=60)
    assert rest.status_code == 200
    rows += rest.json()
    assert [row["00080018"]["Value"][0] for row in rows] == uids
    assert all(row["00741000"]["Value"] == ["SCHEDULED"] and "00400400" not in row for row in rows)
    (row,) = requests.get(
        f"{root}?00741202={label}&PatientID=P1&includefield=CommentsOnTheScheduledProcedureStep", timeout=30
    ).json()
    assert "00400400" in row
    assert requests.get(f"{root}?WorklistLabel={label}&ProcedureStepState=COMPLETED", timeout=60).status_code == 204
    item = requests.get(f"{root}?WorklistLabel={label}&ScheduledWorkitemCodeSequence.CodeValue=110001", timeout=60)
    assert len(item.json()) == 3
    assert requests.get(f"{root}?ScheduledProcedureStepStartDateTime=now", timeout=60).status_code == 400


def run(coroutine: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(coroutine, 60))


async def put_state(session: aiohttp.ClientSession, url: str, state: str, transaction: str) -> None:
    async with session.put(f"{url}/state", json=[as_json(change(state, transaction))], headers=JSON) as answer:
        assert answer.status == 200


def gist(event: dict[str, Any]) -> tuple[str, int, str]:
    state = event.get("00741000", {"Value": [""]})["Value"][0]
    return event["00001000"]["Value"][0], event["00001002"]["Value"][0], state


def test_events_come_over_a_websocket(root: str) -> None:
    async def scenario() -> None:
        uid, transaction, ae_title = create(root), new_uid(), f"WEB{new_uid()[-8:]}"
        async with aiohttp.ClientSession() as session:
            async with session.post(f"{root}/{uid}/subscribers/{ae_title}?deletionlock=true") as answer:
                assert answer.status == 201
                place = answer.headers["Content-Location"]
                assert place.startswith("ws://")
            await put_state(session, f"{root}/{uid}", "IN PROGRESS", transaction)
            # What happened before comes first.
            async with session.ws_connect(place) as socket:
                first = await socket.receive_json()
                assert first["00000002"]["Value"] == [UPS_PUSH]
                assert first["00404041"]["Value"] == ["READY"]
                assert gist(first) == (uid, 1, "SCHEDULED")
                assert gist(await socket.receive_json()) == (uid, 1, "IN PROGRESS")
                changes = as_json(progress("10"))
                update = f"{root}/{uid}?transaction-uid={transaction}"
                async with session.post(update, json=changes, headers=JSON) as answer:
                    assert answer.status == 200
                event = await socket.receive_json()
                assert gist(event)[1] == 3
                assert event["00741002"]["Value"][0]["00741004"]["Value"] == [10.0]
                reason = {"00741238": {"vr": "LT", "Value": ["why not"]}}
                cancel = f"{root}/{uid}/cancelrequest/DOCTOR"
                async with session.post(cancel, json=[reason], headers=JSON) as answer:
                    assert answer.status == 202
                event = await socket.receive_json()
                assert gist(event)[1] == 2
                assert event["00741236"]["Value"] == ["DOCTOR"]
                assert event["00741238"]["Value"] == ["why not"]
                await put_state(session, f"{root}/{uid}", "CANCELLED", transaction)
                assert gist(await socket.receive_json()) == (uid, 1, "CANCELED")
            async with session.delete(f"{root}/{uid}/subscribers/{ae_title}") as answer:
                assert answer.status == 200
            async with session.delete(f"{root}/{uid}/subscribers/{ae_title}") as answer:
                assert answer.status == 404

    run(scenario())


def test_an_event_that_the_client_has_not_read_comes_again(root: str) -> None:
    async def scenario() -> None:
        ae_title = f"WEB{new_uid()[-8:]}"
        uid = create(root)
        async with aiohttp.ClientSession() as session:
            async with session.post(f"{root}/{uid}/subscribers/{ae_title}") as answer:
                place = answer.headers["Content-Location"]
            # It does not answer pings, as if it hung.
            deaf = await session.ws_connect(place, autoping=False)
            assert gist(await deaf.receive_json()) == (uid, 1, "SCHEDULED")
            async with session.ws_connect(place) as socket:
                assert gist(await socket.receive_json()) == (uid, 1, "SCHEDULED")
            await deaf.close()

    run(scenario())


def test_worklist_subscriptions_over_http(root: str) -> None:
    async def scenario() -> None:
        ae_title, label = f"WEB{new_uid()[-8:]}", new_uid()[-16:]
        async with aiohttp.ClientSession() as session:
            filtered = f"{root}/{FILTERED_STEPS}/subscribers/{ae_title}"
            async with session.post(f"{filtered}?filter=WorklistLabel={label},PatientID=A") as answer:
                assert answer.status == 201
                place = answer.headers["Content-Location"]
            for wrong in ("", "?filter=", "?filter=NoSuchThing=1"):
                async with session.post(f"{filtered}{wrong}") as answer:
                    assert answer.status == 400, wrong
            async with session.ws_connect(place) as socket:
                create(root, WorklistLabel=label, PatientID="B")
                uid = create(root, WorklistLabel=label, PatientID="A")
                assert gist(await socket.receive_json()) == (uid, 1, "SCHEDULED")
            async with session.post(f"{root}/{ALL_STEPS}/subscribers/{ae_title}") as answer:
                assert answer.status == 201
            suspend = f"{root}/{ALL_STEPS}/subscribers/{ae_title}/suspend"
            statuses = []
            for method, url in (
                ("POST", suspend),
                ("POST", suspend),
                ("POST", f"{root}/{uid}/subscribers/{ae_title}/suspend"),
                ("DELETE", f"{root}/{ALL_STEPS}/subscribers/{ae_title}"),
                ("DELETE", f"{root}/{ALL_STEPS}/subscribers/{ae_title}"),
                ("POST", f"{root}/{new_uid()}/subscribers/{ae_title}"),
                ("POST", f"{root}/{uid}/subscribers/A%5CB"),
            ):
                async with session.request(method, url) as answer:
                    statuses.append(answer.status)
            assert statuses == [200, 404, 400, 200, 404, 404, 400]

    run(scenario())


def test_pages_of_other_origins_are_kept_out(tmp_path: Path) -> None:
    here = "http://viewer.example"
    with RunningArchive(tmp_path, cors_origins=[here]) as web:

        async def status(origin: str | None) -> int:
            headers = {"Origin": origin} if origin else {}
            async with aiohttp.ClientSession() as session:
                try:
                    async with session.ws_connect(f"{web.dicomweb_url}/subscribers/WEB", headers=headers) as socket:
                        await socket.close()
                        return 101
                except aiohttp.WSServerHandshakeError as error:
                    return error.status

        for origin, expected in ((None, 101), (here, 101), (web.root_url, 101), ("http://evil.example", 403)):
            assert asyncio.run(status(origin)) == expected, origin
        for path, is_allowed in (
            ("workitems/1.2/state", True),
            ("workitems/1.2/subscribers/A", True),
            ("studies", False),
        ):
            asked = {"Origin": here, "Access-Control-Request-Method": "PUT"}
            answer = requests.options(f"{web.dicomweb_url}/{path}", headers=asked, timeout=60)
            assert ("PUT, DELETE" in answer.headers["Access-Control-Allow-Methods"]) == is_allowed


# -- Over a restart ----------------------------------------------------------------------------------------------------


def test_subscriptions_and_events_survive_a_restart(server: Server, root: str, watcher_port: int) -> None:
    uid, transaction, ae_title = create(root), new_uid(), f"WEB{new_uid()[-8:]}"
    assert requests.post(f"{root}/{uid}/subscribers/{ae_title}", timeout=60).status_code == 201
    with associated(server, UPS_PULL, UPS_WATCH) as peer:  # nobody listens at the watcher's port
        assert subscribe(peer, uid) == 0
        peer.send_n_action(change("IN PROGRESS", transaction), 1, UPS_PUSH, uid, meta_uid=UPS_PULL)
    server.restart()
    with associated(server, UPS_PULL) as peer:
        peer.send_n_set(with_values(performed(), TransactionUID=transaction), UPS_PUSH, uid, meta_uid=UPS_PULL)
        assert peer.send_n_action(change("COMPLETED", transaction), 1, UPS_PUSH, uid, meta_uid=UPS_PULL)[0].Status == 0
    states = ["SCHEDULED", "IN PROGRESS", "COMPLETED"]
    with Watcher(watcher_port) as watcher:
        heard = [watcher.next(uid) for _ in range(3)]
        assert [information.ProcedureStepState for _, _, information in heard] == states
        _, kind, status = watcher.next(ALL_STEPS)
        assert (kind, status.SCPStatus, status.SubscriptionListStatus) == (4, "RESTARTED", "WARM START")

    async def fetch() -> None:
        place = f"{server.dicomweb_url}/subscribers/{ae_title}"
        async with aiohttp.ClientSession() as session, session.ws_connect(place) as socket:
            events = [gist(await socket.receive_json()) for _ in range(4)]
            assert events == [*((uid, 1, state) for state in states), (ALL_STEPS, 4, "")]
            # A server that stops lets its subscribers go.
            stopping = threading.Thread(target=server.stop)
            stopping.start()
            message = await socket.receive()
            assert message.type is aiohttp.WSMsgType.CLOSE
            assert message.data == aiohttp.WSCloseCode.GOING_AWAY
        await asyncio.to_thread(stopping.join)

    run(fetch())
