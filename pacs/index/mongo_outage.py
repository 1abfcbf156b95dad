"""Calls that come while MongoDB has no primary: one waits for it, the others fail at once."""

from __future__ import annotations

from typing import Any

from pymongo import MongoClient
from pymongo.errors import PyMongoError, ServerSelectionTimeoutError

from pacs.errors import OutOfResources

# How soon the driver sees that a primary is back.
HEARTBEAT_MS = 2000


class Outage:
    """Remembers that somebody waited for a primary in vain, until there is one again. Safe to call from any thread."""

    def __init__(self, client: MongoClient[dict[str, Any]]) -> None:
        self._client = client
        self._is_known = False

    def check(self) -> None:
        """Raises OutOfResources while there is no primary, once somebody waited for one in vain."""
        if self._is_known:
            if not self._client.topology_description.has_writable_server():
                raise OutOfResources("the index is away: MongoDB has no primary that answers")
            self._is_known = False

    def note(self, error: PyMongoError) -> None:
        """A call ended with this error."""
        if isinstance(error, ServerSelectionTimeoutError):
            self._is_known = True
