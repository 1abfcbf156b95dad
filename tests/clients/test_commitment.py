"""Orthanc and this archive ask each other for storage commitment."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import requests

from pacs.dicom.uids import new_uid
from tests import builders
from tests.builders import CT_IMAGE_STORAGE
from tests.clients.needs import needs
from tests.clients.orthanc import Orthanc
from tests.server import Server
from tests.wire.clients import stow
from tests.wire.committing import eventually

pytestmark = needs("orthanc")


@dataclass(frozen=True)
class Two:
    archive: Server
    orthanc: Orthanc


@pytest.fixture(scope="module")
def two(archive: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Two]:
    folder = tmp_path_factory.mktemp("orthanc")
    with Orthanc(folder, archive.dicomweb_url, {"DCMQRSCP": archive.dimse_port}) as orthanc:
        archive.add_peer("ORTHANC", orthanc.dimse_port)
        yield Two(archive, orthanc)


def test_orthanc_asks_and_is_told(two: Two) -> None:
    study_uid, sop_uids = new_uid(), [new_uid() for _ in range(3)]
    assert stow(two.archive, [builders.ct(study_uid, sop_uid=uid) for uid in sop_uids]).status_code == 200
    assert _asked_by_orthanc(two, sop_uids)["Status"] == "Success"
    missing = new_uid()
    failed = _asked_by_orthanc(two, [*sop_uids, missing])
    assert failed["Status"] == "Failure"
    assert {each["SOPInstanceUID"] for each in failed["Success"]} == set(sop_uids)
    ((instance, reason),) = ((each["SOPInstanceUID"], each["FailureReason"]) for each in failed["Failures"])
    assert (instance, reason) == (missing, 0x0112)


def test_orthanc_stores_with_commitment(two: Two) -> None:
    """Its own way: C-STORE, and N-ACTION when all is sent."""
    name = two.orthanc.upload(builders.ct())
    url = f"{two.orthanc.url}/modalities/DCMQRSCP/store"
    body = {"Resources": [name], "StorageCommitment": True, "Synchronous": True}
    answer = requests.post(url, json=body, timeout=60)
    assert answer.status_code == 200, answer.text
    transaction = answer.json()["StorageCommitmentTransactionUID"]
    assert _result(two, transaction)["Status"] == "Success"


def test_orthanc_is_asked_and_tells(two: Two) -> None:
    study_uid = new_uid()
    files = [builders.ct(study_uid) for _ in range(3)]
    assert stow(two.archive, files).status_code == 200
    url = f"{two.archive.dicomweb_url}/commitments"
    assert two.orthanc.upload(files[0])
    first = requests.post(url, json={"peer": "ORTHANC", "study": study_uid}, timeout=60).json()["transaction"]
    found = eventually(lambda: _answer(f"{url}/{first}"))
    assert (found["state"], found["failures"]) == ("failed", 2)
    assert {each["reason"] for each in found["failed"]} == {"0112H"}
    assert two.archive.pacs("send", "ORTHANC", "--study", study_uid).returncode == 0
    second = requests.post(url, json={"peer": "ORTHANC", "study": study_uid}, timeout=60).json()["transaction"]
    assert eventually(lambda: _answer(f"{url}/{second}"))["state"] == "committed"


def _asked_by_orthanc(two: Two, sop_uids: list[str]) -> dict[str, Any]:
    url = f"{two.orthanc.url}/modalities/DCMQRSCP/storage-commitment"
    body = {"DicomInstances": [[CT_IMAGE_STORAGE, uid] for uid in sop_uids]}
    answer = requests.post(url, json=body, timeout=60)
    assert answer.status_code == 200, answer.text
    return _result(two, answer.json()["ID"])


def _result(two: Two, transaction: str) -> dict[str, Any]:
    def look() -> dict[str, Any] | None:
        found: dict[str, Any] = requests.get(f"{two.orthanc.url}/storage-commitment/{transaction}", timeout=60).json()
        return None if found["Status"] == "Pending" else found

    result: dict[str, Any] = eventually(look)
    return result


def _answer(url: str) -> dict[str, Any] | None:
    found: dict[str, Any] = requests.get(url, timeout=60).json()
    return found if found["answered"] else None
