"""Other archives from the command line: Orthanc and DCMTK's storescp are asked, emptied and filled."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import pydicom
import pytest
import requests

from tests import builders
from tests.clients.needs import needs
from tests.clients.orthanc import Orthanc
from tests.server import Server, dcmtk_environment, free_port

pytestmark = needs("orthanc", "dcmtk")

STUDY, SERIES = "1.2.826.0.1.3680043.10.1462.77", "1.2.826.0.1.3680043.10.1462.78"
INSTANCES = 5


@dataclass(frozen=True)
class Two:
    """Orthanc with a study of two series and one of a compressed image, and a running archive that is empty at first.

    files: of the first study, by SOP Instance UID.
    """

    orthanc: Orthanc
    server: Server
    files: dict[str, bytes]
    compressed_study: str

    @property
    def peer(self) -> str:
        return f"ORTHANC@127.0.0.1:{self.orthanc.dimse_port}"


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Two]:
    folder = tmp_path_factory.mktemp("peers")
    files = {
        f"{SERIES}.{series}.{number}": builders.ct(
            STUDY,
            f"{SERIES}.{series}",
            f"{SERIES}.{series}.{number}",
            PatientName="Name^Other",
            PatientID="P77",
            InstanceNumber=number,
        )
        for series in (1, 2)
        for number in range(1, INSTANCES + 1)
    }
    compressed = next(path for path, _ in builders.real_files() if path.name == "JPEG2000.dcm").read_bytes()
    with Server(folder / "archive") as server:
        modalities = {server.ae_title: server.dimse_port}
        with Orthanc(folder / "orthanc", "http://127.0.0.1:1/", modalities) as orthanc:
            for data in (*files.values(), compressed):
                assert orthanc.upload(data)
            server.add_peer("ORTHANC", orthanc.dimse_port)
            server.add_peer("NOBODY", free_port())
            yield Two(orthanc, server, files, str(read(compressed).StudyInstanceUID))


def read(data: bytes) -> pydicom.Dataset:
    return pydicom.dcmread(BytesIO(data), stop_before_pixels=True)


def ask(two: Two, *arguments: str, code: int = 0) -> Any:
    done = two.server.pacs(*arguments, "--json")
    assert done.returncode == code, done.stdout + done.stderr
    return json.loads(done.stdout)


def stored(server: Server) -> dict[str, bytes]:
    """Data sets by SOP Instance UID."""
    files = [path.read_bytes() for path in server.files()]
    return {str(read(data).SOPInstanceUID): builders.data_set_of(data) for data in files}


def emptied(server: Server, study_uid: str) -> None:
    requests.delete(f"{server.dicomweb_url}/studies/{study_uid}", timeout=60)
    assert server.pacs("purge").returncode == 0


def test_echo_tells_who_is_there(two: Two) -> None:
    assert ask(two, "echo", "ORTHANC")["ORTHANC"]["is_there"] is True
    done = two.server.pacs("echo", two.peer, "NOBODY")
    assert done.returncode == 1
    first, second = done.stdout.splitlines()
    assert first.startswith(f"{two.peer}: ok, ")
    assert second.startswith("NOBODY: NOBODY cannot be reached: ")

    done = two.server.pacs("echo", "STRANGER")
    assert done.returncode == 2
    assert "NOBODY, ORTHANC" in done.stderr
    assert two.server.pacs("echo", "A@B").returncode == 2


def test_peers_are_listed_with_their_answers(two: Two) -> None:
    listed = {peer["ae_title"]: peer for peer in ask(two, "peers", "--echo", code=1)}
    assert listed["ORTHANC"]["is_there"] is True
    assert listed["NOBODY"]["is_there"] is False
    first, second = ask(two, "peers")
    assert (first["ae_title"], first["host"], first["port"]) == ("ORTHANC", "127.0.0.1", two.orthanc.dimse_port)
    assert (first["tls"], first["services"]) == (False, None)
    assert (second["ae_title"], "is_there" in second) == ("NOBODY", False)


def test_find_gives_what_orthanc_has(two: Two) -> None:
    (study,) = ask(two, "find", "ORTHANC", "-k", "PatientName=n*", "-k", "StudyTime")
    assert study["0020000D"]["Value"] == [STUDY]
    assert study["00100010"]["Value"] == [{"Alphabetic": "Name^Other"}]
    assert "00080030" in study
    series = ask(two, "find", "ORTHANC", "--level", "series", "-k", f"StudyInstanceUID={STUDY}")
    assert sorted(each["0020000E"]["Value"][0] for each in series) == [f"{SERIES}.1", f"{SERIES}.2"]
    images = ask(
        two,
        "find",
        two.peer,
        "--level",
        "image",
        "-k",
        f"StudyInstanceUID={STUDY}",
        "-k",
        f"SeriesInstanceUID={SERIES}.1",
    )
    assert sorted(each["00200013"]["Value"][0] for each in images) == list(range(1, INSTANCES + 1))
    assert ask(two, "find", "ORTHANC", "-k", "PatientID=nobody") == []

    table = two.server.pacs("find", "ORTHANC", "-k", "PatientID=P77")
    assert "Name" in table.stdout
    assert table.stdout.splitlines()[-1] == "1 answer."


def test_find_stops_at_its_limit_and_says_what_it_cannot_ask(two: Two) -> None:
    limited = ask(two, "find", "ORTHANC", "--limit", "1", "--level", "series", "-k", f"StudyInstanceUID={STUDY}")
    assert len(limited) == 1
    assert two.server.pacs("find", "ORTHANC", "-k", "NoSuchKeyword=1").returncode == 2
    nobody = two.server.pacs("find", "NOBODY")
    assert nobody.returncode == 1
    assert "cannot be reached" in nobody.stderr


def test_get_fetches_a_study_a_series_an_instance_byte_for_byte(two: Two) -> None:
    uid = f"{SERIES}.1.3"
    one = ["--study", STUDY, "--series", f"{SERIES}.1", "--instance", uid]
    assert ask(two, "get", "ORTHANC", *one) == {"completed": 1, "warnings": 0, "failed": 0}
    assert stored(two.server) == {uid: builders.data_set_of(two.files[uid])}
    assert ask(two, "get", "ORTHANC", "--study", STUDY, "--series", f"{SERIES}.1")["completed"] == INSTANCES
    assert len(stored(two.server)) == INSTANCES
    assert ask(two, "get", two.peer, "--study", STUDY)["completed"] == 2 * INSTANCES
    assert stored(two.server) == {uid: builders.data_set_of(data) for uid, data in two.files.items()}
    assert ask(two, "get", two.peer, "--study", two.compressed_study)["completed"] == 1
    assert len(stored(two.server)) == 2 * INSTANCES + 1
    assert two.server.pacs("verify").returncode == 0

    nothing = two.server.pacs("get", "ORTHANC", "--study", "1.2.3")
    assert nothing.returncode == 3
    assert "has nothing of that" in nothing.stderr
    assert two.server.pacs("get", "ORTHANC", "--study", STUDY, "--instance", uid).returncode == 2


def test_move_brings_a_study_here(two: Two) -> None:
    emptied(two.server, STUDY)
    assert not set(two.files) & set(stored(two.server))
    moved = two.server.pacs("move", "ORTHANC", "--study", STUDY)
    assert (moved.returncode, moved.stdout) == (0, f"Moved {2 * INSTANCES} instances.\n"), moved.stderr
    assert set(two.files) <= set(stored(two.server))

    refused = two.server.pacs("move", "ORTHANC", "--study", STUDY, "--to", "ELSEWHERE")
    assert refused.returncode == 1
    assert "ORTHANC answered" in refused.stderr


def test_send_gives_orthanc_what_it_does_not_have(two: Two, tmp_path: Path) -> None:
    study, series = "1.2.826.0.1.3680043.10.1462.79", "1.2.826.0.1.3680043.10.1462.80"
    for number in range(1, 4):
        (tmp_path / f"{number}.dcm").write_bytes(builders.ct(study, series, f"{series}.{number}"))
    assert two.server.pacs("import", str(tmp_path)).returncode == 0
    before = set(two.orthanc.instances())
    sent = two.server.pacs("send", "ORTHANC", "--study", study)
    assert (sent.returncode, sent.stdout) == (0, "Sent 3 instances.\n"), sent.stderr
    arrived = {builders.data_set_of(two.orthanc.file(name)) for name in set(two.orthanc.instances()) - before}
    assert arrived == {builders.data_set_of(path.read_bytes()) for path in tmp_path.iterdir()}

    lost = two.server.pacs("send", "NOBODY", "--study", study, "--series", series)
    assert lost.returncode == 1
    assert lost.stderr.count("cannot be reached") == 3
    assert two.server.pacs("send", "ORTHANC", "--study", "1.2.3").returncode == 3


def test_a_peer_that_rejects_says_why(two: Two) -> None:
    port = free_port()
    process = subprocess.Popen(
        ["/usr/bin/storescp", "--refuse", str(port)],
        env=dcmtk_environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        time.sleep(0.5)
        refused = two.server.pacs("echo", f"ANY@127.0.0.1:{port}")
    finally:
        process.kill()
        process.wait()
    assert refused.returncode == 1
    assert "rejected the association" in refused.stdout
