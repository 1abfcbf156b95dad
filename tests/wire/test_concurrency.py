"""Many clients store into the same studies at once: every instance counts once, and a study stays one study."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from bench.corpus import Slice, Template, patient_id, series_uid, study_uid
from tests.server import Server, dcmtk
from tests.wire import clients

CLIENTS = 8  # of either kind
STUDIES = 4
EACH = 40  # instances a client
SIZE = 64


def interleaved(client: int) -> list[Slice]:
    """Every client goes through all studies in turn, so that all are open in all clients at once."""
    first = client * EACH + 1
    return [Slice(1 + n % STUDIES, n, n) for n in range(first, first + EACH)]


def storescu(server: Server, template: Template, folder: Path, slices: list[Slice]) -> list[str]:
    folder.mkdir()
    for slice_ in slices:
        template.write(folder / f"{slice_.number:05d}.dcm", slice_)
    run = dcmtk("storescu", "-v", "-nh", "+sd", "-aec", server.ae_title, "127.0.0.1", str(server.dimse_port), folder)
    answers = [line for line in run.stdout.splitlines() if "Received Store Response" in line]
    good = answers == ["I: Received Store Response (Success)"] * len(slices)
    return [] if good else [run.stdout[-1000:]]


def stow(server: Server, template: Template, slices: list[Slice]) -> list[str]:
    problems = []
    for begin in range(0, len(slices), 5):
        some = slices[begin : begin + 5]
        response = clients.stow(server, [template.stamp(slice_) for slice_ in some])
        if response.status_code != 200 or clients.stored_uids(response.json()) != {s.sop_uid for s in some}:
            problems.append(f"{response.status_code} {response.text[:500]}")
    return problems


def check_exact(server: Server, slices: list[Slice]) -> None:
    expected = Counter(slice_.study_uid for slice_ in slices)
    wanted = {"includefield": ["NumberOfStudyRelatedInstances", "NumberOfStudyRelatedSeries", "ModalitiesInStudy"]}
    studies = clients.qido(server, "/studies", wanted)
    assert sorted(clients.value(row, "0020000D") for row in studies) == sorted(expected)
    for row in studies:
        uid = clients.value(row, "0020000D")
        assert clients.value(row, "00201208") == expected[uid]
        assert clients.value(row, "00201206") == 1
        assert row["00080061"]["Value"] == ["CT"]
    series = clients.qido(server, "/series", {"includefield": "NumberOfSeriesRelatedInstances"})
    assert {clients.value(row, "0020000E"): clients.value(row, "00201209") for row in series} == {
        slice_.series_uid: expected[slice_.study_uid] for slice_ in slices
    }
    instances = [clients.value(row, "00080018") for row in clients.qido(server, "/instances")]
    assert sorted(instances) == sorted(slice_.sop_uid for slice_ in slices)
    assert len(server.files()) == len(slices)


@pytest.mark.slow
def test_eight_associations_and_eight_stow_clients_fill_the_same_studies(fresh_archive: Server, tmp_path: Path) -> None:
    template = Template(SIZE)
    work = [interleaved(client) for client in range(2 * CLIENTS)]
    with ThreadPoolExecutor(2 * CLIENTS) as pool:
        running = [
            pool.submit(storescu, fresh_archive, template, tmp_path / f"sender{client}", work[client])
            for client in range(CLIENTS)
        ]
        running += [pool.submit(stow, fresh_archive, template, work[client]) for client in range(CLIENTS, 2 * CLIENTS)]
        problems = [problem for future in running for problem in future.result()]
    assert not problems, problems[:3]
    check_exact(fresh_archive, [slice_ for slices in work for slice_ in slices])
    keys = ("StudyInstanceUID", "NumberOfStudyRelatedInstances", "NumberOfPatientRelatedInstances")
    for row in clients.find(fresh_archive, "-P", "STUDY", tmp_path / "find", "PatientID", *keys):
        assert int(row.NumberOfStudyRelatedInstances) == 2 * CLIENTS * EACH // STUDIES
    patients = clients.find(
        fresh_archive, "-P", "PATIENT", tmp_path / "find", "PatientID", "NumberOfPatientRelatedStudies"
    )
    assert sorted(str(row.PatientID) for row in patients) == [patient_id(study) for study in range(1, STUDIES + 1)]
    assert {int(row.NumberOfPatientRelatedStudies) for row in patients} == {1}


def test_the_same_instance_from_eight_clients_at_once_is_stored_once(fresh_archive: Server, tmp_path: Path) -> None:
    template = Template(SIZE)
    slices = [Slice(7, number, number) for number in range(1, 21)]
    with ThreadPoolExecutor(2 * CLIENTS) as pool:
        running = [
            pool.submit(storescu, fresh_archive, template, tmp_path / f"sender{client}", slices)
            for client in range(CLIENTS)
        ]
        running += [pool.submit(stow, fresh_archive, template, slices) for _ in range(CLIENTS)]
        problems = [problem for future in running for problem in future.result()]
    assert not problems, problems[:3]
    check_exact(fresh_archive, slices)


def test_different_bytes_under_one_uid_from_eight_clients_at_once_leave_one_of_them(fresh_archive: Server) -> None:
    slice_ = Slice(8, 1, 1)
    versions = [Template(SIZE, patient_name=f"Version^{client}").stamp(slice_) for client in range(CLIENTS)]
    with ThreadPoolExecutor(CLIENTS) as pool:
        answers = list(pool.map(lambda part: clients.stow(fresh_archive, [part]), versions))
    assert sorted(answer.status_code for answer in answers) == [200] + [409] * (CLIENTS - 1)
    assert {reason for answer in answers for reason in clients.failures(answer.json())} == {0x0111}
    (kept,) = clients.retrieve_files(fresh_archive, f"/studies/{study_uid(8)}/series/{series_uid(8)}")
    winner = next(part for part, answer in zip(versions, answers, strict=True) if answer.status_code == 200)
    assert clients.data_set_of(kept) == clients.data_set_of(winner)
    assert len(fresh_archive.files()) == 1
