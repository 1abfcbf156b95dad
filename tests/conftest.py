"""Fixtures that every room may use."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.seaweedfs import SeaweedFS
from tests.server import Server

StartArchive = Callable[..., Server]


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A running server, shared by the tests of one module: make UIDs of your own, and leave it running."""
    with Server(tmp_path_factory.mktemp("archive")) as server:
        yield server


@pytest.fixture
def fresh_archive(tmp_path: Path) -> Iterator[Server]:
    """A running, empty server for one test, which may stop, kill and restart it."""
    with Server(tmp_path / "archive") as server:
        yield server


@pytest.fixture
def start_archive(tmp_path: Path) -> Iterator[StartArchive]:
    """Start servers with settings of the test's own: ``start_archive({"DUPLICATES": "replace"}, ae_title="OTHER")``."""
    servers: list[Server] = []

    def start(env: dict[str, str] | None = None, *, ae_title: str = "DCMQRSCP", args: tuple[str, ...] = ()) -> Server:
        server = Server(tmp_path / f"archive{len(servers)}", env, ae_title=ae_title, args=args)
        servers.append(server)
        return server.start()

    yield start
    for server in servers:
        server.stop()


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SeaweedFS]:
    """A running S3 server, shared by all tests: take a prefix of your own (``s3.new_prefix``), and leave it running."""
    with SeaweedFS(tmp_path_factory.mktemp("s3")) as server:
        yield server
