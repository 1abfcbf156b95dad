"""Memory stays small whatever passes through: one instance of 1 GB, or fifty senders at once."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil
import pydicom
import pytest
from pydicom.uid import ExplicitVRLittleEndian

from bench.corpus import Slice, Template
from tests.server import Server, dcmtk
from tests.wire import clients

LIMIT_BYTES = 300 * 10**6
ASSOCIATIONS = 50
FILES_EACH = 8
MULTIFRAME_WORD = "1.2.840.10008.5.1.4.1.1.7.3"  # Multi-frame Grayscale Word Secondary Capture Image Storage
SIDE, FRAMES = 1024, 512  # 16 bit: 1 GiB of pixels
CHUNK = 1 << 20

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


class Watch:
    """Highest resident memory of the server and all its children while the block runs, sampled every 20 ms."""

    def __init__(self, server: Server) -> None:
        self.peak_bytes = 0
        self.most_connections = 0
        self._server = server
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._sample, args=(psutil.Process(server.pid),), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, t: TracebackType | None) -> None:
        self._stopped.set()
        self._thread.join()
        # The kernel's own high-water mark of the server sees what happens between two samples.
        self.peak_bytes = max(self.peak_bytes, self._server.peak_rss_bytes())

    def _sample(self, root: psutil.Process) -> None:
        while not self._stopped.wait(0.02):
            try:
                tree = [root, *root.children(recursive=True)]
                self.peak_bytes = max(self.peak_bytes, sum(process.memory_info().rss for process in tree))
                open_now = [
                    connection
                    for connection in root.net_connections("tcp")
                    if connection.status == psutil.CONN_ESTABLISHED and connection.laddr.port == self._server.dimse_port
                ]
                self.most_connections = max(self.most_connections, len(open_now))
            except psutil.NoSuchProcess:
                continue


def _assert_small(watch: Watch) -> None:
    print(f"highest resident memory: {watch.peak_bytes / 1e6:.0f} MB")  # shown by pytest -rP
    assert watch.peak_bytes < LIMIT_BYTES, f"{watch.peak_bytes / 1e6:.0f} MB"


@dataclass(frozen=True)
class Giant:
    """A multi-frame instance of 1 GiB on disk."""

    path: Path
    study_uid: str
    series_uid: str
    sop_uid: str
    data_set_offset: int

    @property
    def size_bytes(self) -> int:
        return self.path.stat().st_size

    @property
    def instance_path(self) -> str:
        return f"/studies/{self.study_uid}/series/{self.series_uid}/instances/{self.sop_uid}"


@dataclass(frozen=True)
class Holder:
    """store_watches: memory while the two giants were stored, by the way that they came."""

    server: Server
    store_watches: dict[str, Watch]


def _make_giant(path: Path, number: int) -> Giant:
    slice_ = Slice(900 + number, 900 + number, 1)
    data_set = pydicom.Dataset()
    data_set.SOPClassUID = MULTIFRAME_WORD
    data_set.SOPInstanceUID = slice_.sop_uid
    data_set.StudyInstanceUID = slice_.study_uid
    data_set.SeriesInstanceUID = slice_.series_uid
    data_set.PatientID = "GIANT"
    data_set.PatientName = "Giant^Frames"
    data_set.Modality = "OT"
    data_set.SamplesPerPixel = 1
    data_set.PhotometricInterpretation = "MONOCHROME2"
    data_set.NumberOfFrames = FRAMES
    data_set.Rows = data_set.Columns = SIDE
    data_set.BitsAllocated, data_set.BitsStored, data_set.HighBit, data_set.PixelRepresentation = 16, 12, 11, 0
    data_set.file_meta = pydicom.dataset.FileMetaDataset()
    data_set.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    pydicom.dcmwrite(path, data_set, enforce_file_format=True)
    offset = clients.data_set_offset(path.read_bytes())
    with path.open("ab") as file:
        file.write(b"\xe0\x7f\x10\x00OW\0\0" + (SIDE * SIDE * 2 * FRAMES).to_bytes(4, "little"))
        for number_of_frame in range(1, FRAMES + 1):
            file.write(_frame(number_of_frame))
    return Giant(path, slice_.study_uid, slice_.series_uid, slice_.sop_uid, offset)


def _frame(number: int) -> bytes:
    return number.to_bytes(2, "little") * (SIDE * SIDE)


@pytest.fixture(scope="module")
def giants(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Giant]]:
    folder = tmp_path_factory.mktemp("giants")
    giants = [_make_giant(folder / f"{number}.dcm", number) for number in range(2)]
    yield giants
    for giant in giants:
        giant.path.unlink()


@pytest.fixture(scope="module")
def holder(tmp_path_factory: pytest.TempPathFactory, giants: list[Giant]) -> Iterator[Holder]:
    """An archive that holds both: the first came by C-STORE, the second by STOW-RS; memory was watched meanwhile."""
    folder = tmp_path_factory.mktemp("holder")
    with Server(folder) as server:
        with Watch(server) as c_store:
            run = dcmtk("storescu", "-v", "-aec", server.ae_title, "127.0.0.1", str(server.dimse_port), giants[0].path)
        assert "Received Store Response (Success)" in run.stdout, run.stdout
        with Watch(server) as stow:
            _stow_file(server, giants[1])
        yield Holder(server, {"C-STORE": c_store, "STOW-RS": stow})
    for path in server.files():
        path.unlink()


def _stow_file(server: Server, giant: Giant) -> None:
    head = f"--{clients.BOUNDARY}\r\nContent-Type: application/dicom\r\n\r\n".encode()
    tail = f"\r\n--{clients.BOUNDARY}--\r\n".encode()
    connection = http.client.HTTPConnection("127.0.0.1", server.http_port, timeout=300)
    connection.putrequest("POST", "/dicom-web/studies")
    connection.putheader("Content-Type", clients.STOW_TYPE)
    connection.putheader("Accept", "application/dicom+json")
    connection.putheader("Content-Length", str(len(head) + giant.size_bytes + len(tail)))
    connection.endheaders()
    connection.send(head)
    with giant.path.open("rb") as file:
        connection.send(file)
    connection.send(tail)
    response = connection.getresponse()
    answer = response.read()
    connection.close()
    assert response.status == 200, answer[:500]


@pytest.mark.parametrize("way", ["C-STORE", "STOW-RS"])
def test_storing_one_gigabyte_keeps_memory_small(holder: Holder, way: str) -> None:
    _assert_small(holder.store_watches[way])


def test_wado_of_one_gigabyte_keeps_memory_small(holder: Holder, giants: list[Giant]) -> None:
    for giant in giants:
        with Watch(holder.server) as watch:
            _check_download(holder.server, giant)
        _assert_small(watch)


def _check_download(server: Server, giant: Giant) -> None:
    """Compares as it comes, so that this process stays small too."""
    connection = http.client.HTTPConnection("127.0.0.1", server.http_port, timeout=300)
    connection.request("GET", f"/dicom-web{giant.instance_path}", headers={"Accept": clients.AS_STORED})
    response = connection.getresponse()
    assert response.status == 200
    skipped = response.read(4096)
    header = skipped.index(b"\r\n\r\n") + 4
    skipped = skipped[header:]
    offset = clients.data_set_offset(skipped)
    with giant.path.open("rb") as file:
        file.seek(giant.data_set_offset)
        begin = skipped[offset:]
        assert begin == file.read(len(begin))
        while chunk := file.read(CHUNK):
            assert chunk == _read(response, len(chunk))
    assert response.read().startswith(b"\r\n--")
    connection.close()


def _read(response: http.client.HTTPResponse, size: int) -> bytes:
    chunks = []
    while size and (chunk := response.read(size)):
        chunks.append(chunk)
        size -= len(chunk)
    return b"".join(chunks)


def test_one_frame_of_one_gigabyte_is_read_by_its_place(holder: Holder, giants: list[Giant]) -> None:
    accept = 'multipart/related; type="application/octet-stream"'
    with Watch(holder.server) as watch:
        response = clients.wado(holder.server, f"{giants[0].instance_path}/frames/300", accept)
        (frame,) = clients.split_multipart(response.headers["Content-Type"], response.content)
        rendered = clients.wado(holder.server, f"{giants[0].instance_path}/frames/300/rendered", "image/jpeg")
    assert frame == _frame(300)
    assert rendered.status_code == 200, rendered.text[:300]
    _assert_small(watch)


def test_c_move_of_one_gigabyte_keeps_memory_small(holder: Holder, giants: list[Giant], tmp_path: Path) -> None:
    contexts = {MULTIFRAME_WORD: [str(ExplicitVRLittleEndian)]}
    with clients.StoreScp(tmp_path / "moved", contexts, "GIANTDEST") as destination:
        holder.server.add_peer("GIANTDEST", destination.port)
        with Watch(holder.server) as watch:
            keys = ("-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={giants[0].study_uid}")
            options = ("-v", "-S", "-aec", holder.server.ae_title, "-aem", "GIANTDEST", *keys)
            run = dcmtk("movescu", *options, "127.0.0.1", str(holder.server.dimse_port))
    assert "Received Final Move Response (Success)" in run.stdout, run.stdout[-500:]
    (received,) = destination.folder.iterdir()
    _check_same_data_set(received, giants[0])
    _assert_small(watch)


def test_c_get_of_one_gigabyte_keeps_memory_small(holder: Holder, giants: list[Giant], tmp_path: Path) -> None:
    keys = ("-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={giants[1].study_uid}")
    options = ("-S", "+B", "-od", tmp_path, "+xe", "-aec", holder.server.ae_title, *keys)
    with Watch(holder.server) as watch:
        run = dcmtk("getscu", *options, "127.0.0.1", str(holder.server.dimse_port))
    assert run.returncode == 0, run.stdout[-500:]
    (received,) = tmp_path.iterdir()
    _check_same_data_set(received, giants[1])
    _assert_small(watch)


def _check_same_data_set(path: Path, giant: Giant) -> None:
    with path.open("rb") as received, giant.path.open("rb") as sent:
        received.seek(clients.data_set_offset(received.read(4096)))
        sent.seek(giant.data_set_offset)
        while chunk := sent.read(CHUNK):
            assert received.read(len(chunk)) == chunk
        assert not received.read(1)
    path.unlink()


def test_fifty_associations_at_once_keep_memory_small(fresh_archive: Server) -> None:
    template = Template()
    all_open = threading.Barrier(ASSOCIATIONS)

    def send(sender: int) -> list[int | None]:
        with clients.association(fresh_archive) as opened:
            all_open.wait(60)
            slices = [Slice(sender + 1, sender * FILES_EACH + i + 1, i + 1) for i in range(FILES_EACH)]
            return [
                clients.store_bytes(opened, clients.data_set_of(template.stamp(slice_)), slice_.sop_uid)
                for slice_ in slices
            ]

    with Watch(fresh_archive) as watch, ThreadPoolExecutor(ASSOCIATIONS) as pool:
        answers = list(pool.map(send, range(ASSOCIATIONS)))
    assert answers == [[0x0000] * FILES_EACH] * ASSOCIATIONS
    assert len(clients.qido(fresh_archive, "/instances")) == ASSOCIATIONS * FILES_EACH
    assert watch.most_connections >= ASSOCIATIONS, f"{watch.most_connections} at once are not all"
    _assert_small(watch)
