"""SIGKILL under load: what was acknowledged is there afterwards, whole, indexed and counted."""

from __future__ import annotations

import hashlib
import itertools
import json
import random
import re
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest
import requests

from bench.corpus import Slice, Template
from tests.server import Server, dcmtk_environment
from tests.wire import clients

KILLS = 50
SENDERS = 4  # storescu processes at a time
STOW_CLIENTS = 2
SENDS, STOWS = 20, 10  # instances of one association, of one request
UNDER_WAY = SENDERS * SENDS + STOW_CLIENTS * STOWS  # instances at most, at any moment
STUDIES = 12  # all clients store into the same few studies
SIZE = 128  # rows and columns: 33 KB of pixels, so that many instances are under way at every moment
SEED = 20260719
PAUSE_S = 0.05  # of a client between two requests: every instance is looked at in the end, and that takes longer
LATER_S = 1.0  # of one that was told to come again later: it tries one instance until that is taken


class Load:
    """Clients that store without end and remember what was acknowledged; the rest they send again, as modalities do.

    servers: of one archive; each request goes to the next of them, as behind a balancer. acknowledged: SOP Instance
    UID → its slice; sent: every slice that was ever tried. refusals: what was answered instead of success.
    """

    def __init__(self, servers: Server | Sequence[Server], folder: Path) -> None:
        self._servers = itertools.cycle([servers] if isinstance(servers, Server) else servers)
        self.template = Template(SIZE)
        self.acknowledged: dict[str, Slice] = {}
        self.sent: dict[str, Slice] = {}
        self.refusals: list[str] = []
        self._folder = folder
        self._numbers = itertools.count(1)
        self._again: list[Slice] = []
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._threads = [threading.Thread(target=self._storescu, args=(i,)) for i in range(SENDERS)]
        self._threads += [threading.Thread(target=self._stow) for _ in range(STOW_CLIENTS)]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join(60)
        assert not any(thread.is_alive() for thread in self._threads)

    def _next(self, count: int) -> list[Slice]:
        with self._lock:
            half = (count + 1) // 2
            again, self._again = self._again[:half], self._again[half:]
            new = itertools.islice(self._numbers, count - len(again))
            slices = [*again, *(Slice(1 + n % STUDIES, n, n) for n in new)]
            self.sent.update({slice_.sop_uid: slice_ for slice_ in slices})
        return slices

    def _server(self) -> Server:
        with self._lock:
            return next(self._servers)

    def _acknowledge(self, slices: list[Slice]) -> None:
        with self._lock:
            self.acknowledged.update({slice_.sop_uid: slice_ for slice_ in slices})

    def _give_back(self, slices: Iterable[Slice]) -> None:
        with self._lock:
            self._again += [slice_ for slice_ in slices if slice_.sop_uid not in self.acknowledged]

    def _storescu(self, number: int) -> None:
        folder = self._folder / f"sender{number}"
        folder.mkdir(parents=True)
        is_refused = False
        while not self._stopped.wait(LATER_S if is_refused else PAUSE_S):
            by_name = {}
            for slice_ in self._next(1 if is_refused else SENDS):
                path = folder / f"{slice_.number}.dcm"
                self.template.write(path, slice_)
                by_name[str(path)] = slice_
            server = self._server()
            command = ["/usr/bin/storescu", "-v", "-nh", "-aec", server.ae_title, "127.0.0.1"]
            run = subprocess.run(
                [*command, str(server.dimse_port), *by_name],
                env=dcmtk_environment(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                check=False,
                timeout=120,
            )
            is_refused = self._read_answers(run.stdout, by_name)
            for path in by_name:
                Path(path).unlink()
            self._give_back(by_name.values())

    def _read_answers(self, output: str, by_name: dict[str, Slice]) -> bool:
        """Whether any was refused."""
        current = ""
        refusals = []
        for line in output.splitlines():
            if sending := re.search(r"Sending file: (.*)", line):
                current = sending[1].strip()
            elif "Received Store Response (Success)" in line:
                self._acknowledge([by_name[current]])
            elif "Received Store Response" in line:
                refusals.append(line)
        self.refusals += refusals
        return bool(refusals)

    def _stow(self) -> None:
        is_refused = False
        while not self._stopped.wait(LATER_S if is_refused else PAUSE_S):
            slices = {slice_.sop_uid: slice_ for slice_ in self._next(1 if is_refused else STOWS)}
            try:
                answer = clients.stow(self._server(), [self.template.stamp(slice_) for slice_ in slices.values()])
            except requests.RequestException:
                self._give_back(slices.values())
                continue
            reasons: list[int] = []
            if answer.status_code in (200, 202, 409):
                body = answer.json()
                self._acknowledge([slices[uid] for uid in clients.stored_uids(body)])
                reasons = clients.failures(body)
            self._give_back(slices.values())
            is_refused = answer.status_code != 200
            if is_refused:
                retry_after = answer.headers.get("Retry-After", "")
                why = " ".join(f"{reason:04X}" for reason in reasons) or answer.text[:200]
                self.refusals.append(f"STOW-RS {answer.status_code} Retry-After={retry_after} {why}")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_nothing_acknowledged_is_lost_over_fifty_kills(tmp_path: Path) -> None:
    moments = random.Random(SEED)
    server = Server(tmp_path / "archive").start()
    load = Load(server, tmp_path)
    load.start()
    progress = []
    try:
        for _ in range(KILLS):
            time.sleep(moments.uniform(0.05, 1.2))
            server.kill()
            progress.append(len(load.acknowledged))
            server.start()
        time.sleep(1)
    finally:
        load.stop()
        if not server.is_running:
            server.start()
    try:
        # A server that is being stopped may say so; nothing else is a reason to refuse.
        assert not load.refusals, Counter(load.refusals).most_common(5)
        assert len(load.acknowledged) > KILLS * 5, f"too little load to prove anything: {progress}"
        check_archive(server, load)
        server.stop()
        check_verify(server)
        server.start()
        check_archive(server, load)
    finally:
        server.stop()


def test_a_stop_under_load_loses_nothing_and_leaves_nothing_behind(tmp_path: Path) -> None:
    server = Server(tmp_path / "archive").start()
    load = Load(server, tmp_path)
    load.start()
    try:
        for _ in range(5):
            time.sleep(1.5)
            assert server.stop() == 0
            assert not [path for path in (server.data / "incoming").iterdir() if path.is_file()]
            server.start()
        time.sleep(1)
    finally:
        load.stop()
        if not server.is_running:
            server.start()
    try:
        assert len(load.acknowledged) > 100
        check_archive(server, load)
        server.stop()
        assert not verify(server)["faults"]
    finally:
        server.stop()


def check_archive(server: Server, load: Load) -> None:
    rows = clients.qido(server, "/instances")
    uids = [clients.value(row, "00080018") for row in rows]
    repeated = [uid for uid, count in Counter(uids).items() if count > 1]
    assert not repeated, f"indexed more than once: {repeated[:5]}"
    lost = set(load.acknowledged) - set(uids)
    assert not lost, (
        f"{len(lost)} of {len(load.acknowledged)} acknowledged instances are not indexed: {sorted(lost)[:5]}"
    )
    unknown = set(uids) - set(load.sent)
    assert not unknown, unknown
    # Stored but not acknowledged is allowed: the answer was lost. It must be whole all the same.
    check_bytes(server, load, set(uids))
    check_counters(server, load, set(uids))


def check_bytes(server: Server, load: Load, uids: set[str]) -> None:
    expected = {uid: _digest(clients.data_set_of(load.template.stamp(load.sent[uid]))) for uid in uids}
    found = {}
    for study_uid in {load.sent[uid].study_uid for uid in uids}:
        for part in clients.retrieve_files(server, f"/studies/{study_uid}"):
            # All files are stamped from one template: the UID stands at the same place from the data set's begin.
            data_set = clients.data_set_of(part)
            found[clients.sop_uid_of(part)] = _digest(data_set)
    assert found == expected


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def check_counters(server: Server, load: Load, uids: set[str]) -> None:
    by_study = Counter(load.sent[uid].study_uid for uid in uids)
    fields = {"includefield": ["NumberOfStudyRelatedInstances", "NumberOfStudyRelatedSeries", "ModalitiesInStudy"]}
    studies = {clients.value(row, "0020000D"): row for row in clients.qido(server, "/studies", fields)}
    assert {uid: clients.value(row, "00201208") for uid, row in studies.items()} == dict(by_study)
    assert {clients.value(row, "00201206") for row in studies.values()} == {1}
    assert all(row["00080061"]["Value"] == ["CT"] for row in studies.values())
    fields = {"includefield": "NumberOfSeriesRelatedInstances"}
    series = {clients.value(row, "0020000D"): row for row in clients.qido(server, "/series", fields)}
    assert {uid: clients.value(row, "00201209") for uid, row in series.items()} == dict(by_study)
    for study_uid, count in by_study.items():
        assert len(clients.qido(server, f"/studies/{study_uid}/instances")) == count


def check_verify(server: Server) -> None:
    """A crash leaves at worst files that no row points at; repairing takes them in or away."""
    first = verify(server)
    print(f"{first['instances']} instances; {first['faults']} before repair")  # shown by pytest -rP
    assert set(first["faults"]) <= {"orphan", "leftover"}, first
    repaired = verify(server, "--repair")
    assert repaired["unrepaired"] == 0, repaired
    second = verify(server)
    assert not second["faults"], second
    assert len(server.files()) == second["instances"]


def verify(server: Server, *options: str) -> dict[str, Any]:
    run = server.pacs("verify", "--json", *options, timeout_s=300)
    result: dict[str, Any] = json.loads(run.stdout)
    assert run.returncode == (1 if result["unrepaired"] else 0), run.stdout + run.stderr
    return result
