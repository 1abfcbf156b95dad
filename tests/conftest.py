"""Fixtures that every room may use."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pynetdicom._config
import pytest

from tests.mongod import replica_set
from tests.seaweedfs import SeaweedFS
from tests.server import Server

# Its description of every message costs the tests time, and fails over an N-GET of one attribute. While that traceback
# is logged, pynetdicom's reactor can take the answer away from who waits for it.
pynetdicom._config.LOG_HANDLER_LEVEL = "none"

StartArchive = Callable[..., Server]
Backend = Callable[[], dict[str, str]]
# Modules whose tests run a second time, on MongoDB and S3.
_ON_BOTH = frozenset(
    f"tests.wire.test_{name}"
    for name in (
        *("dimse_store", "dimse_find", "dimse_retrieve", "concurrency", "trash", "scope_table"),
        *("web_qido", "web_stow", "web_wado", "semantics_qido", "semantics_stow", "semantics_wado"),
    )
)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "backend" in metafunc.fixturenames and metafunc.module.__name__ in _ON_BOTH:
        metafunc.parametrize("backend", ["embedded", "mongo+s3"], indirect=True, scope="module")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """In several processes, files with slow tests come first: none is left over when the other process is done."""
    if hasattr(config, "workerinput"):
        slow = {item.path for item in items if item.get_closest_marker("slow")}
        items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(autouse=True)
def root_logger() -> Iterator[logging.Logger]:
    """Handlers and level of the log are the next test's as they were: commands that run in this process set them."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield root
    for handler in list(root.handlers):
        root.removeHandler(handler)
    for handler in handlers:
        root.addHandler(handler)
    root.setLevel(level)
    logging.captureWarnings(False)


@pytest.fixture(scope="module")
def backend(request: pytest.FixtureRequest) -> Backend:
    """Settings of one more archive on what this run of the test is about: SQLite and files, or MongoDB and S3."""
    if getattr(request, "param", "embedded") == "embedded":
        return dict
    s3: SeaweedFS = request.getfixturevalue("s3")
    uri = urlsplit(request.getfixturevalue("mongod"))

    def settings() -> dict[str, str]:
        mongo = {
            "MONGODB_HOSTS": f'["{uri.hostname}"]',
            "MONGODB_PORTS": f"[{uri.port}]",
            "MONGODB_NAME": f"pacs-{secrets.token_hex(6)}",
            "MONGODB_OPTIONS": uri.query,
        }
        return {**mongo, **s3.environment()}

    return settings


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory, backend: Backend) -> Iterator[Server]:
    """A running server, shared by the tests of one module: make UIDs of your own, and leave it running."""
    with Server(tmp_path_factory.mktemp("archive"), backend()) as server:
        yield server


@pytest.fixture
def fresh_archive(tmp_path: Path, backend: Backend) -> Iterator[Server]:
    """A running, empty server for one test, which may stop, kill and restart it."""
    with Server(tmp_path / "archive", backend()) as server:
        yield server


@pytest.fixture
def start_archive(tmp_path: Path, backend: Backend) -> Iterator[StartArchive]:
    """Start servers with settings of the test's own: ``start_archive({"DUPLICATES": "replace"}, ae_title="OTHER")``."""
    servers: list[Server] = []

    def start(env: dict[str, str] | None = None, *, ae_title: str = "DCMQRSCP", args: tuple[str, ...] = ()) -> Server:
        settings = {**backend(), **(env or {})}
        server = Server(tmp_path / f"archive{len(servers)}", settings, ae_title=ae_title, args=args)
        servers.append(server)
        return server.start()

    yield start
    for server in servers:
        server.stop()


@pytest.fixture(scope="session")
def mongod() -> Iterator[str]:
    """The URL of a running MongoDB, shared by all tests of this process: take a database of your own."""
    with replica_set() as uri:
        yield uri


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SeaweedFS]:
    """A running S3 server, shared by all tests of this process: leave it running.

    Take a prefix of your own (``s3.new_prefix``).
    """
    with SeaweedFS(tmp_path_factory.mktemp("s3")) as server:
        yield server
