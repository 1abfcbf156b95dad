"""Rows that bring instances in."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path

from bench.clients import Connection, storescu
from bench.material import BOUNDARY, SENDERS, Counts, Material, Series
from bench.peers import Peer
from bench.rows import Row, Timing
from bench.subjects import Pacs

_CT_MB = 512 * 512 * 2 / 1e6
_MEDIUM_MB = 256 * 256 * 2 / 1e6
_UPLOADS = 4


def rows(counts: Counts) -> list[Row]:
    """The first of all: what they store is read by the others."""
    four, small = SENDERS * counts.ct, SENDERS * counts.small
    slow = (("dcmqrscp", "its flat index is read from the start for every instance"),)
    return [
        Row(
            "store1",
            f"C-STORE, {counts.ct} × 0.53 MB CT, one storescu",
            run=_store_one,
            bar=1.5,
            amount=counts.ct,
            megabytes=counts.ct * _CT_MB,
        ),
        Row(
            "store4",
            f"C-STORE, {four:,} × 0.53 MB CT, four storescu",
            run=_store_four,
            bar=2,
            amount=four,
            megabytes=four * _CT_MB,
            lacking=(("dcmqrscp", "loses instances: senders at a time write over each other's files"),),
        ),
        Row(
            "small",
            f"C-STORE, {small:,} small (64×64), four storescu",
            run=_store_small,
            bar=1.5,
            amount=small,
            lacking=slow,
        ),
        Row(
            "stow",
            f"STOW-RS, {counts.series} × 0.53 MB CT in one request",
            run=_stow,
            bar=2,
            amount=counts.series,
            megabytes=counts.series * _CT_MB,
            is_web=True,
        ),
    ]


def import_row(counts: Counts) -> Row:
    return Row(
        "import",
        f"import of {counts.imported:,} files (256×256) from disk",
        run=_import,
        bar=3,
        amount=counts.imported,
        megabytes=counts.imported * _MEDIUM_MB,
        lacking=(("dcmqrscp", "no import"),),
    )


def need(peer: Peer, series: Series) -> None:
    """See to it that the archive holds a series; not timed."""
    if series.study not in peer.holds:
        storescu(peer, series.folder)
        peer.holds.add(series.study)


def _store_one(peer: Peer, material: Material) -> float:
    began = time.perf_counter()
    storescu(peer, material.ct.folder)
    seconds = time.perf_counter() - began
    peer.holds.add(material.ct.study)
    return seconds


def _store_four(peer: Peer, material: Material) -> float:
    began = time.perf_counter()
    storescu(peer, *(quarter.folder for quarter in material.quarters))
    return time.perf_counter() - began


def _store_small(peer: Peer, material: Material) -> float:
    began = time.perf_counter()
    storescu(peer, *material.small)
    return time.perf_counter() - began


def _stow(peer: Peer, material: Material) -> float:
    kind = f'multipart/related; type="application/dicom"; boundary={BOUNDARY}'
    with Connection(peer.http_port) as connection:
        began = time.perf_counter()
        answer = connection.ask(
            "POST", "/dicom-web/studies", "application/dicom+json", kind=kind, body=material.body, is_kept=True
        )
        seconds = time.perf_counter() - began
    assert answer.status == 200, f"STOW-RS answered {answer.status}: {answer.body[:300]!r}"
    stored = json.loads(answer.body)["00081199"]["Value"]
    assert len(stored) == material.counts.series, f"{len(stored)} stored"
    peer.holds.add(material.series.study)
    return seconds


def _import(peer: Peer, material: Material) -> Timing:
    """By the command of this project, its whole process; by Orthanc's REST interface over kept connections."""
    if isinstance(peer, Pacs):
        return _import_command(peer, material)
    return Timing(_upload(peer, sorted(material.imported.iterdir())))


def _import_command(peer: Pacs, material: Material) -> Timing:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.perf_counter()
    command = [sys.executable, "-m", "pacs", "import", "--json", str(material.imported)]
    done = subprocess.run(command, env=peer.environment(), cwd=peer.folder, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0, (done.stdout + done.stderr)[-1000:]
    stored = json.loads(done.stdout)["stored"]
    assert stored == material.counts.imported, done.stdout[-300:]
    return Timing(seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def _upload(peer: Peer, paths: list[Path]) -> float:
    failures: list[BaseException] = []

    def send(connection: Connection, mine: list[Path]) -> None:
        try:
            for path in mine:
                answer = connection.ask(
                    "POST", "/instances", "application/json", kind="application/dicom", body=path.read_bytes()
                )
                assert answer.status == 200, f"{answer.status} {answer.body[:200]!r}"
                assert json.loads(answer.body)["Status"] == "Success", answer.body[:300]
        except (AssertionError, OSError, ValueError, LookupError) as err:
            failures.append(err)

    with ExitStack() as opened:
        connections = [opened.enter_context(Connection(peer.http_port)) for _ in range(_UPLOADS)]
        threads = [
            threading.Thread(target=send, args=(connection, paths[number::_UPLOADS]))
            for number, connection in enumerate(connections)
        ]
        began = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        seconds = time.perf_counter() - began
    if failures:
        raise failures[0]
    return seconds
