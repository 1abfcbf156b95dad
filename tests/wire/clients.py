"""Clients of the wire tests: HTTP bodies put together and taken apart, DCMTK tools, and a pynetdicom sender."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pydicom
import requests
from pydicom.filereader import read_dataset, read_partial, read_preamble
from pynetdicom import AE
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import C_FIND, C_STORE

from tests.server import Server, dcmtk, dcmtk_environment, free_port

BOUNDARY = "wire-test-boundary-91c7"
STOW_TYPE = f'multipart/related; type="application/dicom"; boundary={BOUNDARY}'
AS_STORED = 'multipart/related; type="application/dicom"; transfer-syntax=*'
TIMEOUT_S = 120
CT_IMAGE_STORAGE = "1.2.840.10008.5.1.4.1.1.2"
EXPLICIT_LITTLE = "1.2.840.10008.1.2.1"


# --- DICOMweb ---


def multipart(parts: Iterable[bytes]) -> bytes:
    """Body of a STOW-RS request (content type ``STOW_TYPE``)."""
    return b"".join(multipart_chunks(parts))


def multipart_chunks(parts: Iterable[bytes]) -> Iterator[bytes]:
    for part in parts:
        yield f"--{BOUNDARY}\r\nContent-Type: application/dicom\r\n\r\n".encode()
        yield part
        yield b"\r\n"
    yield f"--{BOUNDARY}--\r\n".encode()


def stow(server: Server, parts: Iterable[bytes], study_uid: str | None = None) -> requests.Response:
    path = "/studies" if study_uid is None else f"/studies/{study_uid}"
    headers = {"Content-Type": STOW_TYPE, "Accept": "application/dicom+json"}
    return requests.post(server.dicomweb_url + path, data=multipart(parts), headers=headers, timeout=TIMEOUT_S)


def stored_uids(answer: Mapping[str, Any]) -> set[str]:
    """SOP Instance UIDs that a STOW-RS answer says are stored."""
    return {item["00081155"]["Value"][0] for item in answer.get("00081199", {}).get("Value", [])}


def failures(answer: Mapping[str, Any]) -> list[int]:
    """Failure Reasons of a STOW-RS answer."""
    return [item["00081197"]["Value"][0] for item in answer.get("00081198", {}).get("Value", [])]


def qido(server: Server, path: str, parameters: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
    """All rows of a search; 204 is none. Pages of 5,000, which is the archive's own limit."""
    rows: list[dict[str, Any]] = []
    while True:
        page = {"limit": 5000, "offset": len(rows), **(parameters or {})}
        response = requests.get(
            server.dicomweb_url + path, params=page, headers={"Accept": "application/dicom+json"}, timeout=TIMEOUT_S
        )
        assert response.status_code in (200, 204), f"{path} {parameters}: {response.status_code} {response.text[:500]}"
        found = response.json() if response.status_code == 200 else []
        rows += found
        if len(found) < 5000 or (parameters and "limit" in parameters):
            return rows


def value(row: Mapping[str, Any], tag: str) -> Any:
    """First value of an attribute in DICOM JSON, or None."""
    values = row.get(tag, {}).get("Value", [])
    return values[0] if values else None


def wado(server: Server, path: str, accept: str = AS_STORED) -> requests.Response:
    return requests.get(server.dicomweb_url + path, headers={"Accept": accept}, timeout=TIMEOUT_S)


def retrieve_files(server: Server, path: str) -> list[bytes]:
    """Part 10 files of a study, series or instance, in their stored transfer syntax."""
    response = wado(server, path)
    assert response.status_code == 200, f"{path}: {response.status_code} {response.text[:300]}"
    return split_multipart(response.headers["Content-Type"], response.content)


def split_multipart(content_type: str, body: bytes) -> list[bytes]:
    """Contents of the parts, header lines left out."""
    boundary = content_type.partition("boundary=")[2].split(";")[0].strip().strip('"')
    assert boundary, content_type
    pieces = (b"\r\n" + body).split(b"\r\n--" + boundary.encode())
    assert pieces[-1].startswith(b"--"), "no closing boundary"
    return [piece.partition(b"\r\n\r\n")[2] for piece in pieces[1:-1]]


# --- DICOM bytes ---


def data_set_of(part10: bytes) -> bytes:
    """The bytes after preamble and file meta information."""
    return part10[data_set_offset(part10) :]


def data_set_offset(part10: bytes) -> int:
    file = BytesIO(part10)
    read_preamble(file, force=False)
    read_dataset(file, False, True, stop_when=lambda tag, vr, length: tag.group != 2)
    return file.tell()


def file_meta_of(part10: bytes) -> pydicom.dataset.FileMetaDataset:
    return pydicom.dcmread(BytesIO(part10), stop_before_pixels=True, specific_tags=["SOPInstanceUID"]).file_meta


def sop_uid_of(part10: bytes) -> str:
    # Nothing beyond it is read: thousands of files are told apart by this.
    data_set = read_partial(BytesIO(part10), lambda tag, vr, length: tag > 0x00080018, force=True)
    # Some real files lack it in the data set: storescu then sends the one of their file meta information.
    return str(data_set.get("SOPInstanceUID") or data_set.file_meta.MediaStorageSOPInstanceUID)


# --- DCMTK ---


def find(server: Server, model: str, level: str, folder: Path, *keys: str) -> list[pydicom.Dataset]:
    """findscu's answers. model: -P, -S or -O; keys as findscu takes them: "PatientID", "PatientID=1"."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("rsp*.dcm"):
        old.unlink()
    arguments = [argument for key in (f"QueryRetrieveLevel={level}", *keys) for argument in ("-k", key)]
    run = dcmtk(
        "findscu", model, "-X", "-od", folder, "-aec", server.ae_title, *arguments, "127.0.0.1", str(server.dimse_port)
    )
    assert run.returncode == 0, run.stdout
    assert "E:" not in run.stdout, run.stdout
    return [pydicom.dcmread(path, force=True) for path in sorted(folder.glob("rsp*.dcm"))]


@dataclass(frozen=True)
class Received:
    """What a storescp wrote: the data set as it came over the wire, and the file's transfer syntax."""

    data_set: bytes
    transfer_syntax_uid: str


class StoreScp:
    """DCMTK's storescp, writing what it receives bit by bit. contexts: SOP class → transfer syntaxes it takes."""

    def __init__(self, folder: Path, contexts: Mapping[str, Sequence[str]], ae_title: str = "STORESCP") -> None:
        self.folder = folder
        self.ae_title = ae_title
        self.port = free_port()
        self._contexts = contexts
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> Self:
        profile = self.folder.with_name(self.folder.name + ".cfg")
        write_profiles(profile, {"SCP": self._contexts})
        log = self.folder.with_name(self.folder.name + ".log").open("wb")
        options = ["-v", "+B", "-pdu", "131072", "-aet", self.ae_title, "-od", self.folder, "-xf", profile, "SCP"]
        self._process = subprocess.Popen(
            ["/usr/bin/storescp", *options, str(self.port)],
            env=dcmtk_environment(),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
        log.close()
        wait_for_port(self.port)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, t: TracebackType | None) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait()

    def received(self) -> dict[str, Received]:
        """By SOP Instance UID; without one that is only being begun to be written."""
        return read_folder(self.folder, is_written_to=True)


def read_folder(folder: Path, *, is_written_to: bool = False) -> dict[str, Received]:
    found = {}
    for path in sorted(folder.iterdir()):
        data = path.read_bytes()
        try:
            meta = pydicom.filereader.read_file_meta_info(path)
        except (pydicom.errors.InvalidDicomError, EOFError):
            if is_written_to:
                continue
            raise
        # The file meta information carries the UID of the C-STORE request.
        found[str(meta.MediaStorageSOPInstanceUID)] = Received(data_set_of(data), str(meta.TransferSyntaxUID))
    return found


def write_profiles(path: Path, profiles: Mapping[str, Mapping[str, Sequence[str]]]) -> None:
    """Association negotiation file of DCMTK: profile → SOP class → transfer syntaxes."""
    syntaxes = sorted({tuple(uids) for contexts in profiles.values() for uids in contexts.values()})
    names = {uids: f"SYNTAX{index}" for index, uids in enumerate(syntaxes)}
    lines = ["[[TransferSyntaxes]]"]
    for uids, name in names.items():
        lines += [f"[{name}]", *(f"TransferSyntax{i} = {uid}" for i, uid in enumerate(uids, 1))]
    lines.append("[[PresentationContexts]]")
    for profile, contexts in profiles.items():
        lines.append(f"[CONTEXTS{profile}]")
        lines += [
            f"PresentationContext{i} = {sop_class}\\{names[tuple(uids)]}"
            for i, (sop_class, uids) in enumerate(contexts.items(), 1)
        ]
    lines.append("[[Profiles]]")
    for profile in profiles:
        lines += [f"[{profile}]", f"PresentationContexts = CONTEXTS{profile}"]
    path.write_text("\n".join(lines) + "\n")


def wait_for_port(port: int, timeout_s: float = 20) -> None:
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            assert time.monotonic() < deadline, f"nobody listens on {port}"
            time.sleep(0.02)


# --- pynetdicom ---


@contextmanager
def association(server: Server, contexts: Mapping[str, Sequence[str]] | None = None) -> Iterator[Association]:
    """An association to the server, which proposes each syntax of a SOP class in a context of its own."""
    ae = AE(ae_title="WIRETEST")
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = TIMEOUT_S
    ae.maximum_pdu_size = 131072
    for sop_class, syntaxes in (contexts or {CT_IMAGE_STORAGE: [EXPLICIT_LITTLE]}).items():
        for syntax in syntaxes:
            ae.add_requested_context(sop_class, syntax)
    opened = ae.associate("127.0.0.1", server.dimse_port, ae_title=server.ae_title)
    assert opened.is_established, "association refused"
    # pynetdicom's reactor may take a response although it was told to pause, would serve it as a request and drop it.
    opened._serve_request = lambda message, context_id: opened.dimse.msg_queue.put((context_id, message))
    try:
        yield opened
    finally:
        if opened.is_established:
            opened.release()


def store_bytes(
    opened: Association, data_set: bytes, sop_uid: str, sop_class: str = CT_IMAGE_STORAGE, syntax: str = EXPLICIT_LITTLE
) -> int | None:
    """C-STORE these bytes as they are. The status, or None when the peer did not answer."""
    context_id = next(
        context.context_id
        for context in opened.accepted_contexts
        if context.abstract_syntax == sop_class and context.transfer_syntax[0] == syntax
    )
    request = C_STORE()
    request.MessageID = 1
    request.AffectedSOPClassUID = sop_class
    request.AffectedSOPInstanceUID = sop_uid
    request.Priority = 2
    request.DataSet = BytesIO(data_set)
    opened._reactor_checkpoint.clear()
    while not opened._is_paused:
        time.sleep(0.001)
    try:
        opened.dimse.send_msg(request, context_id)
        _, response = opened.dimse.get_msg(block=True)
    finally:
        opened._reactor_checkpoint.set()
    if response is None or not response.is_valid_response:
        return None
    return int(response.Status)


def c_find_bytes(opened: Association, identifier: bytes, model: str) -> tuple[int, int]:
    """C-FIND with this identifier as it is. (final status, pending answers)."""
    context = next(context for context in opened.accepted_contexts if context.abstract_syntax == model)
    request = C_FIND()
    request.MessageID = 1
    request.AffectedSOPClassUID = model
    request.Priority = 2
    request.Identifier = BytesIO(identifier)
    opened._reactor_checkpoint.clear()
    while not opened._is_paused:
        time.sleep(0.0001)
    rows = 0
    try:
        opened.dimse.send_msg(request, context.context_id)
        while True:
            _, response = opened.dimse.get_msg(block=True)
            assert response is not None, "no answer"
            if response.Status not in (0xFF00, 0xFF01):
                return int(response.Status), rows
            rows += 1
    finally:
        opened._reactor_checkpoint.set()


def kill_process(process: subprocess.Popen[Any]) -> None:
    """SIGKILL one child of ours and reap it."""
    if process.poll() is None:
        os.kill(process.pid, signal.SIGKILL)
    process.wait()
