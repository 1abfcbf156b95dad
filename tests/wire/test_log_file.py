"""The log of a real server: one id from an association or request to the jobs that follow, in a file that rotates."""

import json
import os
import signal
import socket

import pytest
import requests

from pacs import logs
from tests.builders import ct, data_set_of
from tests.server import Server, free_port
from tests.wire.clients import association, sop_uid_of, store_bytes, stow
from tests.wire.receivers import eventually

RULES = '[[rule]]\nname = "forward"\nsend = ["AWAY"]\n'


def lines(path):
    return [found for line in path.read_text().splitlines() if (found := logs.parse(line)) is not None]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("logs")
    (folder / "rules.toml").write_text(RULES)
    settings = {
        "SERVER_WORKERS": "2",
        "LOG_FILE": str(folder / "pacs.log"),
        "RULES": str(folder / "rules.toml"),
        "TRUSTED_PROXIES": "127.0.0.1",
    }
    server = Server(folder, settings)
    server.add_peer("AWAY", free_port())
    with server:
        yield server


def test_what_follows_from_a_request_bears_its_id_to_the_last_attempt(server):
    log = server.folder / "pacs.log"
    answer = stow(server, [ct()])
    request_id = answer.headers["X-Request-ID"]

    def of_request():
        return [line for line in lines(log) if line.correlation_id == request_id]

    eventually(lambda: any(line.message.startswith("job failed kind=send") for line in of_request()), "the job's try")
    loggers = {line.logger for line in of_request()}
    assert {"pacs.services.store", "pacs.web.server", "pacs.services.jobs"} <= loggers
    jobs = requests.get(f"{server.dicomweb_url}/jobs?kind=send", timeout=20).json()["jobs"]
    assert request_id in {job["cause"] for job in jobs}


def test_all_that_an_association_does_bears_one_id(server):
    file = ct()
    with association(server) as opened:
        assert store_bytes(opened, data_set_of(file), sop_uid_of(file)) == 0
    log = server.folder / "pacs.log"
    eventually(lambda: any("released from=WIRETEST" in line.message for line in lines(log)), "the end of it")
    (stored,) = [line for line in lines(log) if f"sop={sop_uid_of(file)} from=WIRETEST" in line.message]
    said = [line.message.split()[0] for line in lines(log) if line.correlation_id == stored.correlation_id]
    assert said[0] == "associated"
    assert "stored" in said
    assert "released" in said


def test_a_trusted_proxy_names_the_request(server):
    url = f"{server.dicomweb_url}/studies?limit=1"
    assert requests.get(url, headers={"X-Request-ID": "edge-42"}, timeout=20).headers["X-Request-ID"] == "edge-42"
    for bad in ("a b", "x" * 100, "ä"):
        given = requests.get(url, headers={"X-Request-ID": bad.encode()}, timeout=20).headers["X-Request-ID"]
        assert len(given) == 12
    missing = requests.get(f"{server.http_url}/nothing", headers={"X-Request-ID": "edge-43"}, timeout=20)
    assert missing.headers["X-Request-ID"] == "edge-43"


def test_sighup_goes_on_in_a_new_file(server):
    log, moved = server.folder / "pacs.log", server.folder / "pacs.log.moved"
    log.rename(moved)
    os.kill(server.pid, signal.SIGHUP)

    def reloaded():
        said = lines(log) if log.exists() else []
        return {line.worker for line in said if line.message.startswith("configuration reloaded")}

    eventually(lambda: reloaded() == {0, 1, 2}, "all processes go on in the file that is there again")
    size = moved.stat().st_size
    for _ in range(10):
        requests.get(f"{server.dicomweb_url}/studies?limit=1", timeout=20)
    assert "http method=GET" in log.read_text()
    assert moved.stat().st_size == size
    assert server.is_running


def test_a_stranger_cannot_name_its_request(tmp_path):
    settings = {"LOG_FILE": str(tmp_path / "own.log"), "LOG_FORMAT": "json", "LOG_FILE_MAX_BYTES": "50KiB"}
    with Server(tmp_path, settings) as server:
        answer = requests.get(f"{server.http_url}/health/live", headers={"X-Request-ID": "mine"}, timeout=20)
        assert answer.headers["X-Request-ID"] != "mine"
        with socket.create_connection(("127.0.0.1", server.http_port), 10) as garbage:
            garbage.sendall(b"\x00\x01\n\n")
            garbage.recv(100)
        with requests.Session() as session:
            for _ in range(300):
                session.get(f"{server.http_url}/health/live", timeout=20)
        for line in (tmp_path / "own.log").read_text().splitlines():
            json.loads(line)
        eventually(
            lambda: session.get(f"{server.http_url}/health/live") and (tmp_path / "own.log.1").exists(), "it is rotated"
        )
