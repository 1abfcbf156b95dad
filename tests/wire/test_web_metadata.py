"""WADO-RS metadata in the Native DICOM Model: the same as the JSON, in parts, with validators, ranges and gzip."""

from __future__ import annotations

import gzip
from collections.abc import Iterator

import pytest
import requests

from pacs.dicom.xml_model import NAMESPACE, from_xml
from tests import builders
from tests.unit.web.running import RunningArchive
from tests.wire.clients import TIMEOUT_S, stow
from tests.wire.metadata_requests import JSON, XML, XML_PARTS, metadata_of, parts_of

INSTANCE = "/studies/1.1/series/1.1.1/instances/1.1.0.0"


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningArchive]:
    with RunningArchive(tmp_path_factory.mktemp("metadata")) as running:
        files = [
            builders.ct(
                "1.1", f"1.1.{1 + number % 2}", f"1.1.0.{number}", InstanceNumber=number, PatientName="Ünal^A<&>"
            )
            for number in range(250)
        ]
        assert stow(running, files).status_code == 200  # type: ignore[arg-type]
        yield running


def get(web: RunningArchive, path: str, accept: str = XML_PARTS, **headers: str) -> requests.Response:
    fields = {"Accept": accept, "Accept-Encoding": "identity", **headers}
    return requests.get(f"{web.dicomweb_url}{path}/metadata", headers=fields, timeout=TIMEOUT_S)


@pytest.mark.parametrize(("path", "count"), [("/studies/1.1", 250), ("/studies/1.1/series/1.1.1", 125), (INSTANCE, 1)])
def test_each_instance_is_a_part_and_says_what_the_json_says(web: RunningArchive, path: str, count: int) -> None:
    response = get(web, path)
    assert response.status_code == 200
    assert response.headers["Content-Type"].startswith(f'multipart/related; type="{XML}"; boundary=')
    parts = parts_of(response)
    assert len(parts) == count
    assert {headers["content-type"] for headers, _ in parts} == {XML}
    assert [from_xml(content) for _, content in parts] == metadata_of(web.dicomweb_url + path, JSON)
    headers, content = parts[0]
    assert content.startswith(b'<?xml version="1.0" encoding="UTF-8"?>')
    assert NAMESPACE.encode() in content
    assert headers["content-location"] == f"{web.dicomweb_url}{INSTANCE}/metadata"
    uri = from_xml(content)["7FE00010"]["BulkDataURI"]
    assert uri == f"{web.dicomweb_url}{INSTANCE}/bulkdata/7FE00010"
    assert requests.get(uri, timeout=TIMEOUT_S).status_code == 200


def test_one_instance_may_come_without_parts(web: RunningArchive) -> None:
    response = get(web, INSTANCE, XML)
    assert response.headers["Content-Type"] == XML
    assert [from_xml(response.content)] == metadata_of(web.dicomweb_url + INSTANCE)
    assert get(web, "/studies/1.1", XML).status_code == 406


def test_json_wins_where_both_are_welcome(web: RunningArchive) -> None:
    assert get(web, INSTANCE, f"{JSON}, {XML_PARTS}").headers["Content-Type"] == JSON
    assert get(web, INSTANCE, "*/*").headers["Content-Type"] == JSON
    assert get(web, INSTANCE, f"{JSON};q=0.5, {XML_PARTS}").headers["Content-Type"].startswith("multipart/related")


def test_validators_ranges_and_gzip(web: RunningArchive) -> None:
    whole = get(web, "/studies/1.1")
    etag = whole.headers["ETag"]
    assert etag != get(web, "/studies/1.1", JSON).headers["ETag"]
    assert get(web, "/studies/1.1", **{"If-None-Match": etag}).status_code == 304
    part = get(web, "/studies/1.1", Range="bytes=1000-1999", **{"If-Range": etag})
    assert (part.status_code, part.content) == (206, whole.content[1000:2000])
    packed = requests.get(
        f"{web.dicomweb_url}/studies/1.1/metadata",
        headers={"Accept": XML_PARTS, "Accept-Encoding": "gzip"},
        stream=True,
        timeout=TIMEOUT_S,
    )
    assert packed.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(packed.raw.read()) == whole.content.replace(
        whole.headers["Content-Type"].partition("boundary=")[2].encode(),
        packed.headers["Content-Type"].partition("boundary=")[2].encode(),
    )
