"""Every block of shell in README.md and docs/ is run, page by page, against a real server."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import orjson
import pydicom
import pytest
from pydicom.dataset import Dataset

from tests import builders, documents
from tests.server import PROJECT, Server
from tests.ups_builders import as_json, step
from tests.wire.clients import stow

pytestmark = pytest.mark.slow

TEST_FILES = Path(pydicom.__file__).parent / "data" / "test_files"
PASSWORD = "correct horse"  # noqa: S105
# What stands in the pages, and what is run instead, by pattern; "{...}" as `_places` names them.
SUBSTITUTIONS = (
    (r"(?:127\.0\.0\.1|localhost):8081", "127.0.0.1:{http_port}"),
    (r"127\.0\.0\.1 11112", "127.0.0.1 {dimse_port}"),
    (r"/dicomFiles", "{data}"),
    (r"/backup\b", "{work}/backup"),
    (r"/media/cdrom/DICOMDIR", "{test_files}/dicomdirtests/DICOMDIR"),
    (r"\.venv/bin/pacs", "pacs"),
    (r"index-(?:20260101T030000Z|…)\.sqlite", "index-*.sqlite"),
    (r"^# stop the server$", "stop-server"),
    (r"^pacs serve$", "true # one runs"),
    # Where somebody types a password.
    (r"^(pacs account add \w+)(?! --password-stdin)(.*?)( *#.*)?$", r"\1\2 --password-stdin < password.txt"),
)
# Pages that need an archive of their own, since they stop it or make accounts; and what is done before.
OF_ITS_OWN = {
    "docs/operating.md": "for study in 1.2.840.99 1.2.3; do curl -X DELETE {api}/studies/$study; done",
    "docs/security.md": "",
}
# Programs that may be missing: blocks that need one are left out, by name.
TOOLS = ("rsync", "storescu", "findscu", "echoscu", "jq")


@dataclass(frozen=True)
class Desk:
    """A server with a few studies, and a folder with what the pages speak of."""

    server: Server
    work: Path

    def run(self, blocks: list[documents.Block]) -> tuple[int, str]:
        """Exit code of the first that fails, and all that was printed."""
        before = OF_ITS_OWN.get(documents.name_of(blocks[0].page), "")
        script = f"set -euo pipefail\n{before.replace('{api}', self.server.dicomweb_url)}\n"
        for block in blocks:
            script += f"echo '== {block.place}'\n{self._substituted(block.text)}\n"
        done = subprocess.run(
            ["bash", "-c", script],
            cwd=self.work,
            env={**self.server.env, "PATH": f"{self.work / 'bin'}:/usr/bin:/bin", "TERM": "dumb"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=240,
            check=False,
        )
        return done.returncode, done.stdout

    def _substituted(self, text: str) -> str:
        places = {
            "http_port": self.server.http_port,
            "dimse_port": self.server.dimse_port,
            "data": self.server.data,
            "work": self.work,
            "test_files": TEST_FILES,
        }
        for pattern, instead in SUBSTITUTIONS:
            for name, value in places.items():
                instead = instead.replace(f"{{{name}}}", str(value))
            text = re.sub(pattern, instead, text, flags=re.MULTILINE)
        return text


@pytest.fixture(scope="module")
def shared_desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    with opened(tmp_path_factory.mktemp("pages")) as desk:
        yield desk


@contextmanager
def opened(tmp_path: Path) -> Iterator[Desk]:
    work = tmp_path / "work"
    (work / "bin").mkdir(parents=True)
    (work / "scans").mkdir()
    server = Server(tmp_path / "archive", {"DIMSE_PEERS": str(tmp_path / "peers.toml")})
    server.add_peer("READING", server.dimse_port)
    server.add_peer("ARCHIVE2", server.dimse_port)
    with server:
        _command(work, "pacs", f'exec {sys.executable} -m pacs "$@"')
        # Refusals count as failures, and no bar is drawn.
        _command(work, "curl", 'exec /usr/bin/curl --fail-with-body --silent --show-error "$@"')
        _command(work, "stop-server", f"kill {server.pid}; while [ -e /proc/{server.pid}/cwd ]; do sleep 0.1; done")
        _fill(server, work)
        yield Desk(server, work)


def _command(work: Path, name: str, text: str) -> None:
    path = work / "bin" / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def _fill(server: Server, work: Path) -> None:
    ct = (TEST_FILES / "CT_small.dcm").read_bytes()
    slices = [builders.ct("1.2.840.99", "1.2.840.99.1", f"1.2.840.99.1.{n}", rows=8, columns=8) for n in (1, 2)]
    other = builders.ct("1.2.3", "1.2.3.1", "1.2.3.1.1", rows=8, columns=8)
    assert stow(server, [ct, *slices, other]).status_code == 200
    for name, study in (("image.dcm", "1.2.840.97"), ("another.dcm", "1.2.840.96"), ("scans/1.dcm", "1.2.840.95")):
        (work / name).write_bytes(builders.ct(study, f"{study}.1", f"{study}.1.1", rows=8, columns=8))
    with zipfile.ZipFile(work / "more.zip", "w") as archive:
        archive.write(TEST_FILES / "rtdose.dcm", "rtdose.dcm")
    (work / "password.txt").write_text(f"{PASSWORD}\n")
    (work / "step.json").write_bytes(orjson.dumps(as_json(step())))
    performed = Dataset()
    performed.ProcedureStepLabel = "done by hand"
    (work / "performed.json").write_text(performed.to_json())
    (work / "config").mkdir()
    for name in ("retention.toml", "peers.toml"):
        shutil.copy(PROJECT / "config" / f"{name}.example", work / "config" / name)
    (work / "backup" / "index").mkdir(parents=True)


def _shell(page: Path) -> list[documents.Block]:
    return [block for block in documents.blocks(page) if block.language == "sh" and not block.not_run]


@pytest.mark.parametrize("page", [page for page in documents.PAGES if _shell(page)], ids=documents.name_of)
def test_every_command_of_a_page_works(shared_desk: Desk, tmp_path: Path, page: Path) -> None:
    if documents.name_of(page) in OF_ITS_OWN:
        with opened(tmp_path) as desk:
            check(desk, page)
    else:
        check(shared_desk, page)


def check(desk: Desk, page: Path) -> None:
    missing = [tool for tool in TOOLS if not os.access(f"/usr/bin/{tool}", os.X_OK)]
    uses = re.compile(rf"\b(?:{'|'.join(missing)})\b") if missing else None
    run = [block for block in _shell(page) if uses is None or not uses.search(block.text)]
    left_out = [block.place for block in _shell(page) if block not in run]
    if run:
        code, output = desk.run(run)
        assert code == 0, output[-3000:]
    if left_out:
        pytest.skip(f"MISSING: {', '.join(missing)}, for {', '.join(left_out)}; all other blocks were run")
