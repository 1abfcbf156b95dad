"""Logging in at an OpenID Connect provider: authorization code with PKCE (RFC 7636), and its tokens of programs.

Nothing is kept between sending a browser away and its coming back: its cookie has one random text, which state, nonce
and PKCE's verifier are made from by a key of ours. So any process can take the answer, and only that browser bring it.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import logging
import re
import secrets
import time
from typing import TYPE_CHECKING
from urllib.parse import quote

from aiohttp import web

from pacs.errors import Forbidden, OutOfResources, PacsError, Unauthorized
from pacs.services.access import Principal
from pacs.services.sessions import Sessions
from pacs.web.additions import Addition
from pacs.web.links import Links
from pacs.web.login import Login
from pacs.web.operations import PROBLEM, Operation, Parameter
from pacs.web.ways import credentials

if TYPE_CHECKING:
    from pacs.web.oidc_provider import Provider

log = logging.getLogger(__name__)

_GROUP = "Accounts"
_LASTS_S = 600  # how long somebody may take to log in there
_LONGEST_NEXT = 1000
_TEXT = {"type": "string"}
_NEXT = Parameter("next", "query", "Where in the web page to go then, such as /studies", _TEXT, "/studies")
_STATE = Parameter("state", "query", "As it was sent to the provider", _TEXT, "0", required=True)
_CODE = Parameter("code", "query", "What the provider gives tokens for", _TEXT, "0")
OPERATIONS = (
    Operation(
        *("GET", "/session/oidc", "beginOidcLogIn", _GROUP, "Log in at the OpenID Connect provider: a redirect", ""),
        {302: ()},
        query=("next",),
        own=(_NEXT,),
        is_public=True,
    ),
    Operation(
        *("GET", "/session/oidc/callback", "endOidcLogIn", _GROUP, "Where the provider sends browsers back to", ""),
        {303: (), 400: (PROBLEM,)},
        query=("state", "code"),
        own=(_STATE, _CODE),
        is_public=True,
    ),
)
# A place of the page: one slash, so no other host; nothing that ends a header or an address.
_PLACE = re.compile(r"/(?![/\\])[!-~]*")


class OidcWay:
    """Access tokens as Bearer: JWTs of the provider. Others are not looked at."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider

    async def identify(self, request: web.Request) -> Principal | None:
        given = credentials(request, "bearer")
        return await self._provider.principal(given) if given is not None and given.count(".") == 2 else None


class OidcResources:
    """login: known when the server is put together, so before the first request."""

    def __init__(self, provider: Provider, sessions: Sessions) -> None:
        self._provider = provider
        self._sessions = sessions
        self._login: Login | None = None

    def addition(self) -> Addition:
        return Addition(
            OPERATIONS,
            lambda bridge, links: self.routes(links),
            close=self._provider.close,
            start=self._provider.start,
        )

    def serve(self, login: Login) -> Login:
        self._login = login
        return login

    def routes(self, links: Links) -> list[web.RouteDef]:
        """Paths below the API root."""
        self._links = links
        return [web.get("/session/oidc", self.begin), web.get("/session/oidc/callback", self.end)]

    async def begin(self, request: web.Request) -> web.Response:
        """302 to the provider; back to the log-in of the page, with what is wrong, while that is away."""
        place = request.query.get("next", "")
        place = place if len(place) <= _LONGEST_NEXT and _PLACE.fullmatch(place) else ""
        content = f"{int(time.time())}.{secrets.token_urlsafe(16)}.{_packed(place)}"
        state = self._made("state", content)
        try:
            url = await self._provider.authorize_url(
                self._redirect_uri(request),
                state,
                self._made("nonce", content),
                _packed(hashlib.sha256(self._made("verifier", content).encode()).digest()),
            )
        except OutOfResources as error:
            return self._refused(request, "away", error)
        response = web.Response(status=302, headers={"Location": url, "Cache-Control": "no-store"})
        self._set_cookie(request, response, state, f"{content}.{self._made('cookie', content)}")
        return response

    async def end(self, request: web.Request) -> web.Response:
        """303 to the page, with a session, or to its log-in with what is wrong."""
        state = request.query.get("state", "")
        content = self._content(request, state)
        if content is None:
            return self._refused(request, "state", "no log-in of this browser is under way")
        response: web.Response
        try:
            await self._provider.check_issuer(request.query.get("iss"))
            if "error" in request.query or not request.query.get("code"):
                reason = re.sub(r"[^\w. -]", "?", request.query.get("error", "no code"))[:100]
                response = self._refused(request, "denied", reason)
            else:
                response = await self._begun(request, content)
        except OutOfResources as error:
            response = self._refused(request, "away", error)
        except Unauthorized as error:
            response = self._refused(request, "refused", error)
        except Forbidden as error:
            response = self._refused(request, "role", error)
        # Whatever came of it: an answer counts once.
        self._set_cookie(request, response, state, None)
        return response

    async def _begun(self, request: web.Request, content: str) -> web.Response:
        principal = await self._provider.redeem(
            request.query["code"],
            self._redirect_uri(request),
            self._made("verifier", content),
            self._made("nonce", content),
        )
        log.info("logged in way=oidc role=%s", principal.role.word)
        place = _unpacked(content.split(".")[2]) or "/studies"
        response = self._to_page(request, f"#{place}")
        login = self._known()
        login.set_cookie(request, response, self._sessions.text(self._sessions.begin_for(principal)))
        return response

    def _content(self, request: web.Request, state: str) -> str | None:
        """Of the browser's cookie for a state; None when there is none, or it is too old."""
        content, _, proof = request.cookies.get(self._cookie(state), "").rpartition(".")
        if not content or not hmac.compare_digest(proof.encode(), self._made("cookie", content).encode()):
            return None
        is_old = time.time() > int(content.partition(".")[0]) + _LASTS_S
        is_right = hmac.compare_digest(state.encode(), self._made("state", content).encode())
        return content if is_right and not is_old else None

    def _made(self, purpose: str, content: str) -> str:
        return self._sessions.proof(f"oidc-{purpose}", content)

    def _cookie(self, state: str) -> str:
        """Its name: each log-in has one of its own, so that two tabs do not take each other's."""
        return f"{self._sessions.cookie}_{hashlib.sha256(state.encode('utf-8', 'replace')).hexdigest()[:8]}"

    def _set_cookie(self, request: web.Request, response: web.Response, state: str, text: str | None) -> None:
        response.set_cookie(
            *(self._cookie(state), text or ""),
            max_age=_LASTS_S if text else 0,
            httponly=True,
            secure=self._links.base(request).startswith("https:"),
            samesite="Lax",  # the provider's page leads back here
        )

    def _redirect_uri(self, request: web.Request) -> str:
        return f"{self._links.base(request)}/session/oidc/callback"

    def _refused(self, request: web.Request, word: str, reason: PacsError | str) -> web.Response:
        log.warning("log-in refused way=oidc reason=%s", reason)
        return self._to_page(request, f"#/login?failed={quote(word)}")

    def _to_page(self, request: web.Request, fragment: str) -> web.Response:
        headers = {"Location": f"{self._links.page(request)}{fragment}", "Cache-Control": "no-store"}
        return web.Response(status=303, headers=headers)

    def _known(self) -> Login:
        assert self._login is not None
        return self._login


def _packed(data: bytes | str) -> str:
    data = data.encode() if isinstance(data, str) else data
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _unpacked(text: str) -> str:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode()
