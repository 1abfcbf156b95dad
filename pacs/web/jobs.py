"""Follow-up jobs: those that wait, run, or were given up."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime

import orjson
from aiohttp import web

from pacs.dicom.model import Role
from pacs.errors import Forbidden, Invalid, NotFound
from pacs.index.work import JobState, Work
from pacs.web.additions import Addition
from pacs.web.answer import json_response
from pacs.web.bridge import Bridge
from pacs.web.operations import JSON, PROBLEM, Operation, Parameter

_DEFAULT_LIMIT, _MAX_LIMIT = 100, 1000
_STATES = {state.name.lower(): state for state in JobState}


_JOB = Parameter("job", "path", "Id of a job", {"type": "string", "minLength": 1}, "0123456789abcdef", required=True)
_LISTING = (
    Parameter("kind", "query", "Who does it", {"type": "string"}, "send"),
    Parameter("state", "query", "waiting, running or dead", {"type": "string", "enum": list(_STATES)}, "dead"),
    Parameter("after", "query", "Id of the last job of the page before", {"type": "string"}, ""),
    Parameter("limit", "query", "Jobs at most", {"type": "integer", "minimum": 1, "maximum": _MAX_LIMIT}, 10),
)
_MISSING = {404: (PROBLEM,)}
OPERATIONS = (
    Operation(
        *("GET", "/jobs", "listJobs", "Follow-up", "Jobs that wait, run, or were given up", "", {200: (JSON,)}),
        tuple(parameter.name for parameter in _LISTING),
        own=_LISTING,
        needs=Role.ADMIN,
    ),
    Operation(
        "GET",
        "/jobs/{job}",
        "getJob",
        "Follow-up",
        "One job",
        "",
        {200: (JSON,), **_MISSING},
        own=(_JOB,),
        needs=Role.ADMIN,
    ),
    Operation(
        "POST",
        "/jobs/{job}/retry",
        "retryJob",
        "Follow-up",
        "Try a job now",
        "",
        {202: (), **_MISSING},
        own=(_JOB,),
        needs=Role.ADMIN,
    ),
    Operation(
        "DELETE",
        "/jobs/{job}",
        "discardJob",
        "Follow-up",
        "Give a job up",
        "",
        {204: (), **_MISSING},
        own=(_JOB,),
        needs=Role.ADMIN,
    ),
    Operation(
        *("POST", "/jobs/retry", "retryJobs", "Follow-up", "Try many jobs now", "", {200: (JSON,), 400: (PROBLEM,)}),
        bodies=(JSON,),
        needs=Role.ADMIN,
    ),
    Operation(
        *("POST", "/jobs/discard", "discardJobs", "Follow-up", "Give many jobs up", ""),
        {200: (JSON,), 400: (PROBLEM,)},
        bodies=(JSON,),
        needs=Role.ADMIN,
    ),
)


def addition(work: Work | None) -> Addition:
    """work: None where this is not allowed, and requests are told so."""
    return Addition(OPERATIONS if work is not None else (), lambda bridge, links: Jobs(work, bridge).routes())


class Jobs:
    def __init__(self, work: Work | None, bridge: Bridge) -> None:
        self._allowed = work
        self._bridge = bridge

    def routes(self) -> list[web.RouteDef]:
        """Paths below the API root."""
        return [
            web.get("/jobs", self.list),
            web.get("/jobs/{job}", self.get),
            web.post("/jobs/{job}/retry", self.retry),
            web.post("/jobs/retry", self.retry_many),
            web.post("/jobs/discard", self.discard_many),
            web.delete("/jobs/{job}", self.discard),
        ]

    async def list(self, request: web.Request) -> web.Response:
        """How many there are of each kind and state, and a page of those that are asked for."""
        work, query = self._work(), request.query
        state = query.get("state")
        if state is not None and state not in _STATES:
            raise Invalid(f"state is one of {', '.join(_STATES)}", "state")
        limit = query.get("limit", str(_DEFAULT_LIMIT))
        if not re.fullmatch("[0-9]{1,4}", limit) or not 1 <= int(limit) <= _MAX_LIMIT:
            raise Invalid(f"limit is 1 to {_MAX_LIMIT}", "limit")
        found = await self._bridge.run(
            work.jobs,
            kind=query.get("kind"),
            state=_STATES[state] if state else None,
            after=query.get("after", ""),
            limit=int(limit),
        )
        counts = await self._bridge.run(work.count_jobs)
        body = {
            "counts": [
                {"kind": kind, "state": at.name.lower(), "jobs": number}
                for (kind, at), number in sorted(counts.items())
            ],
            "jobs": [job.as_json() for job in found],
            "next": found[-1].job_id if len(found) == int(limit) else None,
        }
        return json_response(body)

    async def get(self, request: web.Request) -> web.Response:
        found = await self._bridge.run(self._work().jobs, job_id=request.match_info["job"])
        if not found:
            raise NotFound("there is no such job: it may be done")
        return json_response(found[0].as_json())

    async def retry(self, request: web.Request) -> web.Response:
        """202: it is due now, as if never tried. 404 when it is not there, or runs."""
        if not await self._bridge.run(self._work().retry_jobs, [request.match_info["job"]], datetime.now(UTC)):
            raise NotFound("there is no such job that waits or was given up")
        return web.Response(status=202)

    async def discard(self, request: web.Request) -> web.Response:
        """204: it will not be done. 404 when it is not there, or runs."""
        if not await self._bridge.run(self._work().discard_jobs, [request.match_info["job"]]):
            raise NotFound("there is no such job that waits or was given up")
        return web.Response(status=204)

    async def retry_many(self, request: web.Request) -> web.Response:
        """{"jobs": number of those that are due now}; others are gone, or run."""
        work, named = self._work(), await _named(request)
        return json_response({"jobs": await self._bridge.run(work.retry_jobs, named, datetime.now(UTC))})

    async def discard_many(self, request: web.Request) -> web.Response:
        """{"jobs": number of those that will not be done}; others are gone, or run."""
        work, named = self._work(), await _named(request)
        return json_response({"jobs": await self._bridge.run(work.discard_jobs, named)})

    def _work(self) -> Work:
        if self._allowed is None:
            raise Forbidden("administration over HTTP is switched off here (ADMIN_API)")
        return self._allowed


async def _named(request: web.Request) -> Sequence[str]:
    """Ids of the request's body, {"jobs": [...]}. Raises Invalid."""
    try:
        named = orjson.loads(await request.read())["jobs"]
    except (ValueError, KeyError, TypeError):
        named = None
    if not isinstance(named, list) or not all(isinstance(one, str) for one in named):
        raise Invalid('the body is {"jobs": [ids]}', "jobs")
    if len(named) > _MAX_LIMIT:
        raise Invalid(f"at most {_MAX_LIMIT} jobs at once", "jobs")
    return named
