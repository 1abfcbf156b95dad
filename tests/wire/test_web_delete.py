"""DELETE over real HTTP, what other services see of it, purge, verify and reindex."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from pacs.dicom.uids import new_uid
from tests import builders
from tests.conftest import StartArchive
from tests.server import Server, dcmtk
from tests.wire.clients import qido, retrieve_files, stow, value

TIMEOUT_S = 60


class Study:
    """Two series, CT with two instances and MR with one, stored."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.uid = new_uid()
        self.ct, self.mr = new_uid(), new_uid()
        self.sops = [new_uid() for _ in range(3)]
        pairs = zip((self.ct, self.ct, self.mr), self.sops, ("CT", "CT", "MR"), strict=True)
        self.files = [
            builders.ct(self.uid, series, sop, rows=8, columns=8, Modality=modality, PatientID=self.uid[-12:])
            for series, sop, modality in pairs
        ]
        assert stow(server, self.files).status_code == 200

    @property
    def path(self) -> str:
        return f"/studies/{self.uid}"

    @property
    def first_path(self) -> str:
        return f"{self.path}/series/{self.ct}/instances/{self.sops[0]}"

    def row(self) -> dict[str, Any]:
        (row,) = qido(self.server, "/studies", {"StudyInstanceUID": self.uid, "includefield": "all"})
        return row


@pytest.fixture
def embedded(tmp_path: Path) -> Iterator[Server]:
    """For tests that do something to the index's file."""
    with Server(tmp_path / "archive") as server:
        yield server


def delete(server: Server, path: str) -> requests.Response:
    return requests.delete(server.dicomweb_url + path, timeout=TIMEOUT_S)


def get(server: Server, path: str) -> requests.Response:
    return requests.get(server.dicomweb_url + path, timeout=TIMEOUT_S)


def report(server: Server, *command: str) -> dict[str, Any]:
    done = server.pacs(*command, "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


@pytest.mark.parametrize("level", ["study", "series", "instance"])
def test_what_is_deleted_is_gone(archive: Server, level: str) -> None:
    study = Study(archive)
    path = {"study": study.path, "series": f"{study.path}/series/{study.ct}", "instance": study.first_path}[level]
    response = delete(archive, path)
    assert (response.status_code, response.content) == (204, b"")
    for below in ("", "/metadata", "/rendered", "/thumbnail"):
        gone = get(archive, path + below)
        assert gone.status_code == 410, below
        assert gone.headers["Content-Type"] == "application/problem+json"
    assert delete(archive, path).status_code == 410


def test_frames_bulk_data_zip_and_wado_uri_of_the_deleted_are_gone_too(archive: Server) -> None:
    study = Study(archive)
    delete(archive, study.path)
    assert get(archive, f"{study.first_path}/frames/1").status_code == 410
    assert get(archive, f"{study.first_path}/bulkdata/7FE00010").status_code == 410
    assert get(archive, f"{study.path}?accept=application/zip").status_code == 410
    names = {"requestType": "WADO", "studyUID": study.uid, "seriesUID": study.ct, "objectUID": study.sops[0]}
    assert requests.get(f"{archive.http_url}/wado", params=names, timeout=TIMEOUT_S).status_code == 410


def test_what_never_was_there_is_404_and_what_is_no_uid_400(archive: Server) -> None:
    study = Study(archive)
    assert delete(archive, f"/studies/{new_uid()}").status_code == 404
    assert delete(archive, f"{study.path}/series/{new_uid()}").status_code == 404
    assert delete(archive, f"{study.path}/series/{study.mr}/instances/{study.sops[0]}").status_code == 404
    assert delete(archive, "/studies/not%20a%20uid").status_code == 400
    assert len(retrieve_files(archive, study.path)) == 3


def test_counters_and_modalities_follow(archive: Server) -> None:
    study = Study(archive)
    assert study.row()["00080061"]["Value"] == ["CT", "MR"]
    delete(archive, study.first_path)
    assert value(study.row(), "00201208") == 2
    delete(archive, f"{study.path}/series/{study.mr}")
    row = study.row()
    assert row["00080061"]["Value"] == ["CT"]
    assert (value(row, "00201206"), value(row, "00201208")) == (1, 1)
    assert (value(row, "00201200"), value(row, "00201204")) == (1, 1)
    delete(archive, f"{study.path}/series/{study.ct}")
    assert qido(archive, "/studies", {"StudyInstanceUID": study.uid}) == []
    assert qido(archive, "/patients", {"PatientID": study.uid[-12:]}) == []
    assert get(archive, study.path).status_code == 410


def test_searches_below_the_deleted_find_nothing(archive: Server) -> None:
    study = Study(archive)
    delete(archive, f"{study.path}/series/{study.ct}")
    assert [value(row, "0020000E") for row in qido(archive, f"{study.path}/series")] == [study.mr]
    assert [value(row, "00080018") for row in qido(archive, f"{study.path}/instances")] == [study.sops[2]]


def test_dimse_does_not_see_the_deleted(archive: Server, tmp_path: Path) -> None:
    study = Study(archive)
    delete(archive, f"{study.path}/series/{study.ct}")
    to = ["-aec", archive.ae_title, "127.0.0.1", str(archive.dimse_port)]
    keys = ["-k", "QueryRetrieveLevel=IMAGE", "-k", f"StudyInstanceUID={study.uid}", "-k", "SOPInstanceUID"]
    found = dcmtk("findscu", "-S", *keys, *to)
    assert found.returncode == 0
    assert study.sops[2] in found.stdout
    assert study.sops[0] not in found.stdout
    got = dcmtk(
        "getscu", "-S", "-od", tmp_path, "-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={study.uid}", *to
    )
    assert got.returncode == 0, got.stdout
    assert len(list(tmp_path.iterdir())) == 1


def test_the_deleted_can_be_stored_again(archive: Server) -> None:
    study = Study(archive)
    delete(archive, study.path)
    again = stow(archive, study.files[:1])
    assert again.status_code == 200, again.text
    assert retrieve_files(archive, study.path) == study.files[:1]
    assert value(study.row(), "00201208") == 1
    assert get(archive, f"{study.path}/series/{study.mr}").status_code == 410
    assert delete(archive, study.path).status_code == 204


def test_with_a_slash_at_the_end_too(archive: Server) -> None:
    study = Study(archive)
    assert delete(archive, f"{study.path}/").status_code == 204


def test_without_allow_delete_nothing_is_deleted(start_archive: StartArchive) -> None:
    server = start_archive({"ALLOW_DELETE": "false"})
    study = Study(server)
    response = delete(server, study.path)
    assert response.status_code == 403
    assert "ALLOW_DELETE" in response.json()["detail"]
    assert "DELETE" not in requests.options(server.dicomweb_url + study.path, timeout=TIMEOUT_S).headers["Allow"]
    assert len(retrieve_files(server, study.path)) == 3


def test_purge_removes_the_files_and_only_them(fresh_archive: Server) -> None:
    gone, kept = Study(fresh_archive), Study(fresh_archive)
    delete(fresh_archive, gone.path)
    assert len(fresh_archive.files()) == 6
    assert report(fresh_archive, "verify")["faults"] == {}
    assert report(fresh_archive, "purge", "--older-than", "1h")["deleted"] == 0
    would = report(fresh_archive, "purge", "--dry-run")
    assert (would["deleted"], would["size_bytes"]) == (3, sum(map(len, gone.files)))
    assert len(fresh_archive.files()) == 6
    assert report(fresh_archive, "purge")["deleted"] == 3
    assert len(fresh_archive.files()) == 3
    assert sorted(retrieve_files(fresh_archive, kept.path)) == sorted(kept.files)
    assert get(fresh_archive, gone.path).status_code == 410
    assert report(fresh_archive, "verify")["faults"] == {}
    assert report(fresh_archive, "purge")["deleted"] == 0
    assert stow(fresh_archive, gone.files).status_code == 200
    assert sorted(retrieve_files(fresh_archive, gone.path)) == sorted(gone.files)


def test_purge_removes_replaced_versions(start_archive: StartArchive) -> None:
    server = start_archive({"DUPLICATES": "replace"})
    study, series, sop = new_uid(), new_uid(), new_uid()
    first, second = (builders.ct(study, series, sop, rows=8, columns=8, StudyID=number) for number in ("1", "2"))
    assert [stow(server, [file]).status_code for file in (first, second)] == [200, 200]
    assert report(server, "purge")["superseded"] == 1
    assert retrieve_files(server, f"/studies/{study}") == [second]
    assert len(server.files()) == 1


@pytest.mark.parametrize("is_purged", [False, True])
def test_reindex_does_not_bring_back_what_was_deleted(start_archive: StartArchive, is_purged: bool) -> None:
    server = start_archive({"DUPLICATES": "replace"})
    gone, kept = Study(server), Study(server)
    # An earlier version is not brought back either.
    newer = builders.ct(gone.uid, gone.ct, gone.sops[0], rows=8, columns=8, StudyID="newer", PatientID="P")
    assert stow(server, [newer]).status_code in (200, 202)
    delete(server, gone.path)
    again = stow(server, gone.files[2:])
    assert again.status_code == 200
    if is_purged:
        assert report(server, "purge")["deleted"] == 4
    server.stop()
    rebuilt = report(server, "reindex")
    assert (rebuilt["instances"], rebuilt["deleted"]) == (4, 0 if is_purged else 4)
    server.start()
    assert sorted(retrieve_files(server, kept.path)) == sorted(kept.files)
    assert retrieve_files(server, gone.path) == gone.files[2:]
    assert get(server, gone.first_path).status_code == 410
    assert report(server, "verify")["faults"] == {}
    assert report(server, "purge")["deleted"] == (0 if is_purged else 4)


def test_verify_does_not_take_the_deleted_for_orphans_of_a_lost_index(embedded: Server) -> None:
    study = Study(embedded)
    delete(embedded, study.first_path)
    embedded.stop()
    for path in embedded.data.glob("index.sqlite*"):
        path.unlink()
    done = embedded.pacs("verify", "--repair", "--json")
    assert json.loads(done.stdout)["faults"] == {"orphan": 2}
    embedded.start()
    assert sorted(retrieve_files(embedded, study.path)) == sorted(study.files[1:])


def test_a_deletion_that_is_on_record_but_was_cut_short_is_completed_by_reindex(embedded: Server) -> None:
    study = Study(embedded)
    embedded.stop()
    index = embedded.data / "index.sqlite"
    before = index.read_bytes()
    embedded.start()
    delete(embedded, study.first_path)
    embedded.stop()
    index.write_bytes(before)
    for path in embedded.data.glob("index.sqlite-*"):
        path.unlink()
    assert report(embedded, "reindex")["instances"] == 2


def test_a_deletion_that_was_answered_outlives_a_crash(fresh_archive: Server) -> None:
    study = Study(fresh_archive)
    assert delete(fresh_archive, study.first_path).status_code == 204
    fresh_archive.kill()
    fresh_archive.start()
    assert get(fresh_archive, study.first_path).status_code == 410
    assert sorted(retrieve_files(fresh_archive, study.path)) == sorted(study.files[1:])


def test_purge_says_what_an_age_is(fresh_archive: Server) -> None:
    refused = fresh_archive.pacs("purge", "--older-than", "soon")
    assert refused.returncode == 2
    assert "30d" in refused.stderr
    done = fresh_archive.pacs("purge")
    assert (done.returncode, done.stdout) == (0, "Removed 0 files, 0.0 MB: 0 deleted, 0 replaced.\n")
