"""How much the second and third process bring: ``python -m bench.cluster``.

C-STORE of 1,600 × 0.5 MB CT by eight storescu, with QIDO-RS searches under that load, for 1, 2 and 3 worker processes
on SQLite and for 1, 2 and 3 nodes on MongoDB (one-member replica set), interleaved. Each starts with an empty archive.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import psutil

from bench.corpus import Slice, Template
from bench.peers import dcmtk_version
from scripts.local_cluster.mongod import ReplicaSet, find_mongod
from scripts.local_cluster.node import Address, Node
from scripts.local_cluster.process import free_port

_OUTPUT = Path(__file__).with_name("CLUSTER.md")
_SENDERS = 8
_MEGABYTES = 512 * 512 * 2 / 1e6
_SEARCH_PAUSE_S = 0.02


@dataclass(frozen=True)
class Subject:
    """nodes, workers: processes, of which one of the two numbers is 1. mongo: the index engine."""

    nodes: int
    workers: int
    mongo: bool

    @property
    def name(self) -> str:
        if self.mongo:
            return f"MongoDB, {self.nodes} {'node' if self.nodes == 1 else 'nodes'}"
        return f"SQLite, {self.workers} {'worker' if self.workers == 1 else 'workers'}"


@dataclass
class Samples:
    """Of all runs. rate: instances a second; search_s: each search; cpu_s: of the pacs processes, of one run."""

    rate: list[float] = field(default_factory=list)
    search_s: list[float] = field(default_factory=list)
    cpu_s: list[float] = field(default_factory=list)
    rss_bytes: list[int] = field(default_factory=list)


class Material:
    """Eight folders of files, with UIDs that no archive has seen after each ``renew``; a study a folder."""

    def __init__(self, folder: Path, files: int) -> None:
        self._template = Template()
        self._next = 1
        self.files = files
        self.folders = [folder / f"sender{number}" for number in range(_SENDERS)]
        for path in self.folders:
            path.mkdir(parents=True)

    def renew(self) -> None:
        each = self.files // _SENDERS
        for folder in self.folders:
            self._next += 1
            study = self._next
            for number in range(1, each + 1):
                self._next += 1
                path = folder / f"{number:05d}.dcm"
                write = self._template.restamp if path.exists() else self._template.write
                write(path, Slice(study, self._next, number))


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    if options.quick:
        options.files, options.runs = 160, 1
    mongod = find_mongod()
    subjects = [Subject(1, number, mongo=False) for number in options.processes]
    if mongod is None:
        print("no mongod: nodes on MongoDB are left out", file=sys.stderr)
    else:
        subjects += [Subject(number, 1, mongo=True) for number in options.processes]
    subjects = [subject for subject in subjects if not options.only or options.only in subject.name.lower()]
    folder = Path(tempfile.mkdtemp(prefix="pacs-bench-", dir=options.folder))
    samples = {subject: Samples() for subject in subjects}
    load_before = os.getloadavg()[0]
    try:
        material = Material(folder / "material", options.files)
        for run in range(options.runs):
            for subject in subjects if run % 2 == 0 else reversed(subjects):
                material.renew()
                _measure(subject, folder / "archive", material, samples[subject], mongod)
                got = samples[subject]
                print(
                    f"run {run + 1}/{options.runs} {subject.name:18} {got.rate[-1]:6.0f}/s  CPU {got.cpu_s[-1]:.1f} s",
                    file=sys.stderr,
                    flush=True,
                )
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    table = _table(samples, options, load_before)
    print(table)
    output = options.output or (_OUTPUT if not options.quick and not options.only else None)
    if output:
        output.write_text(table)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.cluster", description=__doc__)
    parser.add_argument("--runs", type=int, default=5, help="interleaved runs (default 5)")
    parser.add_argument("--files", type=int, default=1600, help="files of a run, a multiple of 8 (default 1,600)")
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2, 3], metavar="N", help="default: 1 2 3")
    parser.add_argument("--quick", action="store_true", help="one run with 160 files: does it work at all?")
    parser.add_argument("--only", default="", help="sqlite or mongodb")
    parser.add_argument("--folder", type=Path, help="where data folders are made (default: the temporary folder)")
    parser.add_argument("--output", type=Path, help="file to write; default bench/CLUSTER.md, not if quick or only")
    return parser


def _measure(subject: Subject, folder: Path, material: Material, samples: Samples, mongod: Path | None) -> None:
    with _served(subject, folder, mongod) as nodes:
        processes = _processes(nodes)
        searching = threading.Event()
        searching.set()
        searches: list[float] = []
        searcher = threading.Thread(target=_search, args=(nodes, searching, searches))
        os.sync()  # what the run before left to be written must not fall into this one's time
        cpu_s = sum(_cpu_s(process) for process in processes)
        begin = time.perf_counter()
        senders = [
            subprocess.Popen(
                ["/usr/bin/storescu", "+sd", "127.0.0.1", str(nodes[number % len(nodes)].address.dimse), str(path)],
                env={**os.environ, "TCP_NODELAY": "1"},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
            for number, path in enumerate(material.folders)
        ]
        searcher.start()
        outputs = [sender.communicate()[0] for sender in senders]
        seconds = time.perf_counter() - begin
        searching.clear()
        searcher.join()
        failed = [output for sender, output in zip(senders, outputs, strict=True) if sender.returncode]
        assert not failed, failed[0][-1000:]
        samples.rate.append(material.files / seconds)
        samples.cpu_s.append(sum(_cpu_s(process) for process in processes) - cpu_s)
        samples.rss_bytes.append(sum(process.memory_info().rss for process in processes))
        samples.search_s += searches
        _check(nodes, material.files)


@contextlib.contextmanager
def _served(subject: Subject, folder: Path, mongod: Path | None) -> Iterator[list[Node]]:
    nodes: list[Node] = []
    with contextlib.ExitStack() as running:
        running.callback(shutil.rmtree, folder, ignore_errors=True)
        env = {
            # Nothing of the developer's shell; logs of a busy server go where those of a real one go, to a file.
            "PACS_HOME": str(folder),
            "DICOM_STORE_ROOTPATH": str(folder / "data"),
            "SERVER_WORKERS": str(subject.workers),
            "MONGODB_HOSTS": "",
        }
        if subject.mongo:
            assert mongod is not None
            mongo = ReplicaSet(mongod, folder / "mongo")
            running.callback(mongo.stop)
            mongo.start()
            env |= mongo.settings("pacs")
        for number in range(1, subject.nodes + 1):
            node = Node(f"node{number}", folder, Address(free_port(), free_port()), env)
            running.callback(node.stop)
            node.start()
            nodes.append(node)
        yield nodes


def _processes(nodes: Sequence[Node]) -> list[psutil.Process]:
    """All of pacs, with their workers."""
    roots = [psutil.Process(node.process.pid) for node in nodes if node.process is not None]
    return [process for root in roots for process in (root, *root.children())]


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _search(nodes: Sequence[Node], searching: threading.Event, seconds: list[float]) -> None:
    """Studies of one patient and series of a study, in turns, over a kept connection to each node."""
    connections = [http.client.HTTPConnection("127.0.0.1", node.address.http, timeout=60) for node in nodes]
    number = 0
    while searching.is_set():
        path = ("/dicom-web/studies?PatientName=Bench*&limit=20", "/dicom-web/series?Modality=CT&limit=20")[number % 2]
        connection = connections[number // 2 % len(connections)]
        begin = time.perf_counter()
        connection.request("GET", path, headers={"Accept": "application/dicom+json"})
        response = connection.getresponse()
        response.read()
        seconds.append(time.perf_counter() - begin)
        assert response.status in (200, 204), response.status
        number += 1
        time.sleep(_SEARCH_PAUSE_S)
    for connection in connections:
        connection.close()


def _check(nodes: Sequence[Node], files: int) -> None:
    """Every node knows of everything."""
    for node in nodes:
        connection = http.client.HTTPConnection("127.0.0.1", node.address.http, timeout=60)
        path = "/dicom-web/studies?includefield=NumberOfStudyRelatedInstances"
        connection.request("GET", path, headers={"Accept": "application/dicom+json"})
        rows = json.loads(connection.getresponse().read())
        connection.close()
        stored = sum(row["00201208"]["Value"][0] for row in rows)
        assert stored == files, f"{stored} instances instead of {files}"


def _table(samples: dict[Subject, Samples], options: argparse.Namespace, load_before: float) -> str:
    date = datetime.now(UTC).strftime("%Y-%m-%d")
    lines = [
        "# More processes",
        "",
        f"{date}. CPython {sys.version.split()[0]}, {os.cpu_count()} cores, {dcmtk_version()}. C-STORE of "
        f"{options.files:,} × 0.5 MB CT by eight storescu into an empty archive, with searches (QIDO-RS, one client) "
        f"at the same time. Medians of {options.runs} interleaved runs; in brackets least and most. "
        f"Load average of the machine: {load_before:.1f} before, {os.getloadavg()[0]:.1f} after.",
        "",
        "| index and processes | C-STORE | against one | QIDO-RS p50 | QIDO-RS p95 | CPU s of pacs | memory |",
        "|---|---|---|---|---|---|---|",
    ]
    for subject, got in samples.items():
        rate = statistics.median(got.rate)
        alone = next((s for s in samples if s.mongo == subject.mongo and s.nodes == s.workers == 1), None)
        ratio = f"{rate / statistics.median(samples[alone].rate):.2f}" if alone else "–"
        quantiles = statistics.quantiles(got.search_s, n=20) if len(got.search_s) > 1 else [0.0] * 19
        lines.append(
            f"| {subject.name} | {rate:,.0f}/s, {rate * _MEGABYTES:,.0f} MB/s [{min(got.rate):,.0f} – "
            f"{max(got.rate):,.0f}] | {ratio} | {statistics.median(got.search_s) * 1e3:.1f} ms | "
            f"{quantiles[18] * 1e3:.1f} ms | {statistics.median(got.cpu_s):.1f} | "
            f"{statistics.median(got.rss_bytes) / 1e6:,.0f} MB |"
        )
    lines += [
        "",
        "All on one machine, the senders and mongod too: with as many processes as cores there is nothing left to win.",
        "Every answer is given after fsync of the file and a durable commit: SQLite `synchronous=FULL`, MongoDB "
        "`w: majority` with journal.",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
