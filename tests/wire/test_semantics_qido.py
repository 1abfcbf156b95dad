"""Each row of the QIDO-RS and C-FIND table that the archive promises, over real HTTP and DIMSE; names are the rows'."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import requests

from pacs.dicom.encode import encode_data_set
from pacs.dicom.uids import new_uid
from pacs.dicom.xml_model import from_xml
from tests import builders
from tests.conftest import Backend, StartArchive
from tests.server import Server, dcmtk
from tests.wire.clients import EXPLICIT_LITTLE, TIMEOUT_S, association, c_find_bytes, find, stow, value
from tests.wire.metadata_requests import XML, XML_PARTS, parts_of

STUDY, SERIES, SOP = "0020000D", "0020000E", "00080018"
STUDY_ROOT_FIND = "1.2.840.10008.5.1.4.1.2.2.1"
PROBLEM = "application/problem+json"


@dataclass(frozen=True)
class Full:
    """An archive of ten studies of one instance each: patient P0 to P9, study date 2024-01-01 to -10."""

    server: Server
    studies: list[str]
    folder: Path

    def get(self, path: str = "/studies", parameters: Any = None, **headers: str) -> requests.Response:
        return requests.get(self.server.dicomweb_url + path, params=parameters, headers=headers, timeout=TIMEOUT_S)

    def numbers(self, parameters: Any = None, path: str = "/studies") -> list[int]:
        """Which studies answer a search, by number."""
        response = self.get(path, parameters)
        assert response.status_code in (200, 204), response.text
        rows = response.json() if response.status_code == 200 else []
        return [self.studies.index(value(row, STUDY)) for row in rows]

    def find(self, *keys: str, level: str = "STUDY") -> list[int]:
        """The same by C-FIND."""
        returned = [] if any(key.startswith("StudyInstanceUID") for key in keys) else ["StudyInstanceUID"]
        answers = find(self.server, "-P", level, self.folder, *returned, *keys)
        return sorted(self.studies.index(str(answer.StudyInstanceUID)) for answer in answers)


NAMES = (
    *("Doe^Jane", "Doe^John", "Müller^Jörg", "Yamada^Tarou=山田^太郎=やまだ^たろう", "Meyer^Anna", "Maier^Anna"),
    *("Percent^100%", "O_Neil^Sean", "Bracket^[a]", "Back^Slash"),
)
DESCRIPTIONS = ("Thorax", "THORAX ap", "Head", "100%", "a_b", "a[b]c", "Knee", "a*b", "", "Spine")


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory, backend: Backend) -> Iterator[Full]:
    folder = tmp_path_factory.mktemp("qido")
    with Server(folder / "archive", backend()) as server:
        studies = [new_uid() for _ in range(10)]
        files = [
            builders.ct(
                study,
                None,
                None,
                rows=8,
                columns=8,
                SpecificCharacterSet="ISO_IR 192",
                PatientID=f"P{number}",
                PatientName=NAMES[number],
                StudyDescription=DESCRIPTIONS[number],
                StudyDate=f"202401{number + 1:02}",
                StudyTime=f"{number + 8:02}3000",
                AcquisitionDateTime=f"202401{number + 1:02}120000",
                Modality=("CT", "MR")[number % 2],
                TriggerTime=number,
                RequestAttributesSequence=[{"ScheduledProcedureStepID": f"S{number}", "RequestedProcedureID": "R"}],
                **{
                    "00110010": {"vr": "LO", "Value": ["ACME"]},
                    "00111003": {"vr": "LO", "Value": [f"secret{number}"]},
                },
            )
            for number, study in enumerate(studies)
        ]
        assert stow(server, files).status_code == 200
        yield Full(server, studies, folder / "find")


def test_nothing_found(full: Full) -> None:
    for path in ("/studies", "/series", "/instances", "/patients", f"/studies/{full.studies[0]}/series"):
        response = full.get(path, {"PatientID": "nobody"})
        assert (response.status_code, response.content) == (204, b"")
    assert full.find("PatientID=nobody") == []
    run = dcmtk(
        *(
            "findscu",
            "-v",
            "-P",
            "-aec",
            full.server.ae_title,
            "-k",
            "QueryRetrieveLevel=STUDY",
            "-k",
            "PatientID=nobody",
        ),
        *("127.0.0.1", str(full.server.dimse_port)),
    )
    assert "Received Final Find Response (Success)" in run.stdout
    assert "Pending" not in run.stdout


def test_limit(full: Full, start_archive: StartArchive) -> None:
    assert len(full.numbers({"limit": 3})) == 3
    for bad in ("0", "-1", "many", "1.5", ""):
        response = full.get("/studies", {"limit": bad})
        assert (response.status_code, response.headers["Content-Type"]) == (400, PROBLEM)
        assert response.json()["parameter"] == "limit"
    small = start_archive({"QIDO_DEFAULT_LIMIT": "2", "QIDO_MAX_LIMIT": "3"})
    assert stow(small, [builders.ct(rows=8, columns=8) for _ in range(5)]).status_code == 200
    for asked, found in ((None, 2), (1, 1), (5000, 3)):
        parameters = {} if asked is None else {"limit": asked}
        assert len(requests.get(f"{small.dicomweb_url}/studies", params=parameters, timeout=60).json()) == found


def test_limit_is_100_by_default(fresh_archive: Server) -> None:
    assert stow(fresh_archive, [builders.ct(rows=4, columns=4) for _ in range(101)]).status_code == 200
    response = requests.get(f"{fresh_archive.dicomweb_url}/studies", timeout=60)
    assert len(response.json()) == 100
    assert "There are 1 additional results" in response.headers["Warning"]


def test_more_than_limit(full: Full) -> None:
    url: str | None = f"{full.server.dicomweb_url}/studies?limit=4&PatientName=*&includefield=all"
    found: list[str] = []
    warnings = []
    while url:
        response = requests.get(url, timeout=TIMEOUT_S)
        assert response.status_code == 200
        found += [value(row, STUDY) for row in response.json()]
        warnings.append(response.headers.get("Warning", ""))
        url = response.links.get("next", {}).get("url")
        if url:
            assert parse_qs(urlsplit(url).query)["includefield"] == ["all"]
    assert found == full.studies
    assert warnings[0].startswith("299 ")
    assert "There are 6 additional results that can be requested" in warnings[0]
    assert "There are 2 additional results that can be requested" in warnings[1]
    assert warnings[2] == ""


def test_offset(full: Full) -> None:
    assert full.numbers({"offset": 7}) == [7, 8, 9]
    assert full.numbers({"offset": 10}) == []
    assert full.numbers({"offset": 10**30}) == []
    assert full.get("/studies", {"offset": -1}).status_code == 400


def test_stable_order_between_pages_while_data_arrive(fresh_archive: Server) -> None:
    first = [new_uid() for _ in range(30)]
    for study in first:
        assert stow(fresh_archive, [builders.ct(study, rows=4, columns=4)]).status_code == 200
    stop = threading.Event()

    def send() -> None:
        while not stop.is_set():
            stow(fresh_archive, [builders.ct(rows=4, columns=4), builders.ct(first[0], rows=4, columns=4)])

    sender = threading.Thread(target=send)
    sender.start()
    try:
        for _ in range(3):
            found: list[str] = []
            for offset in range(0, 30, 3):
                response = requests.get(
                    f"{fresh_archive.dicomweb_url}/studies", params={"limit": 3, "offset": offset}, timeout=30
                )
                found += [value(row, STUDY) for row in response.json()]
            assert found == first
    finally:
        stop.set()
        sender.join()


@pytest.mark.parametrize(
    "key",
    [
        {"TriggerTime": "3"},
        {"00181060": "3"},
        {"PatientID": "P3"},
        {"0008002A": "20240104120000"},
        {"0008002a": "20240104120000"},
        {"RequestAttributesSequence.ScheduledProcedureStepID": "S3"},
        {"00400275.00400009": "s3"},
        {"00400275.ScheduledProcedureStepID": "S3"},
        {"00110003@ACME": "secret3"},
        {"00111003": "SECRET3"},
        {"00110010": "ACME", "00111003": "secret3"},
    ],
)
def test_key_by_keyword_tag_path_and_private_tag(full: Full, key: dict[str, str]) -> None:
    assert full.numbers(key) == [3]
    assert "Warning" not in full.get("/studies", key).headers


def test_sequence_and_private_keys_by_c_find(full: Full) -> None:
    assert full.find("RequestAttributesSequence[0].ScheduledProcedureStepID=S3") == [3]
    identifier = builders.json_of(
        {
            "QueryRetrieveLevel": "STUDY",
            "StudyInstanceUID": None,
            "00110010": {"vr": "LO", "Value": ["ACME"]},
            "00111003": {"vr": "LO", "Value": ["secret3"]},
        }
    )
    with association(full.server, {STUDY_ROOT_FIND: [EXPLICIT_LITTLE]}) as opened:
        assert c_find_bytes(opened, encode_data_set(identifier, EXPLICIT_LITTLE), STUDY_ROOT_FIND) == (0, 1)
    assert full.find("TriggerTime=3") == [3]


def test_sequence_and_private_attributes_come_back(full: Full) -> None:
    row = full.get("/instances", {"PatientID": "P3", "includefield": "00400275,00110003@ACME"}).json()[0]
    assert value(value(row, "00400275"), "00400009") == "S3"
    assert (value(row, "00110010"), value(row, "00111003")) == ("ACME", "secret3")
    for asked in ({"00110010": "ACME", "00111003": "secret3"}, {"PatientID": "P3", "includefield": "00111003"}):
        row = full.get("/studies", asked).json()[0]
        assert (value(row, "00110010"), value(row, "00111003")) == ("ACME", "secret3")
    row = full.get("/studies", {"00400275.00400009": "S3"}).json()[0]
    assert value(value(row, "00400275"), "00401001") == "R"


def test_unknown_parameter(full: Full) -> None:
    response = full.get("/studies", {"PatientID": "P1", "nonsense": "1", "fuzzymatching": "false"})
    assert [value(row, "00100020") for row in response.json()] == ["P1"]
    assert response.headers["Warning"].startswith("299 ")
    assert "nonsense" in response.headers["Warning"]
    assert "fuzzymatching" not in response.headers["Warning"]


@pytest.mark.parametrize(
    ("key", "bad"),
    [
        ("StudyDate", "yesterday"),
        ("StudyDate", "20241301"),
        ("StudyDate", "20240101-2024x"),
        ("StudyTime", "25"),
        ("StudyInstanceUID", "1.2.x"),
        ("00080020", "x"),
        ("SeriesNumber", "one"),
    ],
)
def test_malformed_value_of_a_known_key(full: Full, key: str, bad: str) -> None:
    response = full.get("/studies", {key: bad})
    assert (response.status_code, response.headers["Content-Type"]) == (400, PROBLEM)
    body = response.json()
    assert (body["status"], body["parameter"]) == (400, key)
    assert key in body["detail"]


def test_includefield(full: Full) -> None:
    plain = full.get("/instances", {"PatientID": "P1"}).json()[0]
    assert "00281052" not in plain
    forms: list[Any] = [
        {"includefield": "all"},
        {"includefield": "ALL"},
        {"includefield": "RescaleIntercept,RescaleSlope"},
        {"includefield": "00281052,00281053"},
        [("includefield", "RescaleIntercept"), ("includefield", "00281053")],
        [("includefield", "RescaleIntercept, RescaleSlope"), ("includefield", "")],
    ]
    for form in forms:
        parameters = [("PatientID", "P1"), *(form.items() if isinstance(form, dict) else form)]
        row = full.get("/instances", parameters).json()[0]
        assert (value(row, "00281052"), value(row, "00281053")) == (-1024, 1)
        assert set(plain) <= set(row)


@pytest.mark.parametrize(
    ("wildcard", "expected"),
    [
        ("Thor*", [0, 1]),
        ("*ap", [1]),
        ("?ead", [2]),
        ("100%", [3]),
        ("1%", []),
        ("%", []),
        ("a_b", [4]),
        ("a?b", [4, 7]),
        ("a[b]c", [5]),
        ("a[b*", [5]),
        ("a*c", [5]),
        ("\\*", []),
    ],
)
def test_wildcard(full: Full, wildcard: str, expected: list[int]) -> None:
    assert full.numbers({"StudyDescription": wildcard}) == expected
    if "\\" not in wildcard:
        assert full.find(f"StudyDescription={wildcard}") == expected


def test_list_of_uids(full: Full) -> None:
    one, two, three = full.studies[1], full.studies[4], full.studies[8]
    assert full.numbers({"StudyInstanceUID": f"{one},{two},{three}"}) == [1, 4, 8]
    assert full.numbers([("StudyInstanceUID", one), ("StudyInstanceUID", three)]) == [1, 8]
    assert full.find(f"StudyInstanceUID={one}\\{two}\\{three}") == [1, 4, 8]


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"StudyDate": "20240103-20240105"}, [2, 3, 4]),
        ({"StudyDate": "20240109-"}, [8, 9]),
        ({"StudyDate": "-20240102"}, [0, 1]),
        ({"StudyTime": "0800-0930"}, [0, 1]),
        ({"StudyTime": "1730-"}, [9]),
        ({"StudyTime": "-0900"}, [0]),
        ({"AcquisitionDateTime": "20240109-20240110"}, [8, 9]),
        ({"AcquisitionDateTime": "20240110115959-"}, [9]),
        ({"AcquisitionDateTime": "-20240101120000"}, [0]),
        ({"StudyDate": "20240102-20240103", "StudyTime": "1030-1030"}, [2]),
        ({"StudyDate": "20240102-20240104", "StudyTime": "0930-1030"}, [1, 2]),
    ],
)
def test_ranges(full: Full, keys: dict[str, str], expected: list[int]) -> None:
    assert full.numbers(keys) == expected
    if "AcquisitionDateTime" not in keys:
        assert full.find(*(f"{name}={text}" for name, text in keys.items())) == expected


@pytest.mark.parametrize(
    ("name", "fuzzy", "expected"),
    [
        ("doe^jane", False, [0]),
        ("DOE*", False, [0, 1]),
        ("muller*", False, [2]),
        ("MÜLLER^JORG", False, [2]),
        ("山田*", False, [3]),
        ("やまだ*", False, [3]),
        ("yamada^tarou", False, [3]),
        ("jane", False, []),
        ("jane", True, [0, 1]),  # John sounds alike
        ("joh doe", True, [1]),
        ("meier", True, [4, 5]),
        ("100%", False, []),
        ("*100%", False, [6]),
        ("o_neil*", False, [7]),
        ("*[a]", False, [8]),
    ],
)
def test_pn(full: Full, name: str, fuzzy: bool, expected: list[int]) -> None:
    assert full.numbers({"PatientName": name, "fuzzymatching": str(fuzzy).lower()}) == expected
    if not fuzzy and name.isascii():
        assert full.find(f"PatientName={name}") == expected


def test_other_text_vrs(full: Full) -> None:
    assert full.numbers({"StudyDescription": "tHoRaX"}) == [0]
    assert full.numbers({"PatientID": "p7"}) == [7]
    assert full.numbers({"Modality": "mr"}) == [1, 3, 5, 7, 9]
    assert full.find("PatientID=p7") == [7]


def test_patient_name_in_responses(full: Full, fresh_archive: Server) -> None:
    row = full.get("/studies", {"PatientID": "P3"}).json()[0]
    groups = {"Alphabetic": "Yamada^Tarou", "Ideographic": "山田^太郎", "Phonetic": "やまだ^たろう"}
    assert value(row, "00100010") == groups
    (answer,) = find(full.server, "-P", "STUDY", full.folder, "PatientName", "PatientID=P3")
    assert answer.SpecificCharacterSet == "ISO_IR 192"
    assert str(answer.PatientName) == "=".join(groups.values())
    # From another character set to the same text.
    study = new_uid()
    latin = builders.ct(
        study, rows=4, columns=4, PatientID="L1", PatientName="M__ller", SpecificCharacterSet="ISO_IR 192"
    )
    latin = latin.replace(b"M__ller", b"M\xfcller ").replace(b"ISO_IR 192", b"ISO_IR 100")
    assert stow(fresh_archive, [latin]).status_code == 200
    (row,) = requests.get(f"{fresh_archive.dicomweb_url}/studies", timeout=60).json()
    assert value(row, "00100010") == {"Alphabetic": "Müller"}


def test_counters_are_kept_exact(fresh_archive: Server) -> None:
    study, series = new_uid(), [new_uid(), new_uid()]
    seen = []
    for number in range(4):
        file = builders.ct(
            study, series[number // 2], rows=4, columns=4, Modality=("CT", "MR")[number // 2], PatientID="C1"
        )
        assert stow(fresh_archive, [file]).status_code == 200
        fields = "includefield=ModalitiesInStudy,SOPClassesInStudy,NumberOfPatientRelatedInstances"
        row = requests.get(f"{fresh_archive.dicomweb_url}/studies?{fields}", timeout=60).json()[0]
        seen.append((row["00080061"]["Value"], value(row, "00201206"), value(row, "00201208"), value(row, "00201204")))
        assert row["00080062"]["Value"] == [builders.CT_IMAGE_STORAGE]
    assert seen == [(["CT"], 1, 1, 1), (["CT"], 1, 2, 2), (["CT", "MR"], 2, 3, 3), (["CT", "MR"], 2, 4, 4)]
    rows = requests.get(f"{fresh_archive.dicomweb_url}/studies/{study}/series", timeout=60).json()
    assert [value(row, "00201209") for row in rows] == [2, 2]


def test_inconsistent_study_attributes(fresh_archive: Server) -> None:
    study = new_uid()
    for text in ("First", "Second"):
        file = builders.ct(study, rows=4, columns=4, StudyDescription=text)
        assert stow(fresh_archive, [file]).status_code == 200
    response = requests.get(f"{fresh_archive.dicomweb_url}/studies", timeout=60)
    assert value(response.json()[0], "00081030") == "Second"
    assert response.headers["Warning"].startswith("299 ")
    assert "differ" in response.headers["Warning"]


# What is promised beside the table


def test_rows_as_xml_are_the_same_as_json(full: Full) -> None:
    for path in ("/studies", "/series", "/instances", "/patients"):
        parameters = {"limit": 4, "includefield": "all"}
        rows = full.get(path, parameters).json()
        response = full.get(path, parameters, Accept=XML_PARTS)
        assert response.status_code == 200
        assert response.headers["Content-Type"].startswith('multipart/related; type="application/dicom+xml"')
        parts = parts_of(response)
        assert {headers["content-type"] for headers, _ in parts} == {XML}
        assert [from_xml(content) for _, content in parts] == rows
        assert "additional results" in response.headers["Warning"]
    assert full.get("/studies", {"PatientID": "nobody"}, Accept=XML_PARTS).status_code == 204


def test_etag_and_if_none_match(full: Full) -> None:
    for accept in ("application/dicom+json", XML_PARTS):
        first = full.get("/studies", {"limit": 5}, Accept=accept)
        again = full.get("/studies", {"limit": 5}, Accept=accept)
        assert first.headers["ETag"] == again.headers["ETag"]
        assert first.content == again.content
        tag = first.headers["ETag"]
        unchanged = full.get("/studies", {"limit": 5}, Accept=accept, **{"If-None-Match": tag})
        assert (unchanged.status_code, unchanged.content, unchanged.headers["ETag"]) == (304, b"", tag)
        other = full.get("/studies", {"limit": 6}, Accept=accept, **{"If-None-Match": tag})
        assert other.status_code == 200
        assert other.headers["ETag"] != tag


def test_an_etag_changes_with_the_answer(fresh_archive: Server) -> None:
    study = new_uid()
    tags = []
    for _ in range(2):
        assert stow(fresh_archive, [builders.ct(study, rows=4, columns=4)]).status_code == 200
        tags.append(requests.get(f"{fresh_archive.dicomweb_url}/studies", timeout=60).headers["ETag"])
    assert tags[0] != tags[1]


@pytest.mark.parametrize("path", ["/studies", "/series", "/instances", "/patients", "/studies/1.2/series"])
def test_head_and_options(full: Full, path: str) -> None:
    got = full.get(path)
    head = requests.head(full.server.dicomweb_url + path, timeout=TIMEOUT_S)
    assert (head.status_code, head.content) == (got.status_code, b"")
    for name in ("Content-Type", "ETag", "Warning", "Content-Length"):
        assert head.headers.get(name) == got.headers.get(name)
    options = requests.options(full.server.dicomweb_url + path, timeout=TIMEOUT_S)
    assert options.status_code == 204
    allowed = {method.strip() for method in options.headers["Allow"].split(",")}
    assert {"GET", "HEAD", "OPTIONS"} <= allowed
    assert ("POST" in allowed) == (path == "/studies")
