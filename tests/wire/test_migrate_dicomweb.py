"""Another archive taken over by DICOMweb: one of our own servers, whole, interrupted, and behind bad connections."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests import builders
from tests.conftest import StartArchive
from tests.server import Server, free_port

STUDIES = 6
EACH = 12


def _fill(server: Server, folder: Path, studies: int = STUDIES, each: int = EACH, **more: Any) -> set[bytes]:
    """Studies 1.2.3.1 … of so many instances; returns their data sets."""
    folder.mkdir()
    data_sets = set()
    for study in range(1, studies + 1):
        for number in range(each):
            uids = f"1.2.3.{study}", f"1.2.3.{study}.{number % 2}", f"1.2.3.{study}.9.{number}"
            data = builders.ct(*uids, InstanceNumber=number, **{"rows": 16, "columns": 16, **more})
            (folder / f"{study}-{number}.dcm").write_bytes(data)
            data_sets.add(builders.data_set_of(data))
    done = server.pacs("import", str(folder))
    assert done.returncode == 0, done.stderr
    return data_sets


def _migrate(server: Server, url: str, *arguments: str, code: int = 0) -> dict[str, Any]:
    done = server.pacs("migrate", "dicomweb", "--url", url, "--json", *arguments)
    assert done.returncode == code, done.stdout + done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def _stored(server: Server) -> set[bytes]:
    return {builders.data_set_of(path.read_bytes()) for path in server.files()}


@contextmanager
def _proxy(port: int, spoil: Callable[[int, bytes], bytes | None]) -> Iterator[int]:
    """A TCP relay to a local port. spoil: gets the number of the connection and what the server sends; None: cut."""
    listener = socket.create_server(("127.0.0.1", 0))

    def copy(source: socket.socket, target: socket.socket, change: Callable[[bytes], bytes | None]) -> None:
        try:
            while data := source.recv(1 << 16):
                changed = change(data)
                if changed is None:
                    break
                target.sendall(changed)
        except OSError:
            pass
        for each in (source, target):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def serve() -> None:
        number = 0
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            number += 1
            server = socket.create_connection(("127.0.0.1", port))
            mine = number
            threading.Thread(target=copy, args=(client, server, lambda data: data), daemon=True).start()
            threading.Thread(
                target=copy, args=(server, client, lambda data, mine=mine: spoil(mine, data)), daemon=True
            ).start()

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.close()


def test_everything_comes_over_as_it_is_and_only_once(start_archive: StartArchive, tmp_path: Path) -> None:
    source = start_archive()
    data_sets = _fill(source, tmp_path / "inbox")
    target = Server(tmp_path / "target")

    planned = _migrate(target, source.dicomweb_url, "--dry-run")
    first = _migrate(target, source.dicomweb_url)
    second = _migrate(target, source.dicomweb_url + "/")

    assert (planned["wanted"], planned["stored"]) == (STUDIES * EACH, 0)
    assert (first["studies"], first["stored"], first["failed"]) == (STUDIES, STUDIES * EACH, [])
    assert (second["stored"], second["already_there"]) == (0, STUDIES * EACH)
    assert _stored(target) == data_sets
    assert target.pacs("verify").returncode == 0


def test_query_chooses_studies_and_missing_instances_come_alone(start_archive: StartArchive, tmp_path: Path) -> None:
    source = start_archive()
    _fill(source, tmp_path / "inbox")
    target = Server(tmp_path / "target")
    some = [str(path) for path in (tmp_path / "inbox").glob("1-*.dcm")][: EACH - 2]
    target.pacs("import", *some)

    result = _migrate(target, source.dicomweb_url, "--query", "StudyInstanceUID=1.2.3.1")

    assert (result["studies"], result["stored"], result["already_there"]) == (1, 2, EACH - 2)


def test_instance_that_is_here_with_other_content_stays_as_it_is(start_archive: StartArchive, tmp_path: Path) -> None:
    source = start_archive()
    _fill(source, tmp_path / "inbox", studies=1, each=3)
    target = Server(tmp_path / "target")
    mine = tmp_path / "mine.dcm"
    mine.write_bytes(builders.ct("1.2.3.1", "1.2.3.1.0", "1.2.3.1.9.0", PatientName="Other^Name"))
    target.pacs("import", str(mine))

    result = _migrate(target, source.dicomweb_url)

    assert (result["stored"], result["already_there"]) == (2, 1)
    assert builders.data_set_of(mine.read_bytes()) in _stored(target)


def test_answers_that_break_off_are_asked_for_again(start_archive: StartArchive, tmp_path: Path) -> None:
    source = start_archive()
    data_sets = _fill(source, tmp_path / "inbox", studies=3, each=20, rows=256, columns=256)
    target = Server(tmp_path / "target")
    sent: dict[int, int] = {}

    def spoil(connection: int, data: bytes) -> bytes | None:
        sent[connection] = sent.get(connection, 0) + len(data)
        # The first connections end after about ten images, amid one.
        return None if connection <= 4 and sent[connection] > 1_300_000 else data

    with _proxy(source.http_port, spoil) as port:
        result = _migrate(target, f"http://127.0.0.1:{port}/dicom-web")

    assert max(sent) > 4
    assert (result["stored"] + result["already_there"], result["failed"]) == (60, [])
    assert _stored(target) == data_sets
    assert target.pacs("verify").returncode == 0


def test_study_larger_than_memory_streams(start_archive: StartArchive, tmp_path: Path) -> None:
    source = start_archive()
    big = tmp_path / "big.dcm"
    builders.write_multiframe(big, 400 << 20, StudyInstanceUID="1.2.3.1")
    assert source.pacs("import", str(big)).returncode == 0
    target = Server(tmp_path / "target")

    # Not getrusage: it counts what the process that forked this one had.
    code = (
        "import re, sys; from pacs.cli import main; done = main(sys.argv[1:]);"
        "print(re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1], file=sys.stderr); sys.exit(done)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "migrate", "dicomweb", "--url", source.dicomweb_url, "--json"],
        env=target.env,
        cwd=target.folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["size_bytes"] > 400 << 20
    assert int(done.stderr.split()[-1]) < 200 * 1024  # KiB


def test_killed_run_goes_on_where_it_was(start_archive: StartArchive, tmp_path: Path) -> None:
    source = start_archive()
    data_sets = _fill(source, tmp_path / "inbox", studies=10, each=30)
    target = Server(tmp_path / "target")
    process = subprocess.Popen(
        [sys.executable, "-m", "pacs", "migrate", "dicomweb", "--url", source.dicomweb_url, "--parallel", "1"],
        cwd=target.folder,
        env=target.env,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        if target.data.exists() and len(target.files()) > 40:
            break
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait(60) == -signal.SIGKILL, "it was over too soon to be interrupted"

    result = _migrate(target, source.dicomweb_url)

    assert 0 < result["stored"] < 300
    assert result["stored"] + result["already_there"] == 300
    # A file that was about to get its row when the process ended is there twice until verify has seen it.
    target.pacs("verify", "--repair")
    assert _stored(target) == data_sets
    assert target.pacs("verify").returncode == 0


def test_login_goes_with_every_request(start_archive: StartArchive, tmp_path: Path) -> None:
    source = start_archive()
    _fill(source, tmp_path / "inbox", studies=1, each=2)
    target = Server(tmp_path / "target")
    requests: list[bytes] = []

    with _recorder(source.http_port, requests) as port:
        url = f"http://127.0.0.1:{port}/dicom-web"
        secret = tmp_path / "token"
        secret.write_text("s3cret\n")
        _migrate(target, url, "--token", f"@{secret}", "--header", "X-Tenant: north")
        assert requests
        assert all(b"Authorization: Bearer s3cret\r\n" in request for request in requests)
        assert all(b"X-Tenant: north\r\n" in request for request in requests)
        requests.clear()
        _migrate(target, url, "--user", "me:pass:word")
        assert all(b"Authorization: Basic bWU6cGFzczp3b3Jk\r\n" in request for request in requests)


@contextmanager
def _recorder(port: int, requests: list[bytes]) -> Iterator[int]:
    """A relay that keeps what clients send, one request each."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=relay, args=(client,), daemon=True).start()

    def relay(client: socket.socket) -> None:
        with client, socket.create_connection(("127.0.0.1", port)) as server:
            while request := client.recv(1 << 16):
                requests.append(request)
                server.sendall(request.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1))
                while answer := server.recv(1 << 16):
                    client.sendall(answer)
                return

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.close()


@pytest.mark.parametrize("what", ["nobody", "other server", "no url"])
def test_what_is_no_dicomweb_server_is_one_sentence(what: str, fresh_archive: Server, tmp_path: Path) -> None:
    target = Server(tmp_path / "target")
    urls = {
        "nobody": (f"http://127.0.0.1:{free_port()}", 3),
        "other server": (f"{fresh_archive.http_url}/nothing-here", 2),
        "no url": ("pacs.example", 2),
    }
    url, code = urls[what]

    done = target.pacs("migrate", "dicomweb", "--url", url, "--attempts", "2")

    assert done.returncode == code, done.stderr
    assert url in done.stderr
    assert "Traceback" not in done.stderr
