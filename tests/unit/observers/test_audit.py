"""Audit messages: valid by the standard's schema, gathered, and never in anybody's way."""

import threading
import time
from base64 import b64decode
from datetime import UTC, datetime
from pathlib import Path

import pytest
from lxml import etree

from pacs import correlation
from pacs.dicom.model import Caller
from pacs.errors import OutOfResources
from pacs.observers import audit_file
from pacs.observers.audit import Audit
from pacs.observers.audit_file import AuditFile, Wanted
from pacs.observers.audit_message import Gathered, Source, message
from pacs.services.accesses import Access, Action
from pacs.watching import Associated, Served, Transfer

SCHEMA = etree.RelaxNG(etree.parse(Path(__file__).with_name("audit_message.rng")))
SOURCE = Source("archive", "PACS", 4711, "pacs.example")
MODALITY = Caller("CT1", "10.0.0.7:51234", "dimse")
SOMEBODY = Caller("anonymous", "::1", "web")


class Written:
    """Messages as they are written, for as long as the test lasts."""

    def __init__(self) -> None:
        self.messages: list[etree._Element] = []
        self.fails = 0

    def __call__(self, messages):
        if self.fails:
            self.fails -= 1
            raise OutOfResources("the disk is full")
        for one in messages:
            assert b"\n" not in one
            root = etree.fromstring(one)
            SCHEMA.assertValid(root)
            self.messages.append(root)

    def of(self, code):
        return [root for root in self.messages if root.find("EventIdentification/EventID").get("csd-code") == code]


def studies(root):
    return [
        one.get("ParticipantObjectID")
        for one in root.iter("ParticipantObjectIdentification")
        if one.find("ParticipantObjectIDTypeCode").get("csd-code") == "110180"
    ]


@pytest.fixture
def written():
    return Written()


@pytest.fixture
def audit(written):
    audit = Audit(SOURCE, window_s=30)
    audit.start([written], lambda study_uid: f"patient of {study_uid}")
    yield audit
    if not audit._stop.is_set():
        audit.stop()


@pytest.mark.parametrize("is_failure", [False, True])
@pytest.mark.parametrize("action", list(Action))
@pytest.mark.parametrize("caller", [MODALITY, SOMEBODY, Caller("a\x00<&\"'\n\ud800b", "", "web")], ids="abc")
def test_every_kind_of_message_is_valid(action, caller, is_failure):
    event = Gathered(action, caller, datetime.now(UTC), "1.2.3", "P\x01<1>", is_failure, "PEER", "1.2.3.4", "why\x02")
    event.count, event.classes, event.ids = 3, {"1.2.840.10008.5.1.4.1.1.2": 2, "": 1}, {"abc"}

    SCHEMA.assertValid(etree.fromstring(message(event, SOURCE)))


def test_what_one_caller_does_with_one_study_is_one_message(audit, written):
    with correlation.caused_by("association-1"):
        for number in range(1000):
            audit.hear(Access(Action.STORED, MODALITY, f"1.{number % 2}", "P1", "1.2.840.10008.5.1.4.1.1.2", 1))
    audit.hear(Access(Action.STORED, Caller("CT1", "10.0.0.7:51235", "dimse"), "1.0", "P1", instances=1))
    audit.stop()

    stored = written.of("110104")
    assert sorted(studies(root)[0] for root in stored) == ["1.0", "1.1"]
    first = next(root for root in stored if studies(root) == ["1.0"])
    assert sum(int(one.get("NumberOfInstances")) for one in first.iter("SOPClass")) == 501
    assert [one.get("UserID") for one in first.iter("ActiveParticipant")] == ["CT1", "PACS"]
    assert [one.get("NetworkAccessPointID") for one in first.iter("ActiveParticipant")] == ["10.0.0.7", "pacs.example"]
    details = {one.get("type"): b64decode(one.get("value")).decode() for one in first.iter("ParticipantObjectDetail")}
    assert details["ID"] == "association-1"
    starts = [root.find("EventIdentification/EventTypeCode").get("csd-code") for root in written.of("110100")]
    assert starts == ["110120", "110121"]


def test_failures_are_messages_of_their_own(audit, written):
    audit.hear(Access(Action.STORED, MODALITY, "1.2", "P1", instances=1))
    audit.hear(Access(Action.STORED, MODALITY, "1.2", "P1", instances=1, is_failure=True, detail="the disk is full"))
    audit.stop()

    outcomes = [root.find("EventIdentification").get("EventOutcomeIndicator") for root in written.of("110104")]
    assert outcomes == ["0", "4"]
    assert written.of("110104")[1].findtext("EventIdentification/EventOutcomeDescription") == "the disk is full"


def test_what_the_servers_tell_becomes_messages(audit, written):
    def served(service, status="200", **more):
        fields = {"operation": f"GET {service}", "caller": SOMEBODY, "began": 0.0, "seconds": 0.1}
        return Served(service, "web", status, int(status) >= 400, received_bytes=0, sent_bytes=9, **{**fields, **more})

    audit.watch(served("WADO-RS frames", study_uid="1.2"))
    audit.watch(served("WADO-RS", study_uid="1.3"))
    audit.watch(served("QIDO-RS", "403"))
    audit.watch(Associated(MODALITY, "PACS", "called AE title not recognized"))
    audit.watch(Associated(MODALITY, "PACS", user="jane"))
    moved = Served(
        *("C-MOVE", "dimse", "0000", False, "C-MOVE", MODALITY, 0.0, 1.0, 0, 0),
        transfers=(Transfer("1.4", 5, 1),),
        peer="WORKSTATION",
    )
    audit.watch(moved)
    audit.stop()

    assert [studies(root) for root in written.of("110103")] == [["1.2"]]
    sent = {studies(root)[0]: root for root in written.of("110104")}
    assert set(sent) == {"1.3", "1.4"}
    assert [one.get("UserID") for one in sent["1.4"].iter("ActiveParticipant")] == ["PACS", "WORKSTATION", "CT1"]
    assert len(written.of("110104")) == 3  # one of them that an instance did not arrive
    assert len(written.of("110113")) == 2
    assert len(written.of("110114")) == 1
    patients = [one.get("ParticipantObjectID") for one in sent["1.3"].iter("ParticipantObjectIdentification")]
    assert patients == ["1.3", "patient of 1.3"]


def test_a_query_is_told_with_what_was_asked(audit, written):
    audit.hear(Access(Action.QUERIED, MODALITY, detail="level=STUDY 00100020=P1"))
    audit.stop()

    (query,) = written.of("110112")
    assert b64decode(query.findtext(".//ParticipantObjectQuery")) == b"level=STUDY 00100020=P1"


def test_what_could_not_be_written_is_written_later(audit, written):
    written.fails = 1
    audit.hear(Access(Action.DELETED, MODALITY, "1.2", "P1", instances=3))
    audit._flush()
    assert not written.messages
    audit.stop()

    assert [studies(root) for root in written.of("110105")] == [["1.2"]]


def test_hearing_takes_microseconds_also_while_the_disk_does_not_answer():
    released = threading.Event()
    audit = Audit(SOURCE, window_s=0.01)
    audit.start([lambda messages: released.wait(60) and None], lambda study_uid: "")
    try:
        time.sleep(0.1)  # the writer hangs
        access = Access(Action.STORED, MODALITY, "1.2", "P1", "1.2.840.10008.5.1.4.1.1.2", 1)
        began = time.perf_counter()
        for _ in range(10_000):
            audit.hear(access)
        each_s = (time.perf_counter() - began) / 10_000
    finally:
        released.set()
        audit.stop()
    assert each_s < 100e-6


def test_the_file_is_read_back_the_youngest_first_over_rotations(tmp_path):
    path = tmp_path / "audit.log"
    file = AuditFile(path, 20_000, 50, is_synced=True)
    for number in range(100):
        event = Gathered(Action.VIEWED, MODALITY, datetime.now(UTC), f"1.{number}", f"P{number % 10}", count=1)
        file.write([message(event, SOURCE)])
        file._file._looked = 0.0  # as if a second had passed
    file.close()
    with path.open("ab") as cut:
        cut.write(b"<AuditMessage><EventIdent")  # by a crash
    file = AuditFile(path, 0, 5, is_synced=True)
    file.write([message(Gathered(Action.VIEWED, MODALITY, datetime.now(UTC), "1.100", "P0"), SOURCE)])
    file.close()

    assert path.with_name("audit.log.1").exists()
    found, is_complete = audit_file.read(path, Wanted(), 1000)
    assert [one["studies"][0] for one in found] == [f"1.{number}" for number in range(100, -1, -1)]
    assert is_complete
    found, is_complete = audit_file.read(path, Wanted(), 5)
    assert (len(found), is_complete) == (5, False)
    assert len(audit_file.read(path, Wanted(patient_id="P3"), 1000)[0]) == 10
    assert [one["patients"] for one in audit_file.read(path, Wanted(study_uid="1.42"), 1000)[0]] == [["P2"]]
    assert audit_file.read(path, Wanted(user="CT2"), 1000)[0] == []
    assert len(audit_file.read(path, Wanted(event="110103", user="CT1", since="2020", until="2999"), 1000)[0]) == 101
