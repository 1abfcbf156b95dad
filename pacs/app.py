"""Composition root: settings → index and blobs → services → adapters, started and stopped in order."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import logging
import signal
import socket
from collections.abc import Callable, Coroutine
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

from pacs.backends import open_blobs, open_index
from pacs.blobs.base import BlobStore
from pacs.dicom import dictionary, transfer_syntax
from pacs.dicom.model import StoredInstance
from pacs.dimse.peers import Peers
from pacs.dimse.server import DimseServer
from pacs.dimse.wire import Timeouts
from pacs.errors import PacsError
from pacs.imaging import encode
from pacs.imaging.pool import Pool
from pacs.index.base import Index
from pacs.services import store_identity
from pacs.services.delete import Delete
from pacs.services.file_key import FileKeyPattern
from pacs.services.lock import ArchiveLock, remove_leftovers
from pacs.services.made_frames import MadeFrames, drop_frames_of
from pacs.services.making_ahead import MakingAhead
from pacs.services.query import QueryService
from pacs.services.retrieve import Retrieve
from pacs.services.store import Store
from pacs.settings import Settings
from pacs.supervisor import Role
from pacs.web.server import Limits, WebServer

log = logging.getLogger(__name__)

STOP_GRACE_S = 25.0
_GC_OBJECTS = 10_000
_M_ARENA_MAX, _ARENAS = -8, 2  # of malloc.h
_MADE_FRAMES = "frames"  # in the data folder; may be removed while no server runs


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
    def open(
        cls, settings: Settings, *, exclusive: bool = False, cached: bool = False, what: str = "a pacs command"
    ) -> Archive:
        """Open, or make, the archive in DICOM_STORE_ROOTPATH.

        exclusive: no other process may have it open (reindex). cached: keep copies of what is read from an object store
        (servers; not what has to see the store as it is). what: told to those who want it alone. Raises PacsError when
        the folder cannot be used or is in use, when its index was made by a newer version, and when the store is not
        the index's.
        """
        folder = settings.dicom_store_rootpath
        with ExitStack() as opened:
            opened.enter_context(ArchiveLock(folder, exclusive=exclusive))
            blobs = open_blobs(settings, cached=cached)
            opened.callback(blobs.close)
            index = opened.enter_context(open_index(settings, what, exclusive=exclusive))
            store_identity.settle(index, blobs)
            pool = Pool(settings.imaging_workers, settings.imaging_queue, settings.imaging_timeout_s)
            opened.callback(pool.close)
            retrieve, on_stored = _retrieve(settings, index, blobs, pool, opened, is_serving=cached)
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
                    on_stored=on_stored,
                ),
                QueryService(index),
                retrieve,
                Delete(index, blobs, on_purged=partial(drop_frames_of, folder / _MADE_FRAMES)),
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


def _retrieve(
    settings: Settings, index: Index, blobs: BlobStore, pool: Pool, opened: ExitStack, *, is_serving: bool
) -> tuple[Retrieve, Callable[[StoredInstance], None]]:
    """The way out, and what has to hear of each instance that is stored. Only servers keep, and make ahead, frames."""
    made = None
    if is_serving and settings.frames_cache_bytes:
        made = MadeFrames(
            settings.dicom_store_rootpath / _MADE_FRAMES,
            settings.frames_cache_bytes,
            encode.maker(),
            keep_free_bytes=settings.min_free_bytes,
        )
        opened.callback(made.close)
    retrieve = Retrieve(
        index,
        blobs,
        pool,
        max_frame_pixels=settings.imaging_max_pixels,
        made=made,
        preferred_frames="" if settings.frames_htj2k == "asked" else transfer_syntax.HTJ2K_LOSSLESS_RPCL,
    )
    if not (is_serving and settings.frames_htj2k == "ahead"):
        return retrieve, lambda instance: None
    ahead = MakingAhead(retrieve)
    opened.callback(ahead.close)
    opened.callback(pool.close)  # before that: what is being made is not waited for
    return retrieve, ahead.note


def serve(settings: Settings, on_ready: Callable[[Archive], None], role: Role | None = None) -> None:
    """Serve DIMSE and DICOMweb until SIGTERM or SIGINT, then finish what is under way.

    on_ready is called, in a thread, when both ports are open. role: of a worker process, which has its ports from its
    parent and ends with it. Raises PacsError when folder or port cannot be used.
    """
    _limit_arenas()
    remove_leftovers(settings.dicom_store_rootpath)
    with Archive.open(_share(settings) if role else settings, cached=True, what="pacs serve") as archive:
        run = _loop_runner()
        _settle_memory()
        run(_serve(settings, archive, on_ready, role))


def load_all() -> None:
    """What would be loaded, or made, at first use only: for a process that forks others. Starts and opens nothing."""
    _loop_runner()
    dictionary.public_vrs()


async def _serve(
    settings: Settings, archive: Archive, on_ready: Callable[[Archive], None], role: Role | None = None
) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if role is not None:
        # Ctrl-C reaches all processes of a terminal; the parent passes on that it is time to stop.
        loop.add_signal_handler(signal.SIGINT, lambda: None)
        loop.add_reader(role.parent, stop.set)
    web = _web_server(settings, archive, role.http if role else None)
    dimse = _dimse_server(settings, archive, role.dimse if role else None) if settings.enable_dimse else None
    try:
        await web.start()
        if dimse is not None:
            await asyncio.to_thread(dimse.start)
        await asyncio.to_thread(on_ready, archive)
        await stop.wait()
        if role is not None:
            loop.remove_reader(role.parent)
        log.info("stopping: finishing what is under way")
    finally:
        # Both at once, so that the grace of one is not added to the other's.
        await asyncio.gather(
            web.stop(STOP_GRACE_S),
            *([asyncio.to_thread(dimse.stop, STOP_GRACE_S)] if dimse is not None else []),
        )


def _web_server(settings: Settings, archive: Archive, listener: socket.socket | None) -> WebServer:
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
        shared_listener=listener,
    )


def _dimse_server(settings: Settings, archive: Archive, listener: socket.socket | None) -> DimseServer:
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
        shared_listener=listener,
    )


def _problems(archive: Archive, min_free_bytes: int) -> list[str]:
    """What keeps the archive from serving; for the health check."""
    try:
        archive.index.counts()
        free = archive.blobs.free_bytes()
    except PacsError as error:
        return [str(error)]
    return ["the disk is full"] if free is not None and free < min_free_bytes else []


def _share(settings: Settings) -> Settings:
    """Settings of one worker process: its part of what is there once for the whole machine, rounded up."""
    whole = {"imaging_workers": settings.imaging_workers, "imaging_queue": settings.imaging_queue}
    return settings.model_copy(update={name: -(-value // settings.server_workers) for name, value in whole.items()})


def _settle_memory() -> None:
    """What is there now stays: the garbage collector need not look through modules and dictionaries again and again.

    Nor after every few hundred objects, of which a single header makes more: together a tenth of a C-STORE's time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_GC_OBJECTS, 20, 20)


def _limit_arenas() -> None:
    """Of glibc, which gives threads heaps of their own, eight a processor: each keeps what was freed in it for itself.

    Under load that was 20 MB a process, for locks that threads seldom contend for while only one runs Python.
    """
    with suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, _ARENAS)


def _loop_runner() -> Callable[[Coroutine[Any, Any, None]], None]:
    """uvloop where it is installed: it moves more bytes per second."""
    try:
        import uvloop
    except ImportError:
        return asyncio.run
    return uvloop.run
