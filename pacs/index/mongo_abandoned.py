"""Transactions that a killed node left open on the server, which would hold what they have changed for a minute.

The server notices that a client is gone, but keeps its transactions until transactionLifetimeLimitSeconds
are over; until then whoever wants to change the same study, or the archive's totals, meets a conflict.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import Any

from pymongo import MongoClient
from pymongo.errors import PyMongoError

log = logging.getLogger(__name__)

APP_NAME = "pacs"
# A node that is at work asks for something every few milliseconds. One that is not dead but has stopped for so long
# finds its transaction gone, and runs it again.
IDLE_S = 3.0


class Abandoned:
    """Ends them. Safe to call from any thread, as often as one likes."""

    def __init__(self, client: MongoClient[dict[str, Any]]) -> None:
        self._client = client
        self._lock = threading.Lock()
        self._next = 0.0

    def end(self) -> None:
        """End those that did nothing for IDLE_S; at most once in that time."""
        with self._lock:
            if time.monotonic() < self._next:
                return
            self._next = time.monotonic() + IDLE_S
        try:
            found = [one["lsid"]["id"] for one in self._client.admin.aggregate(self._pipeline())]
            for session_id in found:
                self._client.admin.command("killSessions", [{"id": session_id}])
        except PyMongoError as error:
            # The server does it by itself, later.
            log.warning("abandoned transactions could not be ended: %s", type(error).__name__)
            return
        if found:
            log.warning("ended transactions that a node left behind number=%d", len(found))

    def _pipeline(self) -> list[dict[str, Any]]:
        return [
            # Of the same user only: that needs no privilege.
            {"$currentOp": {"allUsers": False, "idleSessions": True}},
            {
                "$match": {
                    "type": "idleSession",
                    "appName": APP_NAME,
                    "transaction.timeInactiveMicros": {"$gt": int(IDLE_S * 1e6)},
                }
            },
            {"$project": {"lsid": 1}},
        ]
