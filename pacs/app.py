"""Composition root: settings → index and blobs → services → adapters, started and stopped in order."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import logging
import signal
import socket
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from pacs import measures, readiness
from pacs.archive import Archive
from pacs.auditing import Auditing
from pacs.dicom import dictionary
from pacs.dimse.peers import Peers
from pacs.dimse.sender import Sender
from pacs.dimse.server import DimseServer
from pacs.dimse.tls import ServerTls
from pacs.errors import Invalid
from pacs.imaging import encode
from pacs.metrics import Board, Meter
from pacs.offering import Offering
from pacs.peering import PeerEchoes, identities, known_peers, tls_files, usual_timeouts
from pacs.reloading import Reloader
from pacs.service_manager import Terminal, notify, notify_reloading, watchdog_s
from pacs.services.lock import remove_leftovers
from pacs.settings import Settings
from pacs.supervisor import Role
from pacs.watching import Watch, all_of
from pacs.web.health import Check
from pacs.web.page import About
from pacs.web.server import Limits, WebServer

if TYPE_CHECKING:
    from pacs.spans import Spans

log = logging.getLogger(__name__)

STOP_GRACE_S = 25.0
_SAMPLE_S = 1.0
_GC_OBJECTS = 10_000
_M_ARENA_MAX, _ARENAS = -8, 2  # of malloc.h


def serve(
    settings: Settings,
    on_ready: Callable[[Archive], None],
    role: Role | None = None,
    read: Callable[[], Settings] | None = None,
    board: Board | None = None,
) -> None:
    """Serve DIMSE and DICOMweb until SIGTERM or SIGINT, then finish what is under way.

    on_ready is called, in a thread, when both ports are open. role: of a worker process, which has its ports from its
    parent and ends with it. read: reads the settings anew, on SIGHUP. board: what all workers count on.

    Raises PacsError when folder or port cannot be used.
    """
    _limit_arenas()
    remove_leftovers(settings.dicom_store_rootpath)
    auditing = Auditing(settings)
    own = _share(settings) if role else settings
    with Archive.open(own, cached=True, what="pacs serve", hear=auditing.hear) as archive:
        run = _loop_runner()
        _settle_memory()
        run(_serve(settings, archive, on_ready, auditing, board or Board(), role, read or (lambda: settings)))


def load_all() -> None:
    """What would be loaded, or made, at first use only: for a process that forks others. Starts and opens nothing."""
    _loop_runner()
    dictionary.public_vrs()
    encode.maker()


async def _serve(
    settings: Settings,
    archive: Archive,
    on_ready: Callable[[Archive], None],
    auditing: Auditing,
    board: Board,
    role: Role | None,
    read: Callable[[], Settings],
) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if role is not None:
        # Ctrl-C reaches all processes of a terminal; the parent passes on that it is time to stop.
        loop.add_signal_handler(signal.SIGINT, lambda: None)
        loop.add_reader(role.parent, stop.set)
    peers = known_peers(settings)
    sender = Sender(settings.dimse_ae_title, peers, archive.retrieve, usual_timeouts(settings), is_keeping=True)
    worker = role.number if role else None
    meter = board.meter(worker or 1)
    spans = _spans(settings.otel_exporter_otlp_endpoint)
    watch = all_of([meter.watch, *auditing.watchers, *([spans.watch] if spans is not None else [])])
    echo = (
        PeerEchoes(peers, settings.dimse_ae_title, usual_timeouts(settings)).problems if settings.health_peers else None
    )
    look = partial(readiness.checks, archive, echo)
    offering = Offering(settings, archive, peers, sender, look, board, auditing)
    web = _web_server(settings, archive, offering, look, watch, role.http if role else None)
    dimse = _dimse_server(settings, archive, peers, sender, offering, watch, role) if settings.enable_dimse else None
    sampled = asyncio.create_task(_sample(meter, archive, web, dimse))
    reloader = Reloader(settings, read, archive, offering.followers, web, dimse, worker)
    alone = _Alone(reloader, stop) if role is None else None
    reload = alone.reload if alone else reloader.reload
    loop.add_signal_handler(signal.SIGHUP, lambda: loop.run_in_executor(None, reload) and None)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})
    try:
        await asyncio.to_thread(auditing.start, archive)
        await web.start()
        if dimse is not None:
            await asyncio.to_thread(dimse.start)
        await asyncio.to_thread(offering.start)
        await asyncio.to_thread(on_ready, archive)
        watching = asyncio.create_task(alone.keep_watchdog()) if alone else None
        await stop.wait()
        if watching is not None:
            watching.cancel()
            notify("STOPPING=1")
        if role is not None:
            loop.remove_reader(role.parent)
        log.info("stopping: finishing what is under way")
    finally:
        sampled.cancel()
        # Both at once, so that the grace of one is not added to the other's.
        await asyncio.gather(
            web.stop(STOP_GRACE_S),
            *([asyncio.to_thread(dimse.stop, STOP_GRACE_S)] if dimse is not None else []),
            asyncio.to_thread(offering.stop, STOP_GRACE_S),
        )
        await asyncio.to_thread(offering.close)
        await asyncio.to_thread(sender.close)
        await asyncio.to_thread(auditing.stop)
        if spans is not None:
            await asyncio.to_thread(spans.close)


def _spans(endpoint: str) -> Spans | None:
    """Raises Invalid when a collector is named and the extra is not installed."""
    if not endpoint:
        return None
    try:
        from pacs.spans import Spans
    except ImportError as error:
        what = "OTEL_EXPORTER_OTLP_ENDPOINT needs OpenTelemetry: pip install 'raccoon-pacs[otel]'"
        raise Invalid(what, "OTEL_EXPORTER_OTLP_ENDPOINT") from error
    return Spans(endpoint)


async def _sample(meter: Meter, archive: Archive, web: WebServer, dimse: DimseServer | None) -> None:
    """Tell the other processes, through the board, how much there is to do in this one."""
    sampling = measures.sampling(
        meter,
        archive,
        {
            ("pacs_open_requests", ()): lambda: web.requests_under_way,
            ("pacs_open_associations", ()): lambda: dimse.open_associations if dimse is not None else 0,
        },
    )
    while True:
        sampling.sample()
        await asyncio.sleep(_SAMPLE_S)


class _Alone:
    """A server of one process, which its service manager speaks with; of several, their parent does that."""

    def __init__(self, reloader: Reloader, stop: asyncio.Event) -> None:
        self._reloader = reloader
        self._loop = asyncio.get_running_loop()
        self._stop = stop
        self._terminal = Terminal()

    def reload(self) -> None:
        if self._terminal.is_gone():
            self._loop.call_soon_threadsafe(self._stop.set)
            return
        notify_reloading()
        self._reloader.reload()
        notify("READY=1")

    async def keep_watchdog(self) -> None:
        every_s = watchdog_s()
        while every_s is not None:
            notify("WATCHDOG=1")
            await asyncio.sleep(every_s)


def _web_server(
    settings: Settings,
    archive: Archive,
    offering: Offering,
    look: Callable[[], Sequence[Check]],
    watch: Watch,
    listener: socket.socket | None,
) -> WebServer:
    return WebServer(
        archive.store,
        archive.query,
        archive.retrieve,
        counts=archive.index.counts,
        health=look,
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
        additions=offering.additions,
        login=offering.protection.login,
        about=About(
            settings.dimse_ae_title,
            settings.dimse_port if settings.enable_dimse else None,
            can_delete=settings.allow_delete,
        ),
        viewer=settings.viewer_path,
        shared_listener=listener,
        watch=watch,
    )


def _dimse_server(
    settings: Settings,
    archive: Archive,
    peers: Peers,
    sender: Sender,
    offering: Offering,
    watch: Watch,
    role: Role | None,
) -> DimseServer:
    if not (settings.dimse_port or settings.dimse_tls_port):
        raise Invalid("DIMSE_PORT and DIMSE_TLS_PORT are both 0: set ENABLE_DIMSE=false for no DIMSE", "DIMSE_PORT")
    return DimseServer(
        archive.store,
        archive.query,
        archive.retrieve,
        ae_title=settings.dimse_ae_title,
        host=settings.dimse_hostname,
        port=settings.dimse_port or None,
        tls_port=settings.dimse_tls_port,
        tls=ServerTls(tls_files(settings), settings.dimse_tls_clients) if settings.dimse_tls_port else None,
        peers=peers,
        sender=sender,
        max_associations=settings.max_associations,
        max_pdu=settings.dimse_max_pdu,
        timeouts=usual_timeouts(settings),
        strict_called=settings.dimse_check_called_ae,
        strict_calling=settings.dimse_strict,
        identities=identities(settings, offering.protection.account_of),
        services=offering.services,
        shared_listener=role.dimse if role else None,
        shared_tls_listener=role.dimse_tls if role else None,
        watch=watch,
    )


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
