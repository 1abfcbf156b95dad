"""What storage commitment looks at, over a real index and store."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pacs.blobs.base import BlobState
from pacs.dicom.model import Caller
from pacs.dicom.references import Reference
from pacs.dicom.uids import new_uid
from pacs.errors import Cancelled, Conflict, OutOfResources
from pacs.services.commitment import Commitments, Failure, Result
from tests import builders
from tests.builders import CT_IMAGE_STORAGE
from tests.unit.dimse.archive import DimseArchive, dimse_archive

PEER = Caller("PEER", "127.0.0.1:1", "dimse")


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DimseArchive]:
    with dimse_archive(tmp_path_factory.mktemp("archive")) as archive:
        yield archive


@pytest.fixture(scope="module")
def check(archive: DimseArchive) -> Callable[..., Result]:
    def check(*references: Reference, digests: bool = True) -> Result:
        given = Commitments(archive.index, archive.blobs, digests=digests)
        return given.check(given.accept(new_uid(), PEER, references, 0))

    return check


def ct(sop_uid: str, study_uid: str = "", series_uid: str = "") -> Reference:
    return Reference(CT_IMAGE_STORAGE, sop_uid, study_uid, series_uid)


def spoil(archive: DimseArchive, key: str) -> None:
    path = archive.folder / "files" / key
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def test_only_reading_a_file_tells_that_it_holds_something_else(
    archive: DimseArchive, check: Callable[..., Result]
) -> None:
    instance = archive.put(builders.ct())
    spoil(archive, instance.blob.key)
    wanted = ct(instance.target.sop_uid or "")
    assert check(wanted, digests=False).failed == {}
    assert check(wanted).failed == {0: Failure.PROCESSING}


def test_of_two_studies_with_the_same_instance_the_one_that_is_named_counts(
    archive: DimseArchive, check: Callable[..., Result]
) -> None:
    uid = new_uid()
    sound, damaged = archive.put(builders.ct(sop_uid=uid)), archive.put(builders.ct(sop_uid=uid))
    spoil(archive, damaged.blob.key)
    named = [ct(uid, each.target.study_uid, each.target.series_uid or "") for each in (sound, damaged)]
    assert check(*named).failed == {1: Failure.PROCESSING}
    assert check(ct(uid)).failed == {0: Failure.PROCESSING}, "either may be meant"
    assert check(ct(uid, sound.target.study_uid, new_uid())).failed == {0: Failure.NO_SUCH_OBJECT}


def test_long_requests_are_checked_in_parts_and_in_order(archive: DimseArchive, check: Callable[..., Result]) -> None:
    instance = archive.put(builders.ct())
    references = [ct(new_uid()) for _ in range(1200)]
    references[0] = references[777] = references[1199] = ct(instance.target.sop_uid or "")
    assert set(range(1200)) - check(*references).failed.keys() == {0, 777, 1199}


def test_a_store_that_cannot_be_asked_is_no_reason_to_refuse(
    archive: DimseArchive, check: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    instance = archive.put(builders.ct())

    def fail(key: str) -> BlobState:
        raise OutOfResources("the device does not answer")

    monkeypatch.setattr(archive.blobs, "state", fail)
    with pytest.raises(OutOfResources):
        check(ct(instance.target.sop_uid or ""))


def test_what_is_missing_of_a_study_is_announced(archive: DimseArchive) -> None:
    told: list[tuple[str, list[str]]] = []
    given = Commitments(
        archive.index, archive.blobs, expect=lambda study, instances, source: told.append((study, list(instances)))
    )
    first, second = archive.put(builders.ct()), archive.put(builders.ct())
    missing = new_uid()
    uids = [first.target.sop_uid or "", missing]
    for wanted in (uids, uids[:1], uids[1:], [*uids, second.target.sop_uid or ""]):
        given.check(given.accept(new_uid(), PEER, [ct(uid) for uid in wanted], 0))
    assert told == [(first.target.study_uid, uids)], "not when nothing is missing, or it is not known of which study"


def test_a_server_that_stops_does_not_read_on(archive: DimseArchive) -> None:
    instance = archive.put(builders.ct())
    given = Commitments(archive.index, archive.blobs)
    transaction = given.accept(new_uid(), PEER, [ct(instance.target.sop_uid or "")], 0)
    with pytest.raises(Cancelled):
        given.check(transaction, lambda: True)


def test_a_request_comes_back_as_it_was_asked_and_told(archive: DimseArchive, tmp_path: Path) -> None:
    given = Commitments(archive.index, archive.blobs)
    references = [ct("1.1", "1.2", "1.3"), Reference("1.5", "1.4"), ct("1.1", "1.2", "1.3")]
    transaction = given.accept(new_uid(), PEER, references, 60)
    found = given.find(transaction.uid)
    assert found is not None
    assert (list(found.references), found.requester, found.by_web, found.result) == (references, "PEER", False, None)
    result = given.check(found)
    given.settle(found, result)
    again = given.find(transaction.uid)
    assert again is not None
    assert again.result == result
    with pytest.raises(Conflict):
        given.accept(transaction.uid, PEER, references[:1], 0)
