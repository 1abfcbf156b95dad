"""Orthanc's DICOMweb plugin as a client of this archive: what it sends arrives, what it fetches is the same."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO

import pydicom
import pytest

from tests import builders
from tests.clients.needs import needs
from tests.clients.orthanc import Orthanc
from tests.server import Server
from tests.wire.clients import data_set_of, file_meta_of, retrieve_files

pytestmark = needs("orthanc", "orthanc-dicomweb")


@dataclass(frozen=True)
class Sent:
    """An Orthanc, and the files that it has sent to an archive, by SOP Instance UID."""

    server: Server
    orthanc: Orthanc
    files: dict[str, bytes]


@pytest.fixture(scope="module")
def sent(archive: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sent]:
    files: dict[str, bytes] = {}
    with Orthanc(tmp_path_factory.mktemp("orthanc") / "first", archive.dicomweb_url) as orthanc:
        for path, _ in builders.real_files():
            # Orthanc names instances by their four UIDs and lets the last of the same name win.
            file = path.read_bytes()
            read = pydicom.dcmread(path, stop_before_pixels=True, force=True)
            if "SOPInstanceUID" in read and orthanc.upload(file):
                files[str(read.SOPInstanceUID)] = file
        answer = orthanc.ask_server("stow", Resources=orthanc.instances(), Synchronous=True)
        print(answer)
        yield Sent(archive, orthanc, files)


def test_stores_all_that_it_has(sent: Sent) -> None:
    assert len(sent.files) > 100
    for sop_uid, file in sent.files.items():
        found = sent.orthanc.ask_server("qido", Uri="/instances", Arguments={"SOPInstanceUID": sop_uid})
        print(found)
