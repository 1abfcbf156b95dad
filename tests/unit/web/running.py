"""The web server over real services in this process, for tests that set its options or look into it."""

from __future__ import annotations

import asyncio
import threading
from datetime import UTC
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from uuid import UUID

from pacs.blobs.filesystem import FilesystemBlobs
from pacs.imaging.pool import Pool
from pacs.index.sqlite import SqliteIndex
from pacs.services.delete import Delete
from pacs.services.fhir_archive import FhirArchive
from pacs.services.fhir_values import Namespaces
from pacs.services.file_key import FileKeyPattern
from pacs.services.labels import Labels
from pacs.services.procedures import Procedures
from pacs.services.query import QueryService
from pacs.services.retrieve import Retrieve
from pacs.services.store import Store
from pacs.services.ups import ProcedureSteps
from pacs.services.ups_subscriptions import Subscriptions
from pacs.web import fhir, fhir_convert, labels, performed, ups, worklist
from pacs.web.server import WebServer

KEY_PATTERN = "{0020000D,hash}/{0020000E,hash}/{00080018}"


class RunningArchive:
    """Index, blobs, services and a WebServer with these options, its loop in a thread; a context manager."""

    def __init__(self, folder: Path, *, store: dict[str, Any] | None = None, **options: Any) -> None:
        self.incoming = folder / "incoming"
        self.blobs = FilesystemBlobs(folder / "files", self.incoming)
        self.index = SqliteIndex(folder / "index.sqlite")
        self.pool = Pool(2, 64, 60.0)
        self.store = Store(self.index, self.blobs, FileKeyPattern(KEY_PATTERN), **(store or {}))
        self.query = QueryService(self.index)
        self.retrieve = Retrieve(self.index, self.blobs, self.pool)
        self.delete = Delete(self.index, self.blobs)
        self.procedures = Procedures.over(self.index)
        self.fhir = FhirArchive(self.query, Namespaces(UUID(int=0)), zone=UTC)
        self.steps = ProcedureSteps(self.index.work, Subscriptions(self.index.work))
        self.server = WebServer(
            self.store,
            self.query,
            self.retrieve,
            **{
                "port": 0,
                "counts": self.index.counts,
                "delete": self.delete,
                "additions": [
                    worklist.addition(self.procedures.worklist, 100, 5000),
                    performed.addition(self.procedures, 100, 5000),
                    fhir.addition(self.fhir),
                    fhir_convert.addition(self.fhir, self.store, max_body_bytes=None),
                    ups.addition(self.steps, 100, 5000),
                    labels.addition(Labels(self.index.work), self.query),
                ],
                **options,
            },
        )
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    @property
    def root_url(self) -> str:
        return f"http://127.0.0.1:{self.server.port}"

    @property
    def dicomweb_url(self) -> str:
        return f"{self.root_url}/dicom-web"

    def run(self, coroutine: Any) -> Any:
        """Run in the server's loop and wait."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(60)

    def __enter__(self) -> Self:
        self._thread.start()
        try:
            self.run(self.server.start())
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.run(self.server.stop(5))
        self._close()

    def _close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self.pool.close()
        self.index.close()
        self.blobs.close()
