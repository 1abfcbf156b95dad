"""The command line against real archives, beside running servers and without them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
import zipfile
from pathlib import Path

import pydicom
import pytest

from pacs.services.lock import ArchiveLock
from tests import builders
from tests.conftest import StartArchive
from tests.server import Server, clean_environment, dcmtk, free_port

DICOMDIR = Path(pydicom.__file__).parent / "data" / "test_files" / "dicomdirtests" / "DICOMDIR"


@pytest.fixture
def offline(tmp_path: Path) -> Server:
    """Settings of an archive that nobody serves, for commands."""
    return Server(tmp_path / "offline")


def _inbox(folder: Path, number: int, **uids: str) -> Path:
    folder.mkdir()
    for i in range(number):
        (folder / f"{i}.dcm").write_bytes(builders.ct(rows=8, columns=8, **uids))
    return folder


def _json(server: Server, *arguments: str, code: int = 0) -> dict:
    done = server.pacs(*arguments, "--json")
    assert done.returncode == code, done.stdout + done.stderr
    return json.loads(done.stdout)


def test_ready_block_says_where_everything_is(start_archive: StartArchive) -> None:
    server = start_archive()

    (block,) = [part for part in server.log().split("\n\n") if "DICOMweb" in part]

    assert f"DICOMweb  {server.dicomweb_url}" in block
    assert f"DIMSE     DCMQRSCP@127.0.0.1:{server.dimse_port}" in block
    assert f"Data      {server.data}  (0 instances, 0 studies)" in block
    assert f"kill {server.pid}" in block
    with urllib.request.urlopen(f"{server.http_url}/health/ready", timeout=60) as answer:
        assert answer.status == 200
    assert dcmtk("echoscu", "-aec", "DCMQRSCP", "127.0.0.1", str(server.dimse_port)).returncode == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_stops_the_server_cleanly(fresh_archive: Server, number: signal.Signals) -> None:
    process = fresh_archive.process
    assert process is not None

    os.kill(process.pid, number)

    assert process.wait(60) == 0, fresh_archive.log()
    assert fresh_archive.log().rstrip().endswith("Stopped.")
    assert "Traceback" not in fresh_archive.log()


def test_demo_brings_examples_and_may_be_repeated(start_archive: StartArchive) -> None:
    server = start_archive(args=("--demo",))
    with urllib.request.urlopen(f"{server.dicomweb_url}/instances?limit=1000", timeout=60) as answer:
        first = json.load(answer)

    server.restart()

    with urllib.request.urlopen(f"{server.dicomweb_url}/instances?limit=1000", timeout=60) as answer:
        assert json.load(answer) == first
    assert len(first) > 50
    assert "already there" in server.log()


def test_port_and_data_options_win_over_settings(tmp_path: Path) -> None:
    server = Server(tmp_path / "home")
    elsewhere, web, dimse = tmp_path / "elsewhere", free_port(), free_port()
    server.args = ("--port", str(web), "--dimse-port", str(dimse), "--data", str(elsewhere))
    with server:
        urllib.request.urlopen(f"http://127.0.0.1:{web}/health/ready", timeout=60).close()
        socket.create_connection(("127.0.0.1", dimse), 5).close()

    assert (elsewhere / "index.sqlite").exists()
    assert not server.data.exists()


def test_wrong_settings_are_refused_at_start_in_one_message(tmp_path: Path) -> None:
    server = Server(tmp_path / "home", {"SERVER_PORT": "many", "DUPLICATES": "perhaps"})

    done = server.pacs("serve")

    assert done.returncode == 2
    assert "SERVER_PORT=many: expected a port number" in done.stderr
    assert "DUPLICATES=perhaps: expected reject or replace" in done.stderr
    assert "Traceback" not in done.stderr


def test_port_in_use_is_one_sentence_and_not_a_traceback(fresh_archive: Server) -> None:
    done = fresh_archive.pacs("serve", timeout_s=30)

    assert done.returncode == 2
    assert str(fresh_archive.http_port) in done.stderr or str(fresh_archive.dimse_port) in done.stderr
    assert "Traceback" not in done.stderr


def test_import_beside_a_running_server_is_seen_at_once(fresh_archive: Server, tmp_path: Path) -> None:
    inbox = _inbox(tmp_path / "inbox", 30, study_uid="1.2.3", series_uid="1.2.3.4")

    summary = _json(fresh_archive, "import", str(inbox))

    assert (summary["stored"], summary["failed"]) == (30, [])
    with urllib.request.urlopen(f"{fresh_archive.dicomweb_url}/studies?StudyInstanceUID=1.2.3", timeout=60) as answer:
        (study,) = json.load(answer)
    assert study["00201208"]["Value"] == [30]
    assert _json(fresh_archive, "import", str(inbox))["same"] == 30


def test_import_of_a_dicomdir(offline: Server) -> None:
    done = offline.pacs("import", str(DICOMDIR))

    assert "Traceback" not in done.stderr
    summary = _json(offline, "import", str(DICOMDIR), code=done.returncode)
    assert summary["same"] > 10


def test_import_that_fails_in_part_says_so(offline: Server, tmp_path: Path) -> None:
    inbox = _inbox(tmp_path / "inbox", 2)
    (inbox / "cut.dcm").write_bytes(builders.ct()[:-100])
    (inbox / "notes.txt").write_text("not DICOM")

    done = offline.pacs("import", str(inbox), str(tmp_path / "nowhere"))

    assert done.returncode == 1
    assert "2 stored" in done.stdout
    assert "1 not DICOM" in done.stdout
    assert "2 failed" in done.stdout
    assert "cut.dcm: " in done.stderr
    assert "nowhere: there is no such file" in done.stderr


def test_verify_finds_and_repairs(offline: Server, tmp_path: Path) -> None:
    _json(offline, "import", str(_inbox(tmp_path / "inbox", 5)))
    lost, changed, *_ = offline.files()
    lost.unlink()
    changed.write_bytes(changed.read_bytes()[:-1] + b"\xff")
    orphan = offline.data / "files" / "orphan.dcm"
    orphan.write_bytes(builders.ct())

    assert _json(offline, "verify", code=1)["faults"] == {"missing": 1, "digest": 1, "orphan": 1}
    assert _json(offline, "verify", "--quick", code=1)["faults"] == {"missing": 1, "orphan": 1}
    repaired = _json(offline, "verify", "--repair", code=1)
    assert (repaired["unrepaired"], repaired["instances"]) == (1, 5)

    assert _json(offline, "verify", code=1)["faults"] == {"digest": 1}
    changed.unlink()
    assert _json(offline, "verify", "--repair", code=1)["faults"] == {"missing": 1}
    done = offline.pacs("verify")
    assert (done.returncode, done.stdout) == (0, "4 instances: index and files agree.\n")


def test_verify_beside_a_running_server(fresh_archive: Server, tmp_path: Path) -> None:
    _json(fresh_archive, "import", str(_inbox(tmp_path / "inbox", 3)))
    (fresh_archive.data / "files" / "arriving.dcm").write_bytes(builders.ct())

    done = fresh_archive.pacs("verify", "--repair")

    assert done.returncode == 0
    assert "3 instances: index and files agree." in done.stdout
    assert "A server is running" in done.stdout


def test_reindex_makes_the_same_archive_again(fresh_archive: Server, tmp_path: Path) -> None:
    _json(fresh_archive, "import", str(_inbox(tmp_path / "inbox", 20, study_uid="1.2.3")))
    query = f"{fresh_archive.dicomweb_url}/series?includefield=all&limit=100"
    with urllib.request.urlopen(query, timeout=60) as answer:
        before = json.load(answer)

    assert "stop it first" in fresh_archive.pacs("reindex").stderr
    fresh_archive.stop()
    (fresh_archive.data / "index.sqlite").write_bytes(b"no database any more" * 500)
    for companion in fresh_archive.data.glob("index.sqlite-*"):
        companion.unlink()
    assert _json(fresh_archive, "reindex")["instances"] == 20

    fresh_archive.start()
    with urllib.request.urlopen(query, timeout=60) as answer:
        after = json.load(answer)
    assert sorted(after, key=str) == sorted(before, key=str)
    fresh_archive.stop()
    assert fresh_archive.pacs("verify").returncode == 0
    assert list(fresh_archive.data.glob("index.sqlite.new*")) == []


def test_export_gives_back_what_was_imported(offline: Server, tmp_path: Path) -> None:
    inbox = _inbox(tmp_path / "inbox", 3, study_uid="1.2.3", series_uid="1.2.3.4")
    (inbox / "other.dcm").write_bytes(builders.ct(study_uid="1.2.9", PatientID="P9"))
    _json(offline, "import", str(inbox))
    stored = {path.read_bytes() for path in offline.files()}

    assert _json(offline, "export", "--study", "1.2.3", str(tmp_path / "one"))["instances"] == 3
    assert _json(offline, "export", "--patient", "P9", str(tmp_path / "two"))["instances"] == 1
    assert _json(offline, "export", "--all", "--zip", str(tmp_path / "all.zip"))["instances"] == 4

    assert len(list((tmp_path / "one" / "1.2.3" / "1.2.3.4").glob("*.dcm"))) == 3
    exported = {path.read_bytes() for folder in ("one", "two") for path in (tmp_path / folder).rglob("*.dcm")}
    assert exported == stored
    with zipfile.ZipFile(tmp_path / "all.zip") as archive:
        assert {archive.read(name) for name in archive.namelist()} == stored


def test_export_refuses_what_is_not_there_and_its_own_data_folder(offline: Server, tmp_path: Path) -> None:
    unknown = offline.pacs("export", "--study", "1.2.3", str(tmp_path / "out"))
    inside = offline.pacs("export", "--all", str(offline.data / "out"))

    assert (unknown.returncode, inside.returncode) == (3, 2)
    assert "no study 1.2.3" in unknown.stderr
    assert not (tmp_path / "out").exists()


def test_config_shows_settings_without_secrets(tmp_path: Path) -> None:
    server = Server(tmp_path / "home", {"MONGODB_PASSWORD": "hunter2"})

    values = _json(server, "config")

    assert values["DIMSE_PORT"] == str(server.dimse_port)
    assert "hunter2" not in json.dumps(values)


def test_version_and_help_work_without_any_settings(tmp_path: Path) -> None:
    for arguments in (["version"], ["--help"], *([command, "--help"] for command in ("serve", "import", "verify"))):
        done = subprocess.run(
            [sys.executable, "-m", "pacs", *arguments],
            cwd=tmp_path,
            env=clean_environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert "pacs" in done.stdout


def test_full_disk_stops_an_import_with_one_sentence(tmp_path: Path) -> None:
    server = Server(tmp_path / "home", {"MIN_FREE_BYTES": str(shutil.disk_usage(tmp_path).total)})

    done = server.pacs("import", str(_inbox(tmp_path / "inbox", 2)))

    assert done.returncode == 3
    assert "the disk is full" in done.stderr
    assert "Traceback" not in done.stderr


def test_killed_server_leaves_an_archive_that_verifies(fresh_archive: Server, tmp_path: Path) -> None:
    inbox = _inbox(tmp_path / "inbox", 200)
    sender = subprocess.Popen(
        ["/usr/bin/storescu", "-aec", "DCMQRSCP", "+sd", "127.0.0.1", str(fresh_archive.dimse_port), str(inbox)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "TCP_NODELAY": "1"},
    )
    deadline = time.monotonic() + 60
    while len(fresh_archive.files()) < 20 and time.monotonic() < deadline:
        time.sleep(0.01)
    fresh_archive.kill()
    sender.wait(60)

    found = _json(fresh_archive, "verify", "--repair")

    assert set(found["faults"]) <= {"orphan", "leftover", "foreign"}
    assert found["instances"] >= 20
    assert fresh_archive.pacs("verify").returncode == 0


def test_start_removes_what_a_killed_server_had_half_received(fresh_archive: Server) -> None:
    fresh_archive.kill()
    leftover = fresh_archive.data / "incoming" / "0123456789ab.part"
    leftover.write_bytes(b"half")
    fresh_archive.start()
    assert not leftover.exists()


def test_start_leaves_alone_what_another_process_is_receiving(fresh_archive: Server) -> None:
    fresh_archive.stop()
    receiving = fresh_archive.data / "incoming" / "0123456789ab.part"
    receiving.write_bytes(b"half")
    with ArchiveLock(fresh_archive.data):
        fresh_archive.start()
        assert receiving.exists()
