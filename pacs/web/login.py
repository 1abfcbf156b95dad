"""Who asks, and whether they may: stands before every handler."""

from __future__ import annotations

import asyncio
import hmac
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from aiohttp import web
from aiohttp.web_urldispatcher import AbstractRoute, UrlDispatcher

from pacs.dicom.model import Role
from pacs.errors import Forbidden, PacsError, Unauthorized
from pacs.services.access import Principal
from pacs.services.roster import Rosters
from pacs.services.sessions import Sessions
from pacs.web.cors import Cors
from pacs.web.identity import NOBODY, PRINCIPAL, Way
from pacs.web.links import PROXY_HEADERS, Links
from pacs.web.operations import Operation
from pacs.web.ways import session_of

CSRF_HEADER = "X-Pacs-Csrf"
_BASIC = 'Basic realm="DICOM archive", charset="UTF-8"'
_BEARER = 'Bearer realm="DICOM archive"'
# Hosts that are this machine, whoever resolves them; clients that leave the header out are no browsers.
_HERE = re.compile(
    r"(?:(?:127(?:\.\d{1,3}){3}|(?:[\w-]+\.)*localhost|\[::1\])(?::\d{1,5})?)?", re.ASCII | re.IGNORECASE
)
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})


@dataclass(frozen=True, slots=True)
class Anonymous:
    """What somebody may do who is not known; None: nothing.

    here: on a server that listens on this machine alone, for requests that nobody passed on, while there are no
    accounts (``even_with_accounts``: always). elsewhere: for all others.
    """

    here: Role | None = None
    elsewhere: Role | None = None
    even_with_accounts: bool = False

    def role(self, request: web.BaseRequest, *, has_accounts: bool) -> Role | None:
        if self.here is not None and (self.even_with_accounts or not has_accounts) and is_direct(request):
            return self.here
        return self.elsewhere


class Login:
    """ways: in the order in which they are asked, sessions first. words: their names, for the page.

    sessions: of the cookie's. reaches: whether somebody may use an operation that their role would allow.
    """

    def __init__(
        self,
        rosters: Rosters,
        sessions: Sessions,
        anonymous: Anonymous,
        ways: Sequence[Way],
        links: Links,
        cors: Cors,
        words: Sequence[str] = ("password",),
        reaches: Callable[[Operation, Principal], bool] = lambda operation, principal: True,
    ) -> None:
        self._rosters = rosters
        self._sessions = sessions
        self._anonymous = anonymous
        self._ways = ways
        self._links = links
        self._cors = cors
        self._words = words
        self._reaches = reaches
        self._known = {role: Principal("anonymous", role) for role in Role}
        self._operations: Mapping[AbstractRoute, Operation] = {}

    def know(self, router: UrlDispatcher, offered: Sequence[Operation]) -> None:
        """Which operation each route serves. A route without one is for administrators alone."""
        self._operations = operations_by_route(router, offered, self._links.api_path)

    @property
    def ways(self) -> list[str]:
        """How one can log in, for the page."""
        return [word for word in self._words if word != "password" or self._rosters.seen.accounts]

    async def admit(self, request: web.Request) -> None:
        """Find out who asks, and keep that with the request. Raises Unauthorized, Forbidden, TooOften."""
        operation = self._operations.get(request.match_info.route)
        if operation is not None and operation.is_public:
            request[PRINCIPAL] = NOBODY
            return
        principal = await self.who(request)
        needed = Role.ADMIN if operation is None else operation.role
        if principal is None:
            raise Unauthorized(self._refusal())
        if principal.role < needed:
            if principal.via == "anonymous" and self._is_closed:
                raise Unauthorized(f"log in: this takes the role {needed.word}")
            raise Forbidden(_too_little(needed, principal))
        if operation is not None and not self._reaches(operation, principal):
            raise Forbidden("this link does not show that")
        self._check_page(request)
        request[PRINCIPAL] = principal

    async def who(self, request: web.Request) -> Principal | None:
        """None: nobody who may do anything. Raises Unauthorized for what is shown and does not hold; TooOften."""
        if not self._rosters.is_fresh:
            await asyncio.to_thread(self._rosters.current)
        # Without accounts, credentials are a proxy's in front, which has looked at them. Cookies of this name are ours.
        for way in self._ways if self._is_closed else self._ways[:1]:
            principal = await way.identify(request)
            if principal is not None:
                return principal
        if self._is_closed and "Authorization" in request.headers:
            raise Unauthorized("credentials of this kind are not taken here")
        role = self._anonymous.role(request, has_accounts=self._is_closed)
        return None if role is None else self._known[role]

    async def may_read(self, request: web.Request) -> bool:
        """Whether somebody may see any images, where others are sent to log in."""
        try:
            return await self.who(request) is not None
        except PacsError:
            return False

    async def sees_all(self, request: web.Request) -> bool:
        """Whether somebody may be told of the archive as a whole, where everybody is told something."""
        try:
            principal = await self.who(request)
            return principal is not None and principal.scope.is_everything
        except PacsError:
            return False

    def challenge(self, request: web.Request, response: web.StreamResponse) -> None:
        """Say how to show who one is (RFC 9110 11.6.1).

        Not Basic to what a page asks for: browsers would open a dialog of their own, over our form.
        """
        headers = request.headers
        is_of_page = CSRF_HEADER in headers or headers.get("Sec-Fetch-Mode", "navigate") != "navigate"
        if not is_of_page:
            response.headers.add("WWW-Authenticate", _BASIC)
        response.headers.add("WWW-Authenticate", _BEARER)

    async def on_prepare(self, request: web.Request, response: web.StreamResponse) -> None:
        """Signal handler: a session that is used goes on, and no cache of others keeps what somebody may see."""
        principal = request.get(PRINCIPAL)
        if isinstance(principal, Principal) and principal.via != "anonymous":
            # Nor a browser, without asking, for whoever logs in to it next.
            response.headers.setdefault("Cache-Control", "private, no-cache")
        session = session_of(request)
        if session is None:
            return
        renewed = self._sessions.renewed(session)
        if renewed is not None and response.status < 400 and not response.prepared:
            self.set_cookie(request, response, self._sessions.text(renewed))

    def set_cookie(self, request: web.Request, response: web.StreamResponse, text: str | None) -> None:
        """None: take it away. A cookie that a handler has set stays."""
        if self._sessions.cookie in response.cookies:
            return
        is_secure = self._links.base(request).startswith("https:")
        response.set_cookie(
            self._sessions.cookie,
            text or "",
            max_age=int(self._sessions.longest.total_seconds()) if text else 0,
            httponly=True,
            secure=is_secure,
            samesite="Lax",
        )

    def check_own_origin(self, request: web.Request) -> None:
        """Raises Forbidden for a request that a page of another origin sent."""
        origin = request.headers.get("Origin")
        if origin is not None and not self._cors.is_own(request, self._links.base(request)):
            raise Forbidden("pages of this origin may not do that")

    def _check_page(self, request: web.Request) -> None:
        """Whether somebody else's page makes a browser do this (cross-site request forgery)."""
        session = session_of(request)
        is_socket = request.headers.get("Upgrade", "").lower() == "websocket"
        if session is not None and is_socket:
            if "Origin" not in request.headers:
                raise Forbidden("a WebSocket with a session says its Origin")
            self.check_own_origin(request)
        if request.method in _SAFE:
            return
        if session is not None:
            self.check_own_origin(request)
            shown = request.headers.get(CSRF_HEADER, "").encode("utf-8", "replace")
            if not hmac.compare_digest(shown, self._sessions.csrf(session).encode()):
                raise Forbidden(f"the header {CSRF_HEADER} is missing, or not of this session: load the page again")
        elif "Authorization" not in request.headers and not self._cors.may_connect(request, self._links.base(request)):
            raise Forbidden("pages of this origin may not change anything (CORS_ALLOWED_ORIGINS)")

    @property
    def _is_closed(self) -> bool:
        """Whether there is somebody who can log in."""
        return bool(self._rosters.seen.accounts) or len(self._words) > 1

    def _refusal(self) -> str:
        if self._is_closed:
            return "log in to see this"
        return (
            "this request comes from elsewhere, or by a proxy, and there are no accounts: make one with "
            "'pacs account add NAME', or set ALLOW_ANONYMOUS=true"
        )


def is_direct(request: web.BaseRequest) -> bool:
    """Whether nothing shows that a request was passed on for somebody elsewhere.

    Nor that a page of another site made its name point to this machine (DNS rebinding): the Host has to be this one.
    """
    headers = request.headers
    if any(name in headers for name in PROXY_HEADERS):
        return False
    return _HERE.fullmatch(headers.get("Host", "")) is not None


def operations_by_route(
    router: UrlDispatcher, offered: Sequence[Operation], api_path: str
) -> dict[AbstractRoute, Operation]:
    """By route: HEAD is where GET is; a slash at the end changes nothing."""
    table = {
        (operation.method, (operation.path if operation.is_outside else f"{api_path}{operation.path}").rstrip("/")): (
            operation
        )
        for operation in offered
    }
    found = {}
    for route in router.routes():
        path = route.resource.canonical if route.resource is not None else ""
        method = "GET" if route.method == "HEAD" else route.method
        operation = table.get((method, path.rstrip("/")))
        if operation is not None:
            found[route] = operation
    return found


def _too_little(needed: Role, principal: Principal) -> str:
    if principal.via == "anonymous" and needed is Role.ADMIN:
        return "administration over HTTP is switched off here for those who are not logged in (ADMIN_API)"
    return f"this takes the role {needed.word}, and {principal.name} is {principal.role.word}"


LoginMaker = Callable[[Links, Cors], Login]
