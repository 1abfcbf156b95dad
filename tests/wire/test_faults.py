"""What goes wrong between a client, the archive and its disk: a clear error, nothing half-stored, and it serves on."""

from __future__ import annotations

import contextlib
import os
import random
import re
import socket
import struct
import subprocess
import time
import zlib
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path

import psutil
import pydicom
import pytest
import requests
from pynetdicom.dimse_messages import C_STORE_RQ
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.pdu import P_DATA_TF

from bench.corpus import Slice, Template, series_uid
from tests.server import Server, dcmtk, free_port
from tests.wire import clients

SUCCESS, OUT_OF_RESOURCES = 0x0000, 0xA700
DEFLATED = "1.2.840.10008.1.2.1.99"
FOUR_GIGABYTES = 0xFFFFFFFF
MEMORY_LIMIT_BYTES = 300 * 10**6

StartArchive = Callable[..., Server]
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small filesystem: needs root")


@pytest.fixture(scope="module")
def template() -> Template:
    return Template(256)


@pytest.fixture(autouse=True)
def _serves_on(request: pytest.FixtureRequest) -> Iterator[None]:
    """After each test the archive that it disturbed answers on both ports, and logged no traceback."""
    names = {"archive", "fresh_archive"} & set(request.fixturenames)
    servers = [request.getfixturevalue(name) for name in names]
    yield
    for server in servers:
        _check_serving(server)


def _check_serving(server: Server) -> None:
    assert server.is_running
    echo = dcmtk("echoscu", "-aec", server.ae_title, "127.0.0.1", str(server.dimse_port))
    assert echo.returncode == 0, echo.stdout
    clients.qido(server, "/studies")
    assert "Traceback" not in server.log(), server.log()[-3000:]


def _assert_absent(server: Server, slice_: Slice) -> None:
    """Neither visible nor left behind as a file."""
    assert not clients.qido(server, "/instances", {"SOPInstanceUID": slice_.sop_uid})
    assert not clients.qido(server, "/studies", {"StudyInstanceUID": slice_.study_uid})
    assert not [path for path in server.files() if slice_.sop_uid.encode() in path.read_bytes()]
    _wait_for_no_incoming(server)


def _wait_for_no_incoming(server: Server) -> None:
    """A connection that breaks off is noticed at once, but not in the same instant."""
    deadline = time.monotonic() + 60
    while left := [path for path in _incoming(server).rglob("*") if path.is_file()]:
        assert time.monotonic() < deadline, f"left behind: {left}"
        time.sleep(0.05)


def _incoming(server: Server) -> Path:
    (folder,) = (path for path in server.data.rglob("incoming") if path.is_dir())
    return folder


def _store(server: Server, data_set: bytes, sop_uid: str, syntax: str = clients.EXPLICIT_LITTLE) -> int | None:
    with clients.association(server, {clients.CT_IMAGE_STORAGE: [syntax]}) as opened:
        return clients.store_bytes(opened, data_set, sop_uid, syntax=syntax)


def _store_slice(server: Server, template: Template, slice_: Slice) -> int | None:
    return _store(server, clients.data_set_of(template.stamp(slice_)), slice_.sop_uid)


def _exchange(port: int, data: bytes, timeout_s: float = 10) -> bytes:
    """Send, and read until the server closes or says no more."""
    answer = b""
    with socket.create_connection(("127.0.0.1", port), timeout_s) as connection, contextlib.suppress(OSError):
        connection.sendall(data)
        while chunk := connection.recv(65536):
            answer += chunk
    return answer


# --- garbage, and clients that vanish ---

GARBAGE = {
    "random bytes": random.Random(1).randbytes(5000),
    "zeros": bytes(5000),
    "an HTTP request": b"GET /dicom-web/studies HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "a TLS hello": bytes.fromhex("16030100a5010000a10303") + random.Random(2).randbytes(160),
    "a PDU of a type that does not exist": struct.pack(">BBI", 99, 0, 4) + b"DICM",
    "an A-ASSOCIATE-RQ of random bytes": struct.pack(">BBI", 1, 0, 500) + random.Random(3).randbytes(500),
    "P-DATA before any association": struct.pack(">BBI", 4, 0, 10) + struct.pack(">IBB", 6, 1, 3) + b"DICM",
}


@pytest.mark.parametrize("name", GARBAGE)
def test_garbage_on_the_dimse_port_ends_that_connection_only(archive: Server, name: str) -> None:
    answer = _exchange(archive.dimse_port, GARBAGE[name])
    # Nothing, A-ASSOCIATE-RJ or A-ABORT: never an acceptance.
    assert answer == b"" or answer[0] in (3, 7), answer[:20]


@pytest.mark.parametrize("name", [name for name in GARBAGE if name != "an HTTP request"])
def test_garbage_on_the_http_port_is_answered_with_400_or_closed(archive: Server, name: str) -> None:
    answer = _exchange(archive.http_port, GARBAGE[name] + b"\r\n\r\n")
    assert answer == b"" or answer.split(b" ")[1] == b"400", answer[:100]


@pytest.mark.parametrize("kind", [1, 2, 3, 4, 5, 6, 7])
def test_a_pdu_that_claims_four_gigabytes_is_not_waited_for(archive: Server, kind: int) -> None:
    before = archive.rss_bytes()
    answer = _exchange(archive.dimse_port, struct.pack(">BBI", kind, 0, FOUR_GIGABYTES) + bytes(1 << 20))
    assert answer == b"" or answer[0] in (3, 7)
    assert archive.rss_bytes() - before < 50 * 10**6


@pytest.mark.parametrize("item_length", [FOUR_GIGABYTES, 0, 1])
def test_p_data_that_claims_four_gigabytes_aborts_the_association(
    archive: Server, template: Template, item_length: int
) -> None:
    before = archive.rss_bytes()
    with clients.association(archive) as opened:
        connection = opened.dul.socket.socket
        with contextlib.suppress(OSError):
            connection.sendall(struct.pack(">BBIIBB", 4, 0, FOUR_GIGABYTES, item_length, 1, 3) + bytes(1 << 20))
            for _ in range(50):
                connection.sendall(bytes(1 << 20))
        deadline = time.monotonic() + 60
        while opened.is_established and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not opened.is_established, "the association goes on"
    assert archive.rss_bytes() - before < 50 * 10**6


def test_half_an_association_request_does_not_keep_others_waiting(archive: Server, template: Template) -> None:
    request = struct.pack(">BBI", 1, 0, 200) + struct.pack(">HH", 1, 0) + b"DCMQRSCP".ljust(16)
    waiting = []
    try:
        for _ in range(30):
            connection = socket.create_connection(("127.0.0.1", archive.dimse_port), 5)
            connection.sendall(request)
            waiting.append(connection)
        start = time.monotonic()
        assert _store_slice(archive, template, Slice(100, 100, 1)) == SUCCESS
        assert time.monotonic() - start < 5
    finally:
        for connection in waiting:
            connection.close()


def test_an_idle_http_client_does_not_keep_others_waiting(archive: Server, template: Template) -> None:
    waiting = [socket.create_connection(("127.0.0.1", archive.http_port), 5) for _ in range(30)]
    try:
        for connection in waiting:
            connection.sendall(b"POST /dicom-web/studies HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n--")
        assert clients.stow(archive, [template.stamp(Slice(101, 101, 1))]).status_code == 200
    finally:
        for connection in waiting:
            connection.close()


@pytest.mark.parametrize("share", [0.02, 0.5, 0.999])
def test_a_c_store_that_breaks_off_leaves_nothing(archive: Server, template: Template, share: float) -> None:
    slice_ = Slice(200 + int(share * 10), 200 + int(share * 10), 1)
    with clients.association(archive) as opened:
        request = C_STORE()
        request.MessageID = 1
        request.AffectedSOPClassUID = clients.CT_IMAGE_STORAGE
        request.AffectedSOPInstanceUID = slice_.sop_uid
        request.Priority = 2
        request.DataSet = BytesIO(clients.data_set_of(template.stamp(slice_)))
        message = C_STORE_RQ()
        message.primitive_to_message(request)
        stream = b""
        for primitive in message.encode_msg(opened.accepted_contexts[0].context_id, 16384):
            pdu = P_DATA_TF()
            pdu.from_primitive(primitive)
            stream += pdu.encode()
        connection = opened.dul.socket.socket
        connection.sendall(stream[: int(len(stream) * share)])
        connection.shutdown(socket.SHUT_RDWR)
        connection.close()
    _assert_absent(archive, slice_)
    assert _store_slice(archive, template, slice_) == SUCCESS


def test_a_storescu_that_is_killed_leaves_whole_instances_only(fresh_archive: Server, tmp_path: Path) -> None:
    big = Template(2048)
    for number in range(1, 30):
        big.write(tmp_path / f"{number}.dcm", Slice(210, 2100 + number, number))
    command = ["/usr/bin/storescu", "-v", "+sd", "-aec", fresh_archive.ae_title, "127.0.0.1"]
    process = subprocess.Popen(
        [*command, str(fresh_archive.dimse_port), str(tmp_path)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    assert process.stdout is not None
    for line in process.stdout:
        if b"Received Store Response" in line:
            break
    time.sleep(0.02)
    clients.kill_process(process)
    process.stdout.close()
    _wait_for_no_incoming(fresh_archive)
    # What was received whole when the client died may be on its way from the store to the index.
    deadline = time.monotonic() + 60
    while len(rows := clients.qido(fresh_archive, "/instances")) != len(fresh_archive.files()):
        assert time.monotonic() < deadline, f"{len(rows)} rows, {len(fresh_archive.files())} files"
        time.sleep(0.1)
    assert 1 <= len(rows) < 29
    for part in clients.retrieve_files(fresh_archive, f"/studies/{Slice(210, 0, 0).study_uid}"):
        assert len(part) > 2048 * 2048 * 2


@pytest.mark.parametrize("is_chunked", [False, True], ids=["content-length", "chunked"])
def test_a_stow_request_that_breaks_off_leaves_nothing_half_stored(
    archive: Server, template: Template, is_chunked: bool
) -> None:
    slices = [Slice(220 + is_chunked, 2200 + 10 * is_chunked + i, i + 1) for i in range(4)]
    body = clients.multipart(template.stamp(slice_) for slice_ in slices)
    part = body[: int(len(body) * 0.6)]
    with socket.create_connection(("127.0.0.1", archive.http_port), 10) as connection:
        length = "Transfer-Encoding: chunked" if is_chunked else f"Content-Length: {len(body)}"
        fields = f"Host: localhost\r\nContent-Type: {clients.STOW_TYPE}\r\n{length}\r\n\r\n"
        head = f"POST /dicom-web/studies HTTP/1.1\r\n{fields}"
        connection.sendall(head.encode())
        connection.sendall(b"%x\r\n" % len(part) + part if is_chunked else part)
    _wait_for_no_incoming(archive)
    rows = clients.qido(archive, "/instances", {"StudyInstanceUID": slices[0].study_uid})
    # Parts that came whole may be kept: nothing was promised of them. The cut one may not.
    assert len(rows) <= 2
    assert clients.stow(archive, [template.stamp(slice_) for slice_ in slices]).status_code == 200
    assert len(clients.qido(archive, f"/studies/{slices[0].study_uid}/instances")) == 4


# --- broken files ---

CUTS = {
    "in file meta": lambda size, offset: offset // 2,
    "at the data set's begin": lambda size, offset: offset,
    "in the header": lambda size, offset: offset + 700,
    "in the header of pixel data": lambda size, offset: size - 256 * 256 * 2 - 3,
    "in pixel data": lambda size, offset: size - 5000,
    "before the last byte": lambda size, offset: size - 1,
}


@pytest.mark.parametrize("cut", CUTS)
def test_a_truncated_file_is_refused_by_stow_and_its_neighbours_are_kept(
    archive: Server, template: Template, cut: str
) -> None:
    number = 300 + 10 * list(CUTS).index(cut)
    broken, good = Slice(number, number, 1), Slice(number + 1, number + 1, 1)
    whole = template.stamp(broken)
    part = whole[: CUTS[cut](len(whole), clients.data_set_offset(whole))]
    response = clients.stow(archive, [part, template.stamp(good)])
    assert response.status_code == 202, response.text
    assert clients.stored_uids(response.json()) == {good.sop_uid}
    (reason,) = clients.failures(response.json())
    assert reason in (0x0110, 0x0120, 0x0121) or 0xA900 <= reason < 0xAA00 or 0xC000 <= reason < 0xD000, f"{reason:04X}"
    _assert_absent(archive, broken)
    alone = clients.stow(archive, [part])
    assert alone.status_code == 409, alone.text


@pytest.mark.parametrize("cut", [cut for cut in CUTS if cut not in ("in file meta", "at the data set's begin")])
def test_a_truncated_data_set_is_refused_by_c_store(archive: Server, template: Template, cut: str) -> None:
    number = 400 + 10 * list(CUTS).index(cut)
    broken = Slice(number, number, 1)
    whole = template.stamp(broken)
    offset = clients.data_set_offset(whole)
    status = _store(archive, whole[offset : CUTS[cut](len(whole), offset)], broken.sop_uid)
    assert status is not None
    assert status == 0x0110 or 0xA900 <= status < 0xAA00 or 0xC000 <= status < 0xD000, f"{status:04X}H"
    _assert_absent(archive, broken)


def test_random_bytes_are_refused_by_c_store_and_stow(archive: Server) -> None:
    random_bytes = random.Random(4).randbytes(20000)
    status = _store(archive, random_bytes, Slice(1, 450, 1).sop_uid)
    assert status is not None
    assert status == 0x0110 or 0xA900 <= status < 0xAA00 or 0xC000 <= status < 0xD000, f"{status:04X}H"
    assert clients.stow(archive, [random_bytes]).status_code == 409
    _wait_for_no_incoming(archive)


def test_the_association_goes_on_after_a_refused_instance(archive: Server, template: Template) -> None:
    good = Slice(460, 460, 1)
    with clients.association(archive) as opened:
        assert clients.store_bytes(opened, b"\x08\x00", Slice(461, 461, 1).sop_uid) not in (None, SUCCESS)
        assert clients.store_bytes(opened, clients.data_set_of(template.stamp(good)), good.sop_uid) == SUCCESS


@pytest.fixture(scope="module")
def bomb(template: Template) -> bytes:
    """A deflated data set of a few MB that inflates to 2 GB."""
    data_set = clients.data_set_of(template.stamp(Slice(500, 500, 1)))
    pixel_data = data_set.index(b"\xe0\x7f\x10\x00OW")
    compressor = zlib.compressobj(1, zlib.DEFLATED, -15)
    length = 2 * 10**9
    deflated = [compressor.compress(data_set[:pixel_data] + b"\xe0\x7f\x10\x00OW\0\0" + struct.pack("<I", length))]
    deflated += [compressor.compress(bytes(10**7)) for _ in range(length // 10**7)]
    return b"".join([*deflated, compressor.flush()])


@pytest.mark.parametrize("way", ["C-STORE", "STOW-RS"])
def test_a_deflated_bomb_is_refused_without_taking_memory(fresh_archive: Server, bomb: bytes, way: str) -> None:
    slice_ = Slice(500, 500, 1)
    assert len(bomb) < 2e7
    if way == "C-STORE":
        status = _store(fresh_archive, bomb, slice_.sop_uid, DEFLATED)
        assert status not in (None, SUCCESS)
    else:
        meta = pydicom.dataset.FileMetaDataset()
        meta.MediaStorageSOPClassUID = clients.CT_IMAGE_STORAGE
        meta.MediaStorageSOPInstanceUID = slice_.sop_uid
        meta.TransferSyntaxUID = pydicom.uid.UID(DEFLATED)
        head = BytesIO()
        pydicom.filewriter.write_file_meta_info(head, meta)
        response = clients.stow(fresh_archive, [bytes(128) + b"DICM" + head.getvalue() + bomb])
        assert response.status_code in (409, 413), response.text
    _assert_absent(fresh_archive, slice_)
    assert fresh_archive.peak_rss_bytes() < MEMORY_LIMIT_BYTES


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_a_compressed_request_that_inflates_to_gigabytes_takes_no_memory(fresh_archive: Server, coding: str) -> None:
    head = f"--{clients.BOUNDARY}\r\nContent-Type: application/dicom\r\n\r\n".encode()
    compressor = zlib.compressobj(1, zlib.DEFLATED, 31 if coding == "gzip" else 15)
    body = [compressor.compress(head + bytes(128) + b"DICM")]
    body += [compressor.compress(bytes(10**7)) for _ in range(200)]
    answer = requests.post(
        f"{fresh_archive.dicomweb_url}/studies",
        data=b"".join([*body, compressor.flush()]),
        headers={"Content-Type": clients.STOW_TYPE, "Content-Encoding": coding},
        timeout=clients.TIMEOUT_S,
    )
    assert 400 <= answer.status_code < 500, f"{answer.status_code} {answer.text[:300]}"
    assert fresh_archive.peak_rss_bytes() < MEMORY_LIMIT_BYTES
    _wait_for_no_incoming(fresh_archive)


# --- clients and destinations that vanish while they are sent to ---


@pytest.fixture(scope="module")
def big_series(archive: Server) -> Slice:
    """200 MB in one series: more than the socket buffers of a client that does not read can hold."""
    big = Template(2048)
    slices = [Slice(900, 9000 + i, i + 1) for i in range(25)]
    for slice_ in slices:
        assert _store_slice(archive, big, slice_) == SUCCESS
    return slices[0]


def test_a_wado_client_that_vanishes_or_does_not_read_costs_nothing(archive: Server, big_series: Slice) -> None:
    process = psutil.Process(archive.pid)
    before, files = archive.rss_bytes(), process.num_fds()
    request = (
        f"GET /dicom-web/studies/{big_series.study_uid} HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n\r\n".encode()
    )
    readers = [socket.create_connection(("127.0.0.1", archive.http_port), 10) for _ in range(8)]
    for reader in readers:
        reader.sendall(request)
        assert reader.recv(1000).startswith(b"HTTP/1.1 200")
    time.sleep(1)
    start = time.monotonic()
    _check_serving(archive)
    assert time.monotonic() - start < 5
    assert archive.rss_bytes() - before < 100 * 10**6
    for reader in readers:
        reader.close()
    deadline = time.monotonic() + 60
    while process.num_fds() > files + 2 and time.monotonic() < deadline:
        time.sleep(0.1)
    assert process.num_fds() <= files + 2


def test_a_getscu_that_is_killed_costs_nothing(archive: Server, big_series: Slice, tmp_path: Path) -> None:
    command = ["/usr/bin/getscu", "-v", "-S", "+B", "-od", tmp_path]
    keys = ["-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={big_series.study_uid}"]
    process = subprocess.Popen(
        [*command, "-aec", archive.ae_title, *keys, "127.0.0.1", str(archive.dimse_port)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert process.stdout is not None
    for line in process.stdout:
        if b"Received C-STORE Request" in line:
            break
    clients.kill_process(process)
    process.stdout.close()


def test_a_move_to_a_destination_that_is_not_there_fails_clearly(archive: Server, big_series: Slice) -> None:
    archive.add_peer("NOBODY", free_port())
    output = _move(archive, big_series, "NOBODY")
    assert re.search(r"Failed|Refused|Unable|Warning", output), output
    assert "Final Move Response (Success)" not in output


def test_a_move_to_an_unknown_destination_is_refused(archive: Server, big_series: Slice) -> None:
    output = _move(archive, big_series, "UNHEARDOF")
    assert "MoveDestinationUnknown" in output, output


def test_a_destination_that_dies_while_it_receives_fails_the_rest(
    archive: Server, big_series: Slice, tmp_path: Path
) -> None:
    port = free_port()
    archive.add_peer("DYING", port)
    command = ["/usr/bin/storescp", "-aet", "DYING", "-od", tmp_path, "--abort-during", str(port)]
    destination = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        clients.wait_for_port(port)
        output = _move(archive, big_series, "DYING")
        assert "Final Move Response" in output
        assert "Final Move Response (Success)" not in output
    finally:
        clients.kill_process(destination)


def _move(server: Server, slice_: Slice, destination: str) -> str:
    keys = ("-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={slice_.study_uid}")
    options = ("-v", "-S", "-aec", server.ae_title, "-aem", destination, *keys)
    return dcmtk("movescu", *options, "127.0.0.1", str(server.dimse_port), timeout_s=60).stdout


def test_more_associations_than_allowed_are_rejected_and_the_rest_go_on(start_archive: StartArchive) -> None:
    server = start_archive({"MAX_ASSOCIATIONS": "5"})
    with contextlib.ExitStack() as stack:
        for _ in range(5):
            stack.enter_context(clients.association(server))
        echo = dcmtk("echoscu", "-aec", server.ae_title, "127.0.0.1", str(server.dimse_port))
        assert echo.returncode != 0
        assert "Association Rejected" in echo.stdout, echo.stdout
    _check_serving(server)


# --- the disk ---

NO_RESERVE = {"MIN_FREE_BYTES": "0"}  # otherwise the archive stops long before the disk is full


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A data folder on a filesystem of 40 MB."""
    folder = tmp_path / "archive0" / "data"
    folder.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=40m", "tmpfs", str(folder)], check=True)
    yield folder
    # Lazily: at this point the server may still be stopping.
    subprocess.run(["umount", "-l", str(folder)], check=True)


def _fill(folder: Path) -> Path:
    """A file that takes all space that is left."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(1 << 14)):
            pass
    with ballast.open("ab", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(512)):
            pass
    return ballast


@needs_root
@pytest.mark.parametrize("way", ["C-STORE", "STOW-RS"])
def test_a_full_disk_is_said_and_survived(
    small_disk: Path, start_archive: StartArchive, template: Template, way: str
) -> None:
    server = start_archive(NO_RESERVE)
    assert server.data == small_disk
    kept = [Slice(600, 600 + i, i + 1) for i in range(5)]
    for slice_ in kept:
        assert _store_slice(server, template, slice_) == SUCCESS
    ballast = _fill(small_disk)
    refused = [Slice(601, 610 + i, i + 1) for i in range(3)]
    for slice_ in refused:
        _assert_out_of_resources(server, template, slice_, way)
    for slice_ in refused:
        _assert_absent(server, slice_)
    _check_serving(server)
    _assert_all_there(server, template, kept)
    ballast.unlink()
    for slice_ in refused:
        assert _store_slice(server, template, slice_) == SUCCESS
    _assert_all_there(server, template, refused)
    server.stop()
    verify = server.pacs("verify")
    assert verify.returncode == 0, verify.stdout


@needs_root
def test_a_disk_that_fills_up_while_storing_loses_nothing_acknowledged(
    small_disk: Path, start_archive: StartArchive
) -> None:
    server = start_archive(NO_RESERVE)
    large = Template(1024)  # 2 MB: the disk takes some of them
    acknowledged, statuses = [], []
    for number in range(1, 40):
        slice_ = Slice(620, 6200 + number, number)
        status = _store_slice(server, large, slice_)
        statuses.append(status)
        if status == SUCCESS:
            acknowledged.append(slice_)
    assert set(statuses) == {SUCCESS, OUT_OF_RESOURCES}, statuses
    _assert_all_there(server, large, acknowledged)
    _wait_for_no_incoming(server)
    server.stop()
    server.start()
    _assert_all_there(server, large, acknowledged)


@needs_root
@pytest.mark.parametrize("way", ["C-STORE", "STOW-RS"])
@pytest.mark.usefixtures("small_disk")
def test_a_disk_with_less_than_the_reserve_takes_nothing(
    start_archive: StartArchive, template: Template, way: str
) -> None:
    server = start_archive({"MIN_FREE_BYTES": "100MB"})
    _assert_out_of_resources(server, template, Slice(630, 630, 1), way)
    _assert_absent(server, Slice(630, 630, 1))
    _check_serving(server)


def _assert_out_of_resources(server: Server, template: Template, slice_: Slice, way: str) -> None:
    if way == "C-STORE":
        assert _store_slice(server, template, slice_) == OUT_OF_RESOURCES
        return
    response = clients.stow(server, [template.stamp(slice_)])
    assert response.status_code == 503, f"{response.status_code} {response.text}"
    assert int(response.headers["Retry-After"]) > 0


def _assert_all_there(server: Server, template: Template, slices: list[Slice]) -> None:
    parts = clients.retrieve_files(server, f"/studies/{slices[0].study_uid}/series/{series_uid(slices[0].study)}")
    assert {clients.data_set_of(part) for part in parts} == {
        clients.data_set_of(template.stamp(slice_)) for slice_ in slices
    }
    (row,) = clients.qido(server, "/studies", {"StudyInstanceUID": slices[0].study_uid})
    assert clients.value(row, "00201208") == len(slices)


def _lock_folder(folder: Path) -> Callable[[], None]:
    """Make a folder read-only under the server's feet; the result undoes it."""
    if os.geteuid() == 0:  # modes do not bind root, a read-only filesystem does
        subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", str(folder)], check=True)
        return lambda: subprocess.run(["umount", str(folder)], check=True) and None
    mode = folder.stat().st_mode
    folder.chmod(0o555)
    return lambda: folder.chmod(mode)


@pytest.mark.parametrize("way", ["C-STORE", "STOW-RS"])
@pytest.mark.parametrize("place", ["incoming", "store"])
def test_a_folder_that_turns_read_only_is_said_and_survived(
    fresh_archive: Server, template: Template, way: str, place: str
) -> None:
    kept = Slice(700, 700, 1)
    assert _store_slice(fresh_archive, template, kept) == SUCCESS
    (stored,) = fresh_archive.files()
    folder = _incoming(fresh_archive)
    if place == "store":
        # The folder next below the data folder: what is stored from now on goes into it as well.
        folder = fresh_archive.data / stored.relative_to(fresh_archive.data).parts[0]
        assert folder.is_dir()
    unlock = _lock_folder(folder)
    refused = Slice(701, 701, 1)
    try:
        _assert_out_of_resources(fresh_archive, template, refused, way)
        assert not clients.qido(fresh_archive, "/instances", {"SOPInstanceUID": refused.sop_uid})
        _check_serving(fresh_archive)
    finally:
        unlock()
    _assert_absent(fresh_archive, refused)
    _assert_all_there(fresh_archive, template, [kept])
    assert _store_slice(fresh_archive, template, refused) == SUCCESS


@pytest.mark.parametrize("way", ["C-STORE", "STOW-RS"])
def test_a_file_size_limit_is_said_and_survived(fresh_archive: Server, template: Template, way: str) -> None:
    kept, refused = Slice(710, 710, 1), Slice(711, 711, 1)
    assert _store_slice(fresh_archive, template, kept) == SUCCESS
    process = psutil.Process(fresh_archive.pid)
    unlimited = process.rlimit(psutil.RLIMIT_FSIZE)
    process.rlimit(psutil.RLIMIT_FSIZE, (50_000, unlimited[1]))
    try:
        _assert_out_of_resources(fresh_archive, template, refused, way)
        _assert_absent(fresh_archive, refused)
        _assert_all_there(fresh_archive, template, [kept])
    finally:
        process.rlimit(psutil.RLIMIT_FSIZE, unlimited)
    assert _store_slice(fresh_archive, template, refused) == SUCCESS
    _assert_all_there(fresh_archive, template, [refused])


def test_a_file_that_is_gone_fails_its_own_request_only(start_archive: StartArchive, template: Template) -> None:
    server = start_archive()
    gone, kept = Slice(720, 7200, 1), Slice(720, 7201, 2)
    assert _store_slice(server, template, gone) == SUCCESS
    (path,) = server.files()
    assert _store_slice(server, template, kept) == SUCCESS
    path.unlink()
    place = f"/studies/{gone.study_uid}/series/{gone.series_uid}/instances"
    for accept in ('multipart/related; type="application/dicom"; transfer-syntax=*', "application/dicom"):
        lost = requests.get(
            f"{server.dicomweb_url}{place}/{gone.sop_uid}", headers={"Accept": accept}, timeout=clients.TIMEOUT_S
        )
        assert lost.status_code == 500, lost.status_code
        assert "missing" in lost.json()["detail"]
        assert str(server.data) not in lost.text
    (part,) = clients.retrieve_files(server, f"{place}/{kept.sop_uid}")
    assert clients.data_set_of(part) == clients.data_set_of(template.stamp(kept))
    verify = server.pacs("verify")
    assert verify.returncode == 1, verify.stdout
    assert "missing" in verify.stdout
    assert server.is_running


def test_many_connections_that_come_and_go_do_not_use_up_file_descriptors(archive: Server, template: Template) -> None:
    process = psutil.Process(archive.pid)
    time.sleep(0.5)
    before = process.num_fds()
    for _ in range(100):
        socket.create_connection(("127.0.0.1", archive.dimse_port), 5).close()
        socket.create_connection(("127.0.0.1", archive.http_port), 5).close()
    for number in range(5):
        with contextlib.suppress(requests.RequestException):
            clients.stow(archive, [template.stamp(Slice(800, 800 + number, 1))[:5000]])
    deadline = time.monotonic() + 60
    while process.num_fds() > before + 5 and time.monotonic() < deadline:
        time.sleep(0.1)
    assert process.num_fds() <= before + 5
