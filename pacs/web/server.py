"""The DICOMweb server: routes, what stands before every handler, start and stop."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.typedefs import Handler

from pacs import correlation
from pacs.errors import Forbidden, Invalid, PacsError
from pacs.index.base import Counts
from pacs.listening import Accepting
from pacs.services.delete import Delete
from pacs.services.query import QueryService
from pacs.services.retrieve import Retrieve
from pacs.services.store import Store
from pacs.watching import Served, Watch, unwatched
from pacs.web import fhir_outcome, page, problem
from pacs.web import viewer as viewer_resources
from pacs.web.additions import Addition
from pacs.web.bridge import Bridge
from pacs.web.bulkdata import BulkData
from pacs.web.capabilities import Capabilities
from pacs.web.cors import Cors
from pacs.web.delete import DeleteResources
from pacs.web.frames import Frames
from pacs.web.health import Check, Health
from pacs.web.links import Links
from pacs.web.login import LoginMaker
from pacs.web.metadata import Metadata
from pacs.web.negotiate import check_charset
from pacs.web.openapi import OpenApi
from pacs.web.operations import operations
from pacs.web.page import About, Page
from pacs.web.pixeldata import PixelData
from pacs.web.qido import Qido
from pacs.web.rendered import RenderedResources
from pacs.web.service_names import ServiceNames
from pacs.web.stow import Stow
from pacs.web.viewer import Viewer
from pacs.web.wado import Wado
from pacs.web.wado_uri import WadoUri

log = logging.getLogger(__name__)

_BACKLOG = 512
_KEEP_ALIVE_S = 75.0
_READ_BUFFER_BYTES = 512 * 1024
# What is left for connections that hang on after the grace period.
_CLOSE_S = 2.0
# Only in the log: nobody is there to be answered.
_CLIENT_WENT = 499


@dataclass(frozen=True, slots=True)
class Limits:
    """query_rows, query_rows_max: of a QIDO-RS page by default, at most. body_bytes: of a STOW-RS request, None: any.

    header_bytes: of one header or the request line. idle_s: how long a client may stall within a request. threads:
    blocking calls at once. pixel_queue: requests that may wait for a pixel worker.
    """

    query_rows: int = 100
    query_rows_max: int = 5000
    body_bytes: int | None = None
    header_bytes: int = 64 * 1024
    idle_s: float = 120.0
    threads: int = 32
    pixel_queue: int = 64


class WebServer:
    """DICOMweb under ``/{api_root}``, health at ``/health/live`` and ``/health/ready``.

    delete: None when nothing may be deleted. counts: totals of the archive, for the root page. health: what was looked
    at to tell whether it is ready. additions: further resources. about: what the web page shows. viewer: folder of
    the full viewer, which may be installed there. login: says who may do
    what; None: all may do all. port 0: any free one; ``port`` tells which after ``start``. shared_listener: take what
    comes there, in turn with other processes, instead of listening on host and port. watch: told of each request.
    Raises Invalid for values that mean nothing.
    """

    def __init__(
        self,
        store: Store,
        query: QueryService,
        retrieve: Retrieve,
        *,
        counts: Callable[[], Counts] | None = None,
        health: Callable[[], Sequence[Check]] = lambda: (),
        host: str = "127.0.0.1",
        port: int = 8081,
        api_root: str = "dicom-web",
        dicomweb_host: str = "{host}",
        dicomweb_port: int | None = None,
        limits: Limits = Limits(),
        cors_origins: Sequence[str] = (),
        trusted_proxies: Sequence[str] = (),
        retrieve_ae_title: str = "DCMQRSCP",
        delete: Delete | None = None,
        additions: Sequence[Addition] = (),
        about: About | None = None,
        viewer: Path | None = None,
        login: LoginMaker | None = None,
        shared_listener: socket.socket | None = None,
        watch: Watch = unwatched,
    ) -> None:
        self.host = host
        self.port = port
        self._limits = limits
        self._additions = additions
        self._bridge = Bridge(limits.threads, limits.idle_s, limits.pixel_queue)
        self._links = Links(api_root, host=dicomweb_host, port=dicomweb_port, trusted_proxies=trusted_proxies)
        self._cors = Cors(cors_origins, self._links.api_path)
        self._forbidden_methods = {"DELETE"} if delete is None else set()
        bridge, links = self._bridge, self._links
        qido = Qido(
            query,
            bridge,
            links,
            retrieve_ae_title=retrieve_ae_title,
            default_limit=limits.query_rows,
            max_limit=limits.query_rows_max,
        )
        stow = Stow(store, bridge, links, max_body_bytes=limits.body_bytes)
        rendered = RenderedResources(retrieve, bridge, links)
        wado_uri = WadoUri(retrieve, rendered, bridge, links)
        self._login = login(self._links, self._cors) if login is not None else None
        added = [operation for addition in additions for operation in addition.operations]
        self._watch = watch
        viewing = viewer_resources.OPERATIONS if viewer is not None else ()
        self._offered = offered = (*operations(with_delete=delete is not None), *page.OPERATIONS, *viewing, *added)
        capabilities = Capabilities(
            offered,
            links,
            {
                "queryRowsDefault": limits.query_rows,
                "queryRowsMax": limits.query_rows_max,
                "storeBodyBytes": limits.body_bytes,
                "headerBytes": limits.header_bytes,
            },
        )
        self._service_names = ServiceNames(offered, links.api_path)
        # They are tried one after the other: what viewers ask for a thousand times comes first.
        self._api_routes = [
            *Frames(retrieve, bridge, links).routes(),
            *rendered.routes(),
            *Metadata(retrieve, bridge, links).routes(),
            *qido.routes(),
            *Wado(retrieve, bridge, links).routes(),
            *stow.routes(),
            *BulkData(retrieve, bridge, links).routes(),
            *PixelData(retrieve, bridge, links).routes(),
            *DeleteResources(delete, bridge, links).routes(),
            *wado_uri.routes(),
            *capabilities.routes(),
            *OpenApi(offered, links).routes(),
            *(route for addition in additions for route in addition.routes(bridge, links)),
        ]
        sees_all = self._login.sees_all if self._login is not None else None
        may_read = self._login.may_read if self._login is not None else None
        full_viewer = Viewer(viewer, bridge, links, may_read) if viewer is not None else None
        start_page = Page(links, about or About(), full_viewer)
        self._root_routes = [
            *Health(bridge, links, counts, health, start_page, sees_all).routes(),
            *start_page.routes(),
            *(full_viewer.routes() if full_viewer is not None else ()),
        ]
        if links.api_path:
            self._root_routes += [*wado_uri.routes(), web.options("/", capabilities.get)]
        self._root_routes += [route for addition in additions for route in addition.root_routes(bridge, links)]
        self._runner: web.AppRunner | None = None
        self._site: web.TCPSite | None = None
        self._shared_listener = shared_listener
        self._accepting: Accepting | None = None
        self._under_way: set[asyncio.Task[object]] = set()

    def allow_origins(self, origins: Sequence[str]) -> None:
        """Of web pages elsewhere, from now on."""
        self._cors.allow(origins)

    async def start(self) -> None:
        """Listen. On return connections are accepted. Raises Invalid naming the address when it cannot be had."""
        runner = web.AppRunner(
            self._application(),
            handle_signals=False,
            logger=_wire_log(),
            access_log=None,  # ours leaves out query values: they are patients
            keepalive_timeout=_KEEP_ALIVE_S,
            shutdown_timeout=_CLOSE_S,
            max_line_size=self._limits.header_bytes,
            max_field_size=self._limits.header_bytes,
            read_bufsize=_READ_BUFFER_BYTES,
            auto_decompress=False,  # STOW-RS inflates in its threads, under its own limit
        )
        await runner.setup()
        self._runner = runner
        if self._shared_listener is not None:
            self.port = self._shared_listener.getsockname()[1]
            serve = _hand_over(asyncio.get_running_loop(), runner)
            self._accepting = Accepting(self._shared_listener, serve, name="http-listener", shared=True)
        else:
            await self._listen(runner)
        for addition in self._additions:
            if addition.start is not None:
                await addition.start()
        log.info("web server listens host=%s port=%d api=%s", self.host, self.port, self._links.api_path)

    async def stop(self, grace_s: float = 30.0) -> None:
        """Take no more connections, finish the requests under way, at most grace_s; then close. Idempotent."""
        runner, self._runner = self._runner, None
        if runner is None:
            return
        if self._site is not None:
            await self._site.stop()
        if self._accepting is not None:
            await asyncio.to_thread(self._accepting.stop)
        await asyncio.gather(*(addition.close() for addition in self._additions if addition.close is not None))
        if self._under_way:
            await asyncio.wait(set(self._under_way), timeout=grace_s)
        left = len(self._under_way)
        await runner.cleanup()
        await asyncio.to_thread(self._bridge.close)
        log.info("web server stopped requests_cut=%d", left)

    async def _listen(self, runner: web.AppRunner) -> None:
        self._site = web.TCPSite(runner, self.host, self.port, backlog=_BACKLOG)
        try:
            await self._site.start()
        except OSError as error:
            self._runner = self._site = None
            await runner.cleanup()
            reason = os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)
            raise Invalid(f"Cannot listen on {self.host} port {self.port}: {reason}", "SERVER_PORT") from error
        self.port = runner.addresses[0][1]

    def _application(self) -> web.Application:
        app = web.Application(middlewares=[self._every_request], client_max_size=1 << 20)
        api = self._links.api_path
        app.add_routes(_below(api, self._api_routes))
        # An API at the server's root has no place for a page of ours there.
        app.add_routes(self._root_routes)
        app.on_response_prepare.append(self._cors.on_prepare)
        if self._login is not None:
            self._login.know(app.router, self._offered)
            app.on_response_prepare.append(self._login.on_prepare)
        app.on_response_prepare.append(_name_request)
        return app

    @property
    def requests_under_way(self) -> int:
        return len(self._under_way)

    @web.middleware
    async def _every_request(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Turn what is raised into answers, and log one line a request."""
        task = asyncio.current_task()
        assert task is not None
        self._under_way.add(task)
        correlation.begin(self._links.request_id(request))
        at, began = time.time(), time.perf_counter()
        status, sent_bytes = _CLIENT_WENT, 0
        try:
            response = await self._answer(request, handler)
            if request.rel_url.raw_path.startswith(f"{self._links.api_path}/fhir"):
                response = fhir_outcome.of_problem(response)
            status = response.status
            if request.method != "HEAD":
                sent_bytes = max(response.body_length, response.content_length or 0)
            return response
        finally:
            self._under_way.discard(task)
            self._log(request, status, began)
            self._tell(request, status, (at, time.perf_counter() - began), sent_bytes)

    async def _answer(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            # WADO-URI has a parameter of the same name, with rules of its own.
            if "requestType" not in request.query:
                check_charset(request.query.getall("charset", []))
            if request.method == "OPTIONS":
                return await self._options(request, handler)
            if request.headers.get("Upgrade", "").lower() == "websocket":
                self._check_origin(request)
            await self._admit(request)
            return await handler(request)
        except PacsError as error:
            response = problem.of_error(error)
            if response.status == HTTPStatus.UNAUTHORIZED and self._login is not None:
                self._login.challenge(request, response)
            return response
        except problem.Answered as answered:
            return answered.response
        except web.HTTPException as error:
            return self._without_empty_segment(request) or problem.of_http_exception(error)
        except ConnectionError as error:
            # Raised on, aiohttp would log a trace; an answer to nobody goes nowhere without a word.
            log.info("client went path=%s reason=%s", request.rel_url.raw_path, error)
            return web.Response(status=_CLIENT_WENT)
        except Exception as error:  # noqa: BLE001 - one request must not end the connection without an answer
            return problem.of_bug(error)

    async def _admit(self, request: web.Request) -> None:
        """Raises what keeps the caller out. What is not there is told to everybody."""
        if self._login is not None and request.match_info.http_exception is None:
            await self._login.admit(request)

    def _check_origin(self, request: web.Request) -> None:
        if not self._cors.may_connect(request, self._links.base(request)):
            raise Forbidden("pages of this origin may not connect (CORS_ALLOWED_ORIGINS)")

    def _without_empty_segment(self, request: web.Request) -> web.Response | None:
        """A redirect for clients whose configured root ends with a slash, so that they ask for ``root//studies``."""
        root, path = f"{self._links.api_path}//", request.rel_url.raw_path
        if not path.startswith(root):
            return None
        query = f"?{request.rel_url.raw_query_string}" if request.rel_url.raw_query_string else ""
        location = f"{self._links.base(request)}/{path[len(root) :].lstrip('/')}{query}"
        return web.Response(status=HTTPStatus.PERMANENT_REDIRECT, headers={"Location": location})

    async def _options(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """A browser's preflight, capabilities where there are any, else the methods of the resource."""
        if self._cors.is_preflight(request):
            return self._cors.preflight(request)
        missing = request.match_info.http_exception
        if isinstance(missing, web.HTTPMethodNotAllowed):
            is_image = request.rel_url.raw_path.startswith(f"{self._links.api_path}/studies")
            forbidden = self._forbidden_methods if is_image else set()
            allowed = sorted({*missing.allowed_methods, "OPTIONS"} - forbidden)
            return web.Response(status=204, headers={"Allow": ", ".join(allowed)})
        await self._admit(request)
        return await handler(request)

    def _tell(self, request: web.Request, status: int, took: tuple[float, float], sent_bytes: int) -> None:
        found = request.match_info
        route = found.route.resource.canonical if found.route.resource else ""
        self._watch(
            Served(
                self._service_names.find(request.method, route),
                "web",
                str(status),
                status >= HTTPStatus.BAD_REQUEST,
                f"{request.method} {route or '*'}",
                self._links.caller(request),
                *took,
                getattr(request.content, "total_bytes", 0),
                sent_bytes,
                found.get("study") or request.query.get("studyUID", ""),
                request.headers.get("traceparent", ""),
            )
        )

    def _log(self, request: web.Request, status: int, began: float) -> None:
        path = request.rel_url.raw_path
        if "patient" in request.match_info or "fhir_patient" in request.match_info:
            path = str(request.match_info.route.resource.canonical) if request.match_info.route.resource else ""
        log.info(
            "http method=%s path=%s keys=%s status=%d ms=%.1f from=%s",
            request.method,
            path,
            ",".join(_printable(name) for name in dict.fromkeys(request.query)),
            status,
            (time.perf_counter() - began) * 1000,
            self._links.caller(request).address,
        )


def _hand_over(loop: asyncio.AbstractEventLoop, runner: web.AppRunner) -> Callable[[socket.socket, str], None]:
    """What the accepting thread does with a connection: the loop takes it."""
    tasks: set[asyncio.Task[None]] = set()

    async def take(connection: socket.socket) -> None:
        try:
            # As create_server's own connections, which have it too.
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            assert runner.server is not None
            await loop.connect_accepted_socket(runner.server, connection)
        except OSError as error:
            log.info("connection not taken reason=%s", error)
            connection.close()

    def begin(connection: socket.socket) -> None:
        task = loop.create_task(take(connection))
        tasks.add(task)  # the loop holds it only weakly
        task.add_done_callback(tasks.discard)

    def serve(connection: socket.socket, peer: str) -> None:
        connection.setblocking(False)
        try:
            loop.call_soon_threadsafe(begin, connection)
        except RuntimeError:  # the loop has ended
            connection.close()

    return serve


async def _name_request(request: web.Request, response: web.StreamResponse) -> None:
    response.headers["X-Request-ID"] = correlation.current()


def _wire_log() -> logging.Logger:
    """aiohttp's log, in which garbage on the port is a line and not a trace."""
    wire = logging.getLogger(f"{__name__}.wire")
    wire.addFilter(_shortened)
    return wire


def _shortened(record: logging.LogRecord) -> bool:
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, HttpProcessingError):
        record.levelno, record.levelname = logging.WARNING, "WARNING"
        record.msg, record.args = "not HTTP, or none that we take: %s", (" ".join(str(error.message).split())[:200],)
        record.exc_info = None
    return True


def _below(root: str, routes: Iterable[web.RouteDef]) -> list[web.RouteDef]:
    """The same routes below ``root``, with and without a slash at the end."""
    plain: list[web.RouteDef] = []
    slashed: list[web.RouteDef] = []
    for route in routes:
        for found, path in ((plain, f"{root}{route.path}"), (slashed, f"{root}{route.path}/")):
            # {path:.+} already takes the slash; a second route would never be reached.
            # The API's root at the server's root is "/" alone.
            if not (path.endswith("/") and "{path:" in path) and path:
                found.append(web.RouteDef(route.method, path, route.handler, dict(route.kwargs)))
    return plain + slashed


def _printable(name: str) -> str:
    return "".join(c if c.isalnum() or c in "._-" else "?" for c in name[:64])
