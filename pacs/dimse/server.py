"""The DIMSE server: listens, and gives every connection a thread of its own."""

from __future__ import annotations

import itertools
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterable

from pacs.dimse.access import Access
from pacs.dimse.association import Association
from pacs.dimse.peer import Rules
from pacs.dimse.peers import Peers
from pacs.dimse.sender import Sender
from pacs.dimse.service import Service, Services
from pacs.dimse.session import Acceptor
from pacs.dimse.tls import ServerTls
from pacs.dimse.user import Identities
from pacs.dimse.wire import Closed, Timeouts, Wire, reason_of
from pacs.listening import Accepting, listen
from pacs.services.query import QueryService
from pacs.services.retrieve import Retrieve
from pacs.services.store import Store
from pacs.watching import Watch, unwatched

log = logging.getLogger(__name__)

_BACKLOG = 128
_CUT_OFF_S = 5.0  # for threads to end once their connections are gone


class DimseServer:
    """C-ECHO, C-STORE, C-FIND, C-MOVE and C-GET SCP, and of what services it is given.

    port: without TLS, None for none; tls_port: with TLS, where ``tls`` is given. 0: any free one; they say which after
    ``start``. sender: of C-MOVE, None for one of its own. max_pdu: what peers may send, bytes; 0 for any.
    max_associations: further ones are rejected (transient, local limit exceeded). strict_called: refuse associations
    that call another AE title than ours; strict_calling: those of others than known peers. identities: how users are
    verified, None: not at all. shared_listener, shared_tls_listener: take what comes there, in turn with other
    processes, instead of listening on host and port. watch: told of associations and of each request.
    """

    def __init__(
        self,
        store: Store,
        query: QueryService,
        retrieve: Retrieve,
        *,
        ae_title: str,
        host: str,
        port: int | None,
        peers: Peers,
        sender: Sender | None = None,
        tls_port: int = 0,
        tls: ServerTls | None = None,
        max_associations: int = 100,
        max_pdu: int = 131072,
        timeouts: Timeouts | None = None,
        strict_called: bool = False,
        services: Iterable[Service] = (),
        strict_calling: bool = False,
        identities: Identities | None = None,
        shared_listener: socket.socket | None = None,
        shared_tls_listener: socket.socket | None = None,
        watch: Watch = unwatched,
    ) -> None:
        self.ae_title = ae_title
        self.host = host
        self.port = port
        self.tls_port = tls_port
        self._tls = tls
        self.max_associations = max_associations
        self._timeouts = timeouts or Timeouts()
        offered = Services(services)
        self._sender = sender or Sender(ae_title, peers, retrieve, self._timeouts, is_keeping=True)
        self._acceptor = Acceptor(
            ae_title=ae_title,
            store=store,
            query=query,
            retrieve=retrieve,
            sender=self._sender,
            access=Access(peers, is_strict=strict_calling, others=offered.names),
            identities=identities or Identities(),
            services=offered,
            max_pdu=max_pdu,
            timeouts=self._timeouts,
            strict_called=strict_called,
            admit=self._admit,
            dismiss=self._dismiss,
            watch=watch,
        )
        self._shared_listener = shared_listener
        self._shared_tls_listener = shared_tls_listener
        self._accepting: list[Accepting] = []
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._connections: dict[threading.Thread, Wire] = {}
        self._associations: dict[Association, str] = {}  # with who is calling
        self._stopping = False

    @property
    def open_associations(self) -> int:
        return len(self._associations)

    def start(self) -> None:
        """Returns when peers can connect. Raises Invalid when an address or the files of TLS cannot be used."""
        # Its decoders log what broken peers make them raise, trace and all; we log one line of our own.
        logging.getLogger("pynetdicom").setLevel(logging.CRITICAL)
        if self.port is not None:
            self.port = self._listen(self.port, self._shared_listener, self._serve, "DIMSE_PORT")
        if self._tls is not None:
            self._tls.context()
            self.tls_port = self._listen(self.tls_port, self._shared_tls_listener, self._serve_tls, "DIMSE_TLS_PORT")
        ports = (self.port or 0, self.tls_port if self._tls else 0)
        log.info("dimse listens aet=%s host=%s port=%d tls_port=%d", self.ae_title, self.host, *ports)

    def _listen(
        self, port: int, shared: socket.socket | None, serve: Callable[[socket.socket, str], None], port_setting: str
    ) -> int:
        """The port that it is."""
        listener = shared or listen(
            self.host, port, _BACKLOG, what="DIMSE", host_setting="DIMSE_HOSTNAME", port_setting=port_setting
        )
        port = int(listener.getsockname()[1])
        self._accepting.append(Accepting(listener, serve, name="dimse-listener", shared=shared is not None))
        return port

    def stop(self, grace_s: float = 10.0) -> None:
        """Take no new association or request; those under way have grace_s to end, then are cut off. Idempotent."""
        with self._lock:
            if self._stopping:
                return
            self._stopping = True
            associations = list(self._associations)
        for accepting in self._accepting:
            accepting.stop()
        for association in associations:
            association.finish()
        cut_off = self._cut_off(grace_s)
        self._sender.close()
        log.info("dimse stopped aet=%s cut_off=%d", self.ae_title, cut_off)

    def _cut_off(self, grace_s: float) -> int:
        """Wait for connections to end; returns how many had to be ended."""
        deadline = time.monotonic() + grace_s
        for thread in list(self._connections):
            thread.join(max(0.0, deadline - time.monotonic()))
        with self._lock:
            left = dict(self._connections)
        for wire in left.values():
            wire.shut()
        deadline = time.monotonic() + _CUT_OFF_S
        for thread in left:
            thread.join(max(0.0, deadline - time.monotonic()))
        return len(left)

    def _serve_tls(self, connection: socket.socket, peer: str) -> None:
        assert self._tls is not None
        try:
            # Hands are shaken in the connection's own thread: a peer may take its time.
            context = self._tls.context()
            secured = context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        except OSError as error:  # gone already
            log.info("connection closed address=%s reason=%s", peer, reason_of(error))
            connection.close()
            return
        self._serve(secured, peer)

    def _serve(self, connection: socket.socket, peer: str) -> None:
        # Connections that have not associated yet cost threads too: bounded, with room left for rejecting politely.
        if len(self._connections) >= 2 * self.max_associations + 16:
            log.warning("connection closed address=%s reason=too many connections", peer)
            connection.close()
            return
        try:
            wire = Wire(connection, self._timeouts.associating_s)
            name = f"dimse-{next(self._numbers)}-{peer}"
            thread = threading.Thread(target=self._serve_connection, args=(wire, peer), name=name, daemon=True)
            with self._lock:
                self._connections[thread] = wire
            thread.start()
        except (OSError, RuntimeError) as error:  # gone already; no more threads
            log.warning("connection closed address=%s reason=%s", peer, error)
            connection.close()

    def _serve_connection(self, wire: Wire, peer: str) -> None:
        try:
            if self._is_secured(wire, peer):
                self._acceptor.serve(wire, peer)
        finally:
            with self._lock:
                self._connections.pop(threading.current_thread(), None)

    def _is_secured(self, wire: Wire, peer: str) -> bool:
        try:
            wire.shake_hands()
        except Closed as error:
            log.warning("connection closed address=%s reason=%s", peer, error)
            wire.close()
            return False
        return True

    def _admit(self, association: Association, calling: str, rules: Rules) -> bool:
        with self._lock:
            if self._stopping or len(self._associations) >= self.max_associations:
                return False
            limit = rules.max_associations
            if limit is not None and list(self._associations.values()).count(calling) >= limit:
                return False
            self._associations[association] = calling
            return True

    def _dismiss(self, association: Association) -> None:
        with self._lock:
            self._associations.pop(association, None)
