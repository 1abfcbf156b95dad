"""An OpenID Connect provider, as a client of it: discovery, keys, codes for tokens. One event loop's."""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import aiohttp
import orjson

from pacs.dicom.model import Role
from pacs.errors import Forbidden, Invalid, OutOfResources, Unauthorized
from pacs.services.access import Principal
from pacs.web.oidc_tokens import (
    Key,
    Naming,
    at,
    check_access_token,
    check_id_token,
    claims_of,
    fitting,
    header_of,
    keys_of,
)

log = logging.getLogger(__name__)

_TIMEOUT = aiohttp.ClientTimeout(total=10.0)
_MOST_BYTES = 1 << 20
_FRESH_S = 600.0  # how long keys are used without asking again
_LONGEST_USE_S = 86_400.0  # of keys, while the provider is away
_PAUSE_S = 5.0  # between two looks for keys, whatever is asked for
_LONGEST_PAUSE_S = 60.0


@dataclass(frozen=True, slots=True)
class Client:
    """What the provider knows us as. audience: of access tokens that programs show."""

    issuer: str
    client_id: str
    client_secret: str
    scopes: str
    audience: str
    ca_file: Path | None = None


class NoRole(Forbidden):
    """The provider knows somebody, and gives them nothing to do here."""


class Provider:
    """pause_s: the least between two looks for keys; fresh_s: how long they need no look. Raises Invalid for a
    certificate file that cannot be read."""

    def __init__(self, client: Client, naming: Naming, *, pause_s: float = _PAUSE_S, fresh_s: float = _FRESH_S) -> None:
        self._client = client
        self._naming = naming
        self._pause_s = pause_s
        self._fresh_s = fresh_s
        self._metadata: Mapping[str, Any] | None = None
        self._keys: list[Key] = []
        self._looked = self._found = float("-inf")
        self._looking = asyncio.Lock()
        self._waiting: asyncio.Task[None] | None = None
        self._renewing: asyncio.Task[None] | None = None
        self._session: aiohttp.ClientSession | None = None
        try:
            self._tls = ssl.create_default_context(cafile=str(client.ca_file) if client.ca_file else None)
        except OSError as error:
            raise Invalid(
                f"OIDC_TLS_CA_FILE={client.ca_file}: {error.strerror or 'no certificates'}", "OIDC_TLS_CA_FILE"
            ) from error

    async def start(self) -> None:
        """Look for the provider, and go on looking while it is away; without waiting for it."""
        self._waiting = asyncio.create_task(self._wait())

    async def close(self) -> None:
        for task in (self._waiting, self._renewing):
            if task is not None:
                task.cancel()
        if self._session is not None:
            await self._session.close()

    async def authorize_url(self, redirect_uri: str, state: str, nonce: str, challenge: str) -> str:
        """Where a browser is sent to log in. Raises OutOfResources while the provider is away."""
        metadata = await self._known()
        scopes = dict.fromkeys(["openid", *self._client.scopes.split()])
        asked = {
            "response_type": "code",
            "client_id": self._client.client_id,
            "redirect_uri": redirect_uri,
            "scope": " ".join(scopes),
            "state": state,
            "nonce": nonce,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        }
        return _with_query(metadata["authorization_endpoint"], asked)

    def logout_url(self, back_to: str) -> str | None:
        """Where a browser is sent to log out there too (RP-Initiated Logout); None where that is not offered."""
        endpoint = (self._metadata or {}).get("end_session_endpoint")
        if not isinstance(endpoint, str):
            return None
        return _with_query(endpoint, {"client_id": self._client.client_id, "post_logout_redirect_uri": back_to})

    async def check_issuer(self, issuer: str | None) -> None:
        """That an answer at our address came from this provider (RFC 9207). Raises Unauthorized, OutOfResources."""
        metadata = await self._known()
        is_said = metadata.get("authorization_response_iss_parameter_supported") is True
        if issuer != metadata["issuer"] and (issuer is not None or is_said):
            raise Unauthorized("this answer is not the provider's")

    async def redeem(self, code: str, redirect_uri: str, verifier: str, nonce: str) -> Principal:
        """Who logged in. Raises Unauthorized, NoRole, and OutOfResources while the provider is away."""
        answer = await self._tokens(code, redirect_uri, verifier)
        id_token, access_token = answer.get("id_token"), answer.get("access_token")
        if not isinstance(id_token, str):
            raise Unauthorized("the provider sent no ID token")
        claims = await self._claims(id_token, self._client.client_id, ("exp", "iat", "sub"))
        check_id_token(claims, client_id=self._client.client_id, nonce=nonce)
        if isinstance(access_token, str):
            claims = await self._completed(claims, access_token)
        return self._named(claims)

    async def principal(self, token: str) -> Principal:
        """Who shows an access token. Raises Unauthorized, NoRole, and OutOfResources."""
        claims = await self._claims(token, self._client.audience, ("exp", "iat"))
        check_access_token(header_of(token), claims)
        return self._named(claims)

    def _named(self, claims: Mapping[str, Any]) -> Principal:
        found = self._naming.principal(claims)
        if found is None:
            raise NoRole("the provider gives you no role here: ask whoever looks after accounts there")
        return found

    async def _completed(self, claims: dict[str, Any], access_token: str) -> dict[str, Any]:
        """With what only the access token says, or userinfo: Keycloak keeps roles out of ID tokens."""
        wanted = (self._naming.role_claim, self._naming.account_claim)
        claims = dict(claims)
        for source in (self._said_by_access_token, self._userinfo):
            missing = [path for path in wanted if at(claims, path) is None]
            found = await source(access_token) if missing else {}
            if found.get("sub") == claims["sub"]:
                for path in missing:
                    claims |= _part(found, path)
        return claims

    async def _said_by_access_token(self, token: str) -> dict[str, Any]:
        try:
            return await self._claims(token, None, ("exp",))
        except Unauthorized:  # it need not be a JWT
            return {}

    async def _userinfo(self, access_token: str) -> dict[str, Any]:
        endpoint = (await self._known()).get("userinfo_endpoint")
        if not isinstance(endpoint, str):
            return {}
        status, body = await self._ask("GET", endpoint, headers={"Authorization": f"Bearer {access_token}"})
        return _object(body) if status == 200 else {}

    async def _tokens(self, code: str, redirect_uri: str, verifier: str) -> dict[str, Any]:
        metadata, client = await self._known(), self._client
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": redirect_uri,
            "code_verifier": verifier,
        }
        headers = {}
        methods = metadata.get("token_endpoint_auth_methods_supported") or ["client_secret_basic"]
        if client.client_secret and "client_secret_basic" in methods:
            pair = aiohttp.BasicAuth(quote(client.client_id, safe=""), quote(client.client_secret, safe=""))
            headers["Authorization"] = pair.encode()
        else:
            form["client_id"] = client.client_id
            if client.client_secret:
                form["client_secret"] = client.client_secret
        status, body = await self._ask("POST", metadata["token_endpoint"], headers=headers, form=form)
        answer = _object(body)
        if status != 200:
            reason = str(answer.get("error", status))[:100]
            log.warning("provider refused a code status=%d error=%s", status, reason)
            if status >= 500 or reason in ("invalid_client", "unauthorized_client"):
                raise OutOfResources("the provider does not take this archive's requests; its log says more")
            raise Unauthorized("the provider does not take this log-in: begin again")
        return answer

    async def _claims(self, token: str, audience: str | None, required: tuple[str, ...]) -> dict[str, Any]:
        header = header_of(token)
        now = time.monotonic()
        age_s = now - self._found
        if not fitting(header, self._keys) or age_s > _LONGEST_USE_S:
            await self._look(now)
        elif age_s > self._fresh_s and (self._renewing is None or self._renewing.done()):
            # Nobody waits for that: a provider that is away takes its time.
            self._renewing = asyncio.create_task(self._look(now))
        if self._metadata is None:
            raise OutOfResources("the OpenID Connect provider is away")
        issuer = self._metadata["issuer"]
        return claims_of(token, self._keys, issuer=issuer, audience=audience, required=required)

    async def _known(self) -> Mapping[str, Any]:
        if self._metadata is None:
            await self._look(time.monotonic())
        if self._metadata is None:
            raise OutOfResources("the OpenID Connect provider is away")
        return self._metadata

    async def _look(self, asked: float) -> None:
        """Discovery and keys anew, seldom: tokens with made-up keys must not make us ask for every one of them.

        asked: when somebody wanted it; what was found since will do. What was known stays when it cannot be had.
        """
        async with self._looking:
            if self._looked >= asked or time.monotonic() - self._looked < self._pause_s:
                return
            try:
                await self._discover()
                self._found = time.monotonic()
            except OutOfResources as error:
                log.warning("provider is away issuer=%s reason=%s", self._client.issuer, error)
            finally:
                self._looked = time.monotonic()

    async def _discover(self) -> None:
        issuer = self._client.issuer.rstrip("/")
        metadata = await self._document(f"{issuer}/.well-known/openid-configuration")
        if str(metadata.get("issuer", "")).rstrip("/") != issuer:
            raise OutOfResources(f"it calls itself {str(metadata.get('issuer'))[:200]}, not as OIDC_ISSUER says")
        for name in ("authorization_endpoint", "token_endpoint", "jwks_uri"):
            self._check_endpoint(metadata.get(name), name)
        for name in ("end_session_endpoint", "userinfo_endpoint"):
            if name in metadata:
                self._check_endpoint(metadata[name], name)
        keys = keys_of(await self._document(metadata["jwks_uri"]))
        if not keys:
            raise OutOfResources("it has no key that signs")
        if self._metadata is None:
            log.info("provider found issuer=%s keys=%d", metadata["issuer"], len(keys))
        self._metadata, self._keys = metadata, keys

    def _check_endpoint(self, address: object, name: str) -> None:
        parts = urlsplit(address) if isinstance(address, str) else None
        # What may go without TLS is decided by OIDC_ISSUER.
        allowed = ("https", urlsplit(self._client.issuer).scheme)
        if parts is None or parts.scheme not in allowed or not parts.netloc:
            raise OutOfResources(f"its {name} is no https address")

    async def _document(self, address: str) -> dict[str, Any]:
        status, body = await self._ask("GET", address)
        if status != 200 or not (found := _object(body)):
            raise OutOfResources(f"{urlsplit(address).path} answers {status}")
        return found

    async def _ask(
        self,
        method: str,
        address: str,
        *,
        headers: Mapping[str, str] | None = None,
        form: Mapping[str, str] | None = None,
    ) -> tuple[int, bytes]:
        """Status and body. Raises OutOfResources when no answer comes."""
        if self._session is None:
            self._session = aiohttp.ClientSession(
                timeout=_TIMEOUT, connector=aiohttp.TCPConnector(ssl=self._tls, limit=20)
            )
        sent = {"Accept": "application/json", **(headers or {})}
        try:
            # Where it leads to is where credentials go: a redirect is an answer that means nothing here.
            async with self._session.request(
                method, address, headers=sent, data=form, allow_redirects=False
            ) as response:
                body = await response.content.read(_MOST_BYTES + 1)
                while len(body) <= _MOST_BYTES and not response.content.at_eof():
                    body += await response.content.read(_MOST_BYTES + 1)
                return response.status, body[: _MOST_BYTES + 1]
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise OutOfResources(f"no answer: {str(error)[:200] or type(error).__name__}") from error

    async def _wait(self) -> None:
        pause_s = self._pause_s
        while self._metadata is None:
            await self._look(time.monotonic())
            if self._metadata is None:
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)


def naming(account_claim: str, role_claim: str, values: Mapping[Role, tuple[str, ...]]) -> Naming:
    return Naming(account_claim, role_claim, {role: frozenset(words) for role, words in values.items()})


def _part(claims: Mapping[str, Any], path: str) -> dict[str, Any]:
    """The claim at a path, within what holds it."""
    for count in range(path.count(".") + 1):
        name = path.rsplit(".", count)[0]
        if name in claims:
            return {name: claims[name]}
    return {}


def _with_query(address: str, asked: Mapping[str, str]) -> str:
    return f"{address}{'&' if '?' in address else '?'}{urlencode(asked)}"


def _object(body: bytes) -> dict[str, Any]:
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    return found if isinstance(found, dict) else {}
