"""The whole archive with its files on a real S3 server."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import obstore
import pytest
import requests

from pacs.dicom.uids import new_uid
from tests import builders
from tests.seaweedfs import SeaweedFS
from tests.server import Server, dcmtk, dcmtk_environment
from tests.wire import clients
from tests.wire.committing import Told, ask, associated, committed_in, cts, eventually, failed_in

TIMEOUT_S = 60
# 1 GiB was tried as well: PACS_TEST_LARGE_BYTES=1073741824
LARGE_BYTES = int(os.environ.get("PACS_TEST_LARGE_BYTES", 150 << 20))


@pytest.fixture
def prefix(s3: SeaweedFS) -> str:
    return s3.new_prefix()


@pytest.fixture
def server(s3: SeaweedFS, prefix: str, tmp_path: Path) -> Iterator[Server]:
    with Server(tmp_path / "archive", s3.environment(prefix)) as running:
        yield running


def verify(server: Server) -> dict[str, object]:
    done = server.pacs("verify", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    return dict(json.loads(done.stdout))


def send(server: Server, *files: Path) -> None:
    done = dcmtk("storescu", "-aec", server.ae_title, "127.0.0.1", str(server.dimse_port), *files)
    assert done.returncode == 0, done.stdout


def test_what_both_protocols_store_is_on_s3_and_comes_back_byte_exact(
    s3: SeaweedFS, server: Server, prefix: str, tmp_path: Path
) -> None:
    study, series, first, second = (new_uid() for _ in range(4))
    files = [builders.ct(study, series, sop, rows=64, columns=64) for sop in (first, second)]
    (tmp_path / "first.dcm").write_bytes(files[0])
    send(server, tmp_path / "first.dcm")
    assert clients.stow(server, files[1:]).status_code == 200
    big = tmp_path / "big.dcm"
    builders.write_multiframe(big, 24 << 20)
    send(server, big)

    objects = s3.objects(prefix)
    assert len(objects) == 3
    assert sorted(map(clients.data_set_of, objects.values())) == sorted(
        clients.data_set_of(data) for data in (*files, big.read_bytes())
    )
    assert not [path for path in server.data.rglob("*.dcm") if path.is_file()]
    assert list((server.data / "incoming").iterdir()) == []

    returned = clients.retrieve_files(server, f"/studies/{study}")
    assert {clients.data_set_of(data) for data in returned} == {clients.data_set_of(data) for data in files}
    instance = f"/studies/{study}/series/{series}/instances/{first}"
    frame = requests.get(
        f"{server.dicomweb_url}{instance}/frames/1",
        headers={"Accept": 'multipart/related; type="application/octet-stream"'},
        timeout=TIMEOUT_S,
    )
    assert frame.status_code == 200
    (pixels,) = clients.split_multipart(frame.headers["Content-Type"], frame.content)
    assert len(pixels) == 64 * 64 * 2
    assert pixels in files[0]
    rendered = requests.get(
        f"{server.dicomweb_url}{instance}/rendered", headers={"Accept": "image/png"}, timeout=TIMEOUT_S
    )
    assert rendered.status_code == 200
    assert rendered.content.startswith(b"\x89PNG")
    assert verify(server)["problems"] == []

    archive_file = tmp_path / "all.zip"
    exported = server.pacs("export", "--study", study, "--zip", str(archive_file))
    assert exported.returncode == 0, exported.stdout + exported.stderr
    with zipfile.ZipFile(archive_file) as members:
        exported_files = {clients.data_set_of(members.read(name)) for name in members.namelist()}
    assert exported_files == {clients.data_set_of(data) for data in files}


def test_deleted_instances_stay_until_a_purge_and_a_new_index_knows(s3: SeaweedFS, server: Server, prefix: str) -> None:
    kept, gone = new_uid(), new_uid()
    for study in (kept, gone):
        assert clients.stow(server, [builders.ct(study, new_uid(), new_uid())]).status_code == 200
    assert requests.delete(f"{server.dicomweb_url}/studies/{gone}", timeout=TIMEOUT_S).status_code in (200, 204)
    assert len([key for key in s3.objects(prefix) if key.endswith(".dcm")]) == 2
    server.stop()
    rebuilt = server.pacs("reindex", "--json")
    assert rebuilt.returncode == 0, rebuilt.stdout + rebuilt.stderr
    assert json.loads(rebuilt.stdout)["instances"] == 1
    server.start()
    purged = server.pacs("purge", "--older-than", "0")
    assert purged.returncode == 0, purged.stdout + purged.stderr
    assert len([key for key in s3.objects(prefix) if key.endswith(".dcm")]) == 1
    assert len(clients.retrieve_files(server, f"/studies/{kept}")) == 1
    assert verify(server)["problems"] == []


def test_an_object_without_a_row_is_indexed_and_a_foreign_one_moved_aside(
    s3: SeaweedFS, server: Server, prefix: str
) -> None:
    study = new_uid()
    server.stop()
    obstore.put(s3.store, f"{prefix}/stray.dcm", builders.ct(study, new_uid(), new_uid()))
    obstore.put(s3.store, f"{prefix}/foreign.txt", b"not DICOM")
    repaired = json.loads(server.pacs("verify", "--repair", "--json").stdout)
    assert repaired["faults"] == {"orphan": 1, "foreign": 1}
    assert repaired["unrepaired"] == 0
    assert (server.data / "orphans/foreign.txt").read_bytes() == b"not DICOM"
    assert set(s3.objects(prefix)) == {"stray.dcm"}
    server.start()
    assert len(clients.retrieve_files(server, f"/studies/{study}")) == 1


def test_a_kill_during_c_store_loses_nothing_acknowledged(server: Server, tmp_path: Path) -> None:
    study, series = new_uid(), new_uid()
    sent = {}
    for _ in range(150):
        uid = new_uid()
        sent[uid] = builders.ct(study, series, uid, rows=128, columns=128)
        (tmp_path / f"{uid}.dcm").write_bytes(sent[uid])
    names = [str(tmp_path / f"{uid}.dcm") for uid in sent]
    with (tmp_path / "sender.log").open("wb") as log:
        sender = subprocess.Popen(
            ["/usr/bin/storescu", "-v", "-aec", server.ae_title, "127.0.0.1", str(server.dimse_port), *names],
            env=dcmtk_environment(),
            stdout=log,
            stderr=log,
        )
        try:
            deadline = time.monotonic() + 60
            while (tmp_path / "sender.log").read_text().count("(Success)") < 20:
                assert time.monotonic() < deadline
                time.sleep(0.01)
            server.kill()
        finally:
            clients.kill_process(sender)
    acknowledged = (tmp_path / "sender.log").read_text().count("Received Store Response (Success)")
    assert 0 < acknowledged < len(sent)
    server.start()
    found = {clients.sop_uid_of(data): data for data in clients.retrieve_files(server, f"/studies/{study}")}
    for uid in list(sent)[:acknowledged]:
        assert clients.data_set_of(found[uid]) == clients.data_set_of(sent[uid])
    server.stop()
    repaired = json.loads(server.pacs("verify", "--repair", "--json").stdout)
    assert set(repaired["faults"]) <= {"orphan", "foreign", "leftover"}
    assert verify(server)["problems"] == []


def test_a_command_says_that_s3_is_away_and_shows_no_secret(s3: SeaweedFS, server: Server) -> None:
    wrong = {**s3.options, "endpoint": "http://127.0.0.1:1", "secret_access_key": "do-not-show"}
    options = ",".join(f"{name}={value}" for name, value in wrong.items())
    server.stop()
    server.env["DICOM_STORE_OPTIONS"] = options
    server.env["DICOM_STORE_TIMEOUT_S"] = "2"
    done = server.pacs("verify")
    assert done.returncode != 0
    assert "object store" in done.stdout + done.stderr
    assert "do-not-show" not in done.stdout + done.stderr
    assert "do-not-show" not in server.pacs("config").stdout


def test_another_store_than_the_index_s_is_refused_by_every_command(s3: SeaweedFS, server: Server, prefix: str) -> None:
    assert clients.stow(server, [builders.ct()]).status_code == 200
    server.stop()
    backup = str(server.folder / "backup")
    assert server.pacs("backup", backup).returncode == 0
    right = server.env["DICOM_STORE_URL"]
    for wrong in (s3.environment()["DICOM_STORE_URL"], ""):
        server.env["DICOM_STORE_URL"] = wrong
        commands = (
            ["serve"],
            ["verify", "--repair"],
            ["verify", "--repair", "--force"],
            ["reindex"],
            ["restore", backup],
        )
        for command in commands:
            done = server.pacs(*command)
            assert done.returncode == 2, (command, done.stdout, done.stderr)
            assert "this is not the store that the index belongs to" in done.stderr
            assert "Nothing was changed" in done.stderr
    server.env["DICOM_STORE_URL"] = right
    assert server.pacs("verify", "--repair").returncode == 0
    assert json.loads(server.pacs("restore", backup, "--json").stdout)["instances"] == 1
    assert len(s3.objects(prefix)) == 1
    server.env["DICOM_STORE_URL"] = s3.environment()["DICOM_STORE_URL"]
    assert server.pacs("reindex", "--force").returncode == 0
    assert server.pacs("verify").returncode == 0


def test_a_large_file_goes_up_and_comes_down_in_little_memory(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "large.dcm"
    builders.write_multiframe(path, LARGE_BYTES)
    before = server.rss_bytes()
    send(server, path)
    study = clients.value(clients.qido(server, "/studies")[0], "0020000D")
    size = 0
    url, accept = f"{server.dicomweb_url}/studies/{study}", {"Accept": clients.AS_STORED}
    with requests.get(url, headers=accept, stream=True, timeout=TIMEOUT_S) as answer:
        assert answer.status_code == 200
        for piece in answer.iter_content(1 << 20):
            size += len(piece)
    assert size > LARGE_BYTES
    assert server.peak_rss_bytes() - before < 150 << 20
    exported = server.pacs("export", "--study", study, str(tmp_path / "out"))
    assert exported.returncode == 0, exported.stderr
    (copy,) = (tmp_path / "out").rglob("*.dcm")
    with copy.open("rb") as one, path.open("rb") as other:
        one.seek(clients.data_set_offset(one.read(4096)))
        other.seek(clients.data_set_offset(other.read(4096)))
        assert hashlib.file_digest(one, "sha256").digest() == hashlib.file_digest(other, "sha256").digest()


def test_storage_commitment_is_about_what_lies_on_s3_not_about_copies(
    s3: SeaweedFS, server: Server, prefix: str
) -> None:
    sound, damaged, lost = (new_uid() for _ in range(3))
    for uid in (sound, damaged, lost):
        assert clients.stow(server, [builders.ct(sop_uid=uid)]).status_code == 200
        assert clients.qido(server, "/instances", {"SOPInstanceUID": uid})
    keys = {uid: next(key for key in s3.objects(prefix) if uid in key) for uid in (damaged, lost)}
    content = bytearray(s3.objects(prefix)[keys[damaged]])
    content[-1] ^= 1
    obstore.put(s3.store, f"{prefix}/{keys[damaged]}", bytes(content))
    obstore.delete(s3.store, f"{prefix}/{keys[lost]}")
    told = Told()
    with associated(server, told) as association:
        _, uid = ask(association, cts([sound, damaged, lost]))
        ((_, result),) = eventually(lambda: told.of(uid))
    assert committed_in(result) == [sound]
    assert failed_in(result) == {damaged: 0x0110, lost: 0x0110}
