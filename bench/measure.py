"""The rows of the table: what is timed, and the check that the answer was whole."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from socket import IPPROTO_TCP, TCP_NODELAY

from bench.corpus import Slice, Template, series_uid, study_uid
from bench.peers import DESTINATION, Peer

_BOUNDARY = "bench-boundary-5e1f"
_SMALL_REPEATS = 20  # short requests are timed several times; one figure is their mean
BACKGROUND_STUDIES = 300
SERIES_SLICES = 100
LONG_SERIES_SLICES = 1000


@dataclass(frozen=True)
class Row:
    """One measurement. key: short name; title: as printed; unit: of the quantity behind ``amount`` ("" for none)."""

    key: str
    title: str
    run: Callable[[Peer, Material], float]
    rate: Callable[[float], str] = lambda seconds: ""


class Material:
    """Files and request bodies of one run, with UIDs that no archive has seen. The same for every peer."""

    def __init__(self, folder: Path, files: int) -> None:
        self.files = files
        self._template = Template()
        self._small = Template(16, patient_name="Long^Series")
        self._folder = folder
        self._next_study = 1
        self._next_number = 1
        self.background = folder / "background"
        self.one = folder / "one"
        self.quarters = [folder / f"four-{i}" for i in range(4)]
        self.long = folder / "long"
        self.body = b""
        self.stow_study = 0
        self.long_study = 0
        self._make_background()

    def renew(self) -> None:
        """New UIDs in all files, and a new body for STOW-RS."""
        self._fill(self.one, self.files)
        for quarter in self.quarters:
            self._fill(quarter, self.files // 4)
        self.long_study = self._take_study()
        self._write(self.long, self._small, self._slices(self.long_study, LONG_SERIES_SLICES))
        self.stow_study = self._take_study()
        parts = [self._template.stamp(slice_) for slice_ in self._slices(self.stow_study, SERIES_SLICES)]
        self.body = _multipart(parts)

    @property
    def study_uid(self) -> str:
        """Study of the STOW-RS request, one series of 100 slices: what the rows after it read."""
        return study_uid(self.stow_study)

    @property
    def series_uid(self) -> str:
        return series_uid(self.stow_study)

    @property
    def sop_uid(self) -> str:
        return self._stow_sop_uid

    def _make_background(self) -> None:
        small = Template(16, patient_name="Back^Ground")
        self.background.mkdir(parents=True)
        for index in range(BACKGROUND_STUDIES):
            slice_ = self._slices(self._take_study(), 1)[0]
            small.write(self.background / f"{index:04d}.dcm", slice_)

    def _fill(self, folder: Path, count: int) -> None:
        slices = [s for _ in range(0, count, SERIES_SLICES) for s in self._slices(self._take_study(), SERIES_SLICES)]
        self._write(folder, self._template, slices[:count])

    def _write(self, folder: Path, template: Template, slices: list[Slice]) -> None:
        is_new = not folder.exists()
        folder.mkdir(parents=True, exist_ok=True)
        for index, slice_ in enumerate(slices):
            path = folder / f"{index:04d}.dcm"
            if is_new:
                template.write(path, slice_)
            else:
                template.restamp(path, slice_)

    def _take_study(self) -> int:
        self._next_study += 1
        return self._next_study

    def _slices(self, study: int, count: int) -> list[Slice]:
        first = self._next_number
        self._next_number += count
        slices = [Slice(study, first + index, index + 1) for index in range(count)]
        self._stow_sop_uid = slices[count // 2].sop_uid
        return slices


def load_background(peer: Peer, material: Material) -> None:
    """Other studies, so that a search has something to leave out."""
    _storescu(peer, material.background).wait_ok()


def store_one(peer: Peer, material: Material) -> float:
    start = time.perf_counter()
    _storescu(peer, material.one).wait_ok()
    return time.perf_counter() - start


def store_four(peer: Peer, material: Material) -> float:
    start = time.perf_counter()
    senders = [_storescu(peer, quarter) for quarter in material.quarters]
    for sender in senders:
        sender.wait_ok()
    return time.perf_counter() - start


def stow(peer: Peer, material: Material) -> float:
    headers = {
        "Content-Type": f'multipart/related; type="application/dicom"; boundary={_BOUNDARY}',
        "Accept": "application/dicom+json",
    }
    seconds, status, answer = _request(peer, "POST", "/studies", headers, material.body)
    assert status == 200, f"STOW-RS answered {status}: {answer[:300]!r}"
    stored = json.loads(answer)["00081199"]["Value"]
    assert len(stored) == SERIES_SLICES, f"{len(stored)} stored"
    return seconds


def qido_studies(peer: Peer, material: Material) -> float:
    return _get_json(peer, "/studies?PatientName=Back*&limit=100", 100)


def qido_series_instances(peer: Peer, material: Material) -> float:
    path = f"/studies/{material.study_uid}/series/{material.series_uid}/instances"
    return _get_json(peer, path, SERIES_SLICES, repeats=5)


def qido_study_by_uid(peer: Peer, material: Material) -> float:
    return _get_json(peer, f"/studies?StudyInstanceUID={material.study_uid}", 1)


def metadata(peer: Peer, material: Material) -> float:
    path = f"/studies/{material.study_uid}/series/{material.series_uid}/metadata"
    return _get_json(peer, path, SERIES_SLICES, repeats=1)


def long_metadata_after_store(peer: Peer, material: Material) -> float:
    _storescu(peer, material.long).wait_ok()  # not timed
    return long_metadata(peer, material)


def long_metadata(peer: Peer, material: Material) -> float:
    path = f"/studies/{study_uid(material.long_study)}/series/{series_uid(material.long_study)}/metadata"
    return _get_json(peer, path, LONG_SERIES_SLICES, repeats=1)


def wado_study(peer: Peer, material: Material) -> float:
    accept = 'multipart/related; type="application/dicom"; transfer-syntax=*'
    seconds, status, size = _download(peer, f"/studies/{material.study_uid}", accept)
    assert status == 200, f"WADO-RS answered {status}"
    assert size > SERIES_SLICES * 512 * 512 * 2, f"{size} bytes"
    return seconds


def frame(peer: Peer, material: Material) -> float:
    accept = 'multipart/related; type="application/octet-stream"'
    return _get_small(peer, f"{_instance_path(material)}/frames/1", accept, 512 * 512 * 2)


def rendered(peer: Peer, material: Material) -> float:
    return _get_small(peer, f"{_instance_path(material)}/rendered", "image/jpeg", 1000)


def find_images(peer: Peer, material: Material) -> float:
    keys = _keys("IMAGE", material, "SOPInstanceUID", "InstanceNumber", "SOPClassUID")
    seconds, output = _tool("findscu", "-v", "-S", "-aec", peer.ae_title, *keys, "127.0.0.1", str(peer.dimse_port))
    found = output.count("Find Response:")
    assert found == SERIES_SLICES, f"{found} responses: {output[-500:]}"
    return seconds


def move(peer: Peer, material: Material) -> float:
    arguments = ("-v", "-S", "-aec", peer.ae_title, "-aem", DESTINATION, *_keys("SERIES", material))
    seconds, output = _tool("movescu", *arguments, "127.0.0.1", str(peer.dimse_port))
    assert "Received Final Move Response (Success)" in output, output[-500:]
    # One pending response a slice, but for the last.
    pending = output.count("(Pending)")
    assert pending >= SERIES_SLICES - 1, f"{pending} pending responses"
    return seconds


def get(peer: Peer, material: Material) -> float:
    arguments = ("-v", "-S", "--ignore", "+xe", "-aec", peer.ae_title, *_keys("SERIES", material))
    seconds, output = _tool("getscu", *arguments, "127.0.0.1", str(peer.dimse_port))
    received = output.count("Received C-STORE Request")
    assert received == SERIES_SLICES, f"{received} received: {output[-800:]}"
    assert "Received C-GET Response (Success)" in output, output[-800:]
    return seconds


def rows(files: int) -> list[Row]:
    """In the order in which they must run: what is stored by the third is read by those after it."""
    megabytes = 512 * 512 * 2 / 1e6

    def per_second(count: int) -> Callable[[float], str]:
        return lambda seconds: f"{count / seconds:,.0f}/s"

    def rate(count: int) -> Callable[[float], str]:
        return lambda seconds: f"{count / seconds:,.0f}/s, {count * megabytes / seconds:,.0f} MB/s"

    return [
        Row("store1", f"C-STORE, {files} × 0.5 MB CT, one storescu", store_one, rate(files)),
        Row("store4", f"C-STORE, {files} × 0.5 MB CT, four storescu", store_four, rate(files)),
        Row("stow", f"STOW-RS, {SERIES_SLICES} × 0.5 MB in one request", stow, rate(SERIES_SLICES)),
        Row("metadata1", "WADO-RS series metadata, 100 slices, first time", metadata),
        Row("metadata2", "WADO-RS series metadata, 100 slices, second time", metadata),
        Row("qido-uid", "QIDO-RS one study by its UID", qido_study_by_uid),
        Row("qido-name", "QIDO-RS studies by name*, 100 of 300 answered", qido_studies),
        Row("qido-instances", "QIDO-RS 100 instances of a series", qido_series_instances),
        Row("wado", "WADO-RS study, 100 slices, stored syntax", wado_study, rate(SERIES_SLICES)),
        Row("frame", "WADO-RS one frame, 0.5 MB", frame),
        Row("rendered", "WADO-RS rendered, 512 × 512 JPEG", rendered),
        Row("find", "C-FIND, 100 images of a series (findscu)", find_images, per_second(SERIES_SLICES)),
        Row("move", "C-MOVE, 100 slices (movescu, storescp)", move, rate(SERIES_SLICES)),
        Row("get", "C-GET, 100 slices (getscu)", get, rate(SERIES_SLICES)),
        Row("long1", "WADO-RS series metadata, 1,000 instances, first time", long_metadata_after_store),
        Row("long2", "WADO-RS series metadata, 1,000 instances, second time", long_metadata),
    ]


class _Running:
    def __init__(self, command: list[str]) -> None:
        self._process = subprocess.Popen(
            command,
            env={**os.environ, "TCP_NODELAY": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )

    def wait_ok(self) -> str:
        output, _ = self._process.communicate()
        assert self._process.returncode == 0, output[-1000:]
        return output


def _storescu(peer: Peer, folder: Path) -> _Running:
    # Without -nh it stops, with an exit code, at the first instance that is not stored.
    options = ["+sd", "-aec", peer.ae_title]
    return _Running(["/usr/bin/storescu", *options, "127.0.0.1", str(peer.dimse_port), str(folder)])


def _tool(name: str, *arguments: str) -> tuple[float, str]:
    start = time.perf_counter()
    output = _Running([f"/usr/bin/{name}", *arguments]).wait_ok()
    return time.perf_counter() - start, output


def _keys(level: str, material: Material, *wanted: str) -> list[str]:
    keys = [
        f"QueryRetrieveLevel={level}",
        f"StudyInstanceUID={material.study_uid}",
        f"SeriesInstanceUID={material.series_uid}",
        *wanted,
    ]
    return [argument for key in keys for argument in ("-k", key)]


def _instance_path(material: Material) -> str:
    return f"/studies/{material.study_uid}/series/{material.series_uid}/instances/{material.sop_uid}"


def _get_json(peer: Peer, path: str, count: int, repeats: int = _SMALL_REPEATS) -> float:
    connection = _connect(peer)
    start = time.perf_counter()
    for _ in range(repeats):
        connection.request("GET", f"/dicom-web{path}", headers={"Accept": "application/dicom+json"})
        response = connection.getresponse()
        answer = response.read()
    seconds = (time.perf_counter() - start) / repeats
    connection.close()
    assert response.status == 200, f"{path}: {response.status}"
    found = len(json.loads(answer))
    assert found == count, f"{path}: {found} rows instead of {count}"
    return seconds


def _get_small(peer: Peer, path: str, accept: str, least_bytes: int) -> float:
    connection = _connect(peer)
    start = time.perf_counter()
    for _ in range(_SMALL_REPEATS):
        connection.request("GET", f"/dicom-web{path}", headers={"Accept": accept})
        response = connection.getresponse()
        answer = response.read()
    seconds = (time.perf_counter() - start) / _SMALL_REPEATS
    connection.close()
    assert response.status == 200, f"{path}: {response.status} {answer[:200]!r}"
    assert len(answer) >= least_bytes, f"{path}: {len(answer)} bytes"
    return seconds


def _request(peer: Peer, method: str, path: str, headers: dict[str, str], body: bytes) -> tuple[float, int, bytes]:
    connection = _connect(peer)
    start = time.perf_counter()
    connection.request(method, f"/dicom-web{path}", body=body, headers=headers)
    response = connection.getresponse()
    answer = response.read()
    seconds = time.perf_counter() - start
    connection.close()
    return seconds, response.status, answer


def _download(peer: Peer, path: str, accept: str) -> tuple[float, int, int]:
    connection = _connect(peer)
    buffer = bytearray(1 << 20)
    size = 0
    start = time.perf_counter()
    connection.request("GET", f"/dicom-web{path}", headers={"Accept": accept})
    response = connection.getresponse()
    while read := response.readinto(buffer):
        size += read
    seconds = time.perf_counter() - start
    connection.close()
    return seconds, response.status, size


def _connect(peer: Peer) -> http.client.HTTPConnection:
    connection = http.client.HTTPConnection("127.0.0.1", peer.http_port, timeout=300)
    connection.connect()
    assert connection.sock is not None
    connection.sock.setsockopt(IPPROTO_TCP, TCP_NODELAY, 1)
    return connection


def _multipart(parts: list[bytes]) -> bytes:
    pieces: list[bytes] = []
    for part in parts:
        pieces += [f"--{_BOUNDARY}\r\nContent-Type: application/dicom\r\n\r\n".encode(), part, b"\r\n"]
    return b"".join([*pieces, f"--{_BOUNDARY}--\r\n".encode()])
