"""Storage commitment over DICOMweb (PS3.18 13): requested, checked, and refused."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
import requests

from pacs.blobs.filesystem import FilesystemBlobs
from pacs.dicom.uids import new_uid
from pacs.dicom.xml_model import from_xml, to_xml
from pacs.dimse.commitment import CommitmentProvider
from pacs.dimse.peers import Peers
from pacs.dimse.wire import Timeouts
from pacs.index.sqlite import SqliteIndex
from pacs.services.commitment import Commitments
from pacs.services.commitment_requests import CommitmentRequests
from pacs.services.jobs import JobRunner
from pacs.web import commitment as resource
from pacs.web import commitments
from pacs.web.openapi import document_of
from tests import builders
from tests.builders import CT_IMAGE_STORAGE
from tests.unit.web.running import RunningArchive
from tests.wire.clients import stow

DICOM_JSON, DICOM_XML = "application/dicom+json", "application/dicom+xml"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("web")


@pytest.fixture(scope="module")
def runner(folder: Path) -> Iterator[JobRunner]:
    """Not started."""
    with closing(SqliteIndex(folder / "index.sqlite")) as index, closing(_blobs(folder)) as blobs:
        given = Commitments(index, blobs)
        provider = CommitmentProvider(given, Peers(folder / "none"), "ARCHIVE", Timeouts(), wait_s=0, wake=lambda: None)
        with closing(provider):
            yield JobRunner(index.work, [provider.handler()])


@pytest.fixture(scope="module")
def web(folder: Path, runner: JobRunner) -> Iterator[RunningArchive]:
    with ExitStack() as stack:
        index = stack.enter_context(closing(SqliteIndex(folder / "index.sqlite")))
        blobs = stack.enter_context(closing(_blobs(folder)))
        additions = [resource.addition(Commitments(index, blobs), runner.wake)]
        yield stack.enter_context(RunningArchive(folder, additions=additions))


@pytest.fixture(scope="module")
def running(runner: JobRunner) -> Iterator[None]:
    runner.start()
    yield
    runner.stop(5)


def _blobs(folder: Path) -> FilesystemBlobs:
    return FilesystemBlobs(folder / "files", folder / "incoming")


def store(web: RunningArchive, count: int) -> tuple[str, str, list[str]]:
    study_uid, series_uid, sop_uids = new_uid(), new_uid(), [new_uid() for _ in range(count)]
    files = [builders.ct(study_uid, series_uid, uid, rows=8, columns=8) for uid in sop_uids]
    assert stow(web, files).status_code == 200  # type: ignore[arg-type]
    return study_uid, series_uid, sop_uids


def by_instance(sop_uids: list[str]) -> dict[str, Any]:
    items = [{"ReferencedSOPClassUID": CT_IMAGE_STORAGE, "ReferencedSOPInstanceUID": uid} for uid in sop_uids]
    return builders.json_of({"ReferencedSOPSequence": items})


def by_study(study_uid: str, series_uid: str, sop_uids: list[str]) -> dict[str, Any]:
    group = {
        "ReferencedSOPClassUID": CT_IMAGE_STORAGE,
        "ReferencedInstanceSequence": [{"ReferencedSOPInstanceUID": uid} for uid in sop_uids],
    }
    series = {"SeriesInstanceUID": series_uid, "ReferencedInstancesBySOPClassSequence": [group]}
    study = {"StudyInstanceUID": study_uid, "ReferencedSeriesSequence": [series]}
    return builders.json_of({"ReferencedStudySequence": [study]})


def url_of(web: RunningArchive, uid: str) -> str:
    return f"{web.dicomweb_url}/commitment-requests/{uid}"


def post(web: RunningArchive, uid: str, body: Any, media_type: str = DICOM_JSON, accept: str = DICOM_JSON) -> Any:
    headers = {"Content-Type": media_type, "Accept": accept}
    if isinstance(body, bytes):
        return requests.post(url_of(web, uid), data=body, headers=headers, timeout=60)
    return requests.post(url_of(web, uid), json=body, headers=headers, timeout=60)


def test_a_request_that_takes_longer_is_accepted_and_checked_later(
    web: RunningArchive, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the runner of jobs is started: the first of this module."""
    monkeypatch.setattr(resource, "_PATIENCE_S", 0.0)
    _, _, sop_uids = store(web, 1)
    uid = new_uid()
    for answer in (
        post(web, uid, by_instance(sop_uids)),
        requests.get(url_of(web, uid), headers={"Accept": DICOM_JSON}, timeout=60),
    ):
        assert answer.status_code == 202
        assert int(answer.headers["Retry-After"]) > 0
        assert answer.content == b""


@pytest.mark.usefixtures("running")
def test_a_result_names_each_instance(web: RunningArchive) -> None:
    _, _, sop_uids = store(web, 2)
    missing, uid = new_uid(), new_uid()
    answer = post(web, uid, by_instance([*sop_uids, missing]))
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == DICOM_JSON
    failed = {**by_instance([missing])["00081199"]["Value"][0], "00081197": {"vr": "US", "Value": [0x0112]}}
    assert answer.json() == {"00081198": {"vr": "SQ", "Value": [failed]}, **by_instance(sop_uids)}
    assert requests.get(url_of(web, uid), timeout=60).json() == answer.json()
    in_xml = requests.get(url_of(web, uid), headers={"Accept": DICOM_XML}, timeout=60)
    assert from_xml(in_xml.content) == answer.json()


@pytest.mark.usefixtures("running")
def test_requests_may_be_xml_arrays_and_by_study(web: RunningArchive) -> None:
    study_uid, series_uid, sop_uids = store(web, 2)
    assert post(web, new_uid(), to_xml(by_instance(sop_uids)), DICOM_XML).json() == by_instance(sop_uids)
    assert post(web, new_uid(), [by_instance(sop_uids)]).json() == by_instance(sop_uids)
    module = by_study(study_uid, series_uid, sop_uids)
    assert post(web, new_uid(), module).json() == module
    elsewhere = post(web, new_uid(), by_study(study_uid, new_uid(), sop_uids)).json()
    assert list(elsewhere) == ["0008119B"]


@pytest.mark.usefixtures("running")
def test_a_transaction_uid_is_for_one_request(web: RunningArchive) -> None:
    _, _, sop_uids = store(web, 2)
    uid = new_uid()
    first = post(web, uid, by_instance(sop_uids))
    assert post(web, uid, by_instance(sop_uids)).json() == first.json()
    assert post(web, uid, by_instance(sop_uids[:1])).status_code == 409


def test_what_means_nothing_is_refused(web: RunningArchive) -> None:
    _, _, sop_uids = store(web, 1)
    good = by_instance(sop_uids)
    assert requests.get(url_of(web, new_uid()), timeout=60).status_code == 404
    assert post(web, "no%20uid", good).status_code == 400
    no_items = {"00081199": {"vr": "SQ", "Value": [3]}}
    for body in ({}, [], [good, good], "text", by_instance([]), by_instance([""]), no_items):
        assert post(web, new_uid(), body).status_code == 400, body
    assert post(web, new_uid(), b"{", DICOM_JSON).status_code == 400
    assert post(web, new_uid(), b"<a", DICOM_XML).status_code == 400
    assert post(web, new_uid(), good, "application/dicom").status_code == 415
    assert post(web, new_uid(), good, accept="image/png").status_code == 406
    too_large = post(web, new_uid(), b" " * (resource.LIMIT + 1))
    assert too_large.status_code == 413


def test_peers_are_asked_for_administrators_only(tmp_path: Path) -> None:
    none: Any = None
    additions = [commitments.addition(None, none, lambda name: True, lambda: None)]
    with RunningArchive(tmp_path, additions=additions) as web:
        url = f"{web.dicomweb_url}/commitments"
        assert requests.get(url, timeout=60).status_code == 403
        assert requests.get(f"{url}/1.2.3", timeout=60).status_code == 403
        assert requests.post(url, json={}, timeout=60).status_code == 403
        assert "commitments" not in requests.get(f"{web.dicomweb_url}/openapi.json", timeout=60).text


def test_the_document_names_all_routes(tmp_path: Path) -> None:
    with closing(SqliteIndex(tmp_path / "index.sqlite")) as index:
        asked = CommitmentRequests(index.work)
        none: Any = None
        additions = [
            resource.addition(none, lambda: None),
            commitments.addition(asked, none, lambda name: True, lambda: None),
        ]
        for addition in additions:
            routes = {(route.method.lower(), route.path) for route in addition.routes(none, none)}
            document = document_of(addition.operations, "", "")
            assert {(method, path) for path, found in document["paths"].items() for method in found} == routes
