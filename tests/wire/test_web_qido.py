"""QIDO-RS over real HTTP and the real index."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import requests

from pacs.dicom.model import Target
from tests import builders
from tests.unit.web.running import RunningArchive
from tests.wire.clients import stow, value

STUDY, SERIES, SOP = "0020000D", "0020000E", "00080018"


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningArchive]:
    """Three patients; study 1.1 has series 1.1.1 of three and 1.1.2 of one instance, studies 1.2 and 1.3 one each."""
    with RunningArchive(tmp_path_factory.mktemp("qido"), retrieve_ae_title="ARCHIVE") as running:
        files = [
            builders.ct("1.1", f"1.1.{1 + (number == 3)}", f"1.1.0.{number}", InstanceNumber=number, rows=8, columns=8)
            for number in range(4)
        ]
        files.append(
            builders.ct(
                "1.2",
                "1.2.1",
                "1.2.0.1",
                rows=8,
                columns=8,
                PatientID="P*2",
                PatientName="Müller^José",
                StudyDate="20200101",
                Modality="MR",
                SpecificCharacterSet="ISO_IR 192",
                ProtocolName="100%_[a]",
            )
        )
        files.append(builders.ct("1.3", "1.3.1", "1.3.0.1", rows=8, columns=8, PatientID="P 3", StudyTime="235959"))
        assert stow(running, files).status_code == 200  # type: ignore[arg-type]
        yield running


def get(web: RunningArchive, path: str, parameters: Any = None, **headers: str) -> requests.Response:
    return requests.get(web.dicomweb_url + path, params=parameters, headers=headers, timeout=60)


def uids(response: requests.Response, tag: str = STUDY) -> list[str]:
    return [value(row, tag) for row in response.json()] if response.status_code == 200 else []


def test_studies_come_with_where_to_retrieve_them(web: RunningArchive) -> None:
    response = get(web, "/studies")
    assert response.status_code == 200
    assert response.headers["Content-Type"] == "application/dicom+json"
    rows = response.json()
    assert [value(row, STUDY) for row in rows] == ["1.1", "1.2", "1.3"]
    assert rows[0]["00081190"] == {"vr": "UR", "Value": [f"{web.dicomweb_url}/studies/1.1"]}
    assert rows[0]["00080056"] == {"vr": "CS", "Value": ["ONLINE"]}
    assert rows[0]["00080054"] == {"vr": "AE", "Value": ["ARCHIVE"]}
    assert value(rows[0], "00201206") == 2
    assert value(rows[0], "00201208") == 4
    assert value(rows[0], "00100010") == {"Alphabetic": "Doe^Jane"}
    assert [list(row) == sorted(row) for row in rows] == [True] * 3


@pytest.mark.parametrize(
    ("path", "count", "present", "absent"),
    [
        ("/series", 4, ["00100020", "00080020", STUDY, SERIES, "00080060"], [SOP]),
        ("/studies/1.1/series", 2, [SERIES, "00080060", "00201209"], ["00100020", "00080020"]),
        ("/instances", 6, ["00100020", "00080020", SERIES, SOP, "00280010"], []),
        ("/studies/1.1/instances", 4, ["00080060", SERIES, SOP], ["00100020", "00080020"]),
        ("/studies/1.1/series/1.1.1/instances", 3, [SOP, "00200013"], ["00100020", "00080060"]),
        ("/series/1.1.1/instances", 3, [SOP, SERIES, STUDY], []),
        ("/patients", 3, ["00100020", "00100010"], [STUDY]),
        ("/patients/P%2A2/studies", 1, [STUDY, "00100020"], []),
        ("/patients/P%203/studies", 1, [STUDY], []),
        ("/studies/", 3, [STUDY], []),
    ],
)
def test_each_resource_has_its_rows_and_attributes(
    web: RunningArchive, path: str, count: int, present: list[str], absent: list[str]
) -> None:
    response = get(web, path)
    assert response.status_code == 200
    rows = response.json()
    assert len(rows) == count
    for row in rows:
        assert not [tag for tag in present if tag not in row]
        assert not [tag for tag in absent if tag in row]


def test_retrieve_urls_of_series_and_instances_lead_somewhere(web: RunningArchive) -> None:
    for path in ("/series", "/instances", "/studies/1.1/series/1.1.1/instances", "/series/1.2.1/instances"):
        for row in get(web, path).json():
            assert requests.get(value(row, "00081190") + "/metadata", timeout=60).status_code == 200


@pytest.mark.parametrize("path", ["/studies", "/studies/9.9/series", "/studies/9.9/instances", "/series/9.9/instances"])
def test_nothing_found_is_no_content(web: RunningArchive, path: str) -> None:
    response = get(web, path, {"PatientID": "nobody"})
    assert (response.status_code, response.content) == (204, b"")


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({"PatientID": "P1"}, ["1.1"]),
        ({"00100020": "P1"}, ["1.1"]),
        ({"StudyInstanceUID": "1.1,1.3"}, ["1.1", "1.3"]),
        ([("StudyInstanceUID", "1.1"), ("StudyInstanceUID", "1.2")], ["1.1", "1.2"]),
        ({"0020000d": "1.2"}, ["1.2"]),
        ({"PatientName": "doe*"}, ["1.1", "1.3"]),
        ({"PatientName": "muller^jose"}, ["1.2"]),
        ({"PatientName": "jose", "fuzzymatching": "true"}, ["1.2"]),
        ({"PatientName": "doe*", "fuzzymatching": "false"}, ["1.1", "1.3"]),
        ({"StudyDate": "20200101-20201231"}, ["1.2"]),
        ({"StudyDate": "-20231231"}, ["1.2"]),
        ({"StudyDate": "20240131-20240131", "StudyTime": "200000-"}, ["1.3"]),
        ({"ModalitiesInStudy": "MR"}, ["1.2"]),
        ({"Modality": "MR"}, ["1.2"]),
        ({"ProtocolName": "100%_[a]"}, ["1.2"]),
        ({"ProtocolName": "100%_["}, []),
        ({"PatientID": ""}, ["1.1", "1.2", "1.3"]),
        ({"SpecificCharacterSet": "ISO_IR 192"}, ["1.1", "1.2", "1.3"]),
        ({"offset": "1"}, ["1.2", "1.3"]),
        ({"offset": "7"}, []),
        ({"limit": "1"}, ["1.1"]),
        ({"limit": "999999999"}, ["1.1", "1.2", "1.3"]),
    ],
)
def test_keys_narrow_the_answer(web: RunningArchive, parameters: Any, expected: list[str]) -> None:
    response = get(web, "/studies", parameters)
    assert response.status_code in (200, 204), response.text
    assert uids(response) == expected


def test_everything_percent_encoded_is_understood(web: RunningArchive) -> None:
    encoded = "%50%61%74%69%65%6E%74%4E%61%6D%65=%4D%C3%BC%6C%6C%65%72%5E%2A"
    assert uids(requests.get(f"{web.dicomweb_url}/studies?{encoded}", timeout=60)) == ["1.2"]
    assert uids(requests.get(f"{web.dicomweb_url}/studies?PatientName=M%c3%bcller%5eJos%c3%a9", timeout=60)) == ["1.2"]


@pytest.mark.parametrize(
    ("parameters", "key"),
    [
        ({"limit": "0"}, "limit"),
        ({"limit": "-1"}, "limit"),
        ({"limit": "many"}, "limit"),
        ({"limit": "²"}, "limit"),
        ({"offset": "-1"}, "offset"),
        ({"fuzzymatching": "perhaps"}, "fuzzymatching"),
        ({"StudyDate": "yesterday"}, "StudyDate"),
        ({"StudyInstanceUID": "1.2.x"}, "StudyInstanceUID"),
    ],
)
def test_a_malformed_value_is_refused_by_name(web: RunningArchive, parameters: dict[str, str], key: str) -> None:
    response = get(web, "/studies", parameters)
    assert response.status_code == 400
    assert response.headers["Content-Type"] == "application/problem+json"
    assert response.json()["parameter"] == key
    assert response.json()["status"] == 400


def test_unknown_parameters_are_ignored_and_named(web: RunningArchive) -> None:
    response = get(web, "/studies", {"bogus": "1", "PatientID": "P1", "weird\r\nX: y": "2", "includefield": "NoSuch"})
    assert uids(response) == ["1.1"]
    warning = response.headers["Warning"]
    assert warning.startswith(f"299 {web.dicomweb_url}: ")
    assert "bogus" in warning
    assert "NoSuch" in warning
    assert "X" not in response.headers


def test_includefield_adds_attributes(web: RunningArchive) -> None:
    assert "00081030" in get(web, "/studies").json()[0]
    row = get(web, "/instances", {"SOPInstanceUID": "1.1.0.0"}).json()[0]
    assert "00281052" not in row
    for asked in ({"includefield": "RescaleIntercept"}, {"includefield": "00281053,00281052"}, {"includefield": "all"}):
        row = get(web, "/instances", {"SOPInstanceUID": "1.1.0.0", **asked}).json()[0]
        assert row["00281052"]["Value"] == [-1024]
        assert list(row) == sorted(row)
    repeated = [("includefield", "RescaleIntercept"), ("includefield", "RescaleSlope"), ("SOPInstanceUID", "1.1.0.0")]
    assert {"00281052", "00281053"} <= set(get(web, "/instances", repeated).json()[0])


def test_what_is_searched_by_comes_back(web: RunningArchive) -> None:
    row = get(web, "/instances", {"RescaleSlope": "1", "SOPInstanceUID": "1.1.0.0"}).json()[0]
    assert row["00281053"]["Value"] == [1]


def test_pages_name_what_is_left_and_lead_to_it(web: RunningArchive) -> None:
    url: str | None = f"{web.dicomweb_url}/instances?limit=4&PatientName=%2A&includefield=all"
    found: list[str] = []
    pages = 0
    while url:
        response = requests.get(url, timeout=60)
        found += uids(response, SOP)
        pages += 1
        url = response.links.get("next", {}).get("url")
        assert ("There are 2 additional results" in response.headers.get("Warning", "")) == (pages == 1)
    assert pages == 2
    assert sorted(found) == sorted({"1.1.0.0", "1.1.0.1", "1.1.0.2", "1.1.0.3", "1.2.0.1", "1.3.0.1"})


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("*/*", "application/dicom+json"),
        ("application/dicom+json", "application/dicom+json"),
        ("application/json", "application/json"),
        ("text/html, */*;q=0.1", "application/dicom+json"),
    ],
)
def test_json_is_sent_under_the_name_that_was_asked(web: RunningArchive, accept: str, content_type: str) -> None:
    assert get(web, "/studies", Accept=accept).headers["Content-Type"] == content_type


def test_accept_as_a_query_parameter(web: RunningArchive) -> None:
    response = get(web, "/studies", {"accept": "application/json"}, Accept="text/plain")
    assert response.headers["Content-Type"] == "application/json"


def test_what_cannot_be_made_is_not_acceptable_and_told_what_is(web: RunningArchive) -> None:
    response = get(web, "/studies", Accept="text/html")
    assert response.status_code == 406
    assert {"application/dicom+json", 'multipart/related; type="application/dicom+xml"'} <= set(
        response.json()["available"]
    )


def test_studies_whose_instances_disagree_are_marked(web: RunningArchive) -> None:
    files = [
        builders.ct(
            "1.9", "1.9.1", f"1.9.0.{number}", StudyDescription=f"Text {number}", PatientID="P9", rows=8, columns=8
        )
        for number in range(2)
    ]
    assert stow(web, files).status_code == 200  # type: ignore[arg-type]
    response = get(web, "/studies", {"PatientID": "P9"})
    assert value(response.json()[0], "00081030") == "Text 1"
    assert "differ" in response.headers["Warning"]
    web.index.remove([Target("1.9")])


def test_a_path_that_is_no_uid_is_a_bad_request(web: RunningArchive) -> None:
    response = get(web, "/studies/..%2F..%2Fetc/series")
    assert response.status_code == 400
    assert response.json()["parameter"] == "study"


def test_head_has_the_headers_and_no_body(web: RunningArchive) -> None:
    response = requests.head(f"{web.dicomweb_url}/studies", timeout=60)
    assert (response.status_code, response.content) == (200, b"")


def test_log_names_keys_but_no_values(web: RunningArchive, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        get(web, "/studies", {"PatientID": "SECRET1"})
        get(web, "/patients/SECRET2/studies")
    text = caplog.text
    assert "path=/dicom-web/studies keys=PatientID status=204" in text
    assert "SECRET" not in text
