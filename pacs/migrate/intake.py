"""Instances that come from another archive: counted, stored in groups, and known by what is there already."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from pacs.dicom.model import Caller, StoredInstance, Target
from pacs.errors import OutOfResources, PacsError
from pacs.index.base import Index, Put
from pacs.services.spool import Spool
from pacs.services.store import Store, Stored

Progress = Callable[[int], None]


@dataclass
class Summary:
    """failed: what was not taken, and why. gone: it was removed over there while we worked."""

    studies: int = 0
    instances: int = 0  # that the other archive has
    stored: int = 0
    already_there: int = 0
    wanted: int = 0  # in a dry run: what would be fetched
    gone: int = 0
    size_bytes: int = 0
    failed: list[tuple[str, str]] = field(default_factory=list)

    def sentence(self) -> str:
        parts = [f"{self.stored:,} stored ({self.size_bytes / 1e6:,.1f} MB)", f"{self.already_there:,} already there"]
        parts += [f"{self.wanted:,} to be fetched"] if self.wanted else []
        parts += [f"{self.gone:,} removed over there meanwhile"] if self.gone else []
        parts += [f"{len(self.failed):,} failed"] if self.failed else []
        return ", ".join(parts)


class Intake:
    """The way into this archive. Its coroutines run on one loop; blocking work goes to threads."""

    def __init__(
        self, index: Index, store: Store, caller: Caller, *, dry_run: bool, progress: Progress = lambda done: None
    ) -> None:
        self._index = index
        self._store = store
        self._caller = caller
        self._progress = progress
        self.dry_run = dry_run
        self.summary = Summary()

    async def known(self, study_uid: str) -> dict[str, StoredInstance]:
        """What is here of a study, by SOP Instance UID."""
        found = await asyncio.to_thread(self._index.locate, Target(study_uid))
        return {instance.target.sop_uid or "": instance for instance in found}

    def spool(self) -> Spool:
        return self._store.spool()

    def skip(self, number: int) -> None:
        """So many are here already."""
        self.summary.already_there += number
        self._progress(number)

    def want(self, number: int) -> None:
        """So many would have been fetched, if this were not a dry run."""
        self.summary.wanted += number
        self._progress(number)

    def gone(self) -> None:
        self.summary.gone += 1
        self._progress(1)

    def fail(self, name: str, reason: str, number: int = 1) -> None:
        self.summary.failed.append((name, reason))
        self._progress(number)

    async def store(self, spools: Sequence[Spool]) -> list[Stored | PacsError]:
        """Store a group in one commit; what comes of each is not counted yet.

        Raises OutOfResources when the archive cannot take more.
        """
        if not spools:
            return []
        results = await asyncio.to_thread(self._store.store_many, spools, self._caller, derive_uids=True)
        for result in results:
            if isinstance(result, OutOfResources):
                raise result
        return results

    def count(self, stored: Stored) -> None:
        """An instance came, and is here."""
        if stored.outcome is Put.SAME:
            self.summary.already_there += 1
        else:
            self.summary.stored += 1
            self.summary.size_bytes += stored.instance.blob.size_bytes
        self._progress(1)
