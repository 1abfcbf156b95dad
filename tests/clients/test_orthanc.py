"""Orthanc's DICOMweb plugin as a client of this archive: what it sends arrives, what it fetches is the same."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.clients import wheel
from tests.clients.needs import needs
from tests.clients.orthanc import Orthanc
from tests.server import Server
from tests.wire.clients import data_set_of, qido, retrieve_files, sop_uid_of, value

pytestmark = needs("orthanc", "orthanc-dicomweb")


@dataclass(frozen=True)
class Sent:
    """An Orthanc, and the files that it has sent to an archive, by SOP Instance UID."""

    server: Server
    orthanc: Orthanc
    files: dict[str, bytes]


@pytest.fixture(scope="module")
def sent(archive: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sent]:
    with Orthanc(tmp_path_factory.mktemp("orthanc") / "first", archive.dicomweb_url) as orthanc:
        files = {file.sop_uid: file.data for file in wheel.files() if orthanc.upload(file.data)}
        # Orthanc fails the job unless each instance is named in the answer.
        orthanc.ask_server("stow", Resources=orthanc.instances(), Synchronous=True)
        yield Sent(archive, orthanc, files)


def test_what_it_stores_arrives_byte_by_byte(sent: Sent) -> None:
    # It cannot read one: implicit VR that says explicit.
    assert [file.name for file in wheel.files() if file.sop_uid not in sent.files] == ["test_files/SC_rgb_jpeg.dcm"]
    rows = {value(row, "00080018"): row for row in qido(sent.server, "/instances")}
    assert rows.keys() == sent.files.keys()
    for sop_uid, row in rows.items():
        path = f"/studies/{value(row, '0020000D')}/series/{value(row, '0020000E')}/instances/{sop_uid}"
        (found,) = retrieve_files(sent.server, path)
        assert data_set_of(found) == data_set_of(sent.files[sop_uid])


def test_what_it_stores_again_is_a_success(sent: Sent) -> None:
    sent.orthanc.ask_server("stow", Resources=sent.orthanc.instances(), Synchronous=True)


@pytest.mark.parametrize(("level", "uid"), [("studies", "0020000D"), ("series", "0020000E"), ("instances", "00080018")])
def test_its_queries_are_answered(sent: Sent, level: str, uid: str) -> None:
    ours = qido(sent.server, f"/{level}")
    theirs = sent.orthanc.ask_server("qido", Uri=f"/{level}", Arguments={"limit": "5000"})
    assert {row[uid]["Value"] for row in theirs} == {value(row, uid) for row in ours}
    (found,) = sent.orthanc.ask_server("qido", Uri=f"/{level}", Arguments={uid: theirs[0][uid]["Value"]})
    assert found == theirs[0]
    # Not asked: what matches nothing. Plugin 1.7 takes the standard's 204 for broken JSON.


def test_names_in_other_scripts_reach_it(sent: Sent) -> None:
    for keys in ({"PatientID": "SCSARAB"}, {"PatientName": "قباني*"}):
        (found,) = sent.orthanc.ask_server("qido", Uri="/studies", Arguments=keys)
        assert found["00100010"]["Value"] == "قباني^لنزار"


def test_what_it_fetches_is_what_is_stored(sent: Sent, tmp_path: Path) -> None:
    with Orthanc(tmp_path / "second", sent.server.dicomweb_url) as second:
        studies = [{"Study": value(row, "0020000D")} for row in qido(sent.server, "/studies")]
        second.ask_server("retrieve", Resources=studies, Synchronous=True)
        fetched = {sop_uid_of(file): file for file in map(second.file, second.instances())}
    assert fetched.keys() == sent.files.keys()
    for sop_uid, file in fetched.items():
        assert data_set_of(file) == data_set_of(sent.files[sop_uid]), sop_uid


def test_it_fetches_series_and_instances(sent: Sent, tmp_path: Path) -> None:
    series, *_ = qido(sent.server, "/series")
    instance, *_ = qido(sent.server, "/instances", {"Modality": "US"})
    with Orthanc(tmp_path / "third", sent.server.dicomweb_url) as third:
        wanted = [
            {"Study": value(series, "0020000D"), "Series": value(series, "0020000E")},
            {
                "Study": value(instance, "0020000D"),
                "Series": value(instance, "0020000E"),
                "Instance": value(instance, "00080018"),
            },
        ]
        third.ask_server("retrieve", Resources=wanted, Synchronous=True)
        assert len(third.instances()) == value(series, "00201209") + 1


def test_nothing_that_it_asked_was_refused(sent: Sent) -> None:
    """Runs last in this module."""
    assert re.findall(r"^.* http method=.* status=[45]\d\d .*$", sent.server.log(), re.MULTILINE) == []
