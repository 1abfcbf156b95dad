"""Orthanc as the one who asks over DIMSE: it stores here, searches here, has a study sent back, reads the worklist."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests

from tests import builders
from tests.clients.needs import needs
from tests.clients.orthanc import Orthanc
from tests.server import Server
from tests.wire.clients import data_set_of

pytestmark = needs("orthanc")

JSON = {"Content-Type": "application/dicom+json"}
STUDY = "1.2.826.0.1.3680043.10.1462.90"
ITEM = {
    "00080050": {"vr": "SH", "Value": ["ACC90"]},
    "00100010": {"vr": "PN", "Value": [{"Alphabetic": "Planned^Patient"}]},
    "00100020": {"vr": "LO", "Value": ["P90"]},
    "0020000D": {"vr": "UI", "Value": [f"{STUDY}.9"]},
    "00400100": {
        "vr": "SQ",
        "Value": [
            {
                "00080060": {"vr": "CS", "Value": ["CT"]},
                "00400001": {"vr": "AE", "Value": ["CT1"]},
                "00400002": {"vr": "DA", "Value": ["20261201"]},
                "00400003": {"vr": "TM", "Value": ["0900"]},
                "00400006": {"vr": "PN", "Value": [{"Alphabetic": "Operator"}]},
                "00400007": {"vr": "LO", "Value": ["Thorax"]},
                "00400009": {"vr": "SH", "Value": ["STEP90"]},
            }
        ],
    },
}


@dataclass(frozen=True)
class Two:
    server: Server
    orthanc: Orthanc
    files: dict[str, bytes]

    def ask(self, path: str, body: object) -> Any:
        answer = requests.post(f"{self.orthanc.url}{path}", json=body, timeout=60)
        assert answer.status_code == 200, f"{answer.status_code} {answer.text}\n{self.orthanc.log()}"
        return answer.json()


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Two]:
    folder: Path = tmp_path_factory.mktemp("orthanc-asks")
    files = {f"{STUDY}.1.{n}": builders.ct(STUDY, f"{STUDY}.1", f"{STUDY}.1.{n}", PatientID="P90") for n in range(4)}
    with (
        Server(folder / "archive") as server,
        Orthanc(folder / "orthanc", server.dicomweb_url, {server.ae_title: server.dimse_port}) as orthanc,
    ):
        server.add_peer("ORTHANC", orthanc.dimse_port)
        yield Two(server, orthanc, files)


def test_it_stores_here_finds_it_and_has_it_sent_back(two: Two) -> None:
    names = [two.orthanc.upload(data) for data in two.files.values()]
    modality = f"/modalities/{two.server.ae_title}"
    two.ask(f"{modality}/store", {"Resources": names, "Synchronous": True})
    stored = {data_set_of(path.read_bytes()) for path in two.server.files()}
    assert stored == {data_set_of(data) for data in two.files.values()}
    study = requests.get(f"{two.orthanc.url}/studies", timeout=60).json()[0]
    assert requests.delete(f"{two.orthanc.url}/studies/{study}", timeout=60).status_code == 200
    assert two.orthanc.instances() == []

    query = two.ask(f"{modality}/query", {"Level": "Study", "Query": {"PatientID": "P90", "StudyInstanceUID": ""}})
    answers = requests.get(f"{two.orthanc.url}{query['Path']}/answers", timeout=60).json()
    assert answers == ["0"]
    two.ask(f"{query['Path']}/retrieve", {"TargetAet": "ORTHANC", "Synchronous": True})
    fetched = {data_set_of(two.orthanc.file(name)) for name in two.orthanc.instances()}
    assert fetched == stored


def test_it_reads_the_worklist(two: Two) -> None:
    made = requests.post(f"{two.server.dicomweb_url}/mwlitems", json=ITEM, headers=JSON, timeout=60)
    assert made.status_code in (200, 201), made.text
    query = {
        "PatientID": "",
        "PatientName": "planned*",
        "ScheduledProcedureStepSequence": [{"Modality": "CT", "ScheduledProcedureStepStartDate": "20261201"}],
    }
    (found,) = two.ask(f"/modalities/{two.server.ae_title}/find-worklist", query)
    assert found["PatientID"] == "P90"
    assert found["ScheduledProcedureStepSequence"][0]["Modality"] == "CT"
    query["ScheduledProcedureStepSequence"] = [{"Modality": "MR"}]
    assert two.ask(f"/modalities/{two.server.ae_title}/find-worklist", query) == []
