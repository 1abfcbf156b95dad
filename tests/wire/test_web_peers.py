"""Peers over HTTP: listed without secrets, asked by C-ECHO, and only where administration is allowed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import requests
from openapi_spec_validator import OpenAPIV31SpecValidator

from pacs.dimse.peers import Peers
from pacs.dimse.wire import Timeouts
from pacs.peering import PeerDirectory
from pacs.settings import load
from pacs.web.peers import addition
from tests.server import free_port
from tests.unit.dimse.archive import DimseArchive, dimse_archive
from tests.unit.web.running import RunningArchive

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DimseArchive]:
    with dimse_archive(tmp_path_factory.mktemp("other")) as archive:
        yield archive


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory, other: DimseArchive) -> Iterator[RunningArchive]:
    folder = tmp_path_factory.mktemp("web")
    (folder / "ae.properties").write_text(f"NOBODY=127.0.0.1:{free_port()}\n")
    (folder / "peers.toml").write_text(
        f'[peers.THERE]\nhost = "127.0.0.1"\nport = {other.port}\nuser = {{ name = "us", passcode = "secret" }}\n'
        '[peers."ONLY CALLS"]\nservices = ["store"]\naddresses = ["10.0.0.0/8"]\n'
    )
    peers = Peers(folder / "ae.properties", toml_path=folder / "peers.toml")
    directory = PeerDirectory(peers, "ARCHIVE", Timeouts(5, 5))
    with RunningArchive(folder, additions=[addition(directory)]) as running:
        yield running


def echo(web: RunningArchive, name: str) -> requests.Response:
    return requests.post(f"{web.dicomweb_url}/peers/{name}/echo", timeout=60)


def test_the_document_describes_them(web: RunningArchive) -> None:
    document = requests.get(f"{web.dicomweb_url}/openapi.json", timeout=60).json()
    assert list(OpenAPIV31SpecValidator(document).iter_errors()) == []
    assert set(document["paths"]["/dicom-web/peers/{ae}/echo"]["post"]["responses"]) >= {"200", "404"}
    assert "get" in document["paths"]["/dicom-web/peers"]


def test_peers_are_listed_without_secrets(web: RunningArchive) -> None:
    response = requests.get(f"{web.dicomweb_url}/peers", timeout=60)
    assert response.headers["Content-Type"] == "application/json"
    assert "secret" not in response.text
    peers = {peer["ae_title"]: peer for peer in response.json()}
    assert list(peers) == ["NOBODY", "ONLY CALLS", "THERE"]
    assert peers["THERE"]["user"] == "us"
    assert peers["ONLY CALLS"]["services"] == ["store"]
    assert peers["ONLY CALLS"]["addresses"] == ["10.0.0.0/8"]
    assert peers["ONLY CALLS"]["host"] is None


def test_an_echo_says_whether_the_peer_is_there(web: RunningArchive) -> None:
    there = echo(web, "THERE").json()
    assert there["is_there"] is True
    assert there["ms"] >= 0
    nobody = echo(web, "NOBODY")
    assert nobody.status_code == 200
    assert nobody.json()["is_there"] is False
    assert "cannot be reached" in nobody.json()["reason"]


@pytest.mark.parametrize("name", ["STRANGER", "ONLY%20CALLS", "%2A"])
def test_who_is_not_known_or_cannot_be_reached_is_not_found(web: RunningArchive, name: str) -> None:
    response = echo(web, name)
    assert response.status_code == 404
    assert response.headers["Content-Type"] == "application/problem+json"


def test_nothing_is_told_where_administration_is_not_allowed(tmp_path_factory: pytest.TempPathFactory) -> None:
    with RunningArchive(tmp_path_factory.mktemp("without"), additions=[addition(None)]) as web:
        for response in (requests.get(f"{web.dicomweb_url}/peers", timeout=60), echo(web, "THERE")):
            assert response.status_code == 403
            assert "ADMIN_API" in response.json()["detail"]
        assert "peers" not in requests.get(f"{web.dicomweb_url}/openapi.json", timeout=60).text


@pytest.mark.parametrize(
    ("host", "setting", "is_allowed"),
    [
        ("127.0.0.1", "loopback", True),
        ("localhost", "loopback", True),
        ("::1", "loopback", True),
        ("0.0.0.0", "loopback", False),  # noqa: S104
        ("pacs.example", "loopback", False),
        ("127.evil.example", "loopback", False),
        ("0.0.0.0", "true", True),  # noqa: S104
        ("127.0.0.1", "false", False),
    ],
)
def test_administration_is_for_this_machine_unless_the_setting_says_otherwise(tmp_path, host, setting, is_allowed):
    environment = {"PACS_HOME": str(tmp_path), "SERVER_HOST": host, "ADMIN_API": setting}
    assert load(environment=environment).settings.is_admin_api is is_allowed
