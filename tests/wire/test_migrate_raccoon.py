"""A raccoon-dicom installation taken over: its database in a real mongod, its files as it left them."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from pacs.blobs.filesystem import FilesystemBlobs
from pacs.index.mongo import MongoIndex
from pacs.migrate.plan import Plan
from pacs.migrate.raccoon import CALLER, Options, Takeover
from pacs.migrate.raccoon_database import read_documents
from pacs.services.adopt import Adopt
from pacs.services.delete import Delete
from pacs.services.file_key import FileKeyPattern
from pacs.services.store import Store
from tests import builders
from tests.mongod import replica_set
from tests.raccoon import Raccoon
from tests.server import Server, dcmtk, free_port

STUDY = "1.2.826.0.1.3680043.8.498"


@dataclass
class Installed:
    """raccoon in one of its usual states. shown: bytes of the instances that it shows, by SOP Instance UID."""

    raccoon: Raccoon
    shown: dict[str, bytes] = field(default_factory=dict)
    deleted: list[str] = field(default_factory=list)
    paths: dict[str, Path] = field(default_factory=dict)

    def store(self, sop: str, name: str = "", *, study: str = "1", **more: Any) -> bytes:
        options = {key: more.pop(key) for key in ("in_month", "again") if key in more}
        data = builders.ct(f"{STUDY}.{study}", f"{STUDY}.{study}.1", sop, rows=8, columns=8, **more)
        self.paths[sop] = self.raccoon.store(data, name, **options)
        self.shown[sop] = data
        return data


@pytest.fixture(scope="module")
def mongo() -> Iterator[str]:
    with replica_set() as uri:
        yield uri


@pytest.fixture
def installed(mongo: str, tmp_path: Path) -> Iterator[Installed]:
    database = "".join(letter for letter in tmp_path.name if letter.isalnum())
    raccoon = Raccoon(tmp_path / "dicomFiles", mongo, database)
    found = Installed(raccoon)
    for number in range(20):
        found.store(f"{STUDY}.1.1.{number}", InstanceNumber=number)
    for number in range(5):
        found.store(f"{STUDY}.2.1.{number}", f"IM{number:04}", study="2", PatientName="王^小東=王^小東")
    # The client's names were the same: the second is in the file of the first, and both have documents.
    found.store(f"{STUDY}.3.1.1", "IMAGE.dcm", study="3")
    found.store(f"{STUDY}.3.1.2", "IMAGE.dcm", study="3")
    del found.shown[f"{STUDY}.3.1.1"]
    # Stored twice at once: two documents for study, series and instance, and two files with the same content.
    twice = found.store(f"{STUDY}.4.1.1", "first.dcm", study="4")
    raccoon.store(twice, "second.dcm", again=True)
    # Stored again a month later with other content: the newer one is what raccoon shows.
    found.store(f"{STUDY}.5.1.1", "old.dcm", study="5", SeriesDescription="old")
    found.store(f"{STUDY}.5.1.1", "new.dcm", study="5", SeriesDescription="new", in_month="2023/06", again=True)
    for number in range(3):
        found.store(f"{STUDY}.6.1.{number}", study="6")
        found.deleted.append(f"{STUDY}.6.1.{number}")
        del found.shown[f"{STUDY}.6.1.{number}"]
    raccoon.delete_study(f"{STUDY}.6")
    # Its file was lost.
    found.store(f"{STUDY}.7.1.1", study="7")
    found.paths[f"{STUDY}.7.1.1"].unlink()
    del found.shown[f"{STUDY}.7.1.1"]
    # Cut short by a full disk.
    found.store(f"{STUDY}.8.1.1", study="8")
    found.paths[f"{STUDY}.8.1.1"].write_bytes(found.shown.pop(f"{STUDY}.8.1.1")[:-100])
    raccoon.store_by_helper(
        builders.ct(f"{STUDY}.9", f"{STUDY}.9.1", f"{STUDY}.9.1.1", rows=8, columns=8), "AB/CD/EF.dcm"
    )
    raccoon.store_by_helper(found.shown[f"{STUDY}.1.1.0"], "AB/CD/F0.dcm")
    yield found
    raccoon.close()


def _server(folder: Path, data: Path, **env: str) -> Server:
    server = Server(folder, {"DICOM_STORE_ROOTPATH": str(data), **env})
    server.data = data
    return server


def _migrate(server: Server, installed: Installed, *arguments: str, code: int = 1) -> dict[str, Any]:
    raccoon = installed.raccoon
    where = ("--mongo", raccoon.uri, "--database", raccoon.database, "--store", str(raccoon.root))
    done = server.pacs("migrate", "raccoon", *where, *arguments, "--json")
    assert done.returncode == code, done.stdout + done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def _states(root: Path) -> dict[str, tuple[int, int, bytes]]:
    """Identity, time and bytes of all files, to see that none was touched."""
    files = (path for path in root.rglob("*") if path.is_file())
    return {
        path.relative_to(root).as_posix(): (path.stat().st_ino, path.stat().st_mtime_ns, path.read_bytes())
        for path in files
        if path.relative_to(root).parts[0] in ("files", "DICOM")
    }


def _instances(server: Server) -> set[str]:
    with urllib.request.urlopen(f"{server.dicomweb_url}/instances?limit=5000", timeout=60) as answer:
        return {row["00080018"]["Value"][0] for row in json.load(answer)}


def _check_retrievable(server: Server, shown: dict[str, bytes], tmp_path: Path) -> None:
    """Every instance comes back over the wire, byte for byte."""
    for sop, data in shown.items():
        study = ".".join(sop.split(".")[: len(STUDY.split(".")) + 1])
        url = f"{server.dicomweb_url}/studies/{study}/series/{study}.1/instances/{sop}"
        accept = 'multipart/related; type="application/dicom"; transfer-syntax=*'
        request = urllib.request.Request(url, headers={"Accept": accept})
        with urllib.request.urlopen(request, timeout=60) as answer:
            assert data in answer.read(), sop


def test_in_place_adopts_what_raccoon_shows_and_nothing_else(installed: Installed, tmp_path: Path) -> None:
    raccoon = installed.raccoon
    server = _server(tmp_path / "home", raccoon.root)
    before, documents = _states(raccoon.root), raccoon.dump()

    result = _migrate(server, installed)

    assert result["instances"] == len(installed.shown) + 3  # overwritten, missing, cut short
    assert result["in_place"] == len(installed.shown)
    assert (result["linked"], result["copied"], result["renewed"], result["already_there"]) == (0, 0, 0, 0)
    assert (result["missing"], result["overwritten"], result["unreadable"], result["conflict"]) == (1, 1, 1, 1)
    assert (result["soft_deleted"], result["duplicates"], result["orphans"]) == (3, 2, 1)
    assert result["byproducts"] == sum(path.endswith((".jpg", ".raw", ".metadata.json")) for path in before) > 90
    with Path(result["list"]).open(newline="") as file:
        listed = {(row["kind"], row["sop_instance_uid"]) for row in csv.DictReader(file, dialect="excel-tab")}
    assert {("missing", f"{STUDY}.7.1.1"), ("overwritten", f"{STUDY}.3.1.1")} <= listed
    assert {("conflict", f"{STUDY}.5.1.1"), ("orphan", f"{STUDY}.9.1.1"), ("duplicate", f"{STUDY}.4.1.1")} <= listed
    after = _states(raccoon.root)
    assert {key: after[key] for key in before} == before
    assert [key for key in after if key not in before and ".deleted/" not in key] == ["files/.pacs-store.json"]
    assert raccoon.dump() == documents
    with server:
        assert _instances(server) == set(installed.shown)
        _check_retrievable(server, installed.shown, tmp_path)


def test_second_run_changes_nothing_and_says_so(installed: Installed, tmp_path: Path) -> None:
    server = _server(tmp_path / "home", installed.raccoon.root)
    first = _migrate(server, installed)
    before = _states(installed.raccoon.root)

    second = _migrate(server, installed)

    assert second["already_there"] == first["in_place"]
    assert second["in_place"] + second["linked"] + second["copied"] + second["renewed"] == 0
    for same in ("missing", "overwritten", "unreadable", "conflict", "soft_deleted", "duplicates", "orphans"):
        assert second[same] == first[same], same
    assert _states(installed.raccoon.root) == before
    raccoon = installed.raccoon
    told = server.pacs("migrate", "raccoon", "--mongo", raccoon.uri, "--database", raccoon.database)
    assert f"Nothing to take over: {first['in_place']:,} there already." in told.stdout


def test_verify_and_reindex_respect_what_was_taken_over(installed: Installed, tmp_path: Path) -> None:
    server = _server(tmp_path / "home", installed.raccoon.root)
    _migrate(server, installed)
    old = installed.raccoon.root / "files" / "2023" / "05"

    verified = json.loads(server.pacs("verify", "--json").stdout)

    # What is left for somebody to look at: the earlier content of an instance, and the file that is cut short.
    assert verified["faults"] == {"orphan": 1, "foreign": 1}
    assert {problem["key"].rsplit("/", 1)[1] for problem in verified["problems"]} == {"old.dcm", f"{STUDY}.8.1.1.dcm"}
    assert len(list(old.rglob("*.jpg"))) > 20
    for path in old.rglob("old.dcm"):
        path.unlink()
    server.pacs("reindex")
    with server:
        assert _instances(server) == set(installed.shown)


def test_elsewhere_adopts_by_hard_link(installed: Installed, tmp_path: Path) -> None:
    raccoon = installed.raccoon
    server = Server(tmp_path / "archive")
    before = _states(raccoon.root)

    result = _migrate(server, installed, "--orphans")

    assert (result["linked"], result["in_place"], result["orphans"]) == (len(installed.shown) + 1, 0, 0)
    assert _states(raccoon.root) == before
    nodes = {node for node, _, _ in before.values()}
    assert {path.stat().st_ino for path in server.files()} <= nodes
    assert _migrate(server, installed, "--orphans")["already_there"] == result["linked"]
    shutil.rmtree(raccoon.root)  # its own names go; the archive's stay
    with server:
        assert _instances(server) == {*installed.shown, f"{STUDY}.9.1.1"}
        _check_retrievable(server, installed.shown, tmp_path)
    assert server.pacs("verify").returncode == 0


def test_other_filesystem_needs_copy(installed: Installed, tmp_path: Path) -> None:
    other = Path("/dev/shm")  # noqa: S108 - a filesystem of its own, where there is one
    if not other.is_dir() or other.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("COPY NOT TESTED: there is no second filesystem")
    moved = other / f"pacs-{os.getpid()}-{free_port()}"
    try:
        shutil.copytree(installed.raccoon.root, moved)
        installed.raccoon.root = moved
        server = Server(tmp_path / "archive")
        where = ("--mongo", installed.raccoon.uri, "--database", installed.raccoon.database, "--store", str(moved))

        refused = server.pacs("migrate", "raccoon", *where)
        copied = _migrate(server, installed, "--copy")

        assert refused.returncode == 2
        assert "--copy" in refused.stderr
        assert copied["copied"] == len(installed.shown)
        assert _migrate(server, installed, "--copy")["already_there"] == copied["copied"]
    finally:
        shutil.rmtree(moved, ignore_errors=True)
    with server:
        _check_retrievable(server, installed.shown, tmp_path)


def test_dry_run_says_the_same_and_takes_nothing(installed: Installed, tmp_path: Path) -> None:
    server = _server(tmp_path / "home", installed.raccoon.root)

    planned = _migrate(server, installed, "--dry-run")

    assert server.pacs("verify", "--json").stdout.find('"instances": 0') > 0
    done = _migrate(server, installed)
    for same in ("instances", "soft_deleted", "in_place", "missing", "overwritten", "unreadable", "orphans"):
        assert planned[same] == done[same], same
    # Contents are not compared: the other content counts as a duplicate.
    assert planned["duplicates"] == done["duplicates"] + done["conflict"]


def test_env_file_of_raccoon_is_enough(installed: Installed, tmp_path: Path) -> None:
    project = tmp_path / "raccoon"
    project.mkdir()
    (project / ".env").write_text(installed.raccoon.env(project))
    server = Server(tmp_path / "archive")

    done = server.pacs("migrate", "raccoon", "--env", str(project / ".env"), "--json")

    assert done.returncode == 1, done.stderr
    assert json.loads(done.stdout)["linked"] == len(installed.shown)


def test_what_was_deleted_here_stays_deleted(installed: Installed, tmp_path: Path) -> None:
    server = Server(tmp_path / "archive")
    _migrate(server, installed)
    with server:
        request = urllib.request.Request(f"{server.dicomweb_url}/studies/{STUDY}.2", method="DELETE")
        urllib.request.urlopen(request, timeout=60).close()
        assert server.pacs("purge").returncode == 0
        again = _migrate(server, installed)
        assert (again["linked"], again["deleted_here"]) == (0, 5)
        assert not [sop for sop in _instances(server) if sop.startswith(f"{STUDY}.2.")]


def test_interrupted_run_goes_on(installed: Installed, tmp_path: Path) -> None:
    for number in range(300):
        installed.store(f"{STUDY}.1.1.9{number}", InstanceNumber=number)
    server = Server(tmp_path / "archive")
    raccoon = installed.raccoon
    where = ("--mongo", raccoon.uri, "--database", raccoon.database, "--store", str(raccoon.root))
    process = subprocess.Popen(
        [sys.executable, "-m", "pacs", "migrate", "raccoon", *where, "--threads", "1"],
        cwd=server.folder,
        env=server.env,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        if (server.data / "files").is_dir() and len(server.files()) > 40:
            break
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    assert process.wait(60) == -signal.SIGKILL, "it was over too soon to be interrupted"

    result = _migrate(server, installed)

    assert 0 < result["linked"] < len(installed.shown)
    assert result["linked"] + result["already_there"] == len(installed.shown)
    assert json.loads(server.pacs("verify", "--repair", "--json").stdout)["faults"].keys() <= {"leftover"}
    with server:
        assert _instances(server) == set(installed.shown)


def test_file_that_cannot_be_given_back_as_it_is_is_renewed(installed: Installed, tmp_path: Path) -> None:
    bare, polyglot = f"{STUDY}.1.2.1", f"{STUDY}.1.2.2"
    for sop in (bare, polyglot):
        data = installed.store(sop)
        content = builders.data_set_of(data) if sop == bare else b"MZ" + bytes(126) + data[128:]
        installed.paths[sop].write_bytes(content)
    server = _server(tmp_path / "home", installed.raccoon.root)
    data_sets = {sop: builders.data_set_of(installed.shown[sop]) for sop in (bare, polyglot)}

    assert _migrate(server, installed)["renewed"] == 2

    assert _migrate(server, installed)["already_there"] == len(installed.shown)
    assert installed.paths[polyglot].read_bytes().startswith(b"MZ")
    with server:
        assert _instances(server) == set(installed.shown)
        _check_retrievable(server, data_sets, tmp_path)
    (copy,) = (path for path in server.files() if polyglot in path.name and path != installed.paths[polyglot])
    assert not any(copy.read_bytes()[:128])


def test_repair_before_the_migration_does_not_hide_what_raccoon_had_deleted(
    installed: Installed, tmp_path: Path
) -> None:
    server = _server(tmp_path / "home", installed.raccoon.root)
    server.pacs("verify", "--repair")  # takes in every file that is there

    result = _migrate(server, installed)

    assert result["shown"] == 3


def test_wrong_database_and_wrong_server_are_one_sentence(installed: Installed, tmp_path: Path) -> None:
    server = Server(tmp_path / "archive")
    raccoon = installed.raccoon
    store = ("--store", str(raccoon.root))

    wrong = server.pacs("migrate", "raccoon", "--mongo", raccoon.uri, "--database", "other", *store)
    nobody = server.pacs(
        "migrate", "raccoon", "--mongo", f"mongodb://127.0.0.1:{free_port()}/?serverSelectionTimeoutMS=300", *store
    )
    unsaid = server.pacs("migrate", "raccoon", *store)

    assert (wrong.returncode, nobody.returncode, unsaid.returncode) == (2, 3, 2)
    assert raccoon.database in wrong.stderr
    assert "--mongo" in unsaid.stderr
    assert "Traceback" not in wrong.stderr + nobody.stderr + unsaid.stderr


def test_index_in_raccoons_own_database_leaves_its_collections_alone(installed: Installed, tmp_path: Path) -> None:
    raccoon = installed.raccoon
    before = raccoon.dump()
    index = MongoIndex(raccoon.uri, raccoon.database)
    blobs = FilesystemBlobs(raccoon.root / "files", raccoon.root / "incoming")
    store = Store(index, blobs, FileKeyPattern("{0020000D}/{00080018}"))
    plan = Plan()
    with closing(index), closing(plan):
        adopt = Adopt(index, blobs, store, caller=CALLER)
        for _ in range(2):
            takeover = Takeover(plan, adopt, index, blobs, Delete(index, blobs), raccoon.root, raccoon.root, Options())
            takeover.prepare(read_documents(raccoon.uri, raccoon.database))
            takeover.run()
            assert index.counts().instances == len(installed.shown)

            after = raccoon.dump()

            assert {name: after[name] for name in before} == before
            plan.close()
            plan = Plan()


def test_env_file_of_raccoon_serves_what_was_taken_over(installed: Installed, tmp_path: Path) -> None:
    raccoon = installed.raccoon
    home = tmp_path / "home"
    server = Server(home)
    server.data = raccoon.root
    # All of raccoon's settings as they are, but the ports of this machine, and the index beside the files.
    text = raccoon.env(home).replace("RACCOONQRSCP:11112", f"RACCOONQRSCP:{server.dimse_port}")
    lines = text.replace("SERVER_PORT=8081", f"SERVER_PORT={server.http_port}").splitlines(keepends=True)
    (home / ".env").write_text("".join(line for line in lines if not line.startswith("MONGODB_HOSTS")))
    for name in ("DICOM_STORE_ROOTPATH", "DIMSE_AE_TITLE", "DIMSE_PORT", "DIMSE_AE_CONFIG", "SERVER_PORT"):
        del server.env[name]

    done = server.pacs("migrate", "raccoon", "--mongo", raccoon.uri, "--json")

    assert json.loads(done.stdout)["in_place"] == len(installed.shown), done.stderr
    with server:
        assert _instances(server) == set(installed.shown)
        to = ("127.0.0.1", str(server.dimse_port))
        assert dcmtk("echoscu", "-aec", "ANOTHER", *to).returncode != 0
        keys = ("-k", "0008,0052=STUDY", "-k", f"0020,000D={STUDY}.2", "-k", "0020,1208")
        found = dcmtk("findscu", "-v", "-S", "-aec", "RACCOONQRSCP", *to, *keys)
        assert re.search(r"\(0020,1208\) IS \[5 ?\]", found.stdout), found.stdout
        new = tmp_path / "new.dcm"
        new.write_bytes(builders.ct("1.2.3", "1.2.3.4", "1.2.3.4.5", rows=8, columns=8))
        assert dcmtk("storescu", "-aec", "RACCOONQRSCP", *to, str(new)).returncode == 0
        (stored,) = (raccoon.root / "files" / "DICOM").rglob("*.dcm")
        assert len(stored.relative_to(raccoon.root / "files" / "DICOM").parts) == 3
