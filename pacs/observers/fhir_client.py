"""A FHIR server, spoken to over HTTP (http://hl7.org/fhir/R4/http.html): read, search, create, update, delete."""

from __future__ import annotations

import email.utils
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, urlencode

import orjson

from pacs import __version__
from pacs.observers.fhir_login import Login
from pacs.observers.http import Answer, Http
from pacs.services.fhir_values import Json
from pacs.services.jobs import Unavailable

_FHIR_JSON = "application/fhir+json"
_MAX_ANSWER_BYTES = 64 << 20
_AGENT = f"raccoon-pacs/{__version__}"
_LONGEST_WAIT_S = 3600.0
_ID = re.compile(r"/(?P<type>[A-Za-z]+)/(?P<id>[A-Za-z0-9\-.]{1,64})(?:/_history/[^/]*)?/?$")
# Nothing can be done for anybody: the server is busy, or does not let us in; or who stands before it had no answer.
_BUSY = frozenset({401, 403, 408, 425, 429, 503})
_AWAY = frozenset({502, 504})
_CHANGED = frozenset({409, 412})


class Busy(Unavailable):
    """The server says itself that it has not done it; after any other Unavailable it may have."""


class Refused(Exception):
    """The server will not take this, now or later; ``str`` says why. status: 0 when it is our own conclusion."""

    def __init__(self, reason: str, status: int = 0) -> None:
        super().__init__(reason)
        self.status = status


class TryAgain(Exception):
    """This one resource could not be brought there now."""


class Changed(TryAgain):
    """Somebody else changed the resource, or makes the same one (409, 412)."""


@dataclass(frozen=True, slots=True)
class Held:
    """A resource as the server has it. etag: of this version, "" when the server has none."""

    resource: Json
    etag: str

    @property
    def id(self) -> str:
        return str(self.resource["id"])

    @property
    def reference(self) -> str:
        return f"{self.resource['resourceType']}/{self.id}"


class FhirClient:
    """Safe to call from any thread. timeout_s: that ``http`` has.

    All methods raise Unavailable when the server is away, busy, or does not let us in, TryAgain for its own failures
    (500), Changed for conflicts, Refused for everything else that is no success.
    """

    def __init__(self, base_url: str, login: Login, http: Http, *, timeout_s: float) -> None:
        self.base_url = base_url.rstrip("/")
        self.timeout_s = timeout_s
        self._login = login
        self._http = http

    def read(self, kind: str, resource_id: str) -> Held | None:
        """None when it is not there, or deleted."""
        answer = self._send("GET", f"{kind}/{quote(resource_id, safe='')}", missing_is_fine=True)
        return self._held(kind, answer) if answer.status == 200 else None

    def search(self, kind: str, identifier: Mapping[str, Any]) -> list[Held]:
        """Resources with an identifier; of very many only the first."""
        wanted = (identifier.get("system"), identifier["value"])
        query = urlencode({"identifier": token_of(identifier), "_count": "20"})
        answer = self._send("GET", f"{kind}?{query}", headers={"Cache-Control": "no-cache"})
        entries = self._json(answer).get("entry") or []
        found = [entry["resource"] for entry in entries if isinstance(entry.get("resource"), dict)]
        # What a server that ignores a parameter sends is not what was asked for.
        return [
            Held(each, _etag_of(each))
            for each in found
            if each.get("resourceType") == kind and each.get("id") and wanted in identifiers_of(each)
        ]

    def create(self, resource: Json, identifier: Mapping[str, Any]) -> tuple[str, bool]:
        """(id, whether it is new): only when the server has none with this identifier (If-None-Exist)."""
        kind = str(resource["resourceType"])
        condition = {"If-None-Exist": urlencode({"identifier": token_of(identifier)})}
        answer = self._send("POST", kind, resource, {**condition, "Prefer": "return=minimal"})
        found = _ID.search(answer.headers.get("Location", "") or answer.headers.get("Content-Location", ""))
        if found and found["type"] == kind:
            return found["id"], answer.status == 201
        body = self._json(answer) if answer.body else {}
        if body.get("resourceType") == kind and body.get("id"):
            return str(body["id"]), answer.status == 201
        # A 200 without a word: it is there, and a search tells where.
        held = self.search(kind, identifier)
        if not held:
            raise TryAgain(f"the FHIR server took a {kind} and does not say where it is")
        return held[0].id, answer.status == 201

    def is_referred_to(self, patient: Held, except_for: str) -> bool:
        """Whether the server has studies of a patient, besides one."""
        answer = self._send("GET", f"ImagingStudy?{urlencode({'subject': patient.reference, '_count': '2'})}")
        found = [entry.get("resource") or {} for entry in self._json(answer).get("entry") or []]
        return any(each.get("resourceType") == "ImagingStudy" and each.get("id") != except_for for each in found)

    def update(self, held: Held, resource: Json) -> None:
        """Raises Changed when it is not the version any more that was read."""
        condition = {"If-Match": held.etag} if held.etag else {}
        try:
            self._send("PUT", held.reference, resource, {**condition, "Prefer": "return=minimal"})
        except Refused as error:
            if error.status in (404, 405, 410):  # deleted since it was read
                raise Changed(str(error)) from error
            raise

    def delete(self, held: Held) -> None:
        condition = {"If-Match": held.etag} if held.etag else {}
        self._send("DELETE", held.reference, headers=condition, missing_is_fine=True)

    def _send(
        self,
        method: str,
        path: str,
        resource: Json | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        missing_is_fine: bool = False,
    ) -> Answer:
        body = b"" if resource is None else orjson.dumps(resource)
        given = {"Accept": _FHIR_JSON, "User-Agent": _AGENT, **(headers or {})}
        if body:
            given["Content-Type"] = _FHIR_JSON
        for attempt in range(2):
            headers = {**given, **self._login.headers(self._http)}
            answer = self._http.exchange(method, f"{self.base_url}/{path}", body, headers, _MAX_ANSWER_BYTES)
            if answer.status != 401 or attempt or not self._login.renew():
                break
        if 200 <= answer.status < 300 or (missing_is_fine and answer.status in (404, 410)):
            return answer
        raise self._error(method, path, answer)

    def _error(self, method: str, path: str, answer: Answer) -> Exception:
        what = f"{method} {path.partition('?')[0]}: {answer.status} {_outcome(answer.body)}".rstrip()
        if answer.status in _BUSY:
            return Busy(f"the FHIR server refuses for now: {what}", _retry_after_s(answer.headers))
        if answer.status in _AWAY:
            return Unavailable(f"the FHIR server is away: {what}", _retry_after_s(answer.headers))
        if answer.status in _CHANGED:
            return Changed(what)
        if answer.status >= 500:
            return TryAgain(what)
        if answer.status in (301, 302, 303, 307, 308):
            return Refused(f"{what}: the server is elsewhere; set FHIRSERVER_BASE_URL to where", answer.status)
        return Refused(what, answer.status)

    def _held(self, kind: str, answer: Answer) -> Held:
        resource = self._json(answer)
        if resource.get("resourceType") != kind or not resource.get("id"):
            raise TryAgain(f"the FHIR server answered with no {kind}")
        return Held(resource, answer.headers.get("ETag", "") or _etag_of(resource))

    def _json(self, answer: Answer) -> Json:
        try:
            found = orjson.loads(answer.body)
        except orjson.JSONDecodeError:
            found = None
        if not isinstance(found, dict):
            raise TryAgain("the FHIR server answered with what is no resource; is FHIRSERVER_BASE_URL right?")
        return found


def token_of(identifier: Mapping[str, Any]) -> str:
    """As a search parameter (http://hl7.org/fhir/R4/search.html#token), its special characters escaped."""
    parts = (identifier.get("system", ""), identifier["value"])
    return "|".join(re.sub(r"([\\,|$])", r"\\\1", str(part)) for part in parts)


def identifiers_of(resource: Mapping[str, Any]) -> list[tuple[str | None, str | None]]:
    listed = resource.get("identifier") or []
    listed = listed if isinstance(listed, list) else [listed]
    return [(each.get("system"), each.get("value")) for each in listed if isinstance(each, dict)]


def _etag_of(resource: Mapping[str, Any]) -> str:
    version = (resource.get("meta") or {}).get("versionId")
    return f'W/"{version}"' if version else ""


def _outcome(body: bytes) -> str:
    """What an OperationOutcome says, in one line."""
    try:
        outcome = orjson.loads(body)
        issues = outcome["issue"] if outcome["resourceType"] == "OperationOutcome" else []
        texts = [
            str(issue.get("diagnostics") or (issue.get("details") or {}).get("text") or issue.get("code", ""))
            for issue in issues
            if issue.get("severity") in ("fatal", "error") or len(issues) == 1
        ]
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
        return ""
    return " ".join("; ".join(text for text in texts if text).split())[:400]


def _retry_after_s(headers: Mapping[str, str]) -> float:
    """Seconds of Retry-After, a number or a date (RFC 9110 10.2.3); 0 when there is none."""
    text = headers.get("Retry-After", "").strip()
    if text.isascii() and text.isdigit():
        return min(float(text[:9]), _LONGEST_WAIT_S)
    try:
        until = email.utils.parsedate_to_datetime(text)
    except ValueError:
        return 0.0
    until = until if until.tzinfo else until.replace(tzinfo=UTC)
    return min(max(0.0, (until - datetime.now(UTC)).total_seconds()), _LONGEST_WAIT_S)
