"""How the archive shows a FHIR server who it is: not at all, Basic, a bearer token, or OAuth2 client credentials."""

from __future__ import annotations

import base64
import logging
import threading
import time
from collections.abc import Mapping
from typing import Protocol
from urllib.parse import quote_plus, urlencode

import orjson

from pacs.observers.http import Http
from pacs.services.jobs import Unavailable

log = logging.getLogger(__name__)

_EARLY_S = 30.0  # a token is not used any more when it is about to end
_MAX_BYTES = 1 << 20
_USUAL_S = 300.0  # RFC 6749 5.1 lets a server not say how long


class Login(Protocol):
    def headers(self, http: Http) -> Mapping[str, str]:
        """Of each request. May ask another server. Raises Unavailable when that does not answer, or refuses."""

    def renew(self) -> bool:
        """The server refused what ``headers`` gave: whether something else can be tried."""


class FixedLogin:
    """The same header always; none when ``authorization`` is empty."""

    def __init__(self, authorization: str = "") -> None:
        self._headers = {"Authorization": authorization} if authorization else {}

    def headers(self, http: Http) -> Mapping[str, str]:
        return self._headers

    def renew(self) -> bool:
        return False


def basic(user: str, password: str) -> str:
    return f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"


class ClientCredentials:
    """OAuth2 client credentials (RFC 6749 4.4); the token is kept until it is about to end, or was refused.

    in_body: the secret goes into the body instead of a Basic header (2.3.1), which some servers want.
    """

    def __init__(self, token_url: str, client_id: str, secret: str, *, scope: str = "", in_body: bool = False) -> None:
        self._url = token_url
        self._form = {"grant_type": "client_credentials", **({"scope": scope} if scope else {})}
        self._headers = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
        if in_body:
            self._form |= {"client_id": client_id, "client_secret": secret}
        else:
            self._headers["Authorization"] = basic(quote_plus(client_id), quote_plus(secret))
        self._lock = threading.Lock()  # one thread fetches a token, the others wait for it
        self._token = ""
        self._until = 0.0

    def headers(self, http: Http) -> Mapping[str, str]:
        with self._lock:
            if not self._token or time.monotonic() >= self._until:
                self._fetch(http)
            return {"Authorization": f"Bearer {self._token}"}

    def renew(self) -> bool:
        with self._lock:
            self._token = ""
        return True

    def _fetch(self, http: Http) -> None:
        response = http.exchange("POST", self._url, urlencode(self._form).encode(), self._headers, _MAX_BYTES)
        try:
            answer = orjson.loads(response.body)
            token = answer["access_token"] if response.status == 200 else ""
        except (orjson.JSONDecodeError, KeyError, TypeError):
            answer, token = {}, ""
        if not isinstance(token, str) or not token:
            reason = str(answer.get("error", "")) if isinstance(answer, dict) else ""
            raise Unavailable(f"the token server answered {response.status} {reason[:100]}".rstrip())
        try:
            lasts_s = float(answer.get("expires_in", _USUAL_S))
        except (TypeError, ValueError):
            lasts_s = _USUAL_S
        self._token = token
        self._until = time.monotonic() + max(lasts_s - _EARLY_S, lasts_s / 2)
        log.debug("token fetched lasts_s=%.0f", lasts_s)
