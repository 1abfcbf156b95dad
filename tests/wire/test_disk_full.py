"""A small disk that runs full: what comes is refused before there is no space left, what is there is read, and all goes
on when there is room again. (Without a reserve: ``test_faults``.)
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from pacs.dicom.uids import new_uid
from tests import builders
from tests.conftest import StartArchive
from tests.server import Server
from tests.ups_builders import as_json, step
from tests.wire import clients
from tests.wire.receivers import WebhookServer, eventually
from tests.worklists import order

TIMEOUT_S = 30
DICOM_JSON = {"Content-Type": "application/dicom+json"}
MIB = 1 << 20


def _mount(folder: Path, size: str) -> None:
    folder.mkdir(parents=True)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip(f"DISK FULL IS NOT TESTED: a small filesystem cannot be mounted here ({mounted.stderr.strip()})")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    if os.geteuid() != 0:
        pytest.skip("DISK FULL IS NOT TESTED: mounting a small filesystem needs root")
    folder = tmp_path / "archive0" / "data"
    _mount(folder, "48m")
    yield folder
    # Lazily: at this point the server may still be stopping.
    subprocess.run(["umount", "-l", str(folder)], check=True)


def _leave(folder: Path, mib: int) -> Path:
    """A file that takes all but so much of the disk."""
    ballast = folder / "ballast"
    state = os.statvfs(folder)
    with ballast.open("wb") as file:
        for _ in range(state.f_bavail * state.f_frsize // MIB - mib):
            file.write(bytes(MIB))
    return ballast


def _store(server: Server, data: bytes) -> int | None:
    with clients.association(server) as opened:
        return clients.store_bytes(opened, clients.data_set_of(data), clients.sop_uid_of(data))


def _read(server: Server, study: str) -> set[bytes]:
    return _data_sets(clients.retrieve_files(server, f"/studies/{study}"))


def _data_sets(files: list[bytes]) -> set[bytes]:
    """Without the file meta information, which the archive writes itself for what comes by C-STORE."""
    return {clients.data_set_of(data) for data in files}


def _ready(server: Server) -> tuple[int, list[str]]:
    answer = requests.get(f"{server.http_url}/health/ready", timeout=TIMEOUT_S)
    return answer.status_code, answer.json()["problems"]


def test_a_full_disk_refuses_tells_reads_on_and_recovers(small_disk: Path, start_archive: StartArchive) -> None:
    with WebhookServer() as hook:
        server = start_archive({"MIN_FREE_BYTES": "16MiB", "ALERT_WEBHOOKS": hook.url, "SERVER_WORKERS": "2"})
        assert server.data == small_disk
        study, series = new_uid(), new_uid()
        kept = [builders.ct(study, series, new_uid(), rows=64, columns=64) for _ in range(4)]
        assert clients.stow(server, kept[:2]).status_code == 200
        assert [_store(server, data) for data in kept[2:]] == [0, 0]
        assert _ready(server) == (200, [])
        ballast = _leave(small_disk, 8)
        another = builders.ct(study, series, new_uid(), rows=64, columns=64)

        assert _store(server, another) == 0xA700
        refused = clients.stow(server, [another])
        assert refused.status_code == 503
        assert int(refused.headers["Retry-After"]) > 0
        root = server.dicomweb_url
        writes = (
            requests.put(f"{root}/studies/{study}/labels/urgent", timeout=TIMEOUT_S),
            requests.post(f"{root}/workitems", json=as_json(step()), headers=DICOM_JSON, timeout=TIMEOUT_S),
            requests.post(f"{root}/mwlitems", json=order(), headers=DICOM_JSON, timeout=TIMEOUT_S),
        )
        assert [answer.status_code for answer in writes] == [503, 503, 503]
        status, problems = _ready(server)
        assert status == 503
        assert problems[0].startswith("the disk is full")
        eventually(lambda: "disk-full" in [each.json()["event"] for each in hook.requests], "the alert is posted")

        # Reading needs no space: not from the connections that are open, nor from new ones.
        assert _read(server, study) == _data_sets(kept)
        assert len(clients.qido(server, f"/studies/{study}/instances")) == 4
        assert requests.get(f"{root}/studies/{study}/rendered", timeout=TIMEOUT_S).status_code == 200
        assert server.pacs("trash").returncode == 0

        ballast.unlink()
        eventually(lambda: _ready(server) == (200, []), "it is ready again")
        assert _store(server, another) == 0
        assert requests.put(f"{root}/studies/{study}/labels/urgent", timeout=TIMEOUT_S).status_code == 204
        eventually(lambda: len(hook.requests) >= 2, "that there is room is posted")
        # Once each, of two processes.
        assert [each.json()["event"] for each in hook.requests] == ["disk-full", "disk-has-room"]
        for number in (1, 2):  # and in the log once a process, however many were refused
            said = [
                line for line in server.log().splitlines() if f"[{number}] ERROR" in line and "disk is full" in line
            ]
            assert len(said) <= 1
        server.stop()
        verified = server.pacs("verify")
        assert verified.returncode == 0, verified.stdout


def test_even_without_any_space_all_is_read_and_space_is_made(small_disk: Path, start_archive: StartArchive) -> None:
    server = start_archive({"MIN_FREE_BYTES": "16MiB"})
    study = new_uid()
    kept = [builders.ct(study, "1.5", new_uid(), rows=64, columns=64) for _ in range(3)]
    large = builders.ct("1.2.9", "1.2.9.1", "1.2.9.1.1", rows=2048, columns=2048)
    assert clients.stow(server, [*kept, large]).status_code == 200
    ballast = _leave(small_disk, 0)
    with ballast.open("ab", buffering=0) as file:
        try:
            while file.write(bytes(4096)):
                pass
        except OSError:
            pass
    for _ in range(3):
        assert _read(server, study) == _data_sets(kept)
        assert len(clients.qido(server, "/studies")) == 2
    assert _store(server, kept[0]) == 0xA700
    ballast.unlink()
    # Deleting and purging are never refused for the reserve: they make room.
    _leave(small_disk, 8)
    assert requests.delete(f"{server.dicomweb_url}/studies/1.2.9", timeout=TIMEOUT_S).status_code == 204
    assert server.pacs("purge").returncode == 0
    assert _ready(server)[0] == 503
    os.truncate(small_disk / "ballast", 0)
    eventually(lambda: _ready(server)[0] == 200, "it is ready again")
    assert _store(server, builders.ct(study, "1.5", new_uid(), rows=64, columns=64)) == 0


def test_one_large_object_does_not_eat_up_the_reserve(small_disk: Path, start_archive: StartArchive) -> None:
    server = start_archive({"MIN_FREE_BYTES": "16MiB"})
    _leave(small_disk, 28)
    large = builders.ct("1.2.9", "1.2.9.1", "1.2.9.1.1", rows=3072, columns=3072)  # 18 MiB: more than is left
    assert _store(server, large) == 0xA700
    eventually(lambda: not list((small_disk / "incoming").iterdir()), "nothing of it is left")
    assert _ready(server) == (200, [])
