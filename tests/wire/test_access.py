"""Who may do what over HTTP: every operation of a running server, asked by everybody there is, cell by cell."""

from __future__ import annotations

import io
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydicom
import pytest
import requests
from dicomweb_client import DICOMwebClient
from pydicom.uid import generate_uid

from tests import builders
from tests.server import Server, clean_environment, dcmtk, free_port
from tests.wire.clients import stow

PASSWORD = "correct horse"  # noqa: S105
ROLES = ["reader", "writer", "admin"]
CSRF = "X-Pacs-Csrf"

# The table. What is in none of these sets: READER to GET, WRITER to do anything else.
PUBLIC = {
    *("GET /", "GET /health/live", "GET /health/ready", "GET /ui/config.json", "GET /ui/{file}"),
    *("GET /viewer", "GET /viewer/{file}"),
    *("GET /dicom-web/session", "POST /dicom-web/session", "DELETE /dicom-web/session"),
}
READER_TOO = {
    *("POST /dicom-web/session/password", "POST /dicom-web/tokens", "DELETE /dicom-web/tokens/{id}"),
    *("OPTIONS /", "OPTIONS /dicom-web"),
}
WRITER_TOO = {
    *("GET /dicom-web/sends", "GET /dicom-web/sends/{send}", "GET /dicom-web/trash", "GET /dicom-web/shares"),
    *("GET /dicom-web/peers", "POST /dicom-web/peers/{ae}/echo", "POST /dicom-web/peers/{ae}/send"),
}
ADMIN_ONLY = re.compile(
    r"GET /metrics|\w+ /dicom-web/(accounts|audit|commitments|jobs|log|settings|storage|system)(/.*)?"
)


def needed(operation: str) -> str:
    """nobody, reader, writer or admin."""
    if operation in PUBLIC:
        return "nobody"
    if operation == "POST /dicom-web/peers/{ae}/send":  # whoever may store may have things sent, too
        return "writer"
    if ADMIN_ONLY.fullmatch(operation):
        return "admin"
    if operation in READER_TOO:
        return "reader"
    return "reader" if operation.startswith("GET ") and operation not in WRITER_TOO else "writer"


def may(role: str, operation: str) -> bool:
    ranks = ["nobody", *ROLES]
    return ranks.index(role) >= ranks.index(needed(operation))


@dataclass(frozen=True)
class Somebody:
    role: str
    session: requests.Session


def account_of(server: Server, name: str, role: str, **more: Any) -> None:
    boss = None if name == "admin" else ("admin", PASSWORD)
    body = {"name": name, "password": PASSWORD, "role": role, **more}
    made = requests.post(f"{server.dicomweb_url}/accounts", json=body, auth=boss, timeout=60)
    assert made.status_code == 201, made.text


def logged_in(server: Server, name: str, password: str = PASSWORD) -> requests.Session:
    session = requests.Session()
    answer = session.post(f"{server.dicomweb_url}/session", json={"name": name, "password": password}, timeout=30)
    assert answer.status_code == 200, answer.text
    session.headers[CSRF] = answer.json()["csrf"]
    return session


def bearer(server: Server, name: str, **body: Any) -> requests.Session:
    made = requests.post(
        f"{server.dicomweb_url}/tokens", json={"name": str(time.time_ns()), **body}, auth=(name, PASSWORD), timeout=30
    )
    assert made.status_code == 201, made.text
    session = requests.Session()
    session.headers["Authorization"] = f"Bearer {made.json()['token']}"
    return session


def basic(name: str) -> requests.Session:
    session = requests.Session()
    session.auth = (name, PASSWORD)
    return session


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("access")) as running:
        assert stow(running, [builders.ct()]).status_code == 200  # nobody has to log in yet
        for role in reversed(ROLES):
            account_of(running, role, role)
        yield running


@pytest.fixture(scope="module")
def operations(server: Server) -> list[tuple[str, str]]:
    """Method and path, of all that the running server says it offers."""
    paths = requests.get(f"{server.dicomweb_url}/openapi.json", auth=("reader", PASSWORD), timeout=60).json()["paths"]
    found = [(method.upper(), path) for path, methods in paths.items() for method in methods]
    # Logging out comes last: it ends what is being tested.
    return sorted(found, key=lambda operation: operation == ("DELETE", "/dicom-web/session"))


def test_the_table_is_about_operations_that_there_are(operations: list[tuple[str, str]]) -> None:
    offered = {f"{method} {path}" for method, path in operations}
    assert offered >= PUBLIC | READER_TOO | WRITER_TOO
    assert len(offered) > 80
    assert {needed(operation) for operation in offered} == {"nobody", *ROLES}


_WAYS: dict[str, Callable[[Server, str], requests.Session]] = {
    "basic": lambda server, role: basic(role),
    "token": lambda server, role: bearer(server, role),
    "session": logged_in,
}
_CALLERS = [("nobody", "anonymous"), *((role, way) for way in _WAYS for role in ROLES)]


@pytest.mark.parametrize(("role", "way"), _CALLERS)
def test_every_operation_lets_in_whom_it_should(
    server: Server, operations: list[tuple[str, str]], role: str, way: str
) -> None:
    session = requests.Session() if way == "anonymous" else _WAYS[way](server, role)
    wrong = []
    for method, path in operations:
        url = server.http_url + re.sub(r"\{\w+\}", "1", path)
        answer = session.request(method, url, timeout=30, allow_redirects=False)
        detail = answer.json().get("detail", "") if answer.status_code in (401, 403) else ""
        if "/fhir" in path and answer.status_code in (401, 403):
            detail = answer.json()["issue"][0]["diagnostics"]
        is_public_login = (method, path) == ("POST", "/dicom-web/session")
        is_let_in = is_public_login or not (answer.status_code == 401 or "takes the role" in detail)
        expected = {True: "let in", False: "401" if role == "nobody" else "403"}[may(role, f"{method} {path}")]
        seen = "let in" if is_let_in else str(answer.status_code)
        if seen != expected:
            wrong.append(f"{method} {path}: {seen} ({answer.status_code} {detail}), expected {expected}")
    assert wrong == []


@pytest.mark.parametrize("way", ["basic", "token"])
def test_dicomweb_client_searches_fetches_and_stores(server: Server, way: str) -> None:
    client = DICOMwebClient(server.dicomweb_url, session=_WAYS[way](server, "writer"))
    data_set = pydicom.dcmread(io.BytesIO(builders.ct()))
    data_set.SOPInstanceUID = data_set.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    client.store_instances([data_set])
    uids = data_set.StudyInstanceUID, data_set.SeriesInstanceUID, data_set.SOPInstanceUID
    assert uids[0] in {row["0020000D"]["Value"][0] for row in client.search_for_studies()}
    assert client.retrieve_instance(*uids).SOPInstanceUID == uids[2]
    assert len(client.retrieve_instance_frames(*uids, frame_numbers=[1])) == 1
    reader = DICOMwebClient(server.dicomweb_url, session=_WAYS[way](server, "reader"))
    with pytest.raises(requests.HTTPError, match="403"):
        reader.store_instances([data_set])


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_head_is_where_get_is(server: Server, method: str) -> None:
    for path in ("/studies", "/studies/", "/jobs", "/jobs/"):
        url = f"{server.dicomweb_url}{path}"
        assert requests.request(method, url, timeout=60).status_code == 401
        answer = requests.request(method, url, auth=("reader", PASSWORD), timeout=60)
        assert answer.status_code == (403 if "jobs" in path else 200)


def test_the_root_tells_its_totals_to_those_who_may_read(server: Server) -> None:
    assert requests.get(server.http_url, timeout=60).json()["counts"] == {}
    assert requests.get(server.http_url, auth=("reader", PASSWORD), timeout=60).json()["counts"]["studies"] >= 1


@pytest.mark.parametrize(
    ("headers", "has_basic"),
    [
        ({}, True),
        ({"Sec-Fetch-Mode": "navigate"}, True),
        ({"Sec-Fetch-Mode": "cors"}, False),
        ({"Sec-Fetch-Mode": "no-cors"}, False),
        ({"Sec-Fetch-Mode": "same-origin"}, False),
        ({CSRF: "x"}, False),
    ],
    ids=str,
)
def test_a_refusal_says_how_to_log_in_without_a_dialog_over_the_page(
    server: Server, headers: dict[str, str], has_basic: bool
) -> None:
    answer = requests.get(f"{server.dicomweb_url}/studies", headers=headers, timeout=60)
    challenges = answer.headers["WWW-Authenticate"]
    assert answer.status_code == 401
    assert ("Basic realm=" in challenges) is has_basic
    assert "Bearer" in challenges


@pytest.mark.parametrize(
    "authorization",
    ["Basic !", "Basic bm9jb2xvbg==", "Bearer pacs_0000000000000000_" + "A" * 43, "Bearer eyJ.eyJ.x", "Digest x", "x"],
)
def test_what_is_shown_and_does_not_hold_is_refused(server: Server, authorization: str) -> None:
    url = f"{server.dicomweb_url}/studies"
    assert requests.get(url, headers={"Authorization": authorization}, timeout=60).status_code == 401


def test_a_session_is_told_and_ended(server: Server) -> None:
    session = logged_in(server, "writer")
    told = session.get(f"{server.dicomweb_url}/session", timeout=30).json()
    assert (told["name"], told["role"], told["via"], told["ways"]) == ("writer", "writer", "session", ["password"])
    copied = requests.Session()
    copied.cookies.update(session.cookies)
    assert copied.get(f"{server.dicomweb_url}/studies", timeout=30).status_code == 200
    assert session.delete(f"{server.dicomweb_url}/session", timeout=30).status_code == 204
    assert copied.get(f"{server.dicomweb_url}/studies", timeout=30).status_code == 401
    stranger = copied.get(f"{server.dicomweb_url}/session", timeout=30).json()
    assert (stranger["name"], stranger["role"], stranger["csrf"]) == ("", "none", "")


def test_the_cookie_is_out_of_reach_of_scripts_and_other_sites(server: Server) -> None:
    body = {"name": "reader", "password": PASSWORD}
    answer = requests.post(f"{server.dicomweb_url}/session", json=body, timeout=60)
    cookie = answer.headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie
    assert "Secure" not in cookie


def test_what_sessions_may_see_is_kept_by_no_shared_cache(server: Server) -> None:
    answer = logged_in(server, "reader").get(f"{server.dicomweb_url}/studies", timeout=30)
    assert "private" in answer.headers["Cache-Control"]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 403),
        ({CSRF: "0" * 64}, 403),
        ({CSRF: "own", "Origin": "http://evil.example"}, 403),
        ({CSRF: "own", "Origin": "null"}, 403),
        ({CSRF: "own", "Origin": "own"}, 404),
        ({CSRF: "own"}, 404),
    ],
    ids=str,
)
def test_another_sites_page_changes_nothing_with_a_session(
    server: Server, headers: dict[str, str], status: int
) -> None:
    session = logged_in(server, "writer")
    own = {CSRF: str(session.headers.pop(CSRF)), "Origin": server.http_url}
    headers = {name: own[name] if value == "own" else value for name, value in headers.items()}
    answer = session.delete(f"{server.dicomweb_url}/studies/1.2.3.4.5", headers=headers, timeout=30)
    assert answer.status_code == status, answer.text


def test_another_sites_page_neither_logs_in_nor_opens_a_socket(server: Server) -> None:
    body = {"name": "reader", "password": PASSWORD}
    evil = {"Origin": "http://evil.example"}
    login = requests.post(f"{server.dicomweb_url}/session", json=body, headers=evil, timeout=60)
    assert login.status_code == 403
    socket = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13"}
    socket["Sec-WebSocket-Key"] = "AAAAAAAAAAAAAAAAAAAAAA=="
    session = logged_in(server, "reader")
    for headers, status in ((evil, 403), ({}, 403), ({"Origin": server.http_url}, 101)):
        url = f"{server.http_url}/dicom-web/subscribers/SOMEBODY"
        with session.get(url, headers={**socket, **headers}, timeout=30, stream=True) as answer:
            assert answer.status_code == status


def test_a_token_makes_no_tokens_and_changes_no_password(server: Server) -> None:
    token = bearer(server, "admin")
    assert token.get(f"{server.dicomweb_url}/accounts", timeout=30).status_code == 200
    assert token.post(f"{server.dicomweb_url}/tokens", json={"name": "more"}, timeout=30).status_code == 403
    body = {"old": PASSWORD, "new": "another password"}
    assert token.post(f"{server.dicomweb_url}/session/password", json=body, timeout=30).status_code == 403


def test_nobody_sees_the_tokens_of_others(server: Server) -> None:
    made = requests.post(
        f"{server.dicomweb_url}/tokens", json={"name": "hers"}, auth=("writer", PASSWORD), timeout=30
    ).json()
    for somebody in ("reader", "admin"):
        listed = requests.get(f"{server.dicomweb_url}/tokens", auth=(somebody, PASSWORD), timeout=60).json()
        assert made["id"] not in {token["id"] for token in listed}
        url = f"{server.dicomweb_url}/tokens/{made['id']}"
        assert requests.delete(url, auth=(somebody, PASSWORD), timeout=60).status_code == 404


def test_hashes_leave_the_server_nowhere(server: Server) -> None:
    listed = requests.get(f"{server.dicomweb_url}/accounts", auth=("admin", PASSWORD), timeout=60)
    assert "argon2" not in listed.text
    assert PASSWORD not in server.log()
    assert "argon2" not in server.log()


def test_the_last_administrator_cannot_be_removed_over_http(server: Server) -> None:
    url = f"{server.dicomweb_url}/accounts/admin"
    assert requests.delete(url, auth=("admin", PASSWORD), timeout=60).status_code == 409
    for change in ({"role": "reader"}, {"is_disabled": True}):
        assert requests.patch(url, json=change, auth=("admin", PASSWORD), timeout=60).status_code == 409


def test_a_changed_password_ends_all_other_sessions_and_needs_the_old_one(server: Server) -> None:
    account_of(server, "changing", "reader")
    one, other = logged_in(server, "changing"), logged_in(server, "changing")
    url, body = f"{server.dicomweb_url}/session/password", {"old": PASSWORD, "new": "another password"}
    wrong = one.post(url, json={**body, "old": "not the old one"}, timeout=30)
    assert wrong.status_code == 403
    assert one.post(url, json=body, timeout=30).status_code == 204
    assert one.get(f"{server.dicomweb_url}/studies", timeout=30).status_code == 200
    assert other.get(f"{server.dicomweb_url}/studies", timeout=30).status_code == 401
    logged_in(server, "changing", "another password")


def test_guessing_is_answered_429_with_the_time_to_wait(server: Server) -> None:
    account_of(server, "guessed", "reader")
    body = {"name": "guessed", "password": "guess"}
    url = f"{server.dicomweb_url}/session"
    answers = [requests.post(url, json=body, timeout=60) for _ in range(7)]
    assert [answer.status_code for answer in answers[:5]] == [401] * 5
    refused = next(answer for answer in answers if answer.status_code == 429)
    assert int(refused.headers["Retry-After"]) >= 1
    # A session, a token or another account from the same address go on.
    assert requests.get(f"{server.dicomweb_url}/studies", auth=("reader", PASSWORD), timeout=60).status_code == 200


def test_a_page_of_another_site_does_nothing_where_nobody_has_to_log_in(tmp_path: Path) -> None:
    with Server(tmp_path) as server:
        url = f"{server.dicomweb_url}/studies"
        data = builders.ct()
        headers = {"Content-Type": "application/dicom", "Origin": "http://evil.example"}
        assert requests.post(url, data=data, headers=headers, timeout=60).status_code == 403
        rebound = {"Host": f"evil.example:{server.http_port}"}
        assert requests.get(url, headers=rebound, timeout=60).status_code == 401
        forwarded = requests.get(url, headers={"X-Forwarded-For": "192.0.2.1"}, timeout=60)
        assert forwarded.status_code == 401
        assert "ALLOW_ANONYMOUS" in forwarded.json()["detail"]
        assert requests.get(url, timeout=60).status_code == 204


def test_anonymous_may_what_the_setting_says_and_no_more(tmp_path: Path) -> None:
    with Server(tmp_path, {"ALLOW_ANONYMOUS": "reader", "ADMIN_PASSWORD": PASSWORD}) as server:
        assert requests.get(f"{server.dicomweb_url}/studies", timeout=60).status_code == 204
        store = requests.post(f"{server.dicomweb_url}/studies", data=b"x", timeout=60)
        assert (store.status_code, "WWW-Authenticate" in store.headers) == (401, True)
        told = requests.get(f"{server.dicomweb_url}/session", timeout=60).json()
        assert (told["role"], told["via"], told["ways"]) == ("reader", "anonymous", ["password"])
        admin = requests.get(f"{server.dicomweb_url}/accounts", auth=("admin", PASSWORD), timeout=60)
        assert [account["name"] for account in admin.json()] == ["admin"]


@pytest.mark.slow
def test_two_workers_agree_within_seconds(tmp_path: Path) -> None:
    with Server(tmp_path, {"SERVER_WORKERS": "2", "ADMIN_PASSWORD": PASSWORD}) as server:
        account_of_two = {"name": "alice", "password": PASSWORD, "role": "writer"}
        boss = ("admin", PASSWORD)
        url = f"{server.dicomweb_url}/accounts"
        assert requests.post(url, json=account_of_two, auth=boss, timeout=60).status_code == 201
        time.sleep(2.5)
        alice = logged_in(server, "alice")
        statuses = statuses_over_many_connections(server, alice)
        assert statuses == {204}
        change = requests.patch(f"{url}/alice", json={"role": "reader"}, auth=boss, timeout=60)
        assert change.status_code == 200
        time.sleep(2.5)
        assert statuses_over_many_connections(server, alice) == {401}


def statuses_over_many_connections(server: Server, session: requests.Session) -> set[int]:
    def ask(_: int) -> int:
        return requests.get(f"{server.dicomweb_url}/studies", cookies=session.cookies, timeout=60).status_code

    with ThreadPoolExecutor(8) as pool:
        return set(pool.map(ask, range(24)))


# -- the gate, and DIMSE


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_server_that_others_reach_does_not_start_without_accounts(tmp_path: Path, workers: str) -> None:
    (tmp_path / ".env").write_text('SERVER_HOST="0.0.0.0"\nSERVER_SESSION_SECRET_KEY="secretKey"\n')  # as raccoon's
    started = subprocess.run(
        [sys.executable, "-m", "pacs", "serve", "--workers", workers],
        cwd=tmp_path,
        env={**clean_environment(), "PACS_HOME": str(tmp_path), "SERVER_PORT": str(free_port()), "DIMSE_PORT": "0"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert started.returncode == 2
    assert "pacs account add NAME" in started.stderr
    assert "Traceback" not in started.stderr


@pytest.mark.slow
def test_with_an_account_it_starts_and_knows_nobody_else(tmp_path: Path) -> None:
    server = Server(tmp_path, {"SERVER_HOST": "0.0.0.0"})  # noqa: S104
    made = server.pacs("account", "add", "alice", "--password-stdin", "--json", input_text=f"{PASSWORD}\n")
    assert made.returncode == 0, made.stderr
    with server:
        assert requests.get(f"{server.dicomweb_url}/studies", timeout=60).status_code == 401
        # ADMIN_API is about those who are not known: an administrator may.
        jobs = requests.get(f"{server.dicomweb_url}/jobs", auth=("alice", PASSWORD), timeout=60)
        assert jobs.status_code == 200
        token = server.pacs("token", "add", "alice", "t", "--role", "reader").stdout.strip()
        time.sleep(2.5)
        answer = requests.get(
            f"{server.dicomweb_url}/studies", headers={"Authorization": f"Bearer {token}"}, timeout=30
        )
        assert answer.status_code == 204
        assert token.split("_", 2)[2] not in server.log()


def test_accounts_are_users_of_dimse_where_users_are_required(tmp_path: Path) -> None:
    with Server(tmp_path, {"ADMIN_PASSWORD": PASSWORD, "DIMSE_USER_REQUIRED": "true"}) as server:
        file = tmp_path / "ct.dcm"
        file.write_bytes(builders.ct())
        users = {"right": ["admin", PASSWORD], "wrong": ["admin", "another one"], "nobody": []}
        stored = {
            who: dcmtk(
                "storescu",
                *(["-usr", given[0], "-pwd", given[1]] if given else []),
                *("127.0.0.1", str(server.dimse_port), file),
            )
            for who, given in users.items()
        }
    codes = {who: done.returncode == 0 for who, done in stored.items()}
    assert codes == {"right": True, "wrong": False, "nobody": False}, stored["right"].stdout
