"""Who works on a Mongo index: each process keeps a document alive by the database's clock while it is at work."""

from __future__ import annotations

import logging
import os
import socket
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from pymongo.errors import PyMongoError

from pacs.errors import OutOfResources

log = logging.getLogger(__name__)

LEASE_S = 20.0
_BEAT_S = 5.0


@contextmanager
def occupy(nodes: Any, what: str, *, exclusive: bool = False) -> Iterator[None]:
    """Be at work, alone when exclusive. nodes: the collection. Raises OutOfResources when others forbid it."""
    own = uuid.uuid4().hex
    fields = {"what": what, "host": socket.gethostname(), "pid": os.getpid(), "exclusive": exclusive}
    try:
        _beat(nodes, own, fields)
        _check(nodes, own, exclusive)
    except PyMongoError as error:
        raise OutOfResources("MongoDB cannot be used: no primary answers") from error
    stop = threading.Event()
    thread = threading.Thread(target=_keep, args=(nodes, own, fields, stop), name="index-lease", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        with suppress(PyMongoError):
            nodes.delete_one({"_id": own})


def _beat(nodes: Any, own: str, fields: dict[str, Any]) -> None:
    until = {"$add": ["$$NOW", int(LEASE_S * 1000)]}
    nodes.update_one({"_id": own}, [{"$set": {**fields, "until": until}}], upsert=True)


def _check(nodes: Any, own: str, exclusive: bool) -> None:
    """Both who come at once may be refused, never both admitted: each has said that it is there before it looks."""
    dead = {"$expr": {"$lt": ["$until", "$$NOW"]}}
    nodes.delete_many(dead)
    others = {"_id": {"$ne": own}} if exclusive else {"_id": {"$ne": own}, "exclusive": True}
    found = nodes.find_one(others)
    if found is None:
        return
    nodes.delete_one({"_id": own})
    who = f"{found['what']} (process {found['pid']} on {found['host']})"
    if exclusive:
        raise OutOfResources(
            f"others are at work on this index: {who}; stop them first (one that was killed counts for {LEASE_S:.0f} s)"
        )
    raise OutOfResources(f"{who} has the index to itself; try again when it is done")


def _keep(nodes: Any, own: str, fields: dict[str, Any], stop: threading.Event) -> None:
    while not stop.wait(_BEAT_S):
        try:
            _beat(nodes, own, fields)
        except PyMongoError as error:
            log.warning("could not say that this process is at work: %s", type(error).__name__)
