"""Parameters of searches that the standard does not have, and labels of many studies, over real HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import requests

from tests import builders
from tests.unit.web.running import RunningArchive
from tests.wire.clients import stow, value

STUDY, SERIES = "0020000D", "0020000E"


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningArchive]:
    """Four studies of one instance, the first with two series; study 1.4 has no date. 1.1 and 1.3 bear labels."""
    with RunningArchive(tmp_path_factory.mktemp("listing")) as running:
        made = [
            ("1.1", "1.1.1", {"PatientName": "Müller^José", "StudyDate": "20240131", "SeriesNumber": 9}),
            ("1.1", "1.1.2", {"PatientName": "Müller^José", "StudyDate": "20240131", "SeriesNumber": 2}),
            ("1.2", "1.2.1", {"PatientName": "Doe^Jane", "PatientID": "B", "StudyDate": "20200101", "Modality": "MR"}),
            ("1.3", "1.3.1", {"PatientName": "Abel^Jane", "PatientID": "A", "StudyDate": "20220101"}),
            ("1.4", "1.4.1", {"PatientName": "Zoe", "PatientID": "Z", "StudyDate": ""}),
        ]
        files = [
            builders.ct(study, series, f"{series}.1", rows=8, columns=8, **more, SpecificCharacterSet="ISO_IR 192")
            for study, series, more in made
        ]
        assert stow(running, files).status_code == 200  # type: ignore[arg-type]
        for study, label in (("1.1", "teaching"), ("1.3", "teaching"), ("1.3", "trial:x")):
            assert requests.put(f"{running.dicomweb_url}/studies/{study}/labels/{label}", timeout=60).status_code == 204
        yield running


def get(web: RunningArchive, path: str, **parameters: Any) -> requests.Response:
    return requests.get(web.dicomweb_url + path, params=parameters, timeout=60)


def uids(response: requests.Response, tag: str = STUDY) -> list[str]:
    return [value(row, tag) for row in response.json()] if response.status_code == 200 else []


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        ("StudyDate", ["1.2", "1.3", "1.1", "1.4"]),
        ("-StudyDate", ["1.1", "1.3", "1.2", "1.4"]),
        ("00100010", ["1.3", "1.2", "1.1", "1.4"]),
        ("-received", ["1.4", "1.3", "1.2", "1.1"]),
        ("NumberOfStudyRelatedInstances", ["1.2", "1.3", "1.4", "1.1"]),
    ],
)
def test_studies_come_in_the_order_that_is_asked_for(web: RunningArchive, order: str, expected: list[str]) -> None:
    response = get(web, "/studies", orderby=order)
    assert uids(response) == expected
    assert "Warning" not in response.headers


def test_pages_of_an_order_follow_each_other(web: RunningArchive) -> None:
    pages = [get(web, "/studies", orderby="-StudyDate", limit=3, offset=at, count="true") for at in (0, 3)]
    assert [uids(page) for page in pages] == [["1.1", "1.3", "1.2"], ["1.4"]]
    assert [page.headers["X-Total-Count"] for page in pages] == ["4", "4"]
    assert "orderby=-StudyDate" in pages[0].headers["Link"]
    assert "additional results" in pages[0].headers["Warning"]
    assert "Link" not in pages[1].headers


def test_series_come_by_number(web: RunningArchive) -> None:
    assert uids(get(web, "/studies/1.1/series", orderby="SeriesNumber"), SERIES) == ["1.1.2", "1.1.1"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("mull", ["1.1"]),
        ("jane 2020", ["1.2"]),
        ("2024-01", ["1.1"]),
        ("mr", ["1.2"]),
        ("teach", ["1.1", "1.3"]),
        ("trial:x", ["1.3"]),
        ("ane", []),
        (" - ", ["1.1", "1.2", "1.3", "1.4"]),
    ],
)
def test_words_find_studies(web: RunningArchive, text: str, expected: list[str]) -> None:
    response = get(web, "/studies", search=text, count="true")
    assert uids(response) == expected
    assert response.headers["X-Total-Count"] == str(len(expected))


def test_words_go_together_with_keys_and_labels(web: RunningArchive) -> None:
    assert uids(get(web, "/studies", search="jane", Modality="CT")) == ["1.3"]
    assert uids(get(web, "/studies", search="j", labels="teaching", orderby="PatientName")) == ["1.3", "1.1"]
    assert uids(get(web, "/studies", labels="trial:x,nothing")) == ["1.3"]
    assert uids(get(web, "/series", labels="trial:x"), SERIES) == ["1.3.1"]


@pytest.mark.parametrize(
    ("path", "parameters", "named"),
    [
        ("/studies", {"orderby": "SliceThickness"}, "orderby"),
        ("/studies", {"orderby": "nonsense"}, "nonsense"),
        ("/studies", {"orderby": ["StudyDate", "PatientID"]}, "orderby"),
        ("/series", {"orderby": "StudyDate"}, "orderby"),
        ("/series", {"search": "doe"}, "search"),
        ("/studies", {"count": "perhaps"}, "count"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    web: RunningArchive, path: str, parameters: dict[str, Any], named: str
) -> None:
    response = get(web, path, **parameters)
    assert response.status_code == 400
    assert named in response.text


def test_labels_are_listed_with_their_studies(web: RunningArchive) -> None:
    assert get(web, "/labels").json() == {"teaching": 2, "trial:x": 1}
    assert get(web, "/labels", studies="1.3,1.2,9.9").json() == {"1.2": [], "1.3": ["teaching", "trial:x"]}


def test_a_label_that_goes_is_found_no_more(web: RunningArchive) -> None:
    url = f"{web.dicomweb_url}/studies/1.2/labels/passing"
    assert requests.put(url, timeout=60).status_code == 204
    assert uids(get(web, "/studies", search="passing")) == ["1.2"]
    assert requests.delete(url, timeout=60).status_code == 204
    assert uids(get(web, "/studies", search="passing")) == uids(get(web, "/studies", labels="passing")) == []
