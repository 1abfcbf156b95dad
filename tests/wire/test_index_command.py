"""``pacs index`` beside a running server: C-FIND and QIDO-RS answer the same before, during and after."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import orjson
import pytest

from pacs.dicom.uids import new_uid
from tests import builders
from tests.server import Server
from tests.wire.clients import find, qido, stow, value

ACME = {
    "00110010": {"vr": "LO", "Value": ["ACME"]},
    "00111003": {"vr": "LO", "Value": ["Green"]},
}


def ct(number: int, **attributes: Any) -> bytes:
    return builders.ct(new_uid(), new_uid(), new_uid(), rows=8, columns=8, TriggerTime=number, **attributes)


def listed(server: Server) -> list[dict[str, Any]]:
    run = server.pacs("index", "list", "--json")
    assert run.returncode == 0, run.stderr
    found: list[dict[str, Any]] = orjson.loads(run.stdout)["indexes"]
    return found


def sop_uids(rows: list[dict[str, Any]]) -> list[str]:
    return [value(row, "00080018") for row in rows]


def test_an_index_is_added_listed_used_and_dropped_while_the_server_runs(fresh_archive: Server, tmp_path: Path) -> None:
    assert (
        stow(fresh_archive, [ct(number % 4, **(ACME if number % 2 else {})) for number in range(60)]).status_code == 200
    )
    keys = ({"TriggerTime": "3"}, {"00110010": "ACME", "00111003": "green"})
    before = [sop_uids(qido(fresh_archive, "/instances", key)) for key in keys]
    assert [len(found) for found in before] == [15, 30]
    stop = threading.Event()
    arrived: list[int] = []

    def send() -> None:
        while not stop.is_set():
            assert stow(fresh_archive, [ct(3)]).status_code == 200
            arrived.append(3)

    sender = threading.Thread(target=send)
    sender.start()
    try:
        for tag in ("TriggerTime", "00111003@ACME"):
            run = fresh_archive.pacs("index", "add", tag)
            assert run.returncode == 0, run.stderr
            assert "has an index over" in run.stdout
    finally:
        stop.set()
        sender.join()
    assert [(one["tag"], one["complete"]) for one in listed(fresh_archive)] == [
        ("TriggerTime", True),
        ("00110003@ACME", True),
    ]
    assert arrived
    after = [sop_uids(qido(fresh_archive, "/instances", key)) for key in keys]
    assert after[0][:15] == before[0]
    assert len(after[0]) == 15 + len(arrived)
    assert after[1] == before[1]
    answers = find(fresh_archive, "-S", "IMAGE", tmp_path / "find", "SOPInstanceUID", "TriggerTime=3")
    assert sorted(str(answer.SOPInstanceUID) for answer in answers) == sorted(after[0])
    assert fresh_archive.pacs("index", "drop", "TriggerTime").returncode == 0
    assert [one["tag"] for one in listed(fresh_archive)] == ["00110003@ACME"]
    assert sop_uids(qido(fresh_archive, "/instances", keys[0])) == after[0]


def test_indexes_survive_restart_and_reindex(fresh_archive: Server) -> None:
    assert stow(fresh_archive, [ct(number) for number in range(3)]).status_code == 200
    assert fresh_archive.pacs("index", "add", "TriggerTime").returncode == 0
    fresh_archive.restart()
    assert [one["complete"] for one in listed(fresh_archive)] == [True]
    fresh_archive.stop()
    assert fresh_archive.pacs("reindex").returncode == 0
    fresh_archive.start()
    assert listed(fresh_archive) == [{"tag": "TriggerTime", "complete": True, "done": 3, "total": 3}]
    assert len(qido(fresh_archive, "/instances", {"TriggerTime": "2"})) == 1


def test_an_interrupted_add_goes_on(fresh_archive: Server) -> None:
    parts = [ct(number % 10) for number in range(900)]
    for begin in range(0, len(parts), 300):
        assert stow(fresh_archive, parts[begin : begin + 300]).status_code == 200
    command = subprocess.Popen(
        [sys.executable, "-m", "pacs", "index", "add", "TriggerTime"],
        cwd=fresh_archive.folder,
        env=fresh_archive.env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
    )
    while command.poll() is None and not listed(fresh_archive):
        pass
    command.kill()
    command.communicate()
    assert len(qido(fresh_archive, "/instances", {"TriggerTime": "7"})) == 90
    assert fresh_archive.pacs("index", "add", "TriggerTime", "--json").returncode == 0
    assert listed(fresh_archive) == [{"tag": "TriggerTime", "complete": True, "done": 900, "total": 900}]
    assert len(qido(fresh_archive, "/instances", {"TriggerTime": "7"})) == 90


@pytest.mark.parametrize("arguments", [("add", "NoSuchThing"), ("add", "PatientName"), ("add", "PixelData"), ("add",)])
def test_what_cannot_be_indexed_is_refused(archive: Server, arguments: tuple[str, ...]) -> None:
    run = archive.pacs("index", *arguments)
    assert run.returncode == 2, run.stdout
    assert run.stderr


def test_dropping_what_is_not_there_says_so(archive: Server) -> None:
    run = archive.pacs("index", "drop", "SliceThickness")
    assert run.returncode == 2
    assert "no such index" in run.stderr
