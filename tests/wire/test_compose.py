"""docker-compose.cluster.yaml: nodes start from its environment, and its parts know each other by the same names."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml

from bench.corpus import Slice, Template, study_uid
from pacs import settings
from pacs.mongo_settings import mongo_uri
from scripts.local_cluster import balancer
from scripts.local_cluster.process import free_port
from tests.server import PROJECT, Server, dcmtk
from tests.wire import clients
from tests.wire.test_nodes import replica_set

COMPOSE = yaml.safe_load((PROJECT / "docker-compose.cluster.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
NODES = [name for name, service in SERVICES.items() if service.get("build")]
NGINX_CONF = (PROJECT / "config" / "nginx.conf").read_text()


def environment(node: str, shell: Mapping[str, str] | None = None) -> dict[str, str]:
    """As Compose would pass it on, with the variables of a shell put in."""
    given = SERVICES[node]["environment"]
    return {
        name: re.sub(r"\$\{(\w+):-(.*?)\}", lambda found: (shell or {}).get(found[1], found[2]), str(value))
        for name, value in given.items()
    }


def test_there_are_two_nodes_with_one_environment_and_one_store() -> None:
    assert NODES == ["pacs1", "pacs2"]
    for name in ("environment", "volumes"):
        assert SERVICES["pacs1"][name] == SERVICES["pacs2"][name]
    named = {volume.partition(":")[0] for node in NODES for volume in SERVICES[node]["volumes"]}
    assert named - {"./config/ae.properties"} <= set(COMPOSE["volumes"])


def test_every_variable_is_a_setting(tmp_path: Path) -> None:
    known = {*settings.names(), "DICOM_STORE_URL", "DICOM_STORE_OPTIONS"}
    assert set(environment("pacs1")) <= known

    values = settings.load(environment={"PACS_HOME": str(tmp_path), **environment("pacs1")}).settings

    assert mongo_uri(values) == "mongodb://mongo:27017/?replicaSet=rs0"


def test_the_replica_set_is_initiated_under_the_name_that_the_nodes_use() -> None:
    mongo = SERVICES["mongo"]
    script = mongo["healthcheck"]["test"][-1]
    assert mongo["command"][:3] == ["mongod", "--replSet", "rs0"]
    assert '_id: "rs0"' in script
    assert 'host: "mongo:27017"' in script
    assert all(SERVICES[node]["depends_on"]["mongo"]["condition"] == "service_healthy" for node in NODES)


def test_nginx_passes_both_ports_on_to_all_nodes() -> None:
    for port in (8081, 11112):
        assert re.findall(rf"server (\w+):{port};", NGINX_CONF) == NODES
        assert f"127.0.0.1:{port}:{port}" in SERVICES["balancer"]["ports"]
        assert f"listen {port};" in NGINX_CONF
    assert "./config/nginx.conf:/etc/nginx/nginx.conf:ro" in SERVICES["balancer"]["volumes"]


def test_the_s3_store_starts_on_demand_only() -> None:
    assert SERVICES["s3"]["profiles"] == ["s3"]
    assert SERVICES["pacs1"]["depends_on"]["s3"]["required"] is False
    head = (PROJECT / "docker-compose.cluster.yaml").read_text()
    assert "endpoint=http://s3:8333" in head


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Server]]:
    """Started from its environment; only addresses and paths are other ones."""
    folder = tmp_path_factory.mktemp("compose")
    with replica_set(folder / "mongo") as mongo:
        here = {name: mongo.settings("x")[name] for name in ("MONGODB_HOSTS", "MONGODB_PORTS")}
        here["DICOM_STORE_ROOTPATH"] = str(folder / "data")
        first, second = (Server(folder / node, {**environment(node), **here}) for node in NODES)
        with first, second:
            assert clients.stow(first, [Template(64).stamp(Slice(1, 1, 1))]).status_code == 200
            yield [first, second]


def test_nodes_start_from_its_environment_and_share_everything(nodes: list[Server]) -> None:
    for node in nodes:
        assert len(clients.retrieve_files(node, f"/studies/{study_uid(1)}")) == 1


def test_nginx_as_configured_balances_both_protocols(nodes: list[Server], tmp_path: Path) -> None:
    nginx = balancer.find_nginx()
    if isinstance(nginx, str):
        pytest.skip(f"BALANCER NOT TESTED: {nginx}")
    http, dimse = free_port(), free_port()
    inner = [node.http_port for node in nodes], [node.dimse_port for node in nodes]
    text = balancer.configuration(nginx, tmp_path, http, dimse, *inner)
    process = balancer.start(nginx, tmp_path, text, http)
    url = f"http://127.0.0.1:{http}/dicom-web/studies"
    try:
        rows = [requests.get(url, timeout=60).json() for _ in range(4)]
        # Addresses in answers are the balancer's: the nodes believe it.
        assert {row[0]["00081190"]["Value"][0].split("/")[2] for row in rows} == {f"127.0.0.1:{http}"}
        assert all(dcmtk("echoscu", "127.0.0.1", str(dimse)).returncode == 0 for _ in range(4))
        for node in nodes:
            assert "path=/dicom-web/studies keys= " in node.log()
            assert "echoed" in node.log()
        nodes[0].kill()
        assert all(requests.get(url, timeout=60).ok for _ in range(4))
        assert all(dcmtk("echoscu", "127.0.0.1", str(dimse)).returncode == 0 for _ in range(4))
    finally:
        process.stop()
        nodes[0].start()


def test_docker_itself_understands_the_file() -> None:
    docker = shutil.which("docker")
    if docker is None or subprocess.run([docker, "compose", "version"], capture_output=True, check=False).returncode:
        pytest.skip("COMPOSE FILE NOT CHECKED BY DOCKER: there is no docker compose")
    command = [docker, "compose", "-f", str(PROJECT / "docker-compose.cluster.yaml"), "config", "--quiet"]
    assert subprocess.run(command, check=False).returncode == 0
