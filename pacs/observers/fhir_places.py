"""Where on a FHIR server the resource with an identifier is, and making it there once only.

The archive remembers the id of each, as a record beside its images. A server's search may lag behind by seconds, and
servers are free to look first and create then when they are asked to create something unless it is there
(If-None-Exist): so whoever makes one says so in the record before, and of several processes and nodes one does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson

from pacs.index.work import Record, RecordWrite, Work
from pacs.observers.fhir_client import Busy, Changed, FhirClient, Held, Refused, TryAgain, identifiers_of, token_of
from pacs.services.fhir_values import Json

RECORDS = "fhir"
_LATE_S = 60.0


class Places:
    """is_ours: whether a resource was made by this archive."""

    def __init__(self, work: Work, client: FhirClient, is_ours: Callable[[Mapping[str, Any]], bool]) -> None:
        self._work = work
        self._client = client
        self._is_ours = is_ours

    def find(self, kind: str, identifier: Mapping[str, Any]) -> Held | None:
        """The one resource with this identifier; None when there is none. Raises Refused when there are several."""
        key = _key(kind, identifier)
        record = self._work.record(RECORDS, key)
        known = self._content(record)
        if "id" in known:
            held = self._client.read(kind, known["id"])
            # Another server, restored or emptied, may have given the id to somebody else.
            if held is not None and _has(held, identifier):
                return held
        found = self._client.search(kind, identifier)
        in_use = [held for held in found if held.resource.get("active") is not False] or found
        if len(in_use) > 1:
            in_use = [held for held in in_use if self._is_ours(held.resource)]
        if found and len(in_use) != 1:
            listed = ", ".join(held.reference for held in found)
            raise Refused(f"the FHIR server holds {len(found)} with one identifier: {listed}; merge them, then retry")
        if not in_use:
            return None
        # What was found may be of an earlier version.
        held = self._client.read(kind, in_use[0].id)
        if held is None or not _has(held, identifier):
            raise TryAgain(f"the FHIR server finds {in_use[0].reference}, and does not have it")
        self._remember(key, record, {"id": held.id})
        return held

    def make(self, resource: Json, identifier: Mapping[str, Any]) -> str:
        """Create it; its reference. Raises Changed when somebody else has done so, TryAgain when they are about to."""
        kind = str(resource["resourceType"])
        key = _key(kind, identifier)
        record = self._work.record(RECORDS, key)
        until = self._content(record).get("until")
        now = datetime.now(UTC)
        if until and datetime.fromisoformat(until) > now:
            raise TryAgain(f"another process is making the {kind}")
        # As long as the request may be on its way, or what it did be unknown to a search, whatever becomes of us.
        until_s = self._client.timeout_s + _LATE_S
        claim = {"until": (now + timedelta(seconds=until_s)).isoformat()}
        if not self._remember(key, record, claim):
            raise TryAgain(f"another process is making the {kind}")
        claimed = self._work.record(RECORDS, key)
        try:
            resource_id, is_new = self._client.create(resource, identifier)
        except (Busy, Refused, TryAgain):  # an answer: nothing is on its way
            self.forget(kind, identifier)
            raise
        self._remember(key, claimed, {"id": resource_id})
        if not is_new:
            raise Changed(f"somebody else made the {kind} just now")
        return f"{kind}/{resource_id}"

    def forget(self, kind: str, identifier: Mapping[str, Any]) -> None:
        self._work.write_records([RecordWrite(RECORDS, _key(kind, identifier), None)])

    def _content(self, record: Record | None) -> dict[str, str]:
        """Of a record about this server."""
        content: dict[str, str] = orjson.loads(record.content) if record else {}
        return content if content.get("base") == self._client.base_url else {}

    def _remember(self, key: str, record: Record | None, content: Mapping[str, str]) -> bool:
        """False when the record is not what it was."""
        body = orjson.dumps({"base": self._client.base_url, **content})
        return self._work.write_records([RecordWrite(RECORDS, key, body, expected=record.version if record else 0)])


def _key(kind: str, identifier: Mapping[str, Any]) -> str:
    return f"{kind}/{token_of(identifier)}"


def _has(held: Held, identifier: Mapping[str, Any]) -> bool:
    return (identifier.get("system"), identifier["value"]) in identifiers_of(held.resource)
