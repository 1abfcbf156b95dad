"""SIGHUP and ``pacs reload``: what changes while the server runs, what waits, and what is refused."""

from __future__ import annotations

import json
import os
import pty
import signal
import socket
import sys
import time
from pathlib import Path

import pytest
import requests

from tests import builders
from tests.server import READY_MARK, Server
from tests.wire import clients
from tests.wire.receivers import eventually

TIMEOUT_S = 30
PAGE = "https://viewer.example"


class Configured(Server):
    """A server whose settings come from its ``.env``."""

    def write(self, **values: str) -> None:
        (self.folder / ".env").write_text("".join(f"{name}={value}\n" for name, value in values.items()))


@pytest.fixture(params=["1", "2"], ids=["one process", "two workers"])
def server(tmp_path: Path, request: pytest.FixtureRequest) -> Configured:
    return Configured(tmp_path / "archive", {"SERVER_WORKERS": request.param})


@pytest.fixture
def two_workers(tmp_path: Path) -> Configured:
    return Configured(tmp_path / "archive", {"SERVER_WORKERS": "2"})


def _allowed(server: Server) -> set[str | None]:
    """What several connections, and so all workers, say."""
    found = set()
    for _ in range(8):
        answer = requests.get(f"{server.dicomweb_url}/studies", headers={"Origin": PAGE}, timeout=TIMEOUT_S)
        found.add(answer.headers.get("Access-Control-Allow-Origin"))
    return found


def test_changes_are_taken_over_by_all_processes(server: Configured, tmp_path: Path) -> None:
    rules = tmp_path / "rules.toml"
    rules.write_text('[[rule]]\nlabel = ["first"]\n')
    server.write(RULES=str(rules))
    with server:
        assert clients.stow(server, [builders.ct("1.1")]).status_code == 200
        labels = f"{server.dicomweb_url}/studies/%s/labels"
        eventually(lambda: requests.get(labels % "1.1", timeout=TIMEOUT_S).json() == ["first"], "the first rule")
        assert _allowed(server) == {None}

        rules.write_text('[[rule]]\nlabel = ["second"]\n')
        server.write(RULES=str(rules), CORS_ALLOWED_ORIGINS=PAGE, LOG_LEVEL="DEBUG", MAX_INSTANCE_BYTES="8KiB")
        told = server.pacs("reload", "--json")
        assert json.loads(told.stdout)["servers"] == [server.pid], told.stderr
        eventually(lambda: _allowed(server) == {PAGE}, "the origin is allowed")
        processes = int(server.env["SERVER_WORKERS"])
        eventually(lambda: server.log().count("configuration reloaded") >= processes, "all have said so")
        assert "CORS_ALLOWED_ORIGINS" in server.log()
        for _ in range(4):
            refused = clients.stow(server, [builders.ct("1.2", rows=64, columns=64)])
            assert refused.status_code == 413, refused.text
        assert clients.stow(server, [builders.ct("1.3", rows=8, columns=8)]).status_code == 200
        eventually(lambda: requests.get(labels % "1.3", timeout=TIMEOUT_S).json() == ["second"], "the second rule")


def test_what_cannot_change_is_named_and_what_is_wrong_is_refused(two_workers: Configured, tmp_path: Path) -> None:
    server = two_workers
    broken = tmp_path / "broken.toml"
    broken.write_text("[[rule]]\nnonsense = 1\n")
    with server:
        for number, (name, value) in enumerate(
            {"MIN_FREE_BYTES": "much", "RULES": str(broken), "RETENTION": str(broken)}.items(), 1
        ):
            server.write(CORS_ALLOWED_ORIGINS=PAGE, **{name: value})
            os.kill(server.pid, signal.SIGHUP)
            refused = "the configuration was not reloaded, the old one goes on"
            eventually(lambda: server.log().count(refused) == number, name)  # noqa: B023
        assert _allowed(server) == {None}
        assert clients.stow(server, [builders.ct("1.1")]).status_code == 200

        server.write(QIDO_MAX_LIMIT="400", MIN_FREE_BYTES="1EiB")
        os.kill(server.pid, signal.SIGHUP)
        eventually(lambda: "take effect at the next start: QIDO_MAX_LIMIT" in server.log(), "it is named")
        # And the rest of it counts: there is no disk of that size.
        eventually(lambda: clients.stow(server, [builders.ct("1.1")]).status_code == 503, "the reserve has changed")


def test_a_worker_that_dies_afterwards_starts_with_what_is_new(two_workers: Configured) -> None:
    server = two_workers
    with server:
        server.write(CORS_ALLOWED_ORIGINS=PAGE)
        os.kill(server.pid, signal.SIGHUP)
        eventually(lambda: _allowed(server) == {PAGE}, "the origin is allowed")
        children = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()
        os.kill(int(children[0]), signal.SIGKILL)
        eventually(lambda: "worker started again" in server.log(), "it is started again")
        assert _allowed(server) == {PAGE}


def test_without_a_server_nothing_is_told(two_workers: Configured) -> None:
    assert two_workers.pacs("reload").returncode == 1


def test_a_service_manager_is_told_what_goes_on(server: Configured, tmp_path: Path) -> None:
    address = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(address)
        manager.settimeout(TIMEOUT_S)
        server.env |= {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "400000"}
        with server:
            while (message := manager.recv(4096).decode()) == "WATCHDOG=1":
                pass
            assert message == "READY=1"
            assert manager.recv(4096).decode() == "WATCHDOG=1"
            os.kill(server.pid, signal.SIGHUP)
            while not (message := manager.recv(4096).decode()).startswith("RELOADING=1\nMONOTONIC_USEC="):
                assert message == "WATCHDOG=1"
            while (message := manager.recv(4096).decode()) == "WATCHDOG=1":
                pass
            assert message == "READY=1"
        while (message := manager.recv(4096).decode()) == "WATCHDOG=1":
            pass
        assert message == "STOPPING=1"


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_server_ends_with_the_terminal_that_it_was_started_from(tmp_path: Path, workers: str) -> None:
    server = Server(tmp_path / "archive", {"SERVER_WORKERS": workers})
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(server.folder)
        os.execve(sys.executable, [sys.executable, "-m", "pacs", "serve"], server.env)
    said = b""
    while READY_MARK.encode() not in said:
        said += os.read(terminal, 4096)
    os.close(terminal)
    deadline = time.monotonic() + TIMEOUT_S
    while (ended := os.waitpid(pid, os.WNOHANG)) == (0, 0):
        if time.monotonic() > deadline:
            os.killpg(pid, signal.SIGKILL)
            raise AssertionError("it does not end")
        time.sleep(0.05)
    assert os.waitstatus_to_exitcode(ended[1]) in (0, 1)  # it cannot say any more that it has stopped
