"""Who the caller is, as the web page asks before it shows anything; logging in and out."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import orjson
from aiohttp import web

from pacs.dicom.model import Caller, Role
from pacs.errors import Forbidden, Invalid, PacsError, TooOften, Unauthorized
from pacs.services.access import Principal, scope_as_json
from pacs.services.accesses import Access, Action, Hear, unheard
from pacs.services.accounts import Accounts, word_of
from pacs.services.roster import Account
from pacs.services.sessions import Session, Sessions
from pacs.services.shares import Shares
from pacs.web.additions import Addition
from pacs.web.answer import json_response
from pacs.web.identity import PRINCIPAL
from pacs.web.links import Links
from pacs.web.login import Login
from pacs.web.operations import JSON, PROBLEM, Operation
from pacs.web.ways import Hashing, session_of

_GROUP = "Accounts"
_LONGEST_NAME = 64  # in the audit trail, of those who could not log in
_REFUSED: dict[int, tuple[str, ...]] = {401: (PROBLEM,), 429: (PROBLEM,)}
OPERATIONS = (
    Operation("GET", "/session", "getSession", _GROUP, "Who the caller is", "", {200: (JSON,)}, is_public=True),
    Operation(
        *("POST", "/session", "logIn", _GROUP, "Log in: a cookie", "", {200: (JSON,), 410: (PROBLEM,), **_REFUSED}),
        bodies=(JSON,),
        is_public=True,
    ),
    Operation("DELETE", "/session", "logOut", _GROUP, "Log out", "", {200: (JSON,), 204: ()}, is_public=True),
    Operation(
        *("POST", "/session/password", "changeOwnPassword", _GROUP, "Change one's own password", ""),
        {204: (), 429: (PROBLEM,)},
        bodies=(JSON,),
        needs=Role.READER,
    ),
)
_STRANGER = {"name": "", "role": "none", "via": "anonymous"}


class SessionResources:
    """login: known when the server is put together, so before the first request. hear: told of who logs in and out.

    logout_url: where to log out at an OpenID Connect provider too, of the page's own address; None where there is none.
    """

    def __init__(
        self,
        accounts: Accounts,
        shares: Shares,
        sessions: Sessions,
        hashing: Hashing,
        hear: Hear = unheard,
        logout_url: Callable[[str], str | None] = lambda page: None,
    ) -> None:
        self._accounts = accounts
        self._shares = shares
        self._logout_url = logout_url
        self._sessions = sessions
        self._hashing = hashing
        self._hear = hear
        self._login: Login | None = None
        self._links: Links | None = None

    def addition(self) -> Addition:
        return Addition(OPERATIONS, lambda bridge, links: self.routes(links), self._close)

    def serve(self, login: Login) -> Login:
        self._login = login
        return login

    def routes(self, links: Links) -> list[web.RouteDef]:
        """Paths below the API root."""
        self._links = links
        return [
            web.get("/session", self.get),
            web.post("/session", self.log_in),
            web.delete("/session", self.log_out),
            web.post("/session/password", self.change_password),
        ]

    async def get(self, request: web.Request) -> web.Response:
        """name, role ("none" for who may nothing), via, modalities, labels, canDownload;

        csrf: for the X-Pacs-Csrf header of what changes something, "" where that is not asked. ways: how one can log
        in.
        """
        try:
            principal = await self._known().who(request)
        except (Unauthorized, Forbidden):
            principal = None
        return self._told(principal, session_of(request))

    async def log_in(self, request: web.Request) -> web.Response:
        """Of ``{"name": …, "password": …}``. 401 when they are not right, 429 after too many tries.

        Or of ``{"share": …}``, the last part of a share's link: ``study`` is in the answer, 410 when it is over.
        Whoever may see everything anyway stays who they are.
        """
        login = self._known()
        login.check_own_origin(request)
        found = await object_of(request)
        if "share" in found:
            return await self._shared(request, word_of(found, "share"))
        name, password = word_of(found, "name"), word_of(found, "password")
        try:
            account = await self._hashing.verify(name, password, self._address(request))
        except TooOften as error:
            # No names: who tries thousands of them would fill the audit trail with those.
            self._tell(request, Action.LOGGED_IN, failure=str(error))
            raise
        except PacsError as error:
            self._tell(request, Action.LOGGED_IN, name[:_LONGEST_NAME], failure=str(error))
            raise
        return self._begun(request, account)

    async def log_out(self, request: web.Request) -> web.Response:
        """204, also when nobody was logged in. The session is over for all who have its cookie.

        200 with ``logout``, an address to go to, when it began at an OpenID Connect provider where one logs out too.
        """
        login = self._known()
        login.check_own_origin(request)
        principal = await login.who(request)
        session = session_of(request)
        if session is not None:
            await asyncio.to_thread(self._sessions.end, session)
            self._tell(request, Action.LOGGED_OUT, principal.name if principal is not None else "")
        assert self._links is not None
        there = self._logout_url(self._links.page(request)) if session and session.way == "oidc" else None
        response = json_response({"logout": there}) if there else web.Response(status=204)
        login.set_cookie(request, response, None)
        return response

    async def change_password(self, request: web.Request) -> web.Response:
        """Of ``{"old": …, "new": …}``. All sessions end; the caller's goes on with a new cookie."""
        found = await object_of(request)
        old, new = word_of(found, "old"), word_of(found, "new")
        name = local_account(request)
        try:
            await self._hashing.verify(name, old, self._address(request))
        except Unauthorized:
            raise Forbidden("the old password is not right") from None
        account = await asyncio.to_thread(self._accounts.change, name, {"password": new})
        response = web.Response(status=204)
        if session_of(request) is not None:
            self._known().set_cookie(request, response, self._sessions.text(self._sessions.begin(account)))
        return response

    async def _shared(self, request: web.Request, text: str) -> web.Response:
        login = self._known()
        principal, share = await asyncio.to_thread(self._shares.principal, text)
        try:
            known = await login.who(request)
        except PacsError:
            known = None
        if known is not None and known.scope.is_everything:
            return self._told(known, session_of(request), {"study": share.study_uid})
        session = self._sessions.begin_for(principal)
        self._tell(request, Action.LOGGED_IN, principal.name)
        response = self._told(principal, session, {"study": share.study_uid})
        login.set_cookie(request, response, self._sessions.text(session))
        return response

    def _begun(self, request: web.Request, account: Account) -> web.Response:
        session = self._sessions.begin(account)
        self._tell(request, Action.LOGGED_IN, account.name)
        principal = Principal(account.name, account.role, account.scope, "session")
        response = self._told(principal, session)
        self._known().set_cookie(request, response, self._sessions.text(session))
        return response

    def _told(
        self, principal: Principal | None, session: Session | None, more: Mapping[str, object] | None = None
    ) -> web.Response:
        body: dict[str, object] = dict(_STRANGER)
        if principal is not None:
            body = {"name": principal.name, "role": principal.role.word, "via": principal.via}
            body |= scope_as_json(principal.scope) | {"canDownload": principal.may_download}
        body["csrf"] = self._sessions.csrf(session) if session else ""
        body["ways"] = self._known().ways
        return json_response({**body, **(more or {})})

    def _tell(self, request: web.Request, action: Action, name: str = "", failure: str = "") -> None:
        """name: whom somebody is, or says to be."""
        caller = replace(self._caller(request), name=name)
        self._hear(Access(action, caller, is_failure=bool(failure), detail=failure))

    def _address(self, request: web.Request) -> str:
        return self._caller(request).address

    def _caller(self, request: web.Request) -> Caller:
        assert self._links is not None
        return self._links.caller(request)

    def _known(self) -> Login:
        assert self._login is not None
        return self._login

    async def _close(self) -> None:
        self._hashing.close()


def local_account(request: web.Request) -> str:
    """Name of the account that the caller logged in with. Raises Forbidden for all others, tokens too."""
    principal = principal_of(request)
    if principal is None or principal.via not in ("password", "session"):
        raise Forbidden("this is for those who logged in with a name and a password")
    return principal.name


def principal_of(request: web.Request) -> Principal | None:
    found = request.get(PRINCIPAL)
    return found if isinstance(found, Principal) else None


async def object_of(request: web.Request) -> Mapping[str, Any]:
    """A JSON object in the body. Raises Invalid."""
    try:
        found = orjson.loads(await request.read())
    except orjson.JSONDecodeError as error:
        raise Invalid(f"The request is not JSON: {str(error)[:100]}", "body") from error
    if not isinstance(found, dict):
        raise Invalid("The request must be a JSON object", "body")
    return found
