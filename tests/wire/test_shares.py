"""Links that show one study: what they open, what they do not, and how they end."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from tests import builders
from tests.server import Server
from tests.wire.clients import stow

PASSWORD = "correct horse"  # noqa: S105
CSRF = "X-Pacs-Csrf"
SHOWN, HIDDEN = "1.2.826.0.1.3680043.8.498.71", "1.2.826.0.1.3680043.8.498.72"
HIDDEN_ID = "HIDDEN-PATIENT"


def _instance(study_uid: str, **more: Any) -> bytes:
    return builders.ct(study_uid, f"{study_uid}.1", f"{study_uid}.1.1", **more)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("shares"), {"SERVER_WORKERS": "2"}) as running:
        files = [_instance(SHOWN, PatientID="SHOWN"), _instance(HIDDEN, PatientID=HIDDEN_ID, PatientName="Hidden^One")]
        assert stow(running, files).status_code == 200
        for name, role in (("admin", "admin"), ("writer", "writer"), ("other", "writer"), ("reader", "reader")):
            body = {"name": name, "password": PASSWORD, "role": role}
            auth = None if name == "admin" else ("admin", PASSWORD)
            made = requests.post(f"{running.dicomweb_url}/accounts", json=body, auth=auth, timeout=60)
            assert made.status_code == 201, made.text
        time.sleep(2.5)  # until all workers know
        yield running


def share(server: Server, by: str = "writer", **more: Any) -> dict[str, Any]:
    answer = requests.post(
        f"{server.dicomweb_url}/shares", json={"study": SHOWN, **more}, auth=(by, PASSWORD), timeout=30
    )
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    return found


def exchange(server: Server, link: str) -> tuple[requests.Session, requests.Response]:
    session = requests.Session()
    token = link.partition("#/share/")[2]
    answer = session.post(f"{server.dicomweb_url}/session", json={"share": token}, timeout=30)
    if answer.ok:
        session.headers[CSRF] = answer.json()["csrf"]
    return session, answer


@pytest.fixture(scope="module")
def guest(server: Server) -> requests.Session:
    session, answer = exchange(server, share(server)["url"])
    assert answer.status_code == 200, answer.text
    return session


@pytest.fixture(scope="module")
def onlooker(server: Server) -> requests.Session:
    """By a link that is not for downloads."""
    session, _ = exchange(server, share(server, canDownload=False)["url"])
    return session


def test_a_link_opens_its_study(server: Server) -> None:
    made = share(server, days=2)
    assert made["url"].startswith(f"{server.http_url}/#/share/")
    assert made["study"] == SHOWN
    session, answer = exchange(server, made["url"])
    known = answer.json()
    assert (known["study"], known["role"], known["via"], known["studies"]) == (SHOWN, "reader", "share", [SHOWN])
    found = session.get(f"{server.dicomweb_url}/studies/{SHOWN}/metadata", timeout=30)
    assert found.status_code == 200
    assert session.get(f"{server.dicomweb_url}/session", timeout=30).json()["via"] == "share"


_OF = {
    "/studies/{study}",
    "/studies/{study}/metadata",
    "/studies/{study}/series",
    "/studies/{study}/instances",
    "/studies/{study}/series/{series}",
    "/studies/{study}/series/{series}/instances",
    "/studies/{study}/series/{series}/metadata",
    "/studies/{study}/rendered",
    "/studies/{study}/thumbnail",
    "/studies/{study}/series/{series}/thumbnail",
    "/studies/{study}/series/{series}/instances/{instance}",
    "/studies/{study}/series/{series}/instances/{instance}/metadata",
    "/studies/{study}/series/{series}/instances/{instance}/rendered",
    "/studies/{study}/series/{series}/instances/{instance}/frames/1",
    "/studies/{study}/series/{series}/instances/{instance}/frames/1/rendered",
    "/studies/{study}/bulkdata",
    "/studies/{study}/pixeldata",
}


def _address(server: Server, path: str, study_uid: str) -> str:
    filled = path.format(study=study_uid, series=f"{study_uid}.1", instance=f"{study_uid}.1.1")
    return f"{server.dicomweb_url}{filled}"


@pytest.mark.parametrize("path", sorted(_OF))
def test_what_is_of_the_study_is_shown_and_of_another_not(server: Server, guest: requests.Session, path: str) -> None:
    shown = guest.get(_address(server, path, SHOWN), timeout=60)
    assert shown.status_code in (200, 204), shown.text
    hidden = guest.get(_address(server, path, HIDDEN), timeout=60)
    assert hidden.status_code == 404 or (hidden.status_code in (200, 204) and hidden.text in ("", "[]"))
    assert HIDDEN_ID.encode() not in hidden.content


def test_lists_have_the_one_study(server: Server, guest: requests.Session) -> None:
    found = guest.get(f"{server.dicomweb_url}/studies", params={"count": "true"}, timeout=30)
    assert [row["0020000D"]["Value"] for row in found.json()] == [[SHOWN]]
    assert found.headers.get("X-Total-Count", "1") == "1"
    for path in ("series", "instances"):
        rows = guest.get(f"{server.dicomweb_url}/{path}", timeout=30).json()
        assert {row["0020000D"]["Value"][0] for row in rows} == {SHOWN}
    answer = guest.get(f"{server.dicomweb_url}/studies", params={"PatientID": HIDDEN_ID}, timeout=30)
    assert answer.text in ("", "[]")


def test_nothing_that_is_offered_tells_a_guest_of_another_patient(server: Server, guest: requests.Session) -> None:
    """Every operation with every value that would lead to the other study, by what the archive says it offers."""
    paths = guest.get(f"{server.dicomweb_url}/openapi.json", timeout=30).json()["paths"]
    values = {
        "study": HIDDEN,
        "series": f"{HIDDEN}.1",
        "instance": f"{HIDDEN}.1.1",
        "patient": HIDDEN_ID,
        "frames": "1",
    }
    told, changed, asked = [], [], 0
    for path, methods in paths.items():
        url = server.http_url + re.sub(r"\{(\w+)\}", lambda name: values.get(name[1], "1"), path)
        for method in methods:
            if path.endswith("/session"):  # logging in, and out
                continue
            asked += 1
            query = {
                "requestType": "WADO",
                "studyUID": HIDDEN,
                "seriesUID": f"{HIDDEN}.1",
                "objectUID": f"{HIDDEN}.1.1",
            }
            answer = guest.request(
                method, url, timeout=60, allow_redirects=False, params=query if path.endswith("wado") else None
            )
            if HIDDEN_ID in answer.text or (HIDDEN in answer.text and answer.ok):
                told.append(f"{method} {path}")
            if method not in ("get", "options") and answer.status_code < 400:
                changed.append(f"{method} {path}: {answer.status_code}")
    assert (told, changed) == ([], [])
    assert asked > 90


def test_a_guest_reaches_no_lists_of_other_things(server: Server, guest: requests.Session) -> None:
    for path in ("changes", "mwlitems", "workitems", "mpps", "tokens", "fhir/Patient", "fhir/ImagingStudy", "shares"):
        assert guest.get(f"{server.dicomweb_url}/{path}", timeout=30).status_code == 403, path


def test_without_download_pictures_are_shown_and_files_are_not(server: Server, onlooker: requests.Session) -> None:
    assert onlooker.get(f"{server.dicomweb_url}/session", timeout=30).json()["canDownload"] is False
    instance = "/studies/{study}/series/{series}/instances/{instance}"
    for path in ("/studies/{study}/metadata", f"{instance}/frames/1", f"{instance}/rendered"):
        assert onlooker.get(_address(server, path, SHOWN), timeout=60).status_code == 200, path
    for path in ("/studies/{study}", "/studies/{study}/series/{series}", instance, "/studies/{study}/pixeldata"):
        answer = onlooker.get(_address(server, path, SHOWN), timeout=60)
        assert answer.status_code == 403, path
    assert (
        onlooker.get(f"{_address(server, '/studies/{study}', SHOWN)}?accept=application/zip", timeout=30).status_code
        == 403
    )
    query = {"requestType": "WADO", "studyUID": SHOWN, "seriesUID": f"{SHOWN}.1", "objectUID": f"{SHOWN}.1.1"}
    wado = onlooker.get(f"{server.dicomweb_url}/wado", params=query, timeout=30)
    assert wado.status_code == 403


def gone_soon(server: Server, session: requests.Session) -> bool:
    deadline = time.monotonic() + 60
    url = f"{server.dicomweb_url}/studies/{SHOWN}/series"
    while {requests.get(url, cookies=session.cookies, timeout=60).status_code for _ in range(6)} != {
        401
    }:  # both workers know
        if time.monotonic() > deadline:
            return False
        time.sleep(0.3)
    return True


def test_a_link_that_is_taken_back_ends_for_those_who_are_in(server: Server) -> None:
    made = share(server)
    session, answer = exchange(server, made["url"])
    assert answer.status_code == 200
    url = f"{server.dicomweb_url}/shares"
    listed = requests.get(url, params={"study": SHOWN}, auth=("writer", PASSWORD), timeout=60).json()
    assert made["id"] in [each["id"] for each in listed]
    assert made["url"].partition("#/share/")[2] not in str(listed)
    assert requests.delete(f"{url}/{made['id']}", auth=("writer", PASSWORD), timeout=60).status_code == 204
    assert gone_soon(server, session)
    assert exchange(server, made["url"])[1].status_code == 410
    assert requests.delete(f"{url}/{made['id']}", auth=("writer", PASSWORD), timeout=60).status_code == 404


def test_a_link_ends_when_its_time_is_over(server: Server) -> None:
    made = share(server, days=3 / 86_400)
    session, answer = exchange(server, made["url"])
    assert answer.status_code == 200
    assert gone_soon(server, session)
    assert exchange(server, made["url"])[1].status_code == 410
    listed = requests.get(f"{server.dicomweb_url}/shares", auth=("writer", PASSWORD), timeout=60).json()
    assert made["id"] not in [each["id"] for each in listed]


def test_a_link_ends_with_the_account_that_made_it(server: Server) -> None:
    body = {"name": "temp", "password": PASSWORD, "role": "writer"}
    accounts = f"{server.dicomweb_url}/accounts"
    assert requests.post(accounts, json=body, auth=("admin", PASSWORD), timeout=60).status_code == 201
    time.sleep(2.5)
    first, second = share(server, "temp"), share(server, "temp")
    session, _ = exchange(server, first["url"])
    demoted = requests.patch(f"{accounts}/temp", json={"role": "reader"}, auth=("admin", PASSWORD), timeout=60)
    assert demoted.status_code == 200
    assert gone_soon(server, session)
    assert requests.delete(f"{accounts}/temp", auth=("admin", PASSWORD), timeout=60).status_code == 204
    assert requests.post(accounts, json=body, auth=("admin", PASSWORD), timeout=60).status_code == 201
    time.sleep(2.5)
    assert exchange(server, second["url"])[1].status_code == 410  # another account of the same name
    assert requests.delete(f"{accounts}/temp", auth=("admin", PASSWORD), timeout=60).status_code == 204


def test_one_takes_back_ones_own_links_and_an_administrator_all(server: Server) -> None:
    made = share(server)
    url = f"{server.dicomweb_url}/shares"
    theirs = requests.get(url, auth=("other", PASSWORD), timeout=60).json()
    assert made["id"] not in [each["id"] for each in theirs]
    assert requests.delete(f"{url}/{made['id']}", auth=("other", PASSWORD), timeout=60).status_code == 404
    all_of_them = requests.get(url, auth=("admin", PASSWORD), timeout=60).json()
    assert made["id"] in [each["id"] for each in all_of_them]
    assert requests.delete(f"{url}/{made['id']}", auth=("admin", PASSWORD), timeout=60).status_code == 204


def test_one_shares_only_what_one_sees(server: Server) -> None:
    url, limits = f"{server.dicomweb_url}/accounts", {"modalities": ["MR"]}
    body = {"name": "mr", "password": PASSWORD, "role": "writer", **limits}
    assert requests.post(url, json=body, auth=("admin", PASSWORD), timeout=60).status_code == 201
    time.sleep(2.5)
    shares = f"{server.dicomweb_url}/shares"
    assert requests.post(shares, json={"study": SHOWN}, auth=("mr", PASSWORD), timeout=60).status_code == 404
    assert requests.post(shares, json={"study": SHOWN}, auth=("reader", PASSWORD), timeout=60).status_code == 403


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"study": "a b"},
        {"study": 1},
        {"study": SHOWN, "days": 0},
        {"study": SHOWN, "days": -1},
        {"study": SHOWN, "days": 366},
        {"study": SHOWN, "days": True},
        {"study": SHOWN, "days": "7"},
        {"study": SHOWN, "canDownload": "yes"},
    ],
    ids=str,
)
def test_what_is_no_share_is_refused(server: Server, body: dict[str, Any]) -> None:
    answer = requests.post(f"{server.dicomweb_url}/shares", json=body, auth=("writer", PASSWORD), timeout=60)
    assert answer.status_code == 400


@pytest.mark.parametrize("token", ["", "x", "0" * 59, "../session", "0123456789abcdef" + "A" * 43])
def test_a_made_up_link_opens_nothing(server: Server, token: str) -> None:
    session, answer = exchange(server, f"#/share/{token}")
    assert answer.status_code == 410
    assert not session.cookies


def test_the_secret_of_a_link_is_nowhere_in_the_archive(server: Server) -> None:
    secret = share(server)["url"].partition("#/share/")[2][16:]
    kept = [path for path in server.folder.rglob("*") if path.is_file() and secret.encode() in path.read_bytes()]
    assert kept == []


def test_who_sees_everything_stays_who_they_are(server: Server) -> None:
    session = requests.Session()
    url = f"{server.dicomweb_url}/session"
    session.post(url, json={"name": "writer", "password": PASSWORD}, timeout=30)
    answer = session.post(url, json={"share": share(server)["url"].partition("#/share/")[2]}, timeout=30).json()
    assert (answer["name"], answer["study"]) == ("writer", SHOWN)
    assert session.get(url, timeout=30).json()["name"] == "writer"
