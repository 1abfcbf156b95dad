"""The change feed over the wire: a reader that is killed again and again sees every change once, in order."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from scripts.local_cluster.mongod import ReplicaSet
from tests import builders
from tests.mongod import mongod_or_skip
from tests.server import PROJECT, Server, clean_environment
from tests.wire import clients
from tests.wire.receivers import eventually

WRITERS, STORED_BY_EACH, KILLS = 4, 40, 12
SEED = 20261130


@pytest.fixture(params=["sqlite", "mongo"])
def nodes(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[list[Server]]:
    """The servers of one archive: one with the embedded index, two on MongoDB."""
    if request.param == "sqlite":
        with Server(tmp_path / "node", {"SERVER_WORKERS": "2"}) as server:
            yield [server]
        return
    with ReplicaSet(mongod_or_skip(), tmp_path / "mongo", 1) as mongo:
        shared = {**mongo.settings(f"pacs-{uuid.uuid4().hex[:12]}"), "DICOM_STORE_ROOTPATH": str(tmp_path / "files")}
        with Server(tmp_path / "one", shared) as one, Server(tmp_path / "two", shared) as two:
            yield [one, two]


def test_a_reader_that_is_killed_sees_every_change_once_and_in_order(nodes: list[Server], tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    seen.touch()
    chance = random.Random(SEED)
    done = threading.Event()
    deleted: list[str] = []
    stored: list[str] = []
    lock = threading.Lock()

    def write(writer: int) -> None:
        for number in range(STORED_BY_EACH):
            study = f"1.{writer}.{number // 4}"
            sop_uid = f"{study}.1.{number}"
            server = nodes[number % len(nodes)]
            assert clients.stow(server, [builders.ct(study, f"{study}.1", sop_uid)]).status_code == 200
            with lock:
                stored.append(sop_uid)

    def delete() -> None:
        while not done.is_set():
            with lock:
                left = [uid for uid in stored if uid not in deleted]
            if not left:
                time.sleep(0.02)
                continue
            sop_uid = chance.choice(left)
            study = sop_uid.rpartition(".1.")[0]
            path = f"/studies/{study}/series/{study}.1/instances/{sop_uid}"
            assert requests.delete(f"{nodes[-1].dicomweb_url}{path}", timeout=60).status_code == 204
            deleted.append(sop_uid)
            time.sleep(0.05)

    def reader() -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "tests.wire.changes_reader", nodes[0].dicomweb_url, str(seen)]
        return subprocess.Popen(command, cwd=PROJECT, env=clean_environment())

    writing = [threading.Thread(target=write, args=(writer,)) for writer in range(1, WRITERS + 1)]
    deleting = threading.Thread(target=delete)
    reading = reader()
    try:
        for thread in (*writing, deleting):
            thread.start()
        for _ in range(KILLS):
            time.sleep(chance.uniform(0.4, 0.9))
            reading.send_signal(signal.SIGKILL)
            reading.wait()
            reading = reader()
        for thread in writing:
            thread.join(120)
        done.set()
        deleting.join(60)
        expected = WRITERS * STORED_BY_EACH + len(deleted)
        eventually(lambda: len(seen.read_bytes().splitlines()) >= expected, "the reader has seen all", 60)
    finally:
        done.set()
        reading.kill()
        reading.wait()
    changes = [json.loads(line) for line in seen.read_text().splitlines()]
    cursors = [change["cursor"] for change in changes]
    assert cursors == sorted(set(cursors)), "each once, in order"
    assert changes == whole_feed(nodes[-1])
    assert sorted(change["sop"] for change in changes if change["kind"] == "stored") == sorted(stored)
    assert sorted(change["sop"] for change in changes if change["kind"] == "deleted") == sorted(deleted)
    at = {(change["kind"], change["sop"]): position for position, change in enumerate(changes)}
    assert all(at["stored", uid] < at["deleted", uid] for uid in deleted)
    assert len(deleted) > 5


def whole_feed(server: Server) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    while True:
        query = {"since": found[-1]["cursor"]} if found else {}
        page = requests.get(f"{server.dicomweb_url}/changes", params=query, timeout=60).json()
        found += page["changes"]
        if not page["more"]:
            return found
