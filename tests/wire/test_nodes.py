"""Several nodes on one MongoDB and one store: counters exact, and nothing acknowledged lost, whatever is killed."""

from __future__ import annotations

import re
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from bench.corpus import Template
from pacs.dicom.uids import new_uid
from scripts.local_cluster.mongod import ReplicaSet
from tests import builders
from tests.mongod import mongod_or_skip
from tests.server import Server, free_port
from tests.wire import clients
from tests.wire.committing import Told, ask, associated, committed_in, cts, eventually, listening
from tests.wire.test_concurrency import CLIENTS, SIZE, check_exact, interleaved, storescu, stow
from tests.wire.test_kill import UNDER_WAY, Load, check_archive, check_verify, verify

NODES = 2
LEASE_S = 21.0  # how long the index takes a killed node for one at work
OUTAGE_S = 30.0
# All that a client may hear while the database is away: come again later.
LATER = re.compile(r"I: Received Store Response \(Refused: OutOfResources\)|STOW-RS 503 Retry-After=\d+ .*")


def replica_set(folder: Path, members: int = 1) -> ReplicaSet:
    return ReplicaSet(mongod_or_skip(), folder, members)


@pytest.fixture(scope="module")
def mongo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReplicaSet]:
    """One member, shared by the tests of this module: each has a database of its own."""
    with replica_set(tmp_path_factory.mktemp("mongo")) as running:
        yield running


def make_nodes(folder: Path, mongo: ReplicaSet, timeout_s: float = 5.0) -> list[Server]:
    """Not started. All use one folder for the files, and one database. timeout_s: how long they look for a primary."""
    env = {
        "DICOM_STORE_ROOTPATH": str(folder / "files"),
        "MONGODB_TIMEOUT_S": str(timeout_s),
        "COMMITMENT_WAIT_S": "1",
        **mongo.settings(f"pacs-{uuid.uuid4().hex[:12]}"),
    }
    nodes = [Server(folder / f"node{number}", env) for number in range(1, NODES + 1)]
    for node in nodes:
        node.data = folder / "files"
    return nodes


@pytest.fixture
def nodes(tmp_path: Path, mongo: ReplicaSet) -> Iterator[list[Server]]:
    """Running; the second has two worker processes."""
    made = make_nodes(tmp_path, mongo)
    made[1].env["SERVER_WORKERS"] = "2"
    for node in made:
        node.start()
    yield made
    for node in made:
        node.stop()


def check_all(nodes: Sequence[Server], load: Load) -> None:
    """Every node answers the same, and it is right."""
    for node in nodes:
        check_archive(node, load)


def stop_all(nodes: Sequence[Server]) -> None:
    assert [node.stop() for node in nodes] == [0] * len(nodes)


def test_nodes_fill_the_same_series_from_both_ports(nodes: list[Server], tmp_path: Path) -> None:
    template = Template(SIZE)
    work = [interleaved(client) for client in range(2 * CLIENTS)]
    with ThreadPoolExecutor(2 * CLIENTS) as pool:
        running = [
            pool.submit(storescu, nodes[client % NODES], template, tmp_path / f"sender{client}", work[client])
            for client in range(CLIENTS)
        ]
        running += [
            pool.submit(stow, nodes[client % NODES], template, work[client]) for client in range(CLIENTS, 2 * CLIENTS)
        ]
        problems = [problem for future in running for problem in future.result()]

    assert not problems, problems[:3]
    for node in nodes:
        check_exact(node, [slice_ for slices in work for slice_ in slices])
        assert not re.findall(r".* ERROR .*", node.log())
    stop_all(nodes)
    assert not verify(nodes[0])["faults"]


def test_the_same_instance_on_all_nodes_at_once_is_stored_once(nodes: list[Server]) -> None:
    template = Template(SIZE)
    slices = interleaved(0)[:20]
    with ThreadPoolExecutor(2 * CLIENTS) as pool:
        running = [pool.submit(stow, nodes[client % NODES], template, slices) for client in range(CLIENTS)]
        problems = [problem for future in running for problem in future.result()]

    assert not problems, problems[:3]
    for node in nodes:
        check_exact(node, slices)


def test_what_one_node_deletes_is_gone_from_the_other(nodes: list[Server]) -> None:
    first, second = nodes
    slice_ = interleaved(0)[0]
    path = f"/studies/{slice_.study_uid}"
    assert clients.stow(first, [Template(SIZE).stamp(slice_)]).status_code == 200
    assert len(clients.retrieve_files(second, path)) == 1

    assert clients.requests.delete(second.dicomweb_url + path, timeout=60).ok

    assert clients.wado(first, path).status_code == 410
    assert not clients.qido(first, "/studies")


def test_a_commitment_asked_of_a_node_that_dies_is_given_by_the_other(nodes: list[Server]) -> None:
    first, second = nodes
    sop_uid = new_uid()
    assert clients.stow(first, [builders.ct(sop_uid=sop_uid)]).status_code == 200
    told = Told()
    with listening(told) as port:
        second.add_peer("PYNET", port)
        with associated(first) as association:
            status, uid = ask(association, cts([sop_uid]))
            first.kill()
        assert status == 0
        ((event_type, result),) = eventually(lambda: told.of(uid))
    assert (event_type, committed_in(result)) == (1, [sop_uid])


def test_a_database_that_is_not_there_is_named_without_its_password(tmp_path: Path) -> None:
    nobody = free_port()
    env = {"MONGODB_HOSTS": "127.0.0.1", "MONGODB_PORTS": str(nobody), "MONGODB_TIMEOUT_S": "1"}
    login = {"MONGODB_USER": "someone", "MONGODB_PASSWORD": "hunter2"}

    run = Server(tmp_path / "archive", {**env, **login}).pacs("serve")

    assert run.returncode == 3
    assert re.search(rf"pacs: MongoDB cannot be used: .*127\.0\.0\.1:{nobody}", run.stderr)
    assert "hunter2" not in run.stderr + run.stdout
    assert "Traceback" not in run.stderr


def test_a_command_that_wants_the_archive_alone_is_refused_while_a_node_serves(nodes: list[Server]) -> None:
    nodes[0].stop()

    refused = nodes[0].pacs("reindex")

    assert refused.returncode == 3
    assert "stop" in refused.stderr


def test_a_node_with_a_data_folder_of_its_own_is_seen_by_such_a_command_too(mongo: ReplicaSet, tmp_path: Path) -> None:
    """As before an S3 store: the lock of the data folder says nothing about the other node."""
    node, other = make_nodes(tmp_path, mongo)
    other.env["DICOM_STORE_ROOTPATH"] = str(tmp_path / "other")
    with node:
        refused = other.pacs("reindex")

    assert refused.returncode == 3
    assert "pacs serve" in refused.stderr


def test_reindex_makes_the_index_anew_in_one_step(nodes: list[Server], tmp_path: Path) -> None:
    slices = interleaved(0)
    assert not stow(nodes[0], Template(SIZE), slices)
    stop_all(nodes)

    run = nodes[0].pacs("reindex", "--json")

    assert run.returncode == 0, run.stdout + run.stderr
    for node in nodes:
        node.start()
        check_exact(node, slices)


@pytest.mark.slow
def test_nothing_acknowledged_is_lost_when_a_node_is_killed(nodes: list[Server], tmp_path: Path) -> None:
    load = Load(nodes, tmp_path)
    load.start()
    try:
        for number in range(4):
            time.sleep(1.5)
            node = nodes[number % NODES]
            node.kill()
            killed = time.monotonic()
            time.sleep(0.5)  # the other one serves alone
            node.start()
        time.sleep(1)
    finally:
        load.stop()
    assert not load.refusals, Counter(load.refusals).most_common(5)
    assert len(load.acknowledged) > 200
    check_all(nodes, load)
    stop_all(nodes)
    time.sleep(max(0.0, killed + LEASE_S - time.monotonic()))
    check_verify(nodes[0])


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_an_outage_of_mongod_is_told_and_survived(tmp_path: Path) -> None:
    with replica_set(tmp_path / "mongo") as mongo:
        nodes = make_nodes(tmp_path, mongo, timeout_s=2.0)
        for node in nodes:
            node.start()
        load = Load(nodes, tmp_path)
        load.start()
        try:
            time.sleep(2)
            mongo.kill_member(0)
            down = time.monotonic()
            before = len(load.acknowledged)
            time.sleep(OUTAGE_S / 2)
            assert clients.requests.get(f"{nodes[0].http_url}/health/ready", timeout=60).status_code == 503
            assert clients.requests.get(f"{nodes[0].http_url}/health/live", timeout=60).status_code == 200
            answer = clients.requests.get(f"{nodes[0].dicomweb_url}/studies", timeout=60)
            assert (answer.status_code, answer.headers["Retry-After"].isdigit()) == (503, True)
            time.sleep(max(0.0, down + OUTAGE_S - time.monotonic()))
            during = len(load.acknowledged)
            refusals = list(load.refusals)
            mongo.start_member(0)
            mongo.wait_for_primary()
            time.sleep(5)
        finally:
            load.stop()

        # What was answered before it died may have been read just after.
        assert during - before <= UNDER_WAY
        assert any("STOW" in refusal for refusal in refusals)
        assert any("Store Response" in refusal for refusal in refusals)
        check_refusals(load)
        assert len(load.acknowledged) > during + 50  # by itself
        # What is refused while nobody can say whether it has a row is refused before it is written.
        assert len(nodes[0].files()) - len(clients.qido(nodes[0], "/instances")) <= 2 * UNDER_WAY
        check_all(nodes, load)
        stop_all(nodes)
        check_verify(nodes[0])


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_death_of_the_primary_is_survived(tmp_path: Path) -> None:
    with replica_set(tmp_path / "mongo", members=3) as mongo:
        nodes = make_nodes(tmp_path, mongo)
        for node in nodes:
            node.start()
        load = Load(nodes, tmp_path)
        load.start()
        served = []
        try:
            for _ in range(2):
                time.sleep(2)
                killed = mongo.wait_for_primary()
                mongo.kill_member(killed)
                assert mongo.wait_for_primary() != killed
                served.append(len(load.acknowledged))
                time.sleep(4)
                mongo.start_member(killed)
            time.sleep(2)
        finally:
            load.stop()

        check_refusals(load)
        # With two of three members it goes on.
        assert served[0] + 50 < served[1] < len(load.acknowledged) - 50
        check_all(nodes, load)
        stop_all(nodes)
        check_verify(nodes[0])


def check_refusals(load: Load) -> None:
    """Nothing but "come again later"."""
    counted = Counter(load.refusals)
    print(counted.most_common(6))  # shown by pytest -rP
    for refusal in counted:
        assert LATER.fullmatch(refusal), counted.most_common(5)
