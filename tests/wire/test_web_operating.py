"""What those who look after the archive ask over HTTP, of a server with two worker processes."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest
import requests

from tests import builders
from tests.server import Server
from tests.wire.clients import stow

SECRET = "a-secret-of-this-test"  # noqa: S105


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    settings = {"SERVER_WORKERS": "2", "SERVER_SESSION_SECRET_KEY": SECRET}
    with Server(tmp_path_factory.mktemp("operating"), settings) as server:
        yield server


def get(server: Server, path: str, **query: str) -> requests.Response:
    return requests.get(f"{server.dicomweb_url}{path}", params=query, timeout=60)


def test_what_is_stored_shows_in_totals_modalities_and_history(server: Server) -> None:
    before = get(server, "/storage").json()["totals"]
    assert stow(server, [builders.ct("1.5", "1.5.1", f"1.5.1.{number}") for number in range(3)]).status_code == 200
    time.sleep(3.2)
    after = get(server, "/storage").json()
    assert after["totals"]["instances"] == before["instances"] + 3
    assert {row["modality"]: row["instances"] for row in after["modalities"]}["CT"] >= 3
    disk = after["disk"]
    assert disk["total"] >= disk["used"] > 0
    assert disk["reserve"] == 256 << 20
    hours = get(server, "/storage/history", by="hour").json()["buckets"]
    assert len(hours) == 48
    assert sum(hour["stored"] for hour in hours) >= 3
    assert hours[-1]["instances"] == after["totals"]["instances"]
    assert len(get(server, "/storage/history", by="day").json()["buckets"]) == 365


def test_both_processes_are_seen_and_nothing_is_wrong(server: Server) -> None:
    deadline = time.monotonic() + 60
    while len((state := get(server, "/system").json())["processes"]) < 2:
        assert time.monotonic() < deadline, state
        time.sleep(0.2)
    assert len({process["pid"] for process in state["processes"]}) == 2
    assert all(process["memory_bytes"] > 1 << 20 for process in state["processes"])
    assert state["problems"] == []
    assert state["index"] == "SQLite"


def test_settings_are_told_without_secrets(server: Server) -> None:
    response = get(server, "/settings")
    assert SECRET not in response.text
    found = {one["name"]: one for one in response.json()["settings"]}
    assert found["SERVER_WORKERS"]["value"] == "2"
    assert found["SERVER_SESSION_SECRET_KEY"]["value"] == "********"
    assert all(one["description"] and one["section"] for one in found.values())


def test_the_log_shows_lines_of_all_processes_whichever_answers(server: Server) -> None:
    # One connection each: the processes take turns.
    for number in range(40):
        get(server, f"/studies/1.2.3.{number}/metadata")
    lines = get(server, "/log", limit="2000").json()["lines"]
    paths = [line["message"] for line in lines if "/studies/1.2.3." in line["message"]]
    assert len(paths) == 40
    assert {line["worker"] for line in lines if "worker" in line} == {1, 2}
    last = get(server, "/log", limit="1").json()["last"]
    get(server, "/studies/1.2.999/metadata")
    following = get(server, "/log", after=last, text="1.2.999").json()["lines"]
    assert len(following) == 1
    assert get(server, "/log", level="ERROR").json()["lines"] == []


def test_the_log_comes_as_a_stream(server: Server) -> None:
    headers = {"Accept": "text/event-stream"}
    query = {"text": "/studies/1.7.", "level": "INFO"}
    with requests.get(f"{server.dicomweb_url}/log", params=query, headers=headers, stream=True, timeout=60) as stream:
        assert stream.headers["Content-Type"].startswith("text/event-stream")
        get(server, "/studies/1.7.1/metadata")
        get(server, "/studies/1.8.1/metadata")
        get(server, "/studies/1.7.2/metadata")
        seen: list[str] = []
        for line in stream.iter_lines():
            if line.startswith(b"data: "):
                seen += [entry["message"].split()[2] for entry in json.loads(line[6:])]
            if len(seen) >= 2:
                break
    assert seen == ["path=/dicom-web/studies/1.7.1/metadata", "path=/dicom-web/studies/1.7.2/metadata"]


@pytest.mark.parametrize(
    ("path", "named"),
    [
        ("/log?level=LOUD", "level"),
        ("/log?limit=0", "limit"),
        ("/log?after=x", "cursor"),
        ("/log?text=" + "x" * 300, "text"),
        ("/storage/history?by=week", "by"),
        ("/storage/history?buckets=99999", "buckets"),
        ("/storage/history?by=hour&buckets=745", "buckets"),
    ],
    ids=["level", "limit", "cursor", "text", "by", "buckets", "hours"],
)
def test_what_cannot_be_asked_is_said(server: Server, path: str, named: str) -> None:
    response = get(server, path)
    assert response.status_code == 400
    assert named in response.json()["detail"]


def test_the_conformance_statement_is_served_for_people_and_for_scripts(server: Server) -> None:
    markdown = get(server, "/conformance")
    assert markdown.headers["Content-Type"].startswith("text/markdown")
    assert markdown.text == server.pacs("conformance").stdout
    page = requests.get(f"{server.dicomweb_url}/conformance", headers={"Accept": "text/html"}, timeout=60)
    assert page.text.startswith("<!doctype html>")
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]


def test_the_packages_in_use_are_told_with_their_licences(server: Server) -> None:
    about = get(server, "/about").json()
    found = {package["name"].casefold(): package for package in about["packages"]}
    assert found["pydicom"]["licence"]
    assert found["aiohttp"]["version"]
    assert about["licence"] == "MIT"


def test_many_jobs_are_retried_and_discarded_at_once(server: Server) -> None:
    listed = get(server, "/jobs").json()["jobs"]
    waiting = [job["id"] for job in listed if job["kind"] == "changes-tidy"]
    assert waiting
    body = {"jobs": [*waiting, "not-a-job"]}
    assert requests.post(f"{server.dicomweb_url}/jobs/retry", json=body, timeout=60).json() == {"jobs": 1}
    refused = requests.post(f"{server.dicomweb_url}/jobs/discard", json={"jobs": "all"}, timeout=60)
    assert refused.status_code == 400
    gone = requests.post(f"{server.dicomweb_url}/jobs/discard", json={"jobs": ["not-a-job"]}, timeout=60)
    assert gone.json() == {"jobs": 0}


def test_administration_that_is_switched_off_is_refused_in_words(tmp_path_factory: pytest.TempPathFactory) -> None:
    with Server(tmp_path_factory.mktemp("off"), {"ADMIN_API": "false"}) as server:
        for path in ("/storage", "/storage/history", "/system", "/settings", "/log"):
            response = get(server, path)
            assert response.status_code == 403, path
            assert "ADMIN_API" in response.json()["detail"]
        assert get(server, "/about").status_code == 200
