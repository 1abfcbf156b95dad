"""An import by several processes: exact counts, and what is left when it is interrupted or loses one of them."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests import builders
from tests.server import Server

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere an import is one process")
_FILES = 1000


@pytest.fixture
def offline(tmp_path: Path) -> Server:
    return Server(tmp_path / "offline")


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    folder = tmp_path / "inbox"
    folder.mkdir()
    return folder


def _fill(folder: Path, number: int) -> None:
    for index in range(number):
        (folder / f"{index:04d}").write_bytes(builders.ct(rows=4, columns=4))


def _json(server: Server, *arguments: str, code: int = 0) -> dict:
    done = server.pacs(*arguments, "--json")
    assert done.returncode == code, done.stdout + done.stderr
    return json.loads(done.stdout)


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@contextmanager
def _begun(server: Server, inbox: Path) -> Iterator[subprocess.Popen[str]]:
    """An import by three processes that have stored something, and cannot commit before the end of the ``with``."""
    first = inbox.with_name("first")
    first.write_bytes(builders.ct())
    _json(server, "import", str(first))
    with (server.data / "index.sqlite-turn").open("rb") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        process = subprocess.Popen(
            [sys.executable, "-m", "pacs", "import", "--threads", "3", str(inbox)],
            cwd=server.folder,
            env=server.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            # Whoever runs the tests in the background of a script has them ignore Ctrl-C.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )
        until = time.monotonic() + 60
        while not (len(_children(process.pid)) == 3 and len(server.files()) > 1):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < until
            fcntl.flock(turn, fcntl.LOCK_UN)  # it is only let on step by step
            time.sleep(0.001)
            fcntl.flock(turn, fcntl.LOCK_EX)
        yield process


def test_several_processes_count_each_file_once(offline: Server, inbox: Path) -> None:
    _fill(inbox, 150)
    (inbox / "cut").write_bytes(builders.ct()[:-100])
    (inbox / "notes.txt").write_text("not DICOM")
    with zipfile.ZipFile(inbox / "more.zip", "w", zipfile.ZIP_DEFLATED) as target:
        for number in range(40):
            target.writestr(f"{number}", builders.ct(rows=4, columns=4))

    first = _json(offline, "import", "--threads", "3", str(inbox), code=1)
    second = _json(offline, "import", "--threads", "3", str(inbox), code=1)

    assert (first["stored"], first["same"], first["skipped"]) == (190, 0, 1)
    assert [Path(failure["file"]).name for failure in first["failed"]] == ["cut"]
    assert (second["stored"], second["same"], second["skipped"]) == (0, 190, 1)
    assert len(offline.files()) == 190
    assert offline.pacs("verify").returncode == 0


def test_one_thread_takes_the_first_of_several_files_under_the_same_uids(offline: Server, inbox: Path) -> None:
    uids = {"study_uid": "1.2.3", "series_uid": "1.2.3.4", "sop_uid": "1.2.3.4.5"}
    for number in range(50):
        (inbox / f"{number:02d}").write_bytes(builders.ct(**uids, PatientName=f"Number{number}"))

    summary = _json(offline, "import", "--threads", "1", str(inbox), code=1)

    assert (summary["stored"], len(summary["failed"])) == (1, 49)
    assert b"Number0" in offline.files()[0].read_bytes()


def test_interrupted_import_finishes_what_it_began_and_goes_on_next_time(offline: Server, inbox: Path) -> None:
    _fill(inbox, _FILES)

    with _begun(offline, inbox) as process:
        os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=30)

    assert process.returncode == 130
    assert "Traceback" not in errors
    taken = len(offline.files()) - 1
    assert 0 < taken < _FILES
    assert offline.pacs("verify").returncode == 0
    summary = _json(offline, "import", str(inbox))
    assert (summary["stored"], summary["same"]) == (_FILES - taken, taken)


def test_import_that_loses_a_process_says_so_and_goes_on_next_time(offline: Server, inbox: Path) -> None:
    _fill(inbox, _FILES)

    with _begun(offline, inbox) as process:
        os.kill(_children(process.pid)[0], signal.SIGKILL)
    _, errors = process.communicate(timeout=30)

    assert process.returncode == 3
    assert "a process of the import has ended" in errors
    assert "Traceback" not in errors
    summary = _json(offline, "import", str(inbox))
    assert summary["stored"] + summary["same"] == _FILES
    assert summary["stored"] > 0
