"""What an S3 server does to an archive when it fails: a real one, behind a proxy that fails as it is told."""

from __future__ import annotations

import json
import random
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest
import requests

from pacs.dicom.uids import new_uid
from tests import builders
from tests.fault_proxy import (
    HANG,
    LOSE_ANSWER,
    LOSE_REQUEST,
    REFUSE_500,
    REFUSE_503,
    Fault,
    FaultProxy,
    Request,
    first,
    for_seconds,
)
from tests.seaweedfs import SeaweedFS
from tests.server import Server, dcmtk
from tests.wire import clients

SUCCESS, OUT_OF_RESOURCES = 0x0000, 0xA700
TIMEOUT_S = 4.0
# What a peer waits at most: the setting, and what the rest takes on a busy machine.
PATIENCE_S = TIMEOUT_S + 4
RECOVERY_S = 10.0
AWAY = {
    "answers 500": REFUSE_500,
    "answers 503": REFUSE_503,
    "hangs": HANG,
    "breaks off": LOSE_REQUEST,
    "is down": None,
}


@pytest.fixture
def proxy(s3: SeaweedFS) -> Iterator[FaultProxy]:
    with FaultProxy(s3.port) as running:
        yield running


@pytest.fixture
def prefix(s3: SeaweedFS) -> str:
    return s3.new_prefix()


@pytest.fixture
def server(s3: SeaweedFS, proxy: FaultProxy, prefix: str, tmp_path: Path) -> Iterator[Server]:
    environment = {**s3.environment(prefix, proxy.endpoint), "DICOM_STORE_TIMEOUT_S": f"{TIMEOUT_S:g}"}
    with Server(tmp_path / "archive", {**environment, "DICOM_STORE_CACHE_BYTES": "0"}) as running:
        yield running
        assert "unexpected" not in running.log(), running.log()[-3000:]


class Away:
    """The server is away in a ``with``, in one of the ways of AWAY."""

    def __init__(self, proxy: FaultProxy, way: str) -> None:
        self._proxy, self._fault = proxy, AWAY[way]

    def __enter__(self) -> None:
        fault = self._fault
        if fault is None:
            self._proxy.down()
        else:
            self._proxy.fault = lambda request: fault

    def __exit__(self, *error: object) -> None:
        self._proxy.fault = lambda request: None
        if self._fault is None:
            self._proxy.up()
        else:
            self._proxy.released.set()


def store(server: Server, part10: bytes) -> int | None:
    with clients.association(server) as opened:
        return clients.store_bytes(opened, clients.data_set_of(part10), clients.sop_uid_of(part10))


def timed(call: Callable[[], object]) -> tuple[object, float]:
    begin = time.monotonic()
    return call(), time.monotonic() - begin


def until(call: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not call():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def incoming(server: Server) -> list[Path]:
    return list((server.data / "incoming").iterdir())


def verify(server: Server, *args: str) -> dict[str, int]:
    """Faults by name; the server is stopped."""
    server.stop()
    done = server.pacs("verify", "--json", *args)
    assert done.returncode in (0, 1), done.stderr
    return dict(json.loads(done.stdout)["faults"])


@pytest.mark.parametrize("way", AWAY)
def test_a_store_that_is_away_is_out_of_resources_until_it_is_back(
    server: Server, proxy: FaultProxy, s3: SeaweedFS, prefix: str, way: str
) -> None:
    study = new_uid()
    kept, refused = builders.ct(study, new_uid(), new_uid()), builders.ct(new_uid(), new_uid(), new_uid())
    assert store(server, kept) == SUCCESS
    retrieve = f"/studies/{study}"
    frame = f"{retrieve}/series/{clients.qido(server, f'{retrieve}/series')[0]['0020000E']['Value'][0]}"
    frame += f"/instances/{clients.sop_uid_of(kept)}"
    with Away(proxy, way):
        status, took_s = timed(lambda: store(server, refused))
        assert status == OUT_OF_RESOURCES
        assert took_s < PATIENCE_S
        answer, took_s = timed(lambda: clients.stow(server, [refused]))
        assert isinstance(answer, requests.Response)
        assert (answer.status_code, answer.headers["Retry-After"].isdigit()) == (503, True)
        assert took_s < PATIENCE_S
        for path, accept in (
            (retrieve, clients.AS_STORED),
            (f"{frame}/frames/1", 'multipart/related; type="application/octet-stream"'),
            (f"{frame}/rendered", "image/png"),
        ):
            answer, took_s = timed(lambda path=path, accept=accept: clients.wado(server, path, accept))  # type: ignore[misc]
            assert isinstance(answer, requests.Response)
            assert (answer.status_code, answer.headers["Retry-After"].isdigit()) == (503, True), path
            assert took_s < PATIENCE_S
        # What needs no file is answered as ever.
        rows, took_s = timed(lambda: clients.qido(server, "/studies"))
        assert isinstance(rows, list)
        assert [clients.value(row, "0020000D") for row in rows] == [study]
        assert took_s < 1
        assert clients.wado(server, f"{retrieve}/metadata", "application/dicom+json").status_code == 200
        assert incoming(server) == []
    until(lambda: store(server, refused) == SUCCESS, RECOVERY_S)
    assert [clients.data_set_of(data) for data in clients.retrieve_files(server, retrieve)] == [
        clients.data_set_of(kept)
    ]
    assert incoming(server) == []
    assert verify(server) == {}
    assert len(s3.objects(prefix)) == 2


def test_failing_for_less_than_the_time_allowed_is_noticed_by_nobody(server: Server, proxy: FaultProxy) -> None:
    files = [builders.ct(new_uid(), new_uid(), new_uid()) for _ in range(4)]
    for fault in (REFUSE_500, LOSE_REQUEST):
        with proxy.failing(for_seconds(1, fault)):
            assert store(server, files.pop()) == SUCCESS
        with proxy.failing(for_seconds(1, fault)):
            assert clients.stow(server, [files.pop()]).status_code == 200
        with proxy.failing(for_seconds(1, fault)):
            study = clients.value(clients.qido(server, "/studies")[0], "0020000D")
            assert len(clients.retrieve_files(server, f"/studies/{study}")) == 1
    assert verify(server) == {}


@pytest.mark.parametrize("size", [0, 20 << 20])
def test_a_file_whose_answer_was_lost_and_that_was_sent_again_is_stored_once(
    server: Server, proxy: FaultProxy, s3: SeaweedFS, prefix: str, tmp_path: Path, size: int
) -> None:
    path = tmp_path / "x.dcm"
    if size:
        builders.write_multiframe(path, size)
    else:
        path.write_bytes(builders.ct())
    puts: list[str] = []

    def is_whole_put(request: Request) -> bool:
        if request.method == "PUT" and "partNumber" not in request.path:
            puts.append(request.path)
            return True
        return False

    with proxy.failing(first(1, LOSE_ANSWER, is_whole_put)):
        done = dcmtk("storescu", "-aec", server.ae_title, "127.0.0.1", str(server.dimse_port), path)
    assert done.returncode == 0, done.stdout
    assert len(puts) == 1
    assert [request.path for request in proxy.seen if request.method == "PUT"].count(puts[0]) == 2
    (content,) = s3.objects(prefix).values()
    assert clients.data_set_of(content) == clients.data_set_of(path.read_bytes())
    assert verify(server) == {}


@pytest.mark.parametrize("fault", [REFUSE_500, LOSE_ANSWER, LOSE_REQUEST, Fault(is_corrupted=True)], ids=repr)
def test_an_upload_in_parts_that_fails_leaves_nothing(
    server: Server, proxy: FaultProxy, s3: SeaweedFS, prefix: str, tmp_path: Path, fault: Fault
) -> None:
    path = tmp_path / "big.dcm"
    builders.write_multiframe(path, 30 << 20)
    with proxy.failing(lambda request: fault if "partNumber=2" in request.path else None):
        done = dcmtk("storescu", "-v", "-aec", server.ae_title, "127.0.0.1", str(server.dimse_port), path)
    assert done.returncode != 0
    assert "OutOfResources" in done.stdout, done.stdout
    assert s3.objects(prefix) == {}
    aborted = [request for request in proxy.seen if request.method == "DELETE" and "uploadId=" in request.path]
    assert len(aborted) == 1
    assert incoming(server) == []
    assert clients.qido(server, "/studies") == []
    send = ("storescu", "-aec", server.ae_title, "127.0.0.1", str(server.dimse_port), path)
    until(lambda: dcmtk(*send).returncode == 0, RECOVERY_S)
    assert verify(server) == {}


def test_bytes_that_change_on_their_way_are_refused_by_the_store_and_sent_again(
    server: Server, proxy: FaultProxy
) -> None:
    data = builders.ct(rows=64, columns=64)
    with proxy.failing(first(2, Fault(is_corrupted=True), lambda request: request.method == "PUT")):
        assert store(server, data) == SUCCESS
    assert len([request for request in proxy.seen if request.method == "PUT"]) == 4  # the store's identity, and three
    assert verify(server) == {}


@pytest.mark.parametrize("cut_at", [0, 1000])
def test_an_answer_cut_for_good_cuts_the_download_and_never_ends_it_early(
    server: Server, proxy: FaultProxy, tmp_path: Path, cut_at: int
) -> None:
    path = tmp_path / "big.dcm"
    builders.write_multiframe(path, 30 << 20)
    done = dcmtk("storescu", "-aec", server.ae_title, "127.0.0.1", str(server.dimse_port), path)
    assert done.returncode == 0, done.stdout
    study = clients.value(clients.qido(server, "/studies")[0], "0020000D")

    def late(request: Request) -> Fault | None:
        begin = request.headers.get("range", "bytes=0-").removeprefix("bytes=").partition("-")[0]
        return Fault(cut_at=cut_at) if int(begin) >= 12 << 20 else None

    with proxy.failing(late), pytest.raises(requests.exceptions.RequestException):
        clients.wado(server, f"/studies/{study}")
    until(lambda: clients.wado(server, f"/studies/{study}").status_code == 200, RECOVERY_S)
    with proxy.failing(first(3, Fault(cut_at=cut_at), lambda request: request.method == "GET")):
        (data,) = clients.retrieve_files(server, f"/studies/{study}")
    assert clients.data_set_of(data) == clients.data_set_of(path.read_bytes())
    assert server.is_running


def test_a_retrieval_by_dimse_reports_what_it_could_not_read(server: Server, proxy: FaultProxy, tmp_path: Path) -> None:
    data = builders.ct(new_uid(), new_uid(), new_uid())
    assert store(server, data) == SUCCESS
    study = clients.value(clients.qido(server, "/studies")[0], "0020000D")
    get = ("getscu", "-S", "-aec", server.ae_title, "-od", tmp_path, "-k", "QueryRetrieveLevel=STUDY")
    get = (*get, "-k", f"StudyInstanceUID={study}", "127.0.0.1", str(server.dimse_port))
    with proxy.failing(REFUSE_500):
        done, took_s = timed(lambda: dcmtk(*get))
    assert isinstance(done, subprocess.CompletedProcess)
    assert took_s < PATIENCE_S
    assert list(tmp_path.glob("CT*")) == []
    until(lambda: dcmtk(*get) is not None and len(list(tmp_path.glob("CT*"))) == 1, RECOVERY_S)


def test_under_load_with_faults_all_over_nothing_acknowledged_is_lost(
    server: Server, proxy: FaultProxy, tmp_path: Path
) -> None:
    """Both protocols; one request in four goes wrong, and from the twentieth on all, until each sender was refused."""
    dice, lock = random.Random(4), threading.Lock()
    seen, refused = count(1), set[int]()  # threads

    def rule(request: Request) -> Fault | None:
        with lock:
            roll, number = dice.random(), next(seen)
        if number >= 20 and len(refused) < len(work):
            return REFUSE_500
        return dice.choice([REFUSE_500, LOSE_ANSWER, LOSE_REQUEST]) if roll < 0.25 else None

    sent = [builders.ct(new_uid(), new_uid(), new_uid(), rows=128, columns=128) for _ in range(60)]
    acknowledged: list[bytes] = []

    def by_dimse(mine: list[bytes]) -> None:
        with clients.association(server) as opened:
            for data in mine:
                if clients.store_bytes(opened, clients.data_set_of(data), clients.sop_uid_of(data)) == SUCCESS:
                    acknowledged.append(data)
                else:
                    refused.add(threading.get_ident())

    def by_stow(mine: list[bytes]) -> None:
        for data in mine:
            if clients.stow(server, [data]).status_code == 200:
                acknowledged.append(data)
            else:
                refused.add(threading.get_ident())

    work = [(by_dimse, sent[0:15]), (by_dimse, sent[15:30]), (by_stow, sent[30:45]), (by_stow, sent[45:60])]
    with proxy.failing(rule):
        threads = [threading.Thread(target=function, args=(mine,)) for function, mine in work]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(120)
    assert 0 < len(acknowledged) <= len(sent) - len(work)
    assert incoming(server) == []
    rows = clients.qido(server, "/instances", {"limit": 1000})
    found = {clients.value(row, "00080018"): clients.value(row, "0020000D") for row in rows}
    until(lambda: clients.wado(server, f"/studies/{next(iter(found.values()))}").status_code == 200, RECOVERY_S)
    for data in acknowledged:
        (back,) = clients.retrieve_files(server, f"/studies/{found[clients.sop_uid_of(data)]}")
        assert clients.data_set_of(back) == clients.data_set_of(data)
    # An answer that was lost for good may leave a file without a row, never a row without its file.
    assert set(verify(server, "--repair")) <= {"orphan"}
    assert verify(server) == {}


def test_with_the_store_away_at_the_start_a_command_says_so_and_ends(server: Server, proxy: FaultProxy) -> None:
    server.stop()
    proxy.down()
    done, took_s = timed(lambda: server.pacs("verify"))
    assert isinstance(done, subprocess.CompletedProcess)
    assert done.returncode == 3
    assert "object store" in done.stderr
    assert took_s < PATIENCE_S


def test_what_a_server_has_copies_of_can_be_seen_while_the_store_is_away(server: Server, proxy: FaultProxy) -> None:
    server.env["DICOM_STORE_CACHE_BYTES"] = "100MiB"
    server.restart()
    data = builders.ct(new_uid(), new_uid(), new_uid())
    assert store(server, data) == SUCCESS
    row = clients.qido(server, "/instances")[0]
    study, series, sop = (clients.value(row, tag) for tag in ("0020000D", "0020000E", "00080018"))
    server.restart()
    with Away(proxy, "is down"):
        (back,) = clients.retrieve_files(server, f"/studies/{study}")
        assert clients.data_set_of(back) == clients.data_set_of(data)
        for path, accept in (("frames/1", 'multipart/related; type="application/octet-stream"'), ("rendered", "*/*")):
            answer = clients.wado(server, f"/studies/{study}/series/{series}/instances/{sop}/{path}", accept)
            assert answer.status_code == 200
        assert store(server, builders.ct(new_uid(), new_uid(), new_uid())) == OUT_OF_RESOURCES
    assert verify(server) == {}


def test_a_kill_in_the_middle_of_an_upload_in_parts_leaves_no_row_and_what_verify_finds(
    server: Server, proxy: FaultProxy, s3: SeaweedFS, prefix: str, tmp_path: Path
) -> None:
    path = tmp_path / "big.dcm"
    builders.write_multiframe(path, 30 << 20)
    send = ["/usr/bin/storescu", "-aec", server.ae_title, "127.0.0.1", str(server.dimse_port), str(path)]
    with proxy.failing(lambda request: HANG if "partNumber=2" in request.path else None):
        sender = subprocess.Popen(send, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until(lambda: any("partNumber=2" in request.path for request in proxy.seen), 20)
        server.kill()
        assert sender.wait(60) != 0
    server.start()
    assert incoming(server) == []
    assert clients.qido(server, "/studies") == []
    assert [len(content) for content in s3.objects(prefix).values()] == [0]
    assert verify(server, "--repair") == {"foreign": 1}
    assert s3.objects(prefix) == {}
    server.start()
    until(lambda: dcmtk(*["storescu", *send[1:]]).returncode == 0, RECOVERY_S)
    assert verify(server) == {}
