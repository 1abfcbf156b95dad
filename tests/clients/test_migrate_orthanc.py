"""Orthanc taken over, by its REST interface and by its DICOMweb plugin: every file comes over as Orthanc has it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pacs.archive import Archive
from pacs.migrate import orthanc as rest
from pacs.migrate.intake import Intake
from pacs.migrate.remote import Remote
from pacs.settings import load
from tests import builders
from tests.clients import wheel
from tests.clients.needs import needs
from tests.clients.orthanc import Orthanc
from tests.server import Server

pytestmark = needs("orthanc", "orthanc-dicomweb")


@dataclass(frozen=True)
class Filled:
    """files: as Orthanc took them, by SOP Instance UID."""

    orthanc: Orthanc
    files: dict[str, bytes]

    @property
    def data_sets(self) -> set[bytes]:
        return {builders.data_set_of(data) for data in self.files.values()}


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Filled]:
    with Orthanc(tmp_path_factory.mktemp("orthanc") / "source", "http://127.0.0.1:1/") as orthanc:
        yield Filled(orthanc, {file.sop_uid: file.data for file in wheel.files() if orthanc.upload(file.data)})


def _migrate(server: Server, *arguments: str, code: int = 0) -> dict[str, Any]:
    done = server.pacs("migrate", *arguments, "--json")
    assert done.returncode == code, done.stdout + done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def _stored(server: Server) -> set[bytes]:
    return {builders.data_set_of(path.read_bytes()) for path in server.files()}


def test_rest_interface_gives_every_file_once(filled: Filled, tmp_path: Path) -> None:
    server = Server(tmp_path / "archive")
    url = ("orthanc", "--url", filled.orthanc.url)

    planned = _migrate(server, *url, "--dry-run")
    first = _migrate(server, *url)
    second = _migrate(server, *url)

    assert len(filled.files) > 50
    assert (planned["wanted"], planned["stored"]) == (len(filled.files), 0)
    assert (first["stored"], first["failed"]) == (len(filled.files), [])
    assert (second["stored"], second["already_there"]) == (0, len(filled.files))
    assert _stored(server) == filled.data_sets
    assert server.pacs("verify").returncode == 0


def test_rest_interface_tells_other_content_under_the_same_uid(filled: Filled, tmp_path: Path) -> None:
    server = Server(tmp_path / "archive")
    sop_uid, data = next((uid, data) for uid, data in filled.files.items() if len(data) < 20_000)
    changed = tmp_path / "changed.dcm"
    changed.write_bytes(data + b"\xfc\xff\xfc\xffOB\0\0\x02\0\0\0\0\0")  # Data Set Trailing Padding
    assert server.pacs("import", str(changed)).returncode == 0

    result = _migrate(server, "orthanc", "--url", filled.orthanc.url, code=1)

    assert [failure["name"] for failure in result["failed"]] == [sop_uid]
    assert result["stored"] == len(filled.files) - 1


def test_dicomweb_plugin_gives_every_file_once(filled: Filled, tmp_path: Path) -> None:
    server = Server(tmp_path / "archive")
    url = ("dicomweb", "--url", f"{filled.orthanc.url}/dicom-web")

    first = _migrate(server, *url)
    second = _migrate(server, *url)

    assert (first["stored"], first["failed"]) == (len(filled.files), [])
    assert (second["stored"], second["already_there"]) == (0, len(filled.files))
    assert _stored(server) == filled.data_sets


def test_what_arrives_meanwhile_comes_over_too(filled: Filled, tmp_path: Path) -> None:
    late = builders.ct(rows=8, columns=8)

    class Busy(Remote):
        """An Orthanc that gets an instance after it has listed its studies."""

        async def json(self, path: str, parameters: Mapping[str, str] | None = None, *, accept: str = "*/*") -> Any:
            answer = await super().json(path, parameters, accept=accept)
            if path == "/studies":
                filled.orthanc.upload(late)
                return answer[:2]
            return answer

    async def run(archive: Archive) -> Intake:
        async with Busy(filled.orthanc.url) as remote:
            intake = Intake(archive.index, archive.store, rest.CALLER, dry_run=False)
            await rest.migrate(remote, intake, parallel=2)
            return intake

    environment = {"PACS_HOME": str(tmp_path), "DICOM_STORE_ROOTPATH": str(tmp_path / "data")}
    with Archive.open(load(environment=environment).settings) as archive:
        intake = asyncio.run(run(archive))

        assert intake.summary.failed == []
        files = (archive.blobs.read(instance.blob) for instance in archive.index.stored())
        assert builders.data_set_of(late) in {builders.data_set_of(data) for data in files}


def test_what_is_no_orthanc_is_one_sentence(fresh_archive: Server, tmp_path: Path) -> None:
    done = Server(tmp_path / "archive").pacs("migrate", "orthanc", "--url", fresh_archive.http_url)

    assert done.returncode == 2
    assert "does not answer as an Orthanc does" in done.stderr
    assert "Traceback" not in done.stderr
