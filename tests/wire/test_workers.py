"""Several worker processes on one machine: the same ports, one index, nothing lost when one of them dies."""

from __future__ import annotations

import os
import random
import re
import signal
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
import requests

from bench.corpus import Template
from bench.usage import Usage
from tests.server import Server, dcmtk
from tests.wire import clients
from tests.wire.test_concurrency import CLIENTS, SIZE, check_exact, interleaved, storescu, stow
from tests.wire.test_kill import Load, check_archive, check_verify, verify

WORKERS = 2
KILLS = 6
SEED = 20260723


@pytest.fixture
def server(tmp_path: Path) -> Server:
    return Server(tmp_path / "archive", args=(f"--workers={WORKERS}",))


def workers_of(server: Server) -> list[psutil.Process]:
    return psutil.Process(server.pid).children()


def test_several_workers_fill_the_same_series_from_both_ports(server: Server, tmp_path: Path) -> None:
    template = Template(SIZE)
    work = [interleaved(client) for client in range(2 * CLIENTS)]
    with server, ThreadPoolExecutor(2 * CLIENTS) as pool:
        running = [
            pool.submit(storescu, server, template, tmp_path / f"sender{client}", work[client])
            for client in range(CLIENTS)
        ]
        running += [pool.submit(stow, server, template, work[client]) for client in range(CLIENTS, 2 * CLIENTS)]
        problems = [problem for future in running for problem in future.result()]

        assert not problems, problems[:3]
        check_exact(server, [slice_ for slices in work for slice_ in slices])
        log = server.log()
        assert not re.findall(r".* (?:WARNING|ERROR) .*", log)
        # All had their part of both; of more than eight connections, each.
        for line in ("pacs.dimse.session associated", "pacs.web.server http method=POST"):
            parts = Counter(re.findall(rf" \[(\d)\] INFO {re.escape(line)}", log))
            assert sorted(parts) == [str(number) for number in range(1, WORKERS + 1)], parts
            assert min(parts.values()) >= sum(parts.values()) / WORKERS / 3, parts
        assert server.stop() == 0
        assert not verify(server)["faults"]


@pytest.mark.slow
def test_nothing_acknowledged_is_lost_when_workers_are_killed(server: Server, tmp_path: Path) -> None:
    moments = random.Random(SEED)
    with server:
        load = Load(server, tmp_path)
        load.start()
        killed = []
        try:
            for number in range(1, KILLS + 1):
                time.sleep(moments.uniform(0.3, 1.2))
                worker = moments.choice(workers_of(server))
                killed.append(worker.pid)
                worker.kill()
                wait_until(lambda times=number: server.log().count("worker started again") == times)
            time.sleep(1)
        finally:
            load.stop()
        assert not load.refusals, Counter(load.refusals).most_common(5)
        assert len(load.acknowledged) > KILLS * 20
        assert len(workers_of(server)) == WORKERS
        assert not set(killed) & {worker.pid for worker in workers_of(server)}
        check_archive(server, load)
        assert server.stop() == 0
        check_verify(server)


@pytest.mark.slow
def test_a_stop_under_load_is_clean(server: Server, tmp_path: Path) -> None:
    server.start()
    load = Load(server, tmp_path)
    load.start()
    try:
        for _ in range(2):
            time.sleep(1.5)
            assert server.stop() == 0
            assert not [path for path in (server.data / "incoming").iterdir() if path.is_file()]
            server.start()
        time.sleep(0.5)
    finally:
        load.stop()
        if not server.is_running:
            server.start()
    assert len(load.acknowledged) > 50
    check_archive(server, load)
    assert server.stop() == 0
    assert not verify(server)["faults"]


def test_one_worker_that_is_told_to_stop_takes_no_others_connections_with_it(server: Server) -> None:
    with server:
        first, second = workers_of(server)

        first.terminate()

        # The ports stay open all the time: nobody is refused while one of the two is away.
        wait_until(lambda: not first.is_running() and echo(server) and len(workers_of(server)) == WORKERS)
        assert second.is_running()
        assert all(echo(server) for _ in range(4))
        assert all(requests.get(f"{server.http_url}/health/ready", timeout=60).ok for _ in range(4))


def test_workers_end_when_their_parent_is_killed(server: Server) -> None:
    server.start()
    workers = workers_of(server)

    os.kill(server.pid, signal.SIGKILL)

    gone, alive = psutil.wait_procs(workers, timeout=20)
    assert (len(gone), alive) == (WORKERS, [])
    server.process.wait()
    server.process = None
    with server:  # the ports are free again
        assert echo(server)


def test_a_taken_port_is_refused_by_name(server: Server, tmp_path: Path) -> None:
    with server:
        run = server.pacs("serve", "--workers=2", f"--data={tmp_path / 'other'}")

    assert run.returncode == 2
    assert re.fullmatch(r"pacs: (HTTP|DIMSE) port \d+ of 127.0.0.1 is taken\n", run.stderr)


def test_workers_that_cannot_start_end_the_server_with_their_reason(server: Server) -> None:
    server.data.mkdir(parents=True)
    (server.data / "index.sqlite").write_bytes(b"no index at all " * 1000)

    run = server.pacs("serve", "--workers=2")

    assert run.returncode == 3
    assert "the index is damaged" in run.stderr
    assert "worker 1 does not start (exit code 3)" in run.stderr


def test_a_worker_has_its_share_of_the_pixel_processes(tmp_path: Path) -> None:
    env = {"IMAGING_WORKERS": "2", "SERVER_WORKERS": "2"}
    with Server(tmp_path / "archive", env) as server:
        part = Template(512).stamp(slice_ := interleaved(0)[0])
        assert clients.stow(server, [part]).status_code == 200
        path = f"/studies/{slice_.study_uid}/series/{slice_.series_uid}/instances/{slice_.sop_uid}/rendered"

        def render(number: int) -> int:
            # Each another picture, too much for the server's own threads, and each on a connection of its own.
            url = f"{server.dicomweb_url}{path}?viewport=400,400&window={100 + number},400,linear"
            return requests.get(url, headers={"Accept": "image/jpeg"}, timeout=60).status_code

        with ThreadPoolExecutor(16) as pool:
            assert set(pool.map(render, range(64))) == {200}

        assert [len(worker.children()) for worker in workers_of(server)] == [1, 1]


def test_two_workers_on_two_processors_and_one_process_on_one(tmp_path: Path) -> None:
    processors = os.sched_getaffinity(0)
    if len(processors) < 2:
        pytest.skip("one processor only")
    for usable, expected in ((processors, WORKERS), ({min(processors)}, 0)):
        server = Server(tmp_path / f"archive{len(usable)}", {"SERVER_WORKERS": ""})
        os.sched_setaffinity(0, usable)  # a child starts with its parent's
        try:
            server.start()
        finally:
            os.sched_setaffinity(0, processors)
        try:
            assert len(workers_of(server)) == expected
        finally:
            assert server.stop() == 0


def test_workers_share_the_memory_of_what_was_loaded_before_the_fork(server: Server) -> None:
    with server:
        assert all(requests.get(f"{server.http_url}/health/ready", timeout=60).ok for _ in range(4))
        usage = Usage(server.pid)
        usage.stop()

        assert usage.memory_bytes() < 150e6


def test_a_worker_ends_with_its_parent_though_another_hangs(server: Server) -> None:
    server.start()
    first, second = workers_of(server)
    second.suspend()
    try:
        os.kill(server.pid, signal.SIGKILL)
        assert psutil.wait_procs([first], timeout=20)[1] == []
        assert second.is_running()
    finally:
        second.kill()
        server.kill()


def test_ctrl_c_that_reaches_all_processes_stops_them_once_and_cleanly(server: Server) -> None:
    server.start()

    os.killpg(server.pid, signal.SIGINT)

    assert server.process.wait(60) == 0
    server.process = None
    log = server.log()
    assert log.count("stopping: finishing what is under way") == WORKERS
    assert not re.findall(r".* (?:WARNING|ERROR) .*|Traceback", log)


def test_workers_serve_the_examples_of_the_demo(tmp_path: Path) -> None:
    with Server(tmp_path / "archive", args=("--demo", f"--workers={WORKERS}")) as server:
        answer = requests.get(f"{server.dicomweb_url}/studies?limit=5", timeout=60)

        assert len(answer.json()) == 5
        assert len(workers_of(server)) == WORKERS


def echo(server: Server) -> bool:
    return dcmtk("echoscu", "127.0.0.1", str(server.dimse_port)).returncode == 0


def wait_until(condition: Callable[[], bool], timeout_s: float = 30) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "did not come true in time"
        time.sleep(0.05)
