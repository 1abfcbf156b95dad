"""The web server among bad clients, other origins, and when it starts and stops."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests

from pacs.errors import Invalid
from pacs.services.retrieve import Retrieve
from pacs.web.health import Check
from pacs.web.server import Limits, WebServer
from tests import builders
from tests.unit.web.running import RunningArchive
from tests.wire.clients import STOW_TYPE, multipart, stow

BIG_BYTES = 24 << 20


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningArchive]:
    """One small and one big instance; requests from any origin of example.org are let in."""
    folder = tmp_path_factory.mktemp("robust")
    with RunningArchive(folder, cors_origins=["https://viewer.example.org"]) as running:
        files = [
            builders.ct("1.1", "1.1.1", "1.1.1.1"),
            builders.ct("1.2", "1.2.1", "1.2.1.1", columns=4096, size_bytes=BIG_BYTES),
        ]
        assert stow(running, files).status_code == 200  # type: ignore[arg-type]
        yield running


def raw(web: RunningArchive, data: bytes, *, is_all: bool = False) -> bytes:
    """Send bytes, read until the server closes. is_all: close the sending side, which aiohttp takes for leaving."""
    with socket.create_connection(("127.0.0.1", web.server.port), 10) as connection:
        connection.sendall(data)
        if is_all:
            connection.shutdown(socket.SHUT_WR)
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
        return answer


def open_files(web: RunningArchive) -> list[str]:
    """Stored files that this process holds open."""
    held = []
    for entry in Path("/proc/self/fd").iterdir():
        try:
            target = str(entry.readlink())
        except OSError:
            continue
        if target.startswith(str(web.incoming.parent)) and "/files/" in target:
            held.append(target)
    return held


def eventually(condition: Callable[[], bool], timeout_s: float = 60) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "did not come true"
        time.sleep(0.02)


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x01\x00\x00\x00\x00\xcd\x00\x01\x00\x00" + b"ANY-SCP         " * 4,  # a DIMSE association request
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(300),  # TLS
        b"GET\r\n\r\n",
        b"GET /dicom-web/studies HTTP/9.9\r\n\r\n",
        b"\r\n" * 1000,
        bytes(range(256)) * 50,
        b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: -5\r\n\r\n",
        b"POST /dicom-web/studies HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzzz\r\n",
    ],
)
def test_garbage_on_the_port_is_refused_and_the_server_serves_on(
    web: RunningArchive, garbage: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    answer = raw(web, garbage, is_all=True)
    assert b"Traceback" not in answer
    assert "Traceback" not in caplog.text
    assert not answer or b" 400 " in answer.split(b"\r\n")[0] or b" 404 " in answer.split(b"\r\n")[0]
    assert requests.get(f"{web.root_url}/health/live", timeout=60).status_code == 200


def test_an_endless_request_line_or_header_is_cut_off(web: RunningArchive) -> None:
    for data in (
        b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nX: " + b"a" * 200_000 + b"\r\n\r\n",
    ):
        assert b" 400 " in raw(web, data).split(b"\r\n")[0]


def test_a_long_list_of_uids_in_the_url_is_understood(web: RunningArchive) -> None:
    uids = ",".join(["1.1", *(f"1.2.840.999999.{number}" for number in range(1500))])
    response = requests.get(f"{web.dicomweb_url}/studies", params={"StudyInstanceUID": uids}, timeout=60)
    assert response.status_code == 200
    assert len(response.json()) == 1


def test_a_request_without_host_gets_addresses_that_work(web: RunningArchive) -> None:
    answer = raw(web, b"GET /dicom-web/studies HTTP/1.0\r\n\r\n")
    assert f"http://127.0.0.1:{web.server.port}/dicom-web/studies/1.1".encode() in answer
    # RFC 9112 3.2: HTTP/1.1 must have it.
    assert b" 400 " in raw(web, b"GET /dicom-web/studies HTTP/1.1\r\n\r\n").split(b"\r\n")[0]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/nothing", 404),
        ("/dicom-web/nothing", 404),
        ("/dicom-web/studies/%00/series", 400),
        ("/dicom-web/studies/%ff%fe", 404),
    ],
)
def test_errors_are_problem_details(web: RunningArchive, path: str, status: int) -> None:
    response = requests.get(web.root_url + path, timeout=60)
    assert response.status_code == status
    assert response.headers["Content-Type"] == "application/problem+json"
    assert response.json()["status"] == status


def test_a_method_that_is_not_there_says_which_are(web: RunningArchive) -> None:
    response = requests.put(f"{web.dicomweb_url}/studies", timeout=60)
    assert response.status_code == 405
    assert "POST" in response.headers["Allow"]
    assert response.headers["Content-Type"] == "application/problem+json"


def test_a_bug_is_logged_and_not_shown(
    web: RunningArchive, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("secret detail")

    monkeypatch.setattr(Retrieve, "instances", broken)
    response = requests.get(f"{web.dicomweb_url}/studies/1.1", timeout=60)
    assert response.status_code == 500
    assert response.headers["Content-Type"] == "application/problem+json"
    assert "secret" not in response.text
    assert "secret detail" in caplog.text


def test_a_client_that_leaves_in_the_middle_lets_go_of_the_file(web: RunningArchive) -> None:
    with socket.create_connection(("127.0.0.1", web.server.port)) as connection:
        connection.sendall(b"GET /dicom-web/studies/1.2 HTTP/1.1\r\nHost: a\r\n\r\n")
        assert connection.recv(65536)
        eventually(lambda: bool(open_files(web)))
    eventually(lambda: not open_files(web))


def test_reading_that_fails_in_the_middle_cuts_the_connection(tmp_path: Path) -> None:
    with RunningArchive(tmp_path) as web:
        assert stow(web, [builders.ct("1.1", "1.1.1", f"1.{n}", size_bytes=3 << 20) for n in range(3)]).ok  # type: ignore[arg-type]
        sorted((tmp_path / "files").rglob("*.*"))
        files = sorted(path for path in (tmp_path / "files").rglob("*") if path.is_file())
        files[1].unlink()
        with pytest.raises((requests.exceptions.ChunkedEncodingError, requests.exceptions.ConnectionError)):
            requests.get(f"{web.dicomweb_url}/studies/1.1", timeout=60)
        assert requests.get(f"{web.root_url}/health/live", timeout=60).status_code == 200


def test_slow_clients_hold_neither_threads_nor_memory(tmp_path: Path) -> None:
    with RunningArchive(tmp_path, limits=Limits(threads=2)) as web:
        assert stow(web, [builders.ct("1.1", "1.1.1", "1.1.1.1", columns=4096, size_bytes=BIG_BYTES)]).ok  # type: ignore[arg-type]
        slow = [socket.create_connection(("127.0.0.1", web.server.port)) for _ in range(20)]
        try:
            for connection in slow:
                connection.sendall(b"GET /dicom-web/studies/1.1 HTTP/1.1\r\nHost: a\r\n\r\n")
            eventually(lambda: len(open_files(web)) == 20)
            assert requests.get(f"{web.dicomweb_url}/studies", timeout=60).status_code == 200
        finally:
            for connection in slow:
                connection.close()
        eventually(lambda: not open_files(web))


def test_a_client_that_stalls_is_given_up(tmp_path: Path) -> None:
    with RunningArchive(tmp_path, limits=Limits(idle_s=0.5)) as web:
        assert stow(web, [builders.ct("1.1", "1.1.1", "1.1.1.1", columns=4096, size_bytes=BIG_BYTES)]).ok  # type: ignore[arg-type]
        with socket.create_connection(("127.0.0.1", web.server.port)) as reading:
            reading.sendall(b"GET /dicom-web/studies/1.1 HTTP/1.1\r\nHost: a\r\n\r\n")
            eventually(lambda: bool(open_files(web)))
            eventually(lambda: not open_files(web))
        head = (
            f"POST /dicom-web/studies HTTP/1.1\r\nHost: x\r\nContent-Type: {STOW_TYPE}\r\nContent-Length: 999\r\n\r\n"
        )
        with socket.create_connection(("127.0.0.1", web.server.port), 20) as sending:
            sending.sendall(head.encode() + multipart([b"x" * 500])[:300])
            assert b" 400 " in sending.recv(65536).split(b"\r\n")[0]
        assert not list(web.incoming.iterdir())


VIEWER = "https://viewer.example.org"


def test_a_viewer_from_an_allowed_origin_may_ask(web: RunningArchive) -> None:
    asked = {"Origin": VIEWER, "Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "x-a, range"}
    preflight = requests.options(f"{web.dicomweb_url}/studies/1.1", headers=asked, timeout=60)
    assert preflight.status_code == 204
    assert preflight.headers["Access-Control-Allow-Origin"] == VIEWER
    assert preflight.headers["Access-Control-Allow-Headers"] == "x-a, range"
    assert "GET" in preflight.headers["Access-Control-Allow-Methods"]
    for path in ("/studies", "/studies/1.1", "/studies/9.9", "/studies?limit=0", "/studies/1.1/metadata"):
        response = requests.get(web.dicomweb_url + path, headers={"Origin": VIEWER}, timeout=60)
        assert response.headers["Access-Control-Allow-Origin"] == VIEWER
        exposed = response.headers["Access-Control-Expose-Headers"]
        assert all(name in exposed for name in ("Warning", "Link", "ETag", "Content-Location", "Content-Range"))
        assert "Origin" in response.headers["Vary"]


def test_another_origin_is_told_nothing(web: RunningArchive) -> None:
    response = requests.get(f"{web.dicomweb_url}/studies", headers={"Origin": "https://evil.example"}, timeout=60)
    assert response.status_code == 200
    assert "Access-Control-Allow-Origin" not in response.headers


def test_star_allows_every_origin(tmp_path: Path) -> None:
    with RunningArchive(tmp_path, cors_origins=["*"]) as web:
        response = requests.get(f"{web.dicomweb_url}/studies", headers={"Origin": "null"}, timeout=60)
        assert response.headers["Access-Control-Allow-Origin"] == "*"


def test_options_without_origin_says_what_is_allowed(web: RunningArchive) -> None:
    assert "POST" in requests.options(f"{web.dicomweb_url}/studies", timeout=60).headers["Allow"]


def test_health_and_root(tmp_path: Path) -> None:
    problems: list[Check] = [Check("peer AWAY", "AWAY does not answer", is_needed=False)]
    with RunningArchive(tmp_path, health=lambda: problems) as web:
        assert stow(web, [builders.ct("1.1")]).ok  # type: ignore[arg-type]
        assert requests.get(f"{web.root_url}/health/live", timeout=60).json() == {"status": "ok"}
        assert requests.get(f"{web.root_url}/health/ready", timeout=60).status_code == 200
        problems.append(Check("disk", "the disk is full"))
        response = requests.get(f"{web.root_url}/health/ready", timeout=60)
        assert response.status_code == 503
        assert response.json()["problems"] == ["the disk is full"]
        assert [check["name"] for check in response.json()["checks"]] == ["peer AWAY", "disk"]
        root = requests.get(f"{web.root_url}/", timeout=60).json()
        assert root["studies"] == f"{web.dicomweb_url}/studies"
        assert root["counts"]["instances"] == 1
        page = requests.get(f"{web.root_url}/", headers={"Accept": "text/html,*/*;q=0.8"}, timeout=60)
        assert page.headers["Content-Type"].startswith("text/html")
        assert "ui/app.js" in page.text


def test_a_taken_port_is_named(web: RunningArchive, tmp_path: Path) -> None:
    other = WebServer(web.store, web.query, web.retrieve, port=web.server.port)
    with pytest.raises(Invalid, match=str(web.server.port)):
        web.run(other.start())
    web.run(other.stop())


def test_stop_finishes_what_is_under_way(tmp_path: Path) -> None:
    web = RunningArchive(tmp_path).__enter__()
    assert stow(web, [builders.ct("1.1", "1.1.1", "1.1.1.1", columns=4096, size_bytes=BIG_BYTES)]).ok  # type: ignore[arg-type]
    connection = socket.create_connection(("127.0.0.1", web.server.port))
    connection.sendall(b"GET /dicom-web/studies/1.1 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    received = len(connection.recv(1000))
    stopping = threading.Thread(target=web.__exit__, args=(None, None, None))
    stopping.start()
    time.sleep(0.3)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", web.server.port), 1)
    tail = b""
    while piece := connection.recv(1 << 20):
        received += len(piece)
        tail = (tail + piece)[-100:]
    stopping.join(60)
    assert not stopping.is_alive()
    assert received > BIG_BYTES * 0.99
    assert tail.endswith(b"--\r\n"), "the last boundary is missing"


def test_a_root_configured_with_a_slash_at_its_end_works(web: RunningArchive) -> None:
    response = requests.get(f"{web.dicomweb_url}//studies", params={"StudyInstanceUID": "1.1"}, timeout=60)
    assert [each.status_code for each in response.history] == [308]
    assert response.json()[0]["0020000D"]["Value"] == ["1.1"]
    assert requests.get(f"{web.dicomweb_url}//elsewhere", timeout=60).status_code == 404
