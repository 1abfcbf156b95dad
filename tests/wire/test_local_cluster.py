"""scripts/cluster, started as a user starts it: nodes share everything, and nothing is left over in the end."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import requests

from bench.corpus import Slice, Template
from tests.mongod import mongod_or_skip
from tests.server import PROJECT, clean_environment, dcmtk
from tests.wire import clients


def test_a_cluster_starts_serves_and_stops(tmp_path: Path) -> None:
    mongod_or_skip()
    log = tmp_path / "out"
    command = [sys.executable, "-m", "scripts.local_cluster", "--http-port=0", "--dimse-port=0", "--workers=2"]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, f"--folder={tmp_path / 'cluster'}"],
            cwd=PROJECT,
            env=clean_environment(),
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        deadline = time.monotonic() + 60
        while "Stop with" not in log.read_text():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        nodes = re.findall(r"Node \d +(http://\S+) +\w+@127\.0\.0\.1:(\d+)", log.read_text())
        assert len(nodes) == 2
        slice_ = Slice(1, 1, 1)
        Template(64).write(file := tmp_path / "one.dcm", slice_)
        assert dcmtk("storescu", "127.0.0.1", nodes[0][1], file).returncode == 0
        found = requests.get(f"{nodes[1][0]}/studies", timeout=60).json()
        assert [clients.value(row, "0020000D") for row in found] == [slice_.study_uid]
        started = psutil.Process(process.pid).children(recursive=True)
        assert len(started) >= 1 + 2 * 3  # mongod, and of each node the parent and its workers
    finally:
        process.send_signal(signal.SIGINT)
        code = process.wait(60)

    assert code == 0, log.read_text()
    assert "Stopped." in log.read_text()
    assert psutil.wait_procs(started, timeout=5)[1] == []
    assert (tmp_path / "cluster" / "node1.log").exists()
