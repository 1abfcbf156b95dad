"""Composition root: settings → index and blobs → services → adapters, started and stopped in order.

The only module that names a backend.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from pacs import store_options
from pacs.blobs.base import BlobStore
from pacs.blobs.cache import CachedBlobs
from pacs.blobs.filesystem import FilesystemBlobs
from pacs.dimse.peers import Peers
from pacs.dimse.server import DimseServer
from pacs.dimse.wire import Timeouts
from pacs.errors import Invalid, OutOfResources, PacsError
from pacs.imaging.pool import Pool
from pacs.index.base import Index
from pacs.index.sqlite import SqliteIndex
from pacs.index.sqlite_added import paths_in, setting_in
from pacs.index.sqlite_backup import check_index, copy_index, log_files, put_in_place, set_aside, unpack
from pacs.services import store_identity
from pacs.services.delete import Delete
from pacs.services.file_key import FileKeyPattern
from pacs.services.lock import ArchiveLock
from pacs.services.query import QueryService
from pacs.services.retrieve import Retrieve
from pacs.services.store import Store
from pacs.settings import Settings
from pacs.web.server import Limits, WebServer

log = logging.getLogger(__name__)

INDEX_FILE = "index.sqlite"
STOP_GRACE_S = 25.0


@dataclass
class Archive:
    """Index, blobs and services over one data folder, without any wire. Close it, or use it in a ``with``."""

    data_folder: Path
    index: Index
    blobs: BlobStore
    store: Store
    query: QueryService
    retrieve: Retrieve
    delete: Delete
    _resources: ExitStack

    @classmethod
    def open(cls, settings: Settings, *, exclusive: bool = False, cached: bool = False) -> Archive:
        """Open, or make, the archive in DICOM_STORE_ROOTPATH.

        exclusive: no other process may have it open (reindex). cached: keep copies of what is read from an object store
        (servers; not what has to see the store as it is). Raises PacsError when the folder cannot be used or is
        in use, when its index was made by a newer version, and when the store is not the index's.
        """
        folder = settings.dicom_store_rootpath
        with ExitStack() as opened:
            opened.enter_context(ArchiveLock(folder, exclusive=exclusive))
            blobs = _blobs(settings, cached=cached)
            opened.callback(blobs.close)
            index = SqliteIndex(folder / INDEX_FILE)
            opened.callback(index.close)
            store_identity.settle(index, blobs)
            pool = Pool(settings.imaging_workers, settings.imaging_queue, settings.imaging_timeout_s)
            opened.callback(pool.close)
            return cls(
                folder,
                index,
                blobs,
                Store(
                    index,
                    blobs,
                    FileKeyPattern(settings.dicom_store_filepath),
                    replace=settings.duplicates == "replace",
                    min_free_bytes=settings.min_free_bytes,
                    max_object_bytes=settings.max_instance_bytes or None,
                    max_inflated_bytes=settings.max_inflated_bytes,
                ),
                QueryService(index),
                Retrieve(index, blobs, pool, max_frame_pixels=settings.imaging_max_pixels),
                Delete(index, blobs),
                opened.pop_all(),
            )

    def close(self) -> None:
        self._resources.close()

    def __enter__(self) -> Archive:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@contextmanager
def rebuilding(settings: Settings, *, force: bool = False) -> Iterator[tuple[BlobStore, Index]]:
    """The store, and a new empty index that takes the old one's place when the block ends without an exception.

    Raises OutOfResources when another process has the archive open; Invalid when the old index was about another store,
    unless ``force``.
    """
    folder = settings.dicom_store_rootpath
    old, new = folder / INDEX_FILE, folder / f"{INDEX_FILE}.new"
    with ArchiveLock(folder, exclusive=True), closing(_blobs(settings)) as blobs:
        _remove_database(new)
        known, there = setting_in(old, store_identity.SETTING), blobs.identity()
        if known is not None and known != there and not force:
            raise store_identity.refusal(f"the old index is about store {known}, and this is {there or 'a new one'}")
        try:
            with closing(SqliteIndex(new)) as index:
                store_identity.settle(index, blobs)
                for path in paths_in(old):
                    index.add_index(path)
                    index.fill_index(path)  # complete at once: there is nothing yet
                yield blobs, index
            put_in_place(new, old)
        finally:
            _remove_database(new)


def backup_index(settings: Settings, destination: Path, progress: Callable[[int, int], None]) -> None:
    """Copy the index as it is now to a new file, beside running servers. Raises PacsError when that is not possible."""
    _needs_sqlite(settings)
    with ArchiveLock(settings.dicom_store_rootpath):
        copy_index(settings.dicom_store_rootpath / INDEX_FILE, destination, progress)


@contextmanager
def restoring(settings: Settings, backup: Path) -> Iterator[tuple[BlobStore, Index, Path | None]]:
    """Put an index from a backup in place; the store, the index, and where the one is that was there before.

    Raises OutOfResources when another process has the archive open, Corrupt when the backup is not whole or no index,
    Invalid when it is about another store; then nothing has changed.
    """
    _needs_sqlite(settings)
    folder = settings.dicom_store_rootpath
    place, new = folder / INDEX_FILE, folder / f"{INDEX_FILE}.restored"
    with ArchiveLock(folder, exclusive=True), closing(_blobs(settings)) as blobs:
        _remove_database(new)
        try:
            try:
                unpack(backup, new)
            except OSError as error:
                raise OutOfResources(f"the backup cannot be read: {error.strerror}") from error
            check_index(new)
            with closing(SqliteIndex(new)) as index:
                store_identity.settle(index, blobs)
            aside = set_aside(place)
            put_in_place(new, place)
        finally:
            _remove_database(new)
        with closing(SqliteIndex(place)) as index:
            yield blobs, index, aside


def serve(settings: Settings, on_ready: Callable[[Archive], None]) -> None:
    """Serve DIMSE and DICOMweb until SIGTERM or SIGINT, then finish what is under way.

    on_ready is called, in a thread, when both ports are open. Raises PacsError when folder or port cannot be used.
    """
    _remove_leftovers(settings.dicom_store_rootpath)
    with Archive.open(settings, cached=True) as archive:
        run = _loop_runner()
        run(_serve(settings, archive, on_ready))


async def _serve(settings: Settings, archive: Archive, on_ready: Callable[[Archive], None]) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    web = _web_server(settings, archive)
    dimse = _dimse_server(settings, archive) if settings.enable_dimse else None
    try:
        await web.start()
        if dimse is not None:
            await asyncio.to_thread(dimse.start)
        await asyncio.to_thread(on_ready, archive)
        await stop.wait()
        log.info("stopping: finishing what is under way")
    finally:
        # Both at once, so that the grace of one is not added to the other's.
        await asyncio.gather(
            web.stop(STOP_GRACE_S),
            *([asyncio.to_thread(dimse.stop, STOP_GRACE_S)] if dimse is not None else []),
        )


def _web_server(settings: Settings, archive: Archive) -> WebServer:
    return WebServer(
        archive.store,
        archive.query,
        archive.retrieve,
        counts=archive.index.counts,
        health=lambda: _problems(archive, settings.min_free_bytes),
        host=settings.server_host,
        port=settings.server_port,
        api_root=settings.dicomweb_api,
        dicomweb_host=settings.dicomweb_host,
        dicomweb_port=settings.dicomweb_port,
        limits=Limits(
            query_rows=settings.qido_default_limit,
            query_rows_max=settings.qido_max_limit,
            body_bytes=settings.stow_max_bytes or None,
            pixel_queue=settings.imaging_queue,
        ),
        cors_origins=settings.cors_allowed_origins,
        trusted_proxies=settings.trusted_proxies,
        retrieve_ae_title=settings.dimse_ae_title,
        delete=archive.delete if settings.allow_delete else None,
    )


def _dimse_server(settings: Settings, archive: Archive) -> DimseServer:
    return DimseServer(
        archive.store,
        archive.query,
        archive.retrieve,
        ae_title=settings.dimse_ae_title,
        host=settings.dimse_hostname,
        port=settings.dimse_port,
        peers=Peers(settings.dimse_ae_config),
        max_associations=settings.max_associations,
        max_pdu=settings.dimse_max_pdu,
        timeouts=Timeouts(
            associating_s=settings.dimse_acse_timeout_s,
            message_s=settings.dimse_message_timeout_s,
            idle_s=settings.dimse_idle_timeout_s or None,
        ),
        strict_called=settings.dimse_check_called_ae,
    )


def _problems(archive: Archive, min_free_bytes: int) -> list[str]:
    """What keeps the archive from serving; for the health check."""
    try:
        archive.index.counts()
        free = archive.blobs.free_bytes()
    except PacsError as error:
        return [str(error)]
    return ["the disk is full"] if free is not None and free < min_free_bytes else []


def _remove_leftovers(folder: Path) -> None:
    """Remove what killed processes left half-received: nothing in it was ever acknowledged."""
    try:
        # Alone, so that no file is one that another process is writing just now.
        with ArchiveLock(folder, exclusive=True):
            leftovers = list((folder / "incoming").glob("*"))
            for path in leftovers:
                path.unlink(missing_ok=True)
    except OutOfResources:
        return
    if leftovers:
        log.warning("removed %d half-received files of an earlier run", len(leftovers))


def _blobs(settings: Settings, *, cached: bool = False) -> BlobStore:
    folder = settings.dicom_store_rootpath
    if settings.dicom_store_url:
        try:
            # Here, not above: an archive of plain files does without it, and starts faster.
            from pacs.blobs.objectstore import ObjectStoreBlobs
        except ImportError as error:
            raise Invalid(
                "DICOM_STORE_URL is set, and obstore is not installed: pip install 'raccoon-pacs[s3]'",
                "DICOM_STORE_URL",
            ) from error
        blobs = ObjectStoreBlobs(
            settings.dicom_store_url,
            folder / "incoming",
            store_options.parse(settings.dicom_store_options.get_secret_value()),
            timeout_s=settings.dicom_store_timeout_s,
        )
        if not cached or not settings.dicom_store_cache_bytes:
            return blobs
        return CachedBlobs(
            blobs, folder / "cache", settings.dicom_store_cache_bytes, keep_free_bytes=settings.min_free_bytes
        )
    return FilesystemBlobs(folder / "files", folder / "incoming")


def _needs_sqlite(settings: Settings) -> None:
    if settings.mongodb_hosts:
        raise Invalid("the index is in MongoDB: back it up with mongodump, or with a snapshot", "MONGODB_HOSTS")


def _remove_database(database: Path) -> None:
    for path in (database, *log_files(database)):
        path.unlink(missing_ok=True)


def _loop_runner() -> Callable[[Coroutine[Any, Any, None]], None]:
    """uvloop where it is installed: it moves more bytes per second."""
    try:
        import uvloop
    except ImportError:
        return asyncio.run
    return uvloop.run
