"""Whether the archive can be used: what a load balancer, and ``pacs status``, ask."""

from __future__ import annotations

import time
from collections.abc import Callable

from pacs.archive import Archive
from pacs.errors import OutOfResources, PacsError
from pacs.web.health import Check


def checks(archive: Archive, peers: Callable[[], dict[str, str]] | None = None) -> list[Check]:
    """May block. peers: what is wrong with each, "" for nothing."""

    def disk() -> None:
        if problem := archive.room.problem():
            raise OutOfResources(problem)

    def store() -> None:
        if archive.blobs.identity() is None:
            raise OutOfResources("the store is empty: its disk may not be mounted")

    found = [
        _check("index", archive.index.counts),
        _check("store", store),
        _check("disk", disk),
    ]
    for name, problem in (peers() if peers is not None else {}).items():
        found.append(Check(f"peer {name}", f"{name} does not answer: {problem}" if problem else "", is_needed=False))
    return found


def _check(name: str, look: Callable[[], object]) -> Check:
    began = time.perf_counter()
    problem = ""
    try:
        look()
    except PacsError as error:
        problem = str(error)
    return Check(name, problem, (time.perf_counter() - began) * 1000)
