"""Any body, in pieces of any size: nothing but errors that can be answered, and nothing is left behind."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pacs.blobs.filesystem import FilesystemBlobs
from pacs.errors import Invalid, PacsError
from pacs.index.sqlite import SqliteIndex
from pacs.services.file_key import FileKeyPattern
from pacs.services.store import Store
from pacs.web.multipart import Reader
from pacs.web.negotiate import DICOM, DICOM_JSON, DICOM_XML, accepted, parse_media_type
from pacs.web.receive import InstanceSink, Receiver
from pacs.web.receive_metadata import MetadataSink

LIMITS = settings(
    deadline=timedelta(seconds=1),
    max_examples=300,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
BITS = st.sampled_from(
    [
        *(b"--b\r\n", b"--b--", b"\r\n--b\r\n", b"\r\n--b--\r\n", b"\r\n\r\n", b"\n", b"--b", b"-", b"\r", b"\0"),
        *(b"Content-Type: application/dicom+json\r\n\r\n", b"Content-Type: application/dicom+xml\r\n\r\n"),
        *(b"Content-Type: image/jpeg\r\nContent-Location: x\r\n\r\n", b"Content-Location: x/frames/2\r\n\r\n"),
        *(
            b'[{"7FE00010":{"vr":"OW","BulkDataURI":"x"}}]',
            b"[{}]",
            b"[",
            b"<NativeDicomModel/>",
            b"<NativeDicomModel>",
        ),
        *(b'[{"00080016":{"vr":"UI","Value":["1.2.840.10008.5.1.4.1.1.7"]},"00080018":{"vr":"UI","Value":["1.2"]}}]',),
        b"\xff\xd8\xff\xc0\0\x11\x08\0\1\0\1\3",
    ]
)
BODIES = st.lists(BITS | st.binary(max_size=20), max_size=25).map(b"".join)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Store, Path]]:
    folder = tmp_path_factory.mktemp("store")
    blobs, index = FilesystemBlobs(folder / "files", folder / "incoming"), SqliteIndex(folder / "index.sqlite")
    yield Store(index, blobs, FileKeyPattern("{00080018}")), folder / "incoming"
    index.close()
    blobs.close()


@LIMITS
@given(BODIES, st.integers(1, 40), st.sampled_from([DICOM, DICOM_JSON, DICOM_XML]), st.booleans())
def test_any_body_is_taken_or_refused(
    store: tuple[Store, Path], body: bytes, size: int, kind: str, is_multipart: bool
) -> None:
    service, incoming = store
    sink = InstanceSink(service) if kind == DICOM else MetadataSink(service, kind, "http://127.0.0.1/studies")
    receiver = Receiver(sink, Reader("b") if is_multipart else None, 1 << 20, None, kind)
    try:
        for begin in range(0, len(body), size):
            receiver.feed([body[begin : begin + size]])
        receiver.close()
    except PacsError:
        pass
    while group := receiver.take_ready():
        for part in group:
            try:
                spool = part.make(part) if part.make is not None else part.spool
            except PacsError:
                continue
            assert spool is not None
            spool.discard()
    receiver.discard()
    assert not list(incoming.iterdir())


@LIMITS
@given(st.text(max_size=200))
def test_any_header_is_a_media_type_or_none(text: str) -> None:
    assert accepted([text])
    with contextlib.suppress(Invalid):
        parse_media_type(text)
