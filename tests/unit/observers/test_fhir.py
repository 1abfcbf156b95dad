"""Keeping a FHIR server in step: the runner of jobs, a real index, and a FHIR server that checks what it is sent."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import requests

from pacs.dicom.model import Caller, Target
from pacs.dicom.uids import new_uid
from pacs.index.work import JobState, NewJob
from pacs.observers import fhir_places
from pacs.observers.fhir import FhirSync
from pacs.observers.fhir_client import FhirClient
from pacs.observers.fhir_login import ClientCredentials, FixedLogin, Login, basic
from pacs.observers.http import Http
from pacs.services import jobs as runner_module
from pacs.services.following import FHIR
from pacs.services.jobs import JobRunner, Unavailable
from tests import builders
from tests.fhir_server import FhirServer
from tests.unit.web.running import RunningArchive
from tests.wire.clients import stow

ADDRESS = "https://pacs.example/dicom-web"


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner_module, "_FIRST_PAUSE_S", 0.05)
    monkeypatch.setattr(runner_module, "_LONGEST_PAUSE_S", 0.5)
    monkeypatch.setattr(runner_module, "_POLL_S", 0.2)
    monkeypatch.setattr(fhir_places, "_LATE_S", 1.5)


@pytest.fixture
def server() -> Iterator[FhirServer]:
    with FhirServer() as running:
        yield running
        assert running.violations == []


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningArchive]:
    def follow(record: Any) -> Sequence[NewJob]:
        return [NewJob(FHIR, record.header.target.study_uid)]

    folder = tmp_path_factory.mktemp("fhir")
    with RunningArchive(folder, store={"follow": follow, "replace": True}) as running:
        yield running


@pytest.fixture(autouse=True)
def no_jobs(archive: RunningArchive) -> Iterator[None]:
    yield
    archive.index.work.discard_jobs([job.job_id for job in archive.index.work.jobs()])


class Syncing:
    """A runner that keeps a server in step; a context manager."""

    def __init__(self, archive: RunningArchive, server: FhirServer, *, login: Login | None = None, **options: Any):
        client = FhirClient(server.url, login or FixedLogin(), Http(timeout_s=0.5), timeout_s=0.5)
        self.sync = FhirSync(archive.index.work, archive.fhir, client, endpoint_address=ADDRESS, **options)
        self.runner = JobRunner(archive.index.work, [self.sync.handler])
        self._work = archive.index.work

    def __enter__(self) -> Syncing:
        self.runner.start()
        return self

    def __exit__(self, *unused: object) -> None:
        self.runner.stop(5)

    def settle(self) -> None:
        """Wait until nothing is left to do but what was given up."""
        eventually(lambda: all(job.state is JobState.DEAD for job in self._work.jobs()), self._work.jobs)


def eventually(is_so: Callable[[], bool], what: Callable[[], object] = lambda: "", within_s: float = 60) -> None:
    deadline = time.monotonic() + within_s
    while not is_so():
        assert time.monotonic() < deadline, f"it did not happen in time {what()}"
        time.sleep(0.02)


def store(archive: RunningArchive, *files: bytes) -> None:
    assert stow(archive, files).status_code == 200  # type: ignore[arg-type]


def delete(archive: RunningArchive, target: Target) -> None:
    archive.delete.delete(target, Caller("test", "", "cli"))
    archive.index.work.add_jobs([NewJob(FHIR, target.study_uid)])


def slices(study: str, count: int, **attributes: Any) -> list[bytes]:
    series = new_uid()
    return [
        builders.ct(study, series, rows=8, columns=8, InstanceNumber=number + 1, **attributes)
        for number in range(count)
    ]


def person() -> str:
    return f"P{new_uid()[-12:]}"


def test_a_study_arrives_as_one_patient_one_endpoint_and_one_study(archive: RunningArchive, server: FhirServer) -> None:
    study, patient_id = new_uid(), person()
    store(archive, *slices(study, 3, PatientID=patient_id), *slices(study, 2, PatientID=patient_id, Modality="MR"))
    with Syncing(archive, server) as syncing:
        syncing.settle()
        patient, endpoint, made = server.one("Patient"), server.one("Endpoint"), server.one("ImagingStudy")
        assert patient["identifier"][0]["value"] == patient_id
        assert endpoint["address"] == ADDRESS
        assert made["identifier"][0] == {"use": "official", "system": "urn:dicom:uid", "value": f"urn:oid:{study}"}
        assert made["subject"] == {"reference": f"Patient/{patient['id']}"}
        assert made["endpoint"] == [{"reference": f"Endpoint/{endpoint['id']}"}]
        assert (made["numberOfSeries"], made["numberOfInstances"]) == (2, 5)
        assert sorted(len(series["instance"]) for series in made["series"]) == [2, 3]

        store(archive, *slices(study, 1, PatientID=patient_id, PatientName="Doe^Janet"))
        syncing.settle()
        assert server.one("ImagingStudy")["numberOfInstances"] == 6
        assert server.one("Patient")["name"][0]["given"] == ["Janet"]

        writes = server.count("PUT"), server.count("POST")
        archive.index.work.add_jobs([NewJob(FHIR, study)])
        syncing.settle()
        assert (server.count("PUT"), server.count("POST")) == writes, "nothing has changed"


def test_two_handlers_at_once_make_no_duplicates(archive: RunningArchive) -> None:
    """On a server that looks first, creates later, and whose search knows of what is new later still."""
    patient_id = person()
    studies = [new_uid() for _ in range(4)]
    for study in studies:
        store(archive, *slices(study, 2, PatientID=patient_id))
    with FhirServer(race_s=0.1, search_lag_s=1.0) as server:
        syncs = [Syncing(archive, server).sync for _ in range(2)]
        barrier = threading.Barrier(8)

        def bring(sync: FhirSync, study: str) -> None:
            barrier.wait()
            for job in archive.index.work.jobs():
                if job.key == study:
                    with suppress(Unavailable):
                        list(sync.run([job]))

        threads = [threading.Thread(target=bring, args=(sync, study)) for sync in syncs for study in studies]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        with Syncing(archive, server) as first, Syncing(archive, server):
            first.settle()
        assert len(server.all("Patient")) == len(server.all("Endpoint")) == 1
        assert {study["numberOfInstances"] for study in server.all("ImagingStudy")} == {2}
        assert len(server.all("ImagingStudy")) == 4
        assert server.violations == []


def test_a_create_that_got_no_answer_is_not_repeated_before_a_search_would_find_it(archive: RunningArchive) -> None:
    store(archive, *slices(new_uid(), 1))
    with FhirServer(race_s=0.7, search_lag_s=1.0) as server, Syncing(archive, server) as syncing:
        eventually(lambda: bool(server.all("Endpoint")))  # made after its client went
        server.race_s = 0.0
        syncing.settle()
        assert [len(server.all(kind)) for kind in ("Endpoint", "Patient", "ImagingStudy")] == [1, 1, 1]


def test_an_older_view_of_the_archive_never_wins(archive: RunningArchive, server: FhirServer) -> None:
    study = new_uid()
    store(archive, *slices(study, 1))
    sync = Syncing(archive, server).sync
    sync.bring(study)
    read = archive.fhir.content

    def slowly(study_uid: str, caller: Caller) -> Any:
        """While this one reads, two more arrive and another node brings them there."""
        content = read(study_uid, caller)
        archive.fhir.content = read  # type: ignore[method-assign]
        store(archive, *slices(study, 2))
        Syncing(archive, server).sync.bring(study)
        return content

    archive.fhir.content = slowly  # type: ignore[method-assign]
    sync.bring(study)
    assert server.one("ImagingStudy")["numberOfInstances"] == 3


def test_failures_are_tried_again_until_the_server_recovers(archive: RunningArchive, server: FhirServer) -> None:
    study = new_uid()
    store(archive, *slices(study, 2))
    server.faults += [(500, {}), 1.0, (503, {}), (429, {}), (408, {}), (412, {}), (409, {}), (401, {}), (500, {}), 1.0]
    with Syncing(archive, server) as syncing:
        syncing.settle()
    assert not server.faults
    assert archive.index.work.jobs() == []
    assert len(server.all("Patient")) == len(server.all("Endpoint")) == 1
    assert server.one("ImagingStudy")["numberOfInstances"] == 2


def test_a_server_that_is_down_makes_nobody_give_up(archive: RunningArchive) -> None:
    study = new_uid()
    store(archive, *slices(study, 2))
    server = FhirServer()
    with Syncing(archive, server) as syncing:  # nobody listens on port 0
        eventually(lambda: any(job.attempts > 1 for job in archive.index.work.jobs()))
        with server:
            syncing.sync._client.base_url = server.url
            syncing.settle()
            assert server.one("ImagingStudy")["numberOfInstances"] == 2
            assert server.violations == []


def test_a_server_is_asked_no_sooner_than_it_wants(archive: RunningArchive, server: FhirServer) -> None:
    store(archive, *slices(new_uid(), 1), *slices(new_uid(), 1))
    server.faults.append((429, {"Retry-After": "300"}))
    work = archive.index.work
    with Syncing(archive, server):
        eventually(lambda: all(job.state is JobState.WAITING and job.attempts for job in work.jobs()))
    due = work.next_due([FHIR])[FHIR]
    assert due > datetime.now(UTC) + timedelta(seconds=250)
    assert len(server.requests) == 1


def test_what_the_server_will_never_take_is_given_up_with_its_reason(
    archive: RunningArchive, server: FhirServer
) -> None:
    store(archive, *slices(new_uid(), 1))
    server.faults.append((422, {}))
    with Syncing(archive, server) as syncing:
        syncing.settle()
    (job,) = archive.index.work.jobs()
    assert job.state is JobState.DEAD
    assert "422 as told" in job.error


def test_a_deleted_study_goes_and_its_patient_stays(archive: RunningArchive, server: FhirServer) -> None:
    study = new_uid()
    store(archive, *slices(study, 2))
    with Syncing(archive, server) as syncing:
        syncing.settle()
        delete(archive, Target(study))
        syncing.settle()
        assert server.all("ImagingStudy") == []
        assert len(server.all("Patient")) == 1

        store(archive, *slices(study, 1))
        syncing.settle()
        assert server.one("ImagingStudy")["numberOfInstances"] == 1


def test_a_deleted_series_is_taken_out_of_the_study(archive: RunningArchive, server: FhirServer) -> None:
    study, series = new_uid(), new_uid()
    store(archive, *slices(study, 2), builders.ct(study, series, rows=8, columns=8))
    with Syncing(archive, server) as syncing:
        syncing.settle()
        delete(archive, Target(study, series))
        syncing.settle()
    made = server.one("ImagingStudy")
    assert (made["numberOfSeries"], made["numberOfInstances"], len(made["series"])) == (1, 2, 1)


def test_a_deleted_study_can_be_kept_with_a_status(archive: RunningArchive, server: FhirServer) -> None:
    study = new_uid()
    store(archive, *slices(study, 2))
    with Syncing(archive, server, when_deleted="entered-in-error") as syncing:
        syncing.settle()
        delete(archive, Target(study))
        syncing.settle()
    made = server.one("ImagingStudy")
    assert (made["status"], made["numberOfInstances"]) == ("entered-in-error", 0)
    assert not {"series", "endpoint"} & made.keys()


def test_a_patient_goes_with_the_last_study_when_asked(archive: RunningArchive, server: FhirServer) -> None:
    first, second, patient_id = new_uid(), new_uid(), person()
    store(archive, *slices(first, 1, PatientID=patient_id), *slices(second, 1, PatientID=patient_id))
    with Syncing(archive, server, removes_patients=True) as syncing:
        syncing.settle()
        delete(archive, Target(first))
        syncing.settle()
        assert len(server.all("Patient")) == 1
        delete(archive, Target(second))
        syncing.settle()
    assert server.all("Patient") == []


def test_what_others_made_and_wrote_is_kept(archive: RunningArchive, server: FhirServer) -> None:
    study, patient_id = new_uid(), person()
    store(archive, *slices(study, 2, PatientID=patient_id))
    identifier = {"system": archive.fhir.namespaces.patient_system(""), "value": patient_id}
    theirs = {"resourceType": "Patient", "identifier": [identifier], "telecom": [{"system": "phone", "value": "1"}]}
    patient = server.put(theirs)
    order = server.put({"resourceType": "Basic", "code": {"text": "an order"}})
    server.put(
        {
            "resourceType": "ImagingStudy",
            "identifier": [
                {"system": "urn:dicom:uid", "value": f"urn:oid:{study}"},
                {"system": "http://ris", "value": "7"},
            ],
            "status": "registered",
            "subject": {"reference": f"Patient/{patient}"},
            "basedOn": [{"reference": f"Basic/{order}"}],
        }
    )
    with Syncing(archive, server, removes_patients=True) as syncing:
        syncing.settle()
        made = server.one("ImagingStudy")
        assert (made["status"], made["numberOfInstances"]) == ("available", 2)
        assert made["basedOn"] == [{"reference": f"Basic/{order}"}]
        assert {"system": "http://ris", "value": "7"} in made["identifier"]
        delete(archive, Target(study))
        syncing.settle()
    assert server.one("ImagingStudy")["status"] == "cancelled"
    assert {**server.one("Patient"), "id": "", "meta": ""} == {**theirs, "id": "", "meta": ""}


def test_several_patients_with_one_identifier_are_for_people_to_solve(
    archive: RunningArchive, server: FhirServer
) -> None:
    study, patient_id = new_uid(), person()
    identifier = {"system": archive.fhir.namespaces.patient_system(""), "value": patient_id}
    ids = [server.put({"resourceType": "Patient", "identifier": [identifier]}) for _ in range(2)]
    store(archive, *slices(study, 1, PatientID=patient_id))
    with Syncing(archive, server) as syncing:
        syncing.settle()
        (job,) = archive.index.work.jobs()
        assert f"Patient/{ids[0]}, Patient/{ids[1]}" in job.error
        server.drop("Patient", ids[0])
        archive.index.work.retry_jobs([job.job_id], datetime.now(UTC))
        syncing.settle()
    assert server.one("ImagingStudy")["subject"] == {"reference": f"Patient/{ids[1]}"}


def test_a_server_that_lost_everything_and_gave_the_ids_to_others_is_filled_again(archive: RunningArchive) -> None:
    study = new_uid()
    store(archive, *slices(study, 2))
    with FhirServer() as first, Syncing(archive, first) as syncing:
        syncing.settle()
        old = first.one("Patient")["id"]
        port = first.port
    emptied = FhirServer()
    emptied.port = port
    with emptied, Syncing(archive, emptied) as syncing:
        stranger = {"resourceType": "Patient", "identifier": [{"system": "urn:x", "value": "Z"}]}
        while emptied.put(stranger) != old:
            pass
        strangers = len(emptied.all("Patient"))
        archive.index.work.add_jobs([NewJob(FHIR, study)])
        syncing.settle()
        patients = emptied.all("Patient")
        assert len(patients) == strangers + 1
        subject = emptied.one("ImagingStudy")["subject"]["reference"]
        assert subject == f"Patient/{patients[-1]['id']}" != f"Patient/{old}"


def test_a_study_that_gets_another_patient_refers_to_that_one(archive: RunningArchive, server: FhirServer) -> None:
    study, series, sop = new_uid(), new_uid(), new_uid()
    first, second = person(), person()
    store(archive, builders.ct(study, series, sop, rows=8, columns=8, PatientID=first))
    with Syncing(archive, server, removes_patients=True) as syncing:
        syncing.settle()
        store(archive, builders.ct(study, series, sop, rows=8, columns=8, PatientID=second))
        syncing.settle()
    assert server.one("Patient")["identifier"][0]["value"] == second
    assert server.one("ImagingStudy")["subject"]["reference"] == f"Patient/{server.one('Patient')['id']}"


def test_a_study_without_a_patient_id_makes_no_patient(archive: RunningArchive, server: FhirServer) -> None:
    store(archive, *slices(new_uid(), 1, PatientID=None))
    with Syncing(archive, server) as syncing:
        syncing.settle()
    assert server.all("Patient") == []
    assert server.one("ImagingStudy")["subject"] == {"reference": "#patient"}


def test_an_oauth_token_is_fetched_once_and_again_when_it_ends_or_is_refused(archive: RunningArchive) -> None:
    store(archive, *slices(new_uid(), 1))
    with FhirServer(login="oauth") as server:
        login = ClientCredentials(server.token_url, "pacs", "s3cret", scope="system/*.*")
        with Syncing(archive, server, login=login) as syncing:
            syncing.settle()
            assert len(server.tokens) == 1
            server.revoked.add(server.tokens[0])
            store(archive, *slices(new_uid(), 1))
            syncing.settle()
            assert len(server.tokens) == 2
            server.token_lasts_s = 0
            server.revoked.add(server.tokens[1])
            store(archive, *slices(new_uid(), 1))
            syncing.settle()
            assert len(server.tokens) > 3, "one that has ended is not used"
        assert len(server.all("ImagingStudy")) == 3
        assert server.violations == []


def test_a_wrong_secret_puts_jobs_off_and_gives_none_up(archive: RunningArchive) -> None:
    store(archive, *slices(new_uid(), 1))
    with FhirServer(login="oauth") as server:
        login = ClientCredentials(server.token_url, "pacs", "wrong")
        with Syncing(archive, server, login=login):
            eventually(lambda: any("401 invalid_client" in job.error for job in archive.index.work.jobs()))
        assert server.requests == []


def test_name_and_password_are_sent(archive: RunningArchive) -> None:
    store(archive, *slices(new_uid(), 1))
    with (
        FhirServer(login=basic("pacs", "pässword")) as server,
        Syncing(archive, server, login=FixedLogin(basic("pacs", "pässword"))) as syncing,
    ):
        syncing.settle()
        assert len(server.all("ImagingStudy")) == 1


def test_of_a_huge_study_some_instances_are_listed_and_all_are_counted(
    archive: RunningArchive, server: FhirServer
) -> None:
    study = new_uid()
    store(archive, *slices(study, 7))
    archive.fhir._max_instances = 3
    try:
        with Syncing(archive, server) as syncing:
            syncing.settle()
    finally:
        archive.fhir._max_instances = 2000
    made = server.one("ImagingStudy")
    assert (made["numberOfInstances"], made["series"][0]["numberOfInstances"]) == (7, 7)
    assert [each["number"] for each in made["series"][0]["instance"]] == [1, 2, 3]


def test_a_page_of_html_is_no_fhir_server(archive: RunningArchive) -> None:
    """As when FHIRSERVER_BASE_URL names a viewer."""
    store(archive, *slices(new_uid(), 1))
    assert requests.get(f"{archive.dicomweb_url}/docs", timeout=60).status_code == 200
    client = FhirClient(f"{archive.dicomweb_url}/docs", FixedLogin(), Http(timeout_s=2), timeout_s=2)
    sync = FhirSync(archive.index.work, archive.fhir, client, endpoint_address=ADDRESS)
    (ended,) = sync.run(archive.index.work.jobs())
    assert ended.error
