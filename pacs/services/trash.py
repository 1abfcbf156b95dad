"""What was deleted and not yet purged: listed, and taken back.

Restoring takes the same file in again under the same key: it is made known to the index as ``pacs reindex`` would, with
the time of its arrival and its sender where these are known. It is recorded beside the files before the rows come, so
that a crash in between leaves at worst what the next call, or reindex, completes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import islice
from typing import Any

import orjson

from pacs.blobs.base import BlobStore
from pacs.dicom.dictionary import first_value
from pacs.dicom.header import read_header
from pacs.dicom.model import EVERYTHING, Caller, InstanceRecord, Scope, Target
from pacs.errors import Invalid, NotFound, PacsError, Uncertain
from pacs.index.base import Deletion, Discarded, Index, Put, deletion_key
from pacs.index.work import NewJob
from pacs.services.accesses import Access, Action, Hear, unheard
from pacs.services.delete import note_of, withdraw_record, write_record
from pacs.services.labels import Labels
from pacs.services.stored_file import record_of

log = logging.getLogger(__name__)

_BATCH = 64
_THREADS, _THREADS_AFAR = 4, 16


@dataclass(frozen=True, slots=True)
class Conflict:
    """An instance that stays deleted, and why."""

    target: Target
    reason: str

    def as_json(self) -> dict[str, object]:
        target = self.target
        return {"study": target.study_uid, "series": target.series_uid, "sop": target.sop_uid, "reason": self.reason}


@dataclass
class Restored:
    """restored: instances that are back. already: that had been stored again with the same bytes."""

    restored: int = 0
    already: int = 0
    conflicts: list[Conflict] = field(default_factory=list)

    def as_json(self) -> dict[str, object]:
        return {
            "restored": self.restored,
            "already": self.already,
            "conflicts": [each.as_json() for each in self.conflicts],
        }


@dataclass(frozen=True, slots=True)
class Page:
    """Deletions, latest first. next: what to ask for what follows with."""

    deleted: list[dict[str, Any]]
    next: str | None


class Trash:
    """Safe to call from any thread, of any process.

    follow: the jobs that follow from each instance that is back. hear: told of each restoration that somebody asks for.
    """

    def __init__(
        self,
        index: Index,
        blobs: BlobStore,
        *,
        max_inflated_bytes: int = 4 << 30,
        follow: Callable[[Target], Sequence[NewJob]] = lambda target: (),
        hear: Hear = unheard,
    ) -> None:
        self._index = index
        self._blobs = blobs
        self._max_inflated_bytes = max_inflated_bytes
        self._follow = follow
        self._hear = hear
        self._threads = _THREADS if blobs.is_local else _THREADS_AFAR

    def page(self, after: str | None, limit: int, scope: Scope = EVERYTHING) -> Page:
        """scope: deletions of what is outside it are left out of the page. Raises Invalid for what is no cursor."""
        if after is not None:
            _check_cursor(after)
        found = self._index.deletions(after, limit)
        following = deletion_key(found[-1].at, found[-1].study_uid) if len(found) == limit else None
        listed = [self._listed(each) for each in found]
        return Page([each for each in listed if self._is_within(scope, each["study"], each["modalities"])], following)

    def restore(self, target: Target, caller: Caller, *, at: datetime | None = None) -> Restored:
        """Take back what was deleted of a subtree; at: by that deletion only.

        Of an instance that was deleted several times the last version comes back. Raises NotFound when nothing of it
        that the caller may see is deleted, or all of that is purged; OutOfResources when the index or the store fails,
        and then a call again goes on with the rest.
        """
        versions = self._last_versions(target, at)
        if not self._is_within(caller.scope, target.study_uid):
            versions = []
        result, hidden = Restored(), 0
        with ThreadPoolExecutor(self._threads, "restore") as threads:
            for batch in _batches(versions):
                records = []
                for version, read in zip(batch, threads.map(self._record_or_reason, batch), strict=True):
                    if not _is_of(caller.scope, read):
                        hidden += 1
                    elif isinstance(read, str):
                        result.conflicts.append(Conflict(version.instance.target, read))
                    else:
                        records.append(read)
                self._put(records, max(each.at for each in batch), caller, result)
        if hidden == len(versions):
            raise NotFound("nothing that can be restored is deleted here")
        log.info(
            "restored study=%s series=%s sop=%s from=%s instances=%d conflicts=%d",
            *(target.study_uid, target.series_uid or "", target.sop_uid or "", caller.name),
            *(result.restored, len(result.conflicts)),
        )
        part = target.sop_uid or target.series_uid or ""
        if result.restored:
            self._hear(Access(Action.RESTORED, caller, target.study_uid, instances=result.restored, part=part))
        if result.conflicts:
            reason = f"{len(result.conflicts)} stay deleted: {result.conflicts[0].reason}"
            self._hear(Access(Action.RESTORED, caller, target.study_uid, is_failure=True, part=part, detail=reason))
        return result

    def restore_files(self, keys: Collection[str]) -> int:
        """Take back deleted files that are on record as restored (an index from a backup); how many."""
        done = 0
        found = (each for each in self._index.discarded(datetime.now(UTC)) if each.is_deleted)
        for batch in _batches(each for each in found if each.instance.blob.key in keys):
            records = [read for read in map(self._record_or_reason, batch) if not isinstance(read, str)]
            done += sum(put is not None and put.outcome is Put.STORED for put in self._index.restore(records))
        return done

    def _last_versions(self, target: Target, at: datetime | None) -> list[Discarded]:
        found: dict[Target, Discarded] = {}
        for version in self._index.deleted(target):
            if at is None or version.at == at:
                found.setdefault(version.instance.target, version)
        return list(found.values())

    def _record_or_reason(self, version: Discarded) -> InstanceRecord | str:
        """The row of a deleted file, or why there is none."""
        instance = version.instance
        try:
            state = self._blobs.state(instance.blob.key)
            record = record_of(self._blobs, instance.blob.key, state, max_inflated_bytes=self._max_inflated_bytes)
        except NotFound:
            return "its file is gone"
        except OSError as error:
            return f"its file cannot be read: {error.strerror}"
        if (record.blob.digest, record.header.target) != (instance.blob.digest, instance.target):
            return "its file is damaged: it does not hold what was stored"
        return replace(
            record, received_at=version.received_at or record.received_at, source=version.source or record.source
        )

    def _put(self, records: Sequence[InstanceRecord], deleted_at: datetime, caller: Caller, result: Restored) -> None:
        if not records:
            return
        # Not before the deletion, whatever the clocks of several nodes say.
        at = max(datetime.now(UTC), deleted_at)
        keys = [record.blob.key for record in records]
        content: dict[str, object] = {"restored_at": at.isoformat(), "keys": keys}
        noted = write_record(self._blobs, at, content, caller, is_restoring=True)
        try:
            puts = self._index.restore(records, [self._follow(record.header.target) for record in records])
        except Uncertain:
            raise
        except BaseException:
            withdraw_record(self._blobs, noted)
            raise
        back = [record.blob.key for record, put in zip(records, puts, strict=True) if put and put.outcome is Put.STORED]
        if len(back) < len(records):
            # What was not restored must not be by the next reindex.
            if back:
                write_record(self._blobs, at, {**content, "keys": back}, caller, is_restoring=True)
            withdraw_record(self._blobs, noted)
        for record, put in zip(records, puts, strict=True):
            if put is None:
                result.conflicts.append(Conflict(record.header.target, "it has been purged or restored meanwhile"))
            elif put.outcome is Put.SAME:
                result.already += 1
            elif put.outcome is Put.CONFLICT:
                reason = "it has been stored again with other content"
                result.conflicts.append(Conflict(record.header.target, reason))
            else:
                result.restored += 1

    def _listed(self, deletion: Deletion) -> dict[str, Any]:
        note = orjson.loads(deletion.note or self._read_note(deletion))
        return {
            "study": deletion.study_uid,
            "series": note.pop("series"),
            "sop": note.pop("sop"),
            "at": deletion.at.isoformat(),
            "instances": deletion.instances,
            "bytes": deletion.size_bytes,
            **note,
        }

    def _read_note(self, deletion: Deletion) -> bytes:
        """Of a deletion that was noted without one (by an earlier version, or before a reindex), from a file."""
        study = Target(deletion.study_uid)
        for version in self._of(deletion) if self._blobs.is_local else ():
            try:
                with self._blobs.local(version.instance.blob) as path:
                    header = read_header(path, derive_uids=True, max_inflated_bytes=self._max_inflated_bytes)
                return note_of(header.attributes, study)
            except (PacsError, OSError):
                break
        return note_of({}, study)

    def _is_within(self, scope: Scope, study_uid: str, modalities: Sequence[str] | None = None) -> bool:
        """modalities: of what is asked about, None: told for each instance."""
        if scope.studies is not None and study_uid not in scope.studies:
            return False
        if scope.labels is not None and not scope.labels & set(Labels(self._index.work).of(study_uid)):
            return False
        return modalities is None or scope.modalities is None or bool(scope.modalities & set(modalities))

    def _of(self, deletion: Deletion) -> Iterator[Discarded]:
        return (each for each in self._index.deleted(Target(deletion.study_uid)) if each.at == deletion.at)


def _batches(versions: Iterable[Discarded]) -> Iterator[list[Discarded]]:
    left = iter(versions)
    while batch := list(islice(left, _BATCH)):
        yield batch


def _is_of(scope: Scope, read: InstanceRecord | str) -> bool:
    """Whether an instance is of a modality that may be seen; of one that cannot be read nobody knows."""
    if scope.modalities is None:
        return True
    return not isinstance(read, str) and first_value(read.header.attributes, "00080060") in scope.modalities


def moment(text: str) -> datetime:
    """When a deletion was, as ``Page`` has it. Raises Invalid."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        at = datetime.min
    if at.tzinfo is None:
        raise Invalid("at is not a moment such as 2026-01-31T12:00:00.123456+00:00", "at")
    return at


def _check_cursor(after: str) -> None:
    at, _, study_uid = after.partition(" ")
    try:
        if datetime.fromisoformat(at).tzinfo is not None and study_uid:
            return
    except ValueError:
        pass
    raise Invalid("after is not what a page before gave as next", "after")
