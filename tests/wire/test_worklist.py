"""The modality worklist: findscu -W and wlmscpfs on the same files, orders over REST, pynetdicom's cancel."""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pydicom
import pytest
import requests
from pydicom.dataset import Dataset
from pynetdicom import AE

from tests.server import Server, dcmtk, dcmtk_environment, free_port
from tests.worklists import order, step_status, write_file

WORKLIST = "1.2.840.10008.5.1.4.31"
CLINIC = "CLINIC"  # the AE title whose folder wlmscpfs and we read
JSON = {"Content-Type": "application/dicom+json"}
Find = Callable[..., list[Dataset]]

FILES: dict[str, dict[str, str]] = {
    "1": {},
    "2": {"step": "SPS2", "study": "1.2.4", "name": "VIVALDI^ANTONIO", "patient_id": "P2", "time": "140000"},
    "3": {"step": "SPS3", "study": "1.2.5", "date": "20260105", "time": "093000", "modality": "MR", "station": "MR1"},
    "4": {"step": "SPS4", "study": "1.2.6", "date": "20260107", "time": "180000", "station": "CT1\\CT2", "sex": "F"},
    "5": {"step": "SPS5", "study": "1.2.7", "name": "MÜLLER^HÄNDEL", "date": "20261231", "time": "235959"},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("worklist")
    (path / CLINIC).mkdir()
    (path / CLINIC / "lockfile").touch()
    for name, values in FILES.items():
        write_file(path / CLINIC / f"{name}.wl", **values)
    return path


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory, folder: Path) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("archive"), {"WORKLIST_FOLDER": str(folder)}) as server:
        yield server


@pytest.fixture(scope="module")
def reference(folder: Path) -> Iterator[int]:
    """The port of a wlmscpfs on the same folder."""
    port = free_port()
    process = subprocess.Popen(
        ["/usr/bin/wlmscpfs", "-s", "-q", "-csk", "-dfp", str(folder), str(port)], env=dcmtk_environment()
    )
    try:
        deadline = time.monotonic() + 60
        while dcmtk("echoscu", "-aec", CLINIC, "127.0.0.1", str(port)).returncode:
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.05)
        yield port
    finally:
        process.terminate()
        process.wait()


@pytest.fixture
def findscu(tmp_path: Path) -> Find:
    """Ask with findscu: findscu(port, "PatientName=A*", "0040,0100[0].Modality=CT") → the answers as pydicom reads."""

    def ask(port: int, *keys: str, called: str = CLINIC) -> list[Dataset]:
        for old in tmp_path.glob("rsp*.dcm"):
            old.unlink()
        options = [argument for key in keys for argument in ("-k", key)]
        run = dcmtk("findscu", "-W", "-X", "-od", tmp_path, "-aec", called, "127.0.0.1", str(port), *options)
        assert run.returncode == 0, run.stdout
        assert "E: " not in run.stdout, run.stdout
        return [pydicom.dcmread(path) for path in sorted(tmp_path.glob("rsp*.dcm"))]

    return ask


def steps_in(answers: list[Dataset]) -> set[str]:
    return {str(answer.ScheduledProcedureStepSequence[0].ScheduledProcedureStepID) for answer in answers}


STEP_ID = "0040,0100[0].ScheduledProcedureStepID"
QUERIES: dict[str, tuple[tuple[str, ...], set[str]]] = {
    "universal keys": (("PatientName", "AccessionNumber", STEP_ID), {"SPS1", "SPS2", "SPS3", "SPS4", "SPS5"}),
    "a name with a wildcard": (("PatientName=VIV*", STEP_ID), {"SPS2"}),
    "a question mark": (("PatientName=HAYD?^FRANZ", STEP_ID), {"SPS1", "SPS3", "SPS4"}),
    "patient ID": (("PatientID=P2", STEP_ID), {"SPS2"}),
    "modality": (("0040,0100[0].Modality=MR", STEP_ID), {"SPS3"}),
    "a station, of which a step may have several": (
        ("0040,0100[0].ScheduledStationAETitle=CT2", STEP_ID),
        {"SPS4"},
    ),
    "one day": (("0040,0100[0].ScheduledProcedureStepStartDate=20260105", STEP_ID), {"SPS3"}),
    "days from - to": (
        ("0040,0100[0].ScheduledProcedureStepStartDate=20260102-20260105", STEP_ID),
        {"SPS1", "SPS2", "SPS3"},
    ),
    "from a day on": (("0040,0100[0].ScheduledProcedureStepStartDate=20260107-", STEP_ID), {"SPS4", "SPS5"}),
    "up to a day": (("0040,0100[0].ScheduledProcedureStepStartDate=-20260104", STEP_ID), {"SPS1", "SPS2"}),
    "one day and hours": (
        (
            "0040,0100[0].ScheduledProcedureStepStartDate=20260102",
            "0040,0100[0].ScheduledProcedureStepStartTime=1200-1500",
            STEP_ID,
        ),
        {"SPS2"},
    ),
    "a date range and a time range, combined": (
        (
            "0040,0100[0].ScheduledProcedureStepStartDate=20260102-20260107",
            "0040,0100[0].ScheduledProcedureStepStartTime=1200-1000",
            STEP_ID,
        ),
        {"SPS2", "SPS3"},
    ),
    "a date range and a time to begin from, combined": (
        (
            "0040,0100[0].ScheduledProcedureStepStartDate=20260102-20260107",
            "0040,0100[0].ScheduledProcedureStepStartTime=1200-",
            STEP_ID,
        ),
        {"SPS2", "SPS3", "SPS4"},
    ),
    "modality and station together": (
        ("0040,0100[0].Modality=CT", "0040,0100[0].ScheduledStationAETitle=MR1", STEP_ID),
        set(),
    ),
    "a UID": (("StudyInstanceUID=1.2.6", STEP_ID), {"SPS4"}),
    "a requested procedure and all its codes": (
        ("RequestedProcedureID=RP1", "RequestedProcedureCodeSequence", STEP_ID),
        {"SPS1", "SPS2", "SPS3", "SPS4", "SPS5"},
    ),
    "nothing there": (("PatientName=NOBODY", STEP_ID), set()),
}


@pytest.mark.parametrize("name", QUERIES)
def test_findscu_finds(name: str, archive: Server, findscu: Find) -> None:
    keys, expected = QUERIES[name]
    assert steps_in(findscu(archive.dimse_port, *keys)) == expected


# wlmscpfs leaves out what lies on the last day, whatever its hour.
NOT_SO_THERE = {"a date range and a time to begin from, combined"}


@pytest.mark.parametrize("name", sorted(set(QUERIES) - NOT_SO_THERE))
def test_answers_are_those_of_wlmscpfs(name: str, archive: Server, reference: int, findscu: Find) -> None:
    keys, _ = QUERIES[name]
    keys = (*keys, "PatientBirthDate", "MedicalAlerts", "RequestedProcedurePriority", "StudyInstanceUID")
    ours, theirs = (
        {str(answer.StudyInstanceUID): plain(answer) for answer in findscu(port, *keys)}
        for port in (archive.dimse_port, reference)
    )
    assert ours == theirs


def plain(answer: Dataset) -> dict[str, Any]:
    """What the answer says. Not the character set, which only one of the two names for ASCII, nor empty attributes,

    which wlmscpfs adds to the items of sequences that are asked for as a whole.
    """
    return {tag: told(element) for tag, element in answer.to_json_dict().items() if tag != "00080005" and told(element)}


def told(element: dict[str, Any]) -> list[Any]:
    values = element.get("Value", [])
    if element["vr"] != "SQ":
        return list(values)
    return [{tag: told(inner) for tag, inner in item.items() if told(inner)} for item in values]


def test_all_that_was_asked_comes_back_empty_where_there_is_nothing(archive: Server, findscu: Find) -> None:
    keys = ("PatientID=P2", "PatientName", "PatientWeight", "AdmissionID", "ReferencedStudySequence")
    (answer,) = findscu(archive.dimse_port, *keys, "0040,0100[0].PreMedication", "0040,0100[0].Modality")
    assert answer.PatientName == "VIVALDI^ANTONIO"
    assert answer["PatientWeight"].is_empty
    assert answer["AdmissionID"].is_empty
    assert len(answer.ReferencedStudySequence) == 0
    step = answer.ScheduledProcedureStepSequence[0]
    assert (step.Modality, step["PreMedication"].is_empty) == ("CT", True)
    assert "ScheduledStationAETitle" not in step


def test_the_sequence_as_a_whole_comes_back_whole(archive: Server, findscu: Find) -> None:
    (answer,) = findscu(archive.dimse_port, "PatientID=P2", "ScheduledProcedureStepSequence")
    step = answer.ScheduledProcedureStepSequence[0]
    assert (step.Modality, step.ScheduledStationName, step.ScheduledProcedureStepStatus) == (
        "CT",
        "STN456",
        "SCHEDULED",
    )


def test_names_are_found_without_accents_and_case(archive: Server, findscu: Find) -> None:
    assert steps_in(findscu(archive.dimse_port, "PatientName=muller*", STEP_ID)) == {"SPS5"}


@pytest.mark.parametrize(
    ("asked", "written"),
    [("ISO_IR 100", "ISO_IR 100"), ("ISO_IR 192", "ISO_IR 192"), ("ISO_IR 144", "ISO_IR 100"), ("", "ISO_IR 100")],
)
def test_the_answer_is_in_the_set_of_the_question_or_of_the_file(
    asked: str, written: str, archive: Server, findscu: Find
) -> None:
    (answer,) = findscu(archive.dimse_port, "StudyInstanceUID=1.2.7", "PatientName", f"SpecificCharacterSet={asked}")
    assert answer.SpecificCharacterSet == written
    assert str(answer.PatientName) == "MÜLLER^HÄNDEL"


def test_files_are_for_those_who_call_their_folder(archive: Server, folder: Path, findscu: Find) -> None:
    assert findscu(archive.dimse_port, "PatientName", STEP_ID, called="OTHER") == []
    shared = write_file(folder / "all.wl", study="1.2.8", step="ALL")
    try:
        assert steps_in(findscu(archive.dimse_port, "PatientName", STEP_ID, called="OTHER")) == {"ALL"}
        assert "ALL" in steps_in(findscu(archive.dimse_port, "PatientName", STEP_ID))
    finally:
        shared.unlink()


def test_a_malformed_key_is_refused_by_name_and_the_association_stays(archive: Server) -> None:
    with association(archive) as peer:
        asked = Dataset()
        asked.ScheduledProcedureStepSequence = [Dataset()]
        asked.ScheduledProcedureStepSequence[0].add_new("ScheduledProcedureStepStartDate", "DA", "tomorrow")
        ((status, _),) = list(peer.send_c_find(asked, WORKLIST))
        assert status.Status == 0xA900
        assert "date" in status.ErrorComment
        assert [status.Status for status, _ in peer.send_c_find(keys_for("P2"), WORKLIST)] == [0xFF00, 0]


def test_a_key_that_no_item_can_have_is_told_with_ff01(archive: Server) -> None:
    asked = keys_for("P2")
    asked.EncapsulatedDocument = b""
    with association(archive) as peer:
        assert [status.Status for status, _ in peer.send_c_find(asked, WORKLIST)] == [0xFF01, 0]


def test_a_cancelled_query_ends(archive: Server) -> None:
    items = [
        order(**{"00100020": {"vr": "LO", "Value": ["MANY"]}, "00401400": {"vr": "LT", "Value": ["x" * 9000]}})
        for _ in range(300)
    ]
    with requests.Session() as session:
        for item in items:
            assert (
                session.post(f"{archive.dicomweb_url}/mwlitems", json=item, headers=JSON, timeout=30).status_code == 201
            )
    asked = keys_for("MANY")
    asked.RequestedProcedureComments = ""
    with association(archive) as peer:
        answers = peer.send_c_find(asked, WORKLIST, msg_id=7)
        next(answers)
        peer.send_c_cancel(7, query_model=WORKLIST)
        statuses = [status.Status for status, _ in answers]
    assert statuses[-1] == 0xFE00
    assert len(statuses) < 299


def keys_for(patient_id: str) -> Dataset:
    asked = Dataset()
    asked.PatientID = patient_id
    asked.PatientName = ""
    return asked


@contextlib.contextmanager
def association(archive: Server) -> Iterator[Any]:
    ae = AE("MODALITY")
    ae.add_requested_context(WORKLIST)
    peer = ae.associate("127.0.0.1", archive.dimse_port, ae_title=CLINIC)
    assert peer.is_established
    try:
        yield peer
    finally:
        peer.release()


# Orders over REST


@pytest.fixture
async def http(archive: Server) -> Any:
    async with aiohttp.ClientSession(archive.dicomweb_url + "/") as session:
        yield session


async def test_an_order_is_created_found_changed_and_removed(
    archive: Server, http: aiohttp.ClientSession, findscu: Find
) -> None:
    item = order(
        **{"00100020": {"vr": "LO", "Value": ["REST1"]}, "step": {"00400009": {"vr": "SH", "Value": ["A/B 1"]}}}
    )
    async with http.post("mwlitems", json=item, headers=JSON) as response:
        assert response.status == 201
        address = response.headers["Location"]
        made = await response.json(content_type="application/dicom+json")
    assert address.endswith("/A%2FB%201")
    assert step_status(made) == "SCHEDULED"
    async with http.post("mwlitems", json=item, headers=JSON) as response:
        assert response.status == 200  # the same study and step: the same item
    (answer,) = findscu(archive.dimse_port, "PatientID=REST1", "PatientName", STEP_ID)
    assert answer.PatientName == "Doe^Jane"

    async with http.put(
        address, json={**item, "00100010": {"vr": "PN", "Value": [{"Alphabetic": "Roe^Jane"}]}}
    ) as response:
        assert response.status == 200
    async with http.get(address) as response:
        kept = await response.json(content_type="application/dicom+json")
    assert kept["00100010"]["Value"] == [{"Alphabetic": "Roe^Jane"}]
    async with http.delete(address) as response:
        assert response.status == 204
    for call in (http.get, http.delete):
        async with call(address) as response:
            assert response.status == 404
            assert (await response.json(content_type="application/problem+json"))["detail"]
    assert findscu(archive.dimse_port, "PatientID=REST1", "PatientName") == []


async def test_what_is_absent_is_made_up_and_what_cannot_be_is_named(http: aiohttp.ClientSession) -> None:
    bare = order(**dict.fromkeys(("0020000D", "00401001", "00080050"), None), step={"00400009": None})
    async with http.post("mwlitems", json=bare, headers=JSON) as response:
        assert response.status == 201
        made = await response.json(content_type="application/dicom+json")
    step = made["00400100"]["Value"][0]
    for element in (made["0020000D"], made["00401001"], made["00080050"], step["00400009"]):
        assert element["Value"][0]
    for missing, name in (
        (order(**{"00100020": None}), "PatientID"),
        (order(**{"00100010": {"vr": "PN"}}), "PatientName"),
        (order(step={"00400001": None}), "ScheduledProcedureStepSequence.ScheduledStationAETitle"),
        (order(step={"00400002": None}), "ScheduledProcedureStepSequence.ScheduledProcedureStepStartDate"),
        (
            order(step={"00400002": {"vr": "DA", "Value": ["20260230"]}}),
            "ScheduledProcedureStepSequence.ScheduledProcedureStepStartDate",
        ),
        (order(step={"00080060": None}), "ScheduledProcedureStepSequence.Modality"),
        (
            order(step={"00400009": {"vr": "SH", "Value": ["12345678901234567"]}}),
            "ScheduledProcedureStepSequence.ScheduledProcedureStepID",
        ),
        (order(step={"00400020": {"vr": "CS", "Value": ["LATER"]}}), "status"),
        ({"00100020": {"vr": "LO", "Value": ["X"]}}, "ScheduledProcedureStepSequence"),
    ):
        async with http.post("mwlitems", json=missing, headers=JSON) as response:
            problem = await response.json(content_type="application/problem+json")
            assert (response.status, problem["parameter"]) == (400, name)
            assert name.rpartition(".")[2] in problem["detail"] or name == "status"


@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        (b"{", "application/dicom+json", 400),
        (b"[]", "application/dicom+json", 400),
        (b'{"00100010": 7}', "application/dicom+json", 400),
        (b"x", "text/plain", 415),
        (b"<a/>", "application/dicom+xml", 400),
    ],
)
async def test_bodies_that_are_none(http: aiohttp.ClientSession, body: bytes, content_type: str, status: int) -> None:
    async with http.post("mwlitems", data=body, headers={"Content-Type": content_type}) as response:
        assert response.status == status
        assert (await response.json(content_type="application/problem+json"))["detail"]


async def test_an_item_keeps_the_name_that_its_address_says(http: aiohttp.ClientSession) -> None:
    async with http.post("mwlitems", json=order(), headers=JSON) as response:
        address = response.headers["Location"]
    async with http.put(address, json=order(), headers=JSON) as response:  # another study
        assert response.status == 400
        assert (await response.json(content_type="application/problem+json"))["parameter"] == "StudyInstanceUID"
    async with http.put(address, json=order(**{"0020000D": None}), headers=JSON) as response:
        assert response.status == 200
    async with http.put(
        address + "0", json=order(**{"0020000D": None}, step={"00400009": None}), headers=JSON
    ) as response:
        assert response.status == 404


async def test_states_and_what_is_done_is_offered_only_when_asked_for(
    archive: Server, http: aiohttp.ClientSession, findscu: Find
) -> None:
    mine = {"00100020": {"vr": "LO", "Value": ["STATES"]}}
    async with http.post("mwlitems", json=order(**mine), headers=JSON) as response:
        address = response.headers["Location"]
    for state in ("ARRIVED", "READY", "STARTED", "DEPARTED", "in progress"):
        async with http.post(f"{address}/status/{state}") as response:
            assert response.status == 200
            assert step_status(await response.json(content_type="application/dicom+json")) == state.upper()
        assert len(findscu(archive.dimse_port, "PatientID=STATES", STEP_ID)) == 1
    for state in ("COMPLETED", "DISCONTINUED", "CANCELED"):
        async with http.post(f"{address}/status/{state}") as response:
            assert response.status == 200
        assert findscu(archive.dimse_port, "PatientID=STATES", STEP_ID) == []
        status_key = "0040,0100[0].ScheduledProcedureStepStatus"
        (answer,) = findscu(archive.dimse_port, "PatientID=STATES", f"{status_key}={state}")
        assert answer.ScheduledProcedureStepSequence[0].ScheduledProcedureStepStatus == state
        query = {"PatientID": "STATES", "ScheduledProcedureStepSequence.ScheduledProcedureStepStatus": state}
        async with http.get("mwlitems", params=query) as response:
            assert len(await response.json(content_type="application/dicom+json")) == 1
        async with http.get("mwlitems/count", params={"PatientID": "STATES"}) as response:
            assert await response.json() == {"count": 0}
    # Put again without a status, it keeps the one that it has.
    async with http.put(address, json=order(**mine, **{"0020000D": None}), headers=JSON) as response:
        assert step_status(await response.json(content_type="application/dicom+json")) == "CANCELED"
    for wrong, status in ((f"{address}/status/LATER", 400), (f"{address}9/status/READY", 404)):
        async with http.post(wrong) as response:
            assert response.status == status


async def test_searching_over_rest(http: aiohttp.ClientSession) -> None:
    for hour in ("0900", "1000", "1100"):
        item = order(**{"00100020": {"vr": "LO", "Value": ["PAGES"]}}, step={"00400003": {"vr": "TM", "Value": [hour]}})
        async with http.post("mwlitems", json=item, headers=JSON) as response:
            assert response.status == 201
    query = {"PatientID": "PAGES", "00400100.00400002": "20260101-20260103", "limit": "2", "bogus": "1"}
    async with http.get("mwlitems", params=query) as response:
        page = await response.json(content_type="application/dicom+json")
        assert [item["00400100"]["Value"][0]["00400003"]["Value"] for item in page] == [["0900"], ["1000"]]
        assert "00401001" in page[0]
        assert "bogus" in "".join(response.headers.getall("Warning"))
        following = response.headers["Link"].partition(">")[0].lstrip("<")
    async with http.get(following) as response:
        page = await response.json(content_type="application/dicom+json")
        assert [item["00400100"]["Value"][0]["00400003"]["Value"] for item in page] == [["1100"]]
    async with http.get("mwlitems", params={"PatientID": "PAGES", "includefield": "PatientName"}) as response:
        page = await response.json(content_type="application/dicom+json")
        assert set(page[0]) == {"00100010", "00100020", "0020000D", "00400100"}
    async with http.get(
        "mwlitems", params={"PatientID": "PAGES"}, headers={"Accept": 'multipart/related; type="application/dicom+xml"'}
    ) as response:
        assert (await response.text()).count("<NativeDicomModel") == 3
    async with http.get("mwlitems", params={"PatientID": "NOBODY"}) as response:
        assert response.status == 204
    async with http.get("mwlitems", params={"00400100.00400002": "soon"}) as response:
        assert response.status == 400


async def test_items_of_files_are_read_over_rest_and_changed_in_their_files_only(
    archive: Server, folder: Path, http: aiohttp.ClientSession, findscu: Find
) -> None:
    path = write_file(folder / CLINIC / "rest.wl", study="1.2.99", step="FILE", name="SCHÜTZ", charset="ISO_IR 100")
    async with http.get("mwlitems/1.2.99/FILE") as response:
        item = await response.json(content_type="application/dicom+json")
    assert item["00080005"]["Value"] == ["ISO_IR 192"]
    assert item["00100010"]["Value"] == [{"Alphabetic": "SCHÜTZ"}]
    async with http.put("mwlitems/1.2.99/FILE", json=item, headers=JSON) as response:
        assert response.status == 403
    async with http.post("mwlitems", json=item, headers=JSON) as response:
        assert response.status == 403
        assert "file" in (await response.json(content_type="application/problem+json"))["detail"]
    async with http.delete("mwlitems/1.2.99/FILE") as response:
        assert response.status == 403
    async with http.post("mwlitems/1.2.99/FILE/status/COMPLETED") as response:
        assert response.status == 200
    assert findscu(archive.dimse_port, "StudyInstanceUID=1.2.99", STEP_ID) == []
    path.unlink()
    async with http.get("mwlitems/1.2.99/FILE") as response:
        assert response.status == 404
