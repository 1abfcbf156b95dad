"""What is understood of raccoon's documents, in a real database; the odd ones too."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pymongo
import pytest

from pacs.migrate.plan import Document
from pacs.migrate.raccoon_database import read_documents, uri_of
from pacs.services.byproducts import is_byproduct
from tests.mongod import replica_set


@pytest.fixture(scope="module")
def uri() -> Iterator[str]:
    with replica_set() as found:
        yield found


def _read(uri: str, name: str, **collections: list[dict[str, Any]]) -> dict[str, Document]:
    with pymongo.MongoClient[dict[str, Any]](uri) as client:
        for collection, documents in collections.items():
            client[name][collection].insert_many(documents)
    return {document.sop_uid: document for document in read_documents(uri, name)}


def test_uids_come_from_fields_or_tags(uri: str) -> None:
    found = _read(
        uri,
        "uids",
        dicom=[
            {"studyUID": "1.2", "seriesUID": "1.2.3", "instanceUID": "1.2.3.4", "instancePath": "files/a.dcm"},
            {
                "0020000D": {"vr": "UI", "Value": ["1.2\0"]},
                "0020000E": {"vr": "UI", "Value": ["1.2.3"]},
                "00080018": {"vr": "UI", "Value": ["1.2.3.5"]},
                "instancePath": "files/b.dcm",
                "updatedAt": datetime(2024, 1, 2, tzinfo=UTC),
            },
        ],
    )
    assert (found["1.2.3.4"].study_uid, found["1.2.3.5"].study_uid) == ("1.2", "1.2")
    assert found["1.2.3.5"].rank == datetime(2024, 1, 2, tzinfo=UTC).timestamp()
    assert found["1.2.3.4"].rank > found["1.2.3.5"].rank  # by when its _id was made: today


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("files/2023/05/a/b/c.dcm", "files/2023/05/a/b/c.dcm"),
        ("/files/./a//c.dcm", "files/a/c.dcm"),
        ("files\\2023\\c.dcm", "files/2023/c.dcm"),
        ("files/../../etc/passwd", ""),
        (None, ""),
        (7, ""),
    ],
)
def test_paths_stay_in_the_store(uri: str, path: Any, expected: str) -> None:
    name = f"path{abs(hash((path, expected)))}"
    found = _read(uri, name, dicom=[{"instanceUID": "1", "instancePath": path}])
    assert found["1"].path == expected


@pytest.mark.parametrize(
    ("status", "deleted"), [(0, False), (1, True), (2, True), ("1", True), ("0", False), (None, False), (True, True)]
)
def test_delete_status_has_several_forms(uri: str, status: Any, deleted: bool) -> None:
    name = f"status{abs(hash(repr(status)))}"
    assert _read(uri, name, dicom=[{"instanceUID": "1", "deleteStatus": status}])["1"].deleted is deleted


def test_study_is_deleted_when_all_of_its_documents_are(uri: str) -> None:
    found = _read(
        uri,
        "studies",
        dicom=[{"studyUID": study, "instanceUID": f"{study}.1"} for study in ("1", "2", "3")],
        dicomStudy=[
            {"studyUID": "1", "deleteStatus": 1},
            {"studyUID": "2", "deleteStatus": 1},
            {"studyUID": "2"},  # a race made it twice, and only one was marked
            {"studyUID": "3", "deleteStatus": 0},
        ],
    )
    assert {sop_uid: document.deleted for sop_uid, document in found.items()} == {
        "1.1": True,
        "2.1": False,
        "3.1": False,
    }


def test_series_is_deleted_by_itself(uri: str) -> None:
    found = _read(
        uri,
        "series",
        dicom=[{"studyUID": "1", "seriesUID": f"1.{i}", "instanceUID": f"1.{i}.1"} for i in (1, 2)],
        dicomSeries=[{"studyUID": "1", "seriesUID": "1.1", "deleteStatus": 1}, {"studyUID": "1", "seriesUID": "1.2"}],
    )
    assert (found["1.1.1"].deleted, found["1.2.1"].deleted) == (True, False)


def test_url_is_joined_as_raccoon_does() -> None:
    assert uri_of(("a", "b"), (1, 2), "root", "p@ss:w", "admin", "replicaSet=rs0") == (
        "mongodb://root:p%40ss%3Aw@a:1,b:2/?authSource=admin&replicaSet=rs0"
    )
    assert uri_of(("mongodb",), (27017,), "", "", "admin", "") == "mongodb://mongodb:27017/"


@pytest.mark.parametrize(
    ("key", "made"),
    [
        ("2023/05/a/b/1.2.3.metadata.json", True),
        ("2023/05/a/b/IM0001.0.jpg", True),
        ("bulkData/1JyscS/7FE00010.Value.0.raw", True),
        ("2023/05/a/b/IM0001.dcm", False),
        ("2023/05/a/b/IM0001", False),
        ("2023/05/a/b/photo.jpg", False),
        ("2023/05/a/b/metadata.json.dcm", False),
    ],
)
def test_byproducts_are_told_by_their_names(key: str, made: bool) -> None:
    assert is_byproduct(key) is made
