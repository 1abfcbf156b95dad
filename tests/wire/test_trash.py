"""Taking back what was deleted, over real HTTP and by command, on both engines."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import requests

from pacs.archive import Archive
from pacs.dicom.model import Caller, Role, Scope, Target
from pacs.dicom.uids import new_uid
from pacs.errors import NotFound
from pacs.services.labels import Labels
from pacs.settings import load
from tests import builders
from tests.conftest import StartArchive
from tests.server import Server
from tests.wire.clients import qido, retrieve_files, stow

TIMEOUT_S = 60
_VALUES = {"PatientName": "Doe^Jane", "StudyDescription": "Thorax", "StudyDate": "20260131"}


class Study:
    """Two series, CT with two instances and MR with one, stored."""

    def __init__(self, server: Server) -> None:
        self.uid, self.ct, self.mr = new_uid(), new_uid(), new_uid()
        self.sops = [new_uid() for _ in range(3)]
        pairs = zip((self.ct, self.ct, self.mr), self.sops, ("CT", "CT", "MR"), strict=True)
        self.patient_id = self.uid[-12:]
        self.files = [
            builders.ct(
                self.uid, series, sop, rows=8, columns=8, Modality=modality, PatientID=self.patient_id, **_VALUES
            )
            for series, sop, modality in pairs
        ]
        assert stow(server, self.files).status_code == 200
        self.path = f"/studies/{self.uid}"


def delete(server: Server, path: str) -> None:
    assert requests.delete(server.dicomweb_url + path, timeout=TIMEOUT_S).status_code == 204


def undelete(server: Server, path: str, status: int = 200, **query: str) -> dict[str, Any]:
    response = requests.post(f"{server.dicomweb_url}{path}/undelete", params=query, timeout=TIMEOUT_S)
    assert response.status_code == status, response.text
    answer: dict[str, Any] = response.json()
    return answer


def trash(server: Server, study: Study) -> list[dict[str, Any]]:
    """All deletions of a study, page by page."""
    found: list[dict[str, Any]] = []
    after = ""
    while True:
        response = requests.get(f"{server.dicomweb_url}/trash", {"after": after, "limit": 2}, timeout=TIMEOUT_S)
        assert response.status_code == 200, response.text
        page = response.json()
        found += [each for each in page["deleted"] if each["study"] == study.uid]
        if page["next"] is None:
            return found
        after = page["next"]


def pacs(server: Server, *command: str, code: int = 0) -> dict[str, Any]:
    done = server.pacs(*command, "--json")
    assert done.returncode == code, done.stdout + done.stderr
    answer: dict[str, Any] = json.loads(done.stdout) if done.stdout else {}
    return answer


def row(server: Server, study: Study) -> list[dict[str, Any]]:
    return qido(server, "/studies", {"StudyInstanceUID": study.uid, "includefield": "all"})


def test_a_deleted_study_is_listed_and_comes_back_byte_for_byte(archive: Server) -> None:
    study = Study(archive)
    stored = sorted(retrieve_files(archive, study.path))
    before = row(archive, study)
    delete(archive, study.path)
    (listed,) = trash(archive, study)
    assert datetime.now(UTC) - datetime.fromisoformat(listed.pop("at")) < timedelta(minutes=5)
    assert listed.pop("bytes") > 500
    assert listed == {
        "study": study.uid,
        "series": None,
        "sop": None,
        "instances": 3,
        "patientName": "Doe^Jane",
        "patientId": study.patient_id,
        "studyDate": "20260131",
        "studyDescription": "Thorax",
        "modalities": ["CT", "MR"],
    }
    assert undelete(archive, study.path) == {"restored": 3, "already": 0, "conflicts": []}
    assert sorted(retrieve_files(archive, study.path)) == stored
    assert row(archive, study) == before
    assert trash(archive, study) == []
    assert undelete(archive, study.path, 404)["status"] == 404


def test_a_series_and_an_instance_come_back_by_themselves(archive: Server) -> None:
    study = Study(archive)
    first = f"{study.path}/series/{study.ct}/instances/{study.sops[0]}"
    delete(archive, first)
    delete(archive, f"{study.path}/series/{study.mr}")
    series, instance = trash(archive, study)  # the latest first
    assert (series["series"], series["sop"], series["modalities"], series["instances"]) == (study.mr, None, ["MR"], 1)
    assert (instance["series"], instance["sop"]) == (study.ct, study.sops[0])
    assert undelete(archive, first)["restored"] == 1
    assert undelete(archive, first, 404)
    assert undelete(archive, f"{study.path}/series/{study.mr}")["restored"] == 1
    assert len(retrieve_files(archive, study.path)) == 3


def test_one_deletion_of_several_can_be_undone(archive: Server) -> None:
    study = Study(archive)
    delete(archive, f"{study.path}/series/{study.mr}")
    delete(archive, study.path)
    latest, earlier = trash(archive, study)
    assert undelete(archive, study.path, at=latest["at"])["restored"] == 2
    assert trash(archive, study) == [earlier]
    assert undelete(archive, study.path, 400, at="yesterday")["parameter"] == "at"


def test_what_was_stored_again_with_other_bytes_stays_and_nothing_is_lost(archive: Server) -> None:
    study = Study(archive)
    delete(archive, study.path)
    other = builders.ct(study.uid, study.ct, study.sops[0], rows=9, columns=9, PatientID=study.patient_id)
    assert stow(archive, [other, study.files[1]]).status_code == 200
    answer = undelete(archive, study.path)
    assert (answer["restored"], answer["already"]) == (1, 1)
    (conflict,) = answer["conflicts"]
    assert (conflict["sop"], conflict["reason"]) == (study.sops[0], "it has been stored again with other content")
    assert other in retrieve_files(archive, study.path)
    (left,) = trash(archive, study)
    assert left["instances"] == 2
    # Once the other one is out of the way, the first comes back: that of the named deletion.
    delete(archive, study.path)
    assert undelete(archive, study.path, at=left["at"])["restored"] == 2
    assert study.files[0] in retrieve_files(archive, study.path)


def test_a_cursor_or_a_limit_that_is_none_is_refused(archive: Server) -> None:
    for query in ({"after": "x"}, {"limit": "0"}, {"limit": "501"}):
        response = requests.get(f"{archive.dicomweb_url}/trash", query, timeout=TIMEOUT_S)
        assert response.status_code == 400, query


def test_restoring_is_in_the_change_feed(archive: Server) -> None:
    study = Study(archive)
    delete(archive, study.path)
    answer = undelete(archive, study.path)
    changes = requests.get(f"{archive.dicomweb_url}/changes", {"limit": 5000}, timeout=TIMEOUT_S).json()["changes"]
    kinds = [each["kind"] for each in changes if each["study"] == study.uid]
    assert answer["restored"] == 3
    assert kinds == [*["stored"] * 3, *["deleted"] * 3, *["stored"] * 3]


def test_commands_list_and_restore_and_purge_makes_it_final(start_archive: StartArchive) -> None:
    server = start_archive()
    study = Study(server)
    delete(server, study.path)
    listed = pacs(server, "trash")
    assert [each["study"] for each in listed["deleted"]] == [study.uid]
    assert study.uid in server.pacs("trash").stdout
    assert pacs(server, "undelete", study.uid)["restored"] == 3
    assert pacs(server, "purge")["deleted"] == 0
    assert len(retrieve_files(server, study.path)) == 3
    delete(server, study.path)
    assert pacs(server, "purge")["deleted"] == 3
    assert pacs(server, "trash")["deleted"] == []
    pacs(server, "undelete", study.uid, code=1)
    undelete(server, study.path, 404)


def test_reindex_and_verify_know_what_was_restored(start_archive: StartArchive) -> None:
    server = start_archive()
    study, other = Study(server), Study(server)
    delete(server, study.path)
    delete(server, other.path)
    undelete(server, study.path)
    assert pacs(server, "verify")["problems"] == []
    server.stop()
    rebuilt = pacs(server, "reindex")
    assert (rebuilt["instances"], rebuilt["deleted"], rebuilt["problems"]) == (3, 3, [])
    server.start()
    assert sorted(retrieve_files(server, study.path)) == sorted(study.files)
    # The other one can still be taken back, and the list still says whose it is.
    (listed,) = trash(server, other)
    assert listed["patientName"] == "Doe^Jane"
    assert undelete(server, other.path)["restored"] == 3
    # Deleted once more, after it was restored: the last word counts.
    delete(server, study.path)
    server.stop()
    assert pacs(server, "reindex")["instances"] == 3


def test_nothing_is_restored_where_nothing_may_be_deleted(start_archive: StartArchive) -> None:
    server = start_archive({"ALLOW_DELETE": "false"})
    undelete(server, "/studies/1.2.3", 403)
    assert requests.get(f"{server.dicomweb_url}/trash", timeout=TIMEOUT_S).status_code == 403


@pytest.fixture
def opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PACS_HOME", str(tmp_path))
    with Archive.open(load({"DICOM_STORE_ROOTPATH": str(tmp_path / "data")}).settings) as archive:
        yield archive


def test_a_restoration_keeps_when_and_from_whom_it_came_and_forwards_nothing(opened: Archive) -> None:
    with opened.store.spool() as spool:
        spool.write(builders.ct("1.2", "1.2.3", "1.2.3.4", rows=8, columns=8))
        opened.store.store(spool, Caller("SCANNER", "10.0.0.1", "dimse"))
    before = opened.index.last_arrival("1.2")
    caller = Caller("test", "", "cli")
    opened.delete.delete(Target("1.2"), caller)
    (noted,) = opened.index.deleted(Target("1.2"))
    assert noted.source == Caller("SCANNER", "10.0.0.1", "dimse")
    assert opened.trash.restore(Target("1.2"), caller).restored == 1
    assert opened.index.last_arrival("1.2") == before
    assert opened.index.work.jobs() == []


def test_a_damaged_file_is_not_restored(opened: Archive) -> None:
    with opened.store.spool() as spool:
        spool.write(builders.ct("1.2", "1.2.3", "1.2.3.4", rows=8, columns=8))
        stored = opened.store.store(spool, Caller("SCANNER", "", "dimse")).instance
    caller = Caller("test", "", "cli")
    opened.delete.delete(Target("1.2"), caller)
    with opened.blobs.local(stored.blob) as path:
        data = path.read_bytes()
        path.chmod(0o600)
        path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    (conflict,) = opened.trash.restore(Target("1.2"), caller).conflicts
    assert "damaged" in conflict.reason
    assert len(opened.index.deleted(Target("1.2"))) == 1


def test_who_may_see_a_part_restores_that_part(opened: Archive) -> None:
    for sop, modality in (("1.2.3.4", "CT"), ("1.2.4.4", "MR")):
        with opened.store.spool() as spool:
            spool.write(builders.ct("1.2", sop[:5], sop, rows=8, columns=8, Modality=modality))
            opened.store.store(spool, Caller("SCANNER", "", "dimse"))
    Labels(opened.index.work).add("1.2", "research")
    opened.delete.delete(Target("1.2"), Caller("test", "", "cli"))

    def caller(**scope: frozenset[str]) -> Caller:
        return Caller("somebody", "", "web", Role.WRITER, Scope(**scope))

    for hidden in (
        caller(studies=frozenset({"1.3"})),
        caller(labels=frozenset({"other"})),
        caller(modalities=frozenset({"US"})),
    ):
        assert opened.trash.page(None, 10, hidden.scope).deleted == []
        with pytest.raises(NotFound):
            opened.trash.restore(Target("1.2"), hidden)
    assert len(opened.index.deleted(Target("1.2"))) == 2
    radiology = caller(modalities=frozenset({"CT"}), labels=frozenset({"research"}))
    assert len(opened.trash.page(None, 10, radiology.scope).deleted) == 1
    assert opened.trash.restore(Target("1.2"), radiology).restored == 1
    assert [one.target.sop_uid for one in opened.index.locate(Target("1.2"))] == ["1.2.3.4"]
