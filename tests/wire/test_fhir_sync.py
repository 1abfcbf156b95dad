"""A real ``pacs serve`` that keeps a FHIR server in step, through restarts, a crash and a server that fails."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from pacs.dicom.uids import new_uid
from tests import builders
from tests.fhir_server import FhirServer
from tests.server import Server, dcmtk
from tests.wire.receivers import eventually


@pytest.fixture
def fhir() -> Iterator[FhirServer]:
    with FhirServer(login="oauth", race_s=0.05, search_lag_s=0.5) as running:
        yield running
        assert running.violations == []


def send(archive: Server, *files: Path) -> None:
    """One association."""
    sent = dcmtk("storescu", "-aec", archive.ae_title, "127.0.0.1", str(archive.dimse_port), *files)
    assert sent.returncode == 0, sent.stdout


def test_a_study_over_three_associations_with_a_restart_and_a_crash_in_between(
    tmp_path: Path, fhir: FhirServer
) -> None:
    study, series = new_uid(), [new_uid(), new_uid()]
    files = []
    for number in range(6):
        files.append(tmp_path / f"{number}.dcm")
        made = builders.ct(study, series[number % 2], rows=8, columns=8, InstanceNumber=number + 1)
        files[-1].write_bytes(made)
    settings = {
        "SYCN_TO_FHIR_SERVER": "true",
        "FHIRSERVER_BASE_URL": fhir.url,
        "FHIRSERVER_TIMEOUT_S": "1",
        "FHIRSERVER_TOKEN_URL": fhir.token_url,
        "FHIRSERVER_CLIENT_ID": "pacs",
        "FHIRSERVER_CLIENT_SECRET": "s3cret",
        "FHIR_DICOMWEB_URL": "https://pacs.example/dicom-web",
        "FHIR_REMOVE_PATIENTS": "true",
        "SERVER_WORKERS": "2",
    }

    def count() -> list[int]:
        return [each["numberOfInstances"] for each in fhir.all("ImagingStudy")]

    with Server(tmp_path / "archive", settings) as archive:
        send(archive, *files[:2])
        archive.restart()
        send(archive, *files[2:4])
        fhir.faults.append((500, {}))
        eventually(lambda: count() == [4], "four are there", 60)
        archive.kill()
        archive.start()
        send(archive, *files[4:])

        eventually(lambda: count() == [6], "all six are there", 60)
        made, patient, endpoint = fhir.one("ImagingStudy"), fhir.one("Patient"), fhir.one("Endpoint")
        assert sorted(each["uid"] for each in made["series"]) == sorted(series)
        assert [each["numberOfInstances"] for each in made["series"]] == [3, 3]
        assert made["subject"]["reference"] == f"Patient/{patient['id']}"
        assert made["endpoint"] == [{"reference": f"Endpoint/{endpoint['id']}"}]
        assert endpoint["address"] == "https://pacs.example/dicom-web"
        assert not fhir.faults

        # What the archive says itself is the same, but for whose ids they are.
        own = requests.get(f"{archive.dicomweb_url}/fhir/ImagingStudy/{study}", timeout=60).json()
        others = ("id", "meta", "subject", "endpoint")
        assert {name: made[name] for name in made if name not in others} == {
            name: own[name] for name in own if name not in others
        }

        assert requests.delete(f"{archive.dicomweb_url}/studies/{study}", timeout=60).status_code == 204
        eventually(lambda: not fhir.all("ImagingStudy") and not fhir.all("Patient"), "both go", 60)
        url = f"{archive.dicomweb_url}/jobs?kind=fhir"
        eventually(lambda: requests.get(url, timeout=60).json()["jobs"] == [], "no job is left")
        assert "s3cret" not in archive.log()


def test_what_was_stored_before_is_brought_there_when_asked(tmp_path: Path, fhir: FhirServer) -> None:
    files = []
    for number in range(3):
        files.append(tmp_path / f"{number}.dcm")
        files[-1].write_bytes(builders.ct(rows=8, columns=8))
    archive = Server(tmp_path / "archive")
    assert archive.pacs("import", *map(str, files)).returncode == 0
    assert archive.pacs("fhir", "--all").returncode == 2
    archive.env |= {"SYNC_TO_FHIR_SERVER": "true", "FHIRSERVER_BASE_URL": fhir.url}
    fhir.login = ""
    asked = archive.pacs("fhir", "--all")
    assert (asked.returncode, asked.stdout) == (0, "To be brought up to date: 3 studies.\n")
    with archive:
        eventually(lambda: len(fhir.all("ImagingStudy")) == 3, "all three are there", 60)
    assert "readers of the FHIR server are sent to http://127.0.0.1" in archive.log()
    assert len(fhir.all("Patient")) == len(fhir.all("Endpoint")) == 1
