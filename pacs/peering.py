"""Which peers the settings name, how they are spoken to, and asking them whether they are there."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from typing import Any

from pacs.dicom.model import Role
from pacs.dimse.peers import Peers
from pacs.dimse.requests import Requests
from pacs.dimse.tls import Files
from pacs.dimse.user import Identities, Identity, IdentityType
from pacs.dimse.users import Tokens, Users
from pacs.dimse.wire import Timeouts
from pacs.dimse_settings import DimseSettings
from pacs.errors import Invalid, NotFound, PeerFailed
from pacs.services.access import Principal

Check = Callable[[Identity], Principal | None]

_ECHO_S = 10.0  # what somebody waits for who is looking at a screen
_ECHO_EVERY_S = 60.0


def known_peers(settings: DimseSettings) -> Peers:
    """The peers of DIMSE_AE_CONFIG and DIMSE_PEERS. Raises Invalid when the latter cannot be understood."""
    return Peers(settings.dimse_ae_config, tls_files(settings), settings.dimse_peers)


def tls_files(settings: DimseSettings) -> Files:
    """What DIMSE_TLS_CA, DIMSE_TLS_CERTIFICATE and DIMSE_TLS_KEY name."""
    return Files(settings.dimse_tls_ca, settings.dimse_tls_certificate, settings.dimse_tls_key)


def identities(
    settings: DimseSettings,
    account_of: Callable[[str, str], Principal | None] | None = None,
) -> Identities:
    """How users are verified: by DIMSE_USERS, accounts and DIMSE_JWT_KEY. Raises Invalid when a file cannot be used.

    account_of: whose name and password these are; None where there are no accounts. Users of a file, and of tokens,
    may do what their peer may.
    """
    checks: dict[int, Check] = {}
    if settings.dimse_users:
        check = unlimited(Users(settings.dimse_users).check)
        checks |= {IdentityType.USERNAME: check, IdentityType.USERNAME_PASSCODE: check}
    if account_of is not None and (settings.dimse_users or settings.dimse_user_required):
        checks[IdentityType.USERNAME_PASSCODE] = _or_account(checks.get(IdentityType.USERNAME_PASSCODE), account_of)
    if settings.dimse_jwt_key:
        checks[IdentityType.JWT] = unlimited(Tokens(settings.dimse_jwt_key, settings.dimse_jwt_audience).check)
    if settings.dimse_user_required and not checks:
        raise Invalid(
            "DIMSE_USER_REQUIRED=true: nobody could associate; set DIMSE_USERS or DIMSE_JWT_KEY, or make an account",
            "DIMSE_USER_REQUIRED",
        )
    return Identities(checks, settings.dimse_user_required)


def unlimited(check: Callable[[Identity], str | None]) -> Check:
    """Whoever a check knows may do what their peer may."""

    def checked(identity: Identity) -> Principal | None:
        name = check(identity)
        return None if name is None else Principal(name, Role.ADMIN, via="dimse")

    return checked


def _or_account(check: Check | None, account_of: Callable[[str, str], Principal | None]) -> Check:
    def either(identity: Identity) -> Principal | None:
        name, passcode = (part.decode("utf-8", "replace") for part in (identity.primary, identity.secondary))
        return (check(identity) if check else None) or account_of(name, passcode)

    return either


def usual_timeouts(settings: DimseSettings) -> Timeouts:
    """Those of associations in both directions, where a peer has none of its own."""
    return Timeouts(
        associating_s=settings.dimse_acse_timeout_s,
        message_s=settings.dimse_message_timeout_s,
        idle_s=settings.dimse_idle_timeout_s or None,
    )


def echoed(requests: Requests) -> dict[str, Any]:
    """Whether the peer is there, and milliseconds or the reason."""
    try:
        return {"is_there": True, "ms": round(1000 * requests.echo(), 1)}
    except PeerFailed as error:
        return {"is_there": False, "reason": str(error)}


class PeerDirectory:
    """The peers, for the web server; ``pacs.web.peers`` says what is wanted. calling: our AE title."""

    def __init__(self, peers: Peers, calling: str, timeouts: Timeouts) -> None:
        self._peers = peers
        self._calling = calling
        self._timeouts = Timeouts(min(timeouts.associating_s, _ECHO_S), min(timeouts.message_s, _ECHO_S))

    def listed(self) -> list[dict[str, Any]]:
        return [peer.described() for _, peer in sorted(self._peers.all().items())]

    def echo(self, ae_title: str) -> dict[str, Any]:
        peer = self._peers.find(ae_title)
        if peer is None:
            raise NotFound("no peer of this AE title is known that can be reached")
        return {"ae_title": peer.ae_title, **echoed(Requests(peer, self._calling, self._timeouts))}


class PeerEchoes:
    """Whether the peers answer, as found out within the last minute, beside those who ask: they do not wait."""

    def __init__(self, peers: Peers, calling: str, timeouts: Timeouts) -> None:
        self._peers = peers
        self._directory = PeerDirectory(peers, calling, timeouts)
        self._lock = threading.Lock()
        self._found: dict[str, str] = {}
        self._asked_at = -math.inf

    def problems(self) -> dict[str, str]:
        """Why a peer did not answer by its AE title, "" where it did. Nothing at first, and of peers that only call."""
        with self._lock:
            if time.monotonic() - self._asked_at > _ECHO_EVERY_S:
                self._asked_at = time.monotonic()
                threading.Thread(target=self._ask, name="peer-echoes", daemon=True).start()
            return self._found

    def _ask(self) -> None:
        found = {}
        for name, peer in sorted(self._peers.all().items()):
            if peer.host:
                found[name] = str(self._directory.echo(name).get("reason", ""))
        self._found = found
