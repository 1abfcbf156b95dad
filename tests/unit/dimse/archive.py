"""A whole archive in this process, with a DIMSE server on a free port, for tests of the wire."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pacs.blobs.filesystem import FilesystemBlobs
from pacs.dicom.model import Caller, StoredInstance, Target
from pacs.dimse.peers import Peers
from pacs.dimse.server import DimseServer
from pacs.dimse.tls import Files
from pacs.imaging.pool import Pool
from pacs.index.sqlite import SqliteIndex
from pacs.services.file_key import FileKeyPattern
from pacs.services.query import QueryService
from pacs.services.retrieve import Retrieve
from pacs.services.store import Store

CALLER = Caller("TEST", "127.0.0.1", "test")


@dataclass
class DimseArchive:
    folder: Path
    index: SqliteIndex
    blobs: FilesystemBlobs
    store: Store
    retrieve: Retrieve
    server: DimseServer
    peers_path: Path
    peers: Peers

    @property
    def port(self) -> int:
        assert self.server.port is not None
        return self.server.port

    def write_peers(self, text: str) -> None:
        """Write peers.toml; it is read at the next association."""
        (self.folder / "peers.toml").write_text(text)

    def put(self, file: bytes) -> StoredInstance:
        """Store a Part 10 file past the wire."""
        with self.store.spool() as spool:
            spool.write(file)
            return self.store.store(spool, CALLER).instance

    def instances(self) -> list[StoredInstance]:
        return list(self.index.stored())

    def data_set(self, instance: StoredInstance) -> bytes:
        """The stored bytes behind the file meta information."""
        return self.blobs.read(instance.blob)[instance.data_set_offset :]

    def holds(self, study_uid: str) -> int:
        """How many instances of a study are there."""
        return len(self.index.locate(Target(study_uid)))

    def incoming(self) -> list[Path]:
        return list(self.blobs.incoming().iterdir())

    def eventually_nothing_incoming(self, within_s: float = 60) -> bool:
        """Whether no received file is left once all peers, who have gone already, are known to be gone."""
        deadline = time.monotonic() + within_s
        while (self.server._connections or self.incoming()) and time.monotonic() < deadline:
            time.sleep(0.02)
        return not self.incoming()


@contextlib.contextmanager
def dimse_archive(folder: Path, files: Files | None = None, **options: Any) -> Iterator[DimseArchive]:
    """files: of TLS with peers. options: of DimseServer."""
    folder.mkdir(parents=True, exist_ok=True)
    peers_path = folder / "ae.properties"
    peers_path.touch()
    with contextlib.ExitStack() as stack:
        blobs = FilesystemBlobs(folder / "files", folder / "incoming")
        stack.callback(blobs.close)
        index = SqliteIndex(folder / "index.sqlite")
        stack.callback(index.close)
        pool = Pool(1, 100, 60)
        stack.callback(pool.close)
        store = Store(index, blobs, FileKeyPattern("{0020000D,hash}/{00080018,hash}"))
        retrieve = Retrieve(index, blobs, pool)
        peers = Peers(peers_path, files, folder / "peers.toml")
        server = DimseServer(
            store,
            QueryService(index),
            retrieve,
            ae_title="ARCHIVE",
            host="127.0.0.1",
            **{"port": 0, "peers": peers, **options},
        )
        server.start()
        stack.callback(server.stop, 5)
        yield DimseArchive(folder, index, blobs, store, retrieve, server, peers_path, peers)
