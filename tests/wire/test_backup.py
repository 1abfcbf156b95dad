"""Backup of the index while senders store, and restore without losing what was acknowledged after it."""

from __future__ import annotations

import gzip
import itertools
import json
import shutil
import sqlite3
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import builders
from tests.conftest import StartArchive
from tests.server import Server, dcmtk

SENDERS = 3
EACH = 40


def _json(server: Server, *arguments: str, code: int = 0) -> dict[str, Any]:
    done = server.pacs(*arguments, "--json")
    assert done.returncode == code, done.stdout + done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def _inbox(folder: Path, number: int, study: str, **more: Any) -> Path:
    folder.mkdir(parents=True)
    for i in range(number):
        data = builders.ct(study, f"{study}.1", f"{study}.1.{i}", rows=8, columns=8, InstanceNumber=i, **more)
        (folder / f"{i}.dcm").write_bytes(data)
    return folder


def _instances(server: Server) -> set[str]:
    found: set[str] = set()
    while True:
        url = f"{server.dicomweb_url}/instances?limit=5000&offset={len(found)}"
        with urllib.request.urlopen(url, timeout=60) as answer:
            rows = json.load(answer) if answer.status == 200 else []
        if not rows:
            return found
        found |= {row["00080018"]["Value"][0] for row in rows}


class _Sender(threading.Thread):
    """storescu after storescu, each with a study of its own, until told to stop; and then one more."""

    def __init__(self, server: Server, folder: Path, number: int) -> None:
        super().__init__()
        self._server = server
        self._folder = folder
        self._number = number
        self.stop = threading.Event()
        self.sent: set[str] = set()
        self.acknowledged = 0

    def run(self) -> None:
        is_last = False
        for turn in itertools.count():
            if is_last:
                return
            is_last = self.stop.is_set()
            study = f"1.2.{self._number}.{turn}"
            inbox = _inbox(self._folder / study, EACH, study)
            to = ("-aec", "DCMQRSCP", "127.0.0.1", str(self._server.dimse_port))
            done = dcmtk("storescu", "-v", "+sd", *to, inbox)
            self.acknowledged += done.stdout.count("Received Store Response (Success)")
            self.sent |= {f"{study}.1.{i}" for i in range(EACH)}


def test_backup_under_load_and_restore_lose_nothing_that_was_acknowledged(
    fresh_archive: Server, tmp_path: Path
) -> None:
    first = _inbox(tmp_path / "first", 40, "1.1")
    assert _json(fresh_archive, "import", str(first))["stored"] == 40
    backups = tmp_path / "backups"
    backups.mkdir()

    senders = [_Sender(fresh_archive, tmp_path, number) for number in range(SENDERS)]
    for sender in senders:
        sender.start()
    while len(fresh_archive.files()) < 60:
        time.sleep(0.01)
    made = _json(fresh_archive, "backup", str(backups))
    for sender in senders:
        sender.stop.set()
    for sender in senders:
        sender.join()

    everything = _instances(fresh_archive)
    assert everything == {f"1.1.1.{i}" for i in range(40)}.union(*(sender.sent for sender in senders))
    assert sum(sender.acknowledged for sender in senders) == len(everything) - 40
    assert 40 < made["instances"] < len(everything)
    fresh_archive.stop()
    for path in fresh_archive.data.glob("index.sqlite*"):
        path.unlink()

    restored = _json(fresh_archive, "restore", made["file"])

    assert restored["restored"] == made["instances"]
    assert restored["restored"] + restored["added"] == len(everything)
    fresh_archive.start()
    assert _instances(fresh_archive) == everything
    fresh_archive.stop()
    assert fresh_archive.pacs("verify").returncode == 0


def test_restore_repeats_what_happened_after_the_backup(start_archive: StartArchive, tmp_path: Path) -> None:
    server = start_archive({"DUPLICATES": "replace"})
    _json(server, "import", str(_inbox(tmp_path / "a", 5, "1.2.1")), str(_inbox(tmp_path / "b", 5, "1.2.2")))
    made = _json(server, "backup", "--gzip", str(tmp_path))
    _delete(server, "1.2.1")  # known to the backup
    _json(server, "import", str(_inbox(tmp_path / "c", 5, "1.2.3")))
    _delete(server, "1.2.3")  # not known to it
    _json(server, "import", str(_inbox(tmp_path / "d", 2, "1.2.2", PatientName="Later^Name")))  # replaces
    _json(server, "import", str(_inbox(tmp_path / "e", 1, "1.2.1", PatientName="Later^Name")))  # stored again
    before = _rows(server)
    server.stop()

    restored = _json(server, "restore", made["file"])

    assert (restored["restored"], restored["added"], restored["deleted"]) == (10, 3, 5)
    server.start()
    assert _rows(server) == before
    with pytest.raises(urllib.error.HTTPError, match="410"):
        urllib.request.urlopen(f"{server.dicomweb_url}/studies/1.2.3/metadata", timeout=60)
    server.stop()
    assert server.pacs("verify").returncode == 0


def _delete(server: Server, study: str) -> None:
    request = urllib.request.Request(f"{server.dicomweb_url}/studies/{study}", method="DELETE")
    urllib.request.urlopen(request, timeout=60).close()


def _rows(server: Server) -> list[str]:
    with urllib.request.urlopen(f"{server.dicomweb_url}/instances?includefield=all&limit=100", timeout=60) as answer:
        return sorted(json.dumps(row, sort_keys=True) for row in json.load(answer))


def test_backup_is_one_file_that_stands_alone(fresh_archive: Server, tmp_path: Path) -> None:
    _json(fresh_archive, "import", str(_inbox(tmp_path / "a", 5, "1.2.1")))

    plain = Path(_json(fresh_archive, "backup", str(tmp_path / "copy.sqlite"))["file"])
    packed = Path(_json(fresh_archive, "backup", str(tmp_path / "copy.sqlite.gz"))["file"])

    assert not [path for path in tmp_path.glob("*copy*") if path not in (plain, packed)]
    with sqlite3.connect(f"file:{plain}?mode=ro", uri=True) as copy:
        assert copy.execute("SELECT COUNT(*) FROM instances").fetchone() == (5,)
        assert copy.execute("PRAGMA journal_mode").fetchone() == ("delete",)
    assert gzip.decompress(packed.read_bytes())[:15] == b"SQLite format 3"


def test_backup_never_replaces_a_file_unasked(fresh_archive: Server, tmp_path: Path) -> None:
    there = tmp_path / "precious"
    there.write_text("precious")

    refused = fresh_archive.pacs("backup", str(there))

    assert refused.returncode == 2
    assert "--force" in refused.stderr
    assert there.read_text() == "precious"
    assert _json(fresh_archive, "backup", "--force", str(there))["instances"] == 0
    assert there.read_bytes().startswith(b"SQLite format 3")
    assert fresh_archive.pacs("backup", str(tmp_path / "no" / "folder")).returncode == 2


def test_restore_refuses_while_a_server_is_running(fresh_archive: Server, tmp_path: Path) -> None:
    made = _json(fresh_archive, "backup", str(tmp_path))

    refused = fresh_archive.pacs("restore", made["file"])

    assert refused.returncode == 3
    assert "stop it first" in refused.stderr


@pytest.fixture(scope="module")
def backed_up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Path]]:
    """An archive of 30 instances that does not run, and the folder with its backups ``copy`` and ``copy.gz``."""
    folder = tmp_path_factory.mktemp("backed-up")
    with Server(folder / "archive") as server:
        _json(server, "import", str(_inbox(folder / "a", 30, "1.2.1")))
        for name in ("copy", "copy.gz"):
            _json(server, "backup", str(folder / name))
        server.stop()
        yield server, folder


@pytest.mark.parametrize("damage", ["cut short", "changed", "not an index", "cut gzip", "newer", "not there"])
def test_damaged_backup_changes_nothing(damage: str, backed_up: tuple[Server, Path], tmp_path: Path) -> None:
    server, folder = backed_up
    backup = Path(shutil.copy(folder / ("copy.gz" if damage == "cut gzip" else "copy"), tmp_path))
    content = backup.read_bytes()
    if damage in ("cut short", "cut gzip"):
        backup.write_bytes(content[: len(content) // 2])
    elif damage == "changed":
        backup.write_bytes(content[:8192] + bytes(8192) + content[16384:])
    elif damage == "not an index":
        backup.write_text("hello")
    elif damage == "newer":
        with sqlite3.connect(backup) as copy:
            copy.execute("PRAGMA user_version = 9999")
        copy.close()
    else:
        backup.unlink()
    before = _state(server)

    refused = server.pacs("restore", str(backup))

    assert refused.returncode == 3, refused.stderr
    assert "Traceback" not in refused.stderr
    assert _state(server) == before
    with server:
        assert len(_instances(server)) == 30


def _state(server: Server) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in server.data.glob("index.sqlite*") if path.stat().st_size}


def test_replaced_index_is_kept_and_can_come_back(fresh_archive: Server, tmp_path: Path) -> None:
    _json(fresh_archive, "import", str(_inbox(tmp_path / "a", 3, "1.2.1")))
    early = _json(fresh_archive, "backup", str(tmp_path / "early"))
    _json(fresh_archive, "import", str(_inbox(tmp_path / "b", 4, "1.2.2")))
    fresh_archive.kill()  # with a log that is not folded in

    restored = _json(fresh_archive, "restore", early["file"])

    aside = Path(restored["replaced_index"])
    assert (restored["restored"], restored["added"]) == (3, 4)
    again = _json(fresh_archive, "restore", shutil.copy(aside, tmp_path / "aside"))
    assert (again["restored"], again["added"]) == (7, 0)


def test_interrupted_restore_is_finished_by_reindex_missing(fresh_archive: Server, tmp_path: Path) -> None:
    _json(fresh_archive, "import", str(_inbox(tmp_path / "a", 3, "1.2.1")))
    made = _json(fresh_archive, "backup", str(tmp_path / "copy"))
    _json(fresh_archive, "import", str(_inbox(tmp_path / "b", 4, "1.2.2")))
    assert "stop it first" in fresh_archive.pacs("reindex", "--missing").stderr
    fresh_archive.stop()
    for path in fresh_archive.data.glob("index.sqlite*"):
        path.unlink()
    shutil.copy(made["file"], fresh_archive.data / "index.sqlite")  # as a restore leaves it that ends here

    assert _json(fresh_archive, "reindex", "--missing")["instances"] == 7

    fresh_archive.start()
    assert len(_instances(fresh_archive)) == 7


def test_backup_without_an_index_is_one_sentence(tmp_path: Path) -> None:
    done = Server(tmp_path / "empty").pacs("backup", str(tmp_path / "copy"))

    assert (done.returncode, done.stderr) == (3, "pacs: there is no index to back up\n")
    assert not (tmp_path / "copy").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]
