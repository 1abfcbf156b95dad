"""A FHIR R4 server for tests, over real HTTP: keeps resources, and checks each request against the R4 rules.

It looks first and creates then, with time in between, when it is asked to create something unless it is there: R4 does
not say that both are one step, and on several servers they are not. What breaks a rule is answered with an error and
noted in ``violations``.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import threading
import time
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs

from aiohttp import web

from tests import fhir_rules

_FHIR_JSON = "application/fhir+json"


class FhirServer:
    """race_s: between looking and creating. search_lag_s: how long a search does not know of a new resource yet.

    faults: answers to the next requests instead of what they ask for, (status, headers) each, or seconds to be silent
    for. login: the value that Authorization must have, "" for any; "oauth": a token that ``/token`` gave.
    """

    def __init__(self, *, race_s: float = 0.0, search_lag_s: float = 0.0, login: str = "") -> None:
        self.race_s = race_s
        self.search_lag_s = search_lag_s
        self.login = login
        self.token_lasts_s = 3600
        self.tokens: list[str] = []
        self.revoked: set[str] = set()
        self.violations: list[str] = []
        self.requests: list[str] = []
        self.faults: list[float | tuple[int, dict[str, str]]] = []
        self._held: dict[tuple[str, str], dict[str, Any]] = {}
        self._made_at: dict[tuple[str, str], float] = {}
        self._gone: set[tuple[str, str]] = set()
        self._ids = itertools.count(100)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._runner: web.AppRunner | None = None
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/fhir"

    @property
    def token_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/token"

    def all(self, kind: str) -> list[dict[str, Any]]:
        """Resources of a kind, as they are now."""
        return [json.loads(json.dumps(each)) for (of, _), each in list(self._held.items()) if of == kind]

    def one(self, kind: str) -> dict[str, Any]:
        (found,) = self.all(kind)
        return found

    def put(self, resource: dict[str, Any]) -> str:
        """Something that somebody else made; its id."""
        return str(self._keep(resource, str(next(self._ids)))["id"])

    def drop(self, kind: str, resource_id: str) -> None:
        del self._held[kind, resource_id]

    def count(self, beginning: str) -> int:
        return sum(line.startswith(beginning) for line in self.requests)

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(30)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._runner is not None
        asyncio.run_coroutine_threadsafe(self._runner.cleanup(), self._loop).result(30)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _start(self) -> None:
        app = web.Application(client_max_size=64 << 20)
        app.router.add_post("/token", self._token)
        app.router.add_route("*", "/fhir/{kind}", self._answer)
        app.router.add_route("*", "/fhir/{kind}/{id}", self._answer)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def _token(self, request: web.Request) -> web.Response:
        form = await request.post()
        if (
            request.headers.get("Authorization") != "Basic cGFjczpzM2NyZXQ="
            or form["grant_type"] != "client_credentials"
        ):
            return web.json_response({"error": "invalid_client"}, status=401)
        self.tokens.append(f"token-{len(self.tokens)}")
        return web.json_response(
            {"access_token": self.tokens[-1], "token_type": "Bearer", "expires_in": self.token_lasts_s}
        )

    async def _answer(self, request: web.Request) -> web.Response:
        self.requests.append(f"{request.method} {request.path_qs.removeprefix('/fhir/')}")
        if self.faults:
            fault = self.faults.pop(0)
            if not isinstance(fault, tuple):
                await asyncio.sleep(fault)
                return _error(503, "too late")
            return _error(fault[0], "as told", fault[1])
        if not self._lets_in(request.headers.get("Authorization", "")):
            return _error(401, "who are you?")
        if _FHIR_JSON not in request.headers.get("Accept", ""):
            return self._violation(406, f"{request.method} does not accept {_FHIR_JSON}")
        kind, resource_id = request.match_info["kind"], request.match_info.get("id")
        resource = None
        if request.method in ("POST", "PUT"):
            if request.headers.get("Content-Type", "").partition(";")[0] != _FHIR_JSON:
                return self._violation(415, "the body is not application/fhir+json")
            resource = await request.json()
            wrong = self._wrong_about(resource, kind, resource_id)
            if wrong:
                return self._violation(400, wrong)
        match request.method, resource_id:
            case "GET", None:
                return self._search(kind, request)
            case "GET", str():
                return self._read(kind, resource_id)
            case "POST", None:
                assert resource is not None
                return await self._create(resource, request)
            case "PUT", str():
                assert resource is not None
                return self._update(resource, resource_id, request)
            case "DELETE", str():
                return self._delete(kind, resource_id, request)
        return self._violation(405, f"{request.method} {request.path}")

    def _lets_in(self, authorization: str) -> bool:
        if self.login == "oauth":
            token = authorization.removeprefix("Bearer ")
            return token in self.tokens and token not in self.revoked
        return self.login in ("", authorization)

    def _wrong_about(self, resource: dict[str, Any], kind: str, resource_id: str | None) -> str:
        if resource.get("resourceType") != kind:
            return f"a {resource.get('resourceType')} at {kind}"
        if resource_id != resource.get("id"):
            return f"id {resource.get('id')} at {resource_id}"
        try:
            fhir_rules.check(resource)
        except Exception as error:  # noqa: BLE001 - of two libraries
            return str(error)
        for reference in fhir_rules.references_of(resource):
            of, _, to = reference.partition("/")
            if not reference.startswith("#") and (of, to) not in self._held:
                return f"{reference} is not there"
        return ""

    def _search(self, kind: str, request: web.Request) -> web.Response:
        found = self._matching(kind, request.query_string)
        count = int(request.query.get("_count", "20"))
        bundle = {
            "resourceType": "Bundle",
            "type": "searchset",
            "total": len(found),
            "entry": [{"fullUrl": f"{self.url}/{kind}/{each['id']}", "resource": each} for each in found[:count]],
        }
        return _json(bundle)

    def _matching(self, kind: str, query: str) -> list[dict[str, Any]]:
        asked = parse_qs(query, strict_parsing=True)
        unknown = asked.keys() - {"identifier", "subject", "_count"}
        if unknown:
            self.violations.append(f"unknown search parameters {unknown}")
        found = []
        for place, resource in self._held.items():
            if place[0] != kind or time.monotonic() - self._made_at[place] < self.search_lag_s:
                continue
            tokens = {f"{each.get('system', '')}|{each['value']}" for each in resource.get("identifier", [])}
            if not all(value.replace("\\", "") in tokens for value in asked.get("identifier", [])):
                continue
            if all(resource["subject"]["reference"] == value for value in asked.get("subject", [])):
                found.append(resource)
        return found

    def _read(self, kind: str, resource_id: str) -> web.Response:
        if (kind, resource_id) in self._gone:
            return _error(410, "deleted")
        held = self._held.get((kind, resource_id))
        return _json(held, etag=True) if held else _error(404, "not known")

    async def _create(self, resource: dict[str, Any], request: web.Request) -> web.Response:
        condition = request.headers.get("If-None-Exist")
        if not condition:
            return self._violation(400, "a create that would make a second one")
        found = self._matching(resource["resourceType"], condition)
        if len(found) > 1:
            return _error(412, "several match")
        if found:
            return _json(found[0], etag=True)
        await asyncio.sleep(self.race_s)
        made = self._keep(resource, str(next(self._ids)))
        location = f"{self.url}/{made['resourceType']}/{made['id']}/_history/1"
        # Prefer: return=minimal
        return web.Response(status=201, headers={"Location": location, "ETag": 'W/"1"'})

    def _update(self, resource: dict[str, Any], resource_id: str, request: web.Request) -> web.Response:
        held = self._held.get((resource["resourceType"], resource_id))
        if held is None:
            return _error(404, "nothing to update")
        if not request.headers.get("If-Match"):
            return self._violation(400, "an update that may undo somebody else's")
        if request.headers["If-Match"] != _etag(held):
            return _error(412, "another version")
        return _json(self._keep(resource, resource_id), etag=True)

    def _delete(self, kind: str, resource_id: str, request: web.Request) -> web.Response:
        held = self._held.get((kind, resource_id))
        if held is None:
            return _error(404, "not known")
        if request.headers.get("If-Match") != _etag(held):
            return _error(412, "another version")
        for (of, by), resource in self._held.items():
            if f"{kind}/{resource_id}" in fhir_rules.references_of(resource):
                return _error(409, f"{of}/{by} refers to it")
        del self._held[kind, resource_id]
        self._gone.add((kind, resource_id))
        return web.Response(status=204)

    def _keep(self, resource: dict[str, Any], resource_id: str) -> dict[str, Any]:
        place = (resource["resourceType"], resource_id)
        before = self._held.get(place)
        version = int(before["meta"]["versionId"]) + 1 if before else 1
        meta = {**resource.get("meta", {}), "versionId": str(version), "lastUpdated": "2026-01-01T00:00:00Z"}
        self._held[place] = {**resource, "id": resource_id, "meta": meta}
        self._made_at.setdefault(place, time.monotonic())
        return self._held[place]

    def _violation(self, status: int, what: str) -> web.Response:
        self.violations.append(what)
        return _error(status, what)


def _etag(resource: dict[str, Any]) -> str:
    return f'W/"{resource["meta"]["versionId"]}"'


def _json(resource: dict[str, Any], *, etag: bool = False) -> web.Response:
    headers = {"ETag": _etag(resource)} if etag else {}
    return web.Response(body=json.dumps(resource).encode(), content_type=_FHIR_JSON, headers=headers)


def _error(status: int, text: str, headers: dict[str, str] | None = None) -> web.Response:
    issue = {"severity": "error", "code": "processing", "diagnostics": text}
    body = {"resourceType": "OperationOutcome", "issue": [issue]}
    return web.Response(status=status, body=json.dumps(body).encode(), content_type=_FHIR_JSON, headers=headers)
