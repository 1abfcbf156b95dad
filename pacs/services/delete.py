"""The one way to delete, and to remove for good what was deleted or superseded.

Deleting hides: rows go, with counters, and files stay until a purge. What was deleted is also recorded in the blob
store itself, under ``RECORDS``, so that an index made anew (``pacs reindex``) does not bring it back. The record is
durable before the rows go: after a crash in between, the next reindex completes the deletion. What is restored
(``services.trash``) is recorded there as well, before its rows come.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import Any

import orjson

from pacs.blobs.base import BlobStore
from pacs.dicom.dictionary import first_value
from pacs.dicom.model import Attributes, BlobRef, Caller, StoredInstance, Target
from pacs.errors import Corrupt, OutOfResources, PacsError
from pacs.index.base import Discarded, Fields, Index, Query
from pacs.index.work import NewJob
from pacs.services.accesses import Access, Action, Hear, unheard
from pacs.services.retrieve import missing

log = logging.getLogger(__name__)

RECORDS = ".deleted/"
_RESTORED = ".deleted/restored/"
_FORM = 1
_BATCH = 64


@dataclass
class Purged:
    """What a purge removed, or would remove. failed: files that could not be removed, (key, reason)."""

    deleted: int = 0
    superseded: int = 0
    size_bytes: int = 0
    failed: tuple[tuple[str, str], ...] = ()


class Delete:
    """Takes studies, series and instances out of sight. Safe to call from any thread.

    on_purged: called with each file that is gone for good, for what was made of it. follow: the jobs that follow from a
    deletion, written in its transaction. hear: told of each deletion.
    """

    def __init__(
        self,
        index: Index,
        blobs: BlobStore,
        *,
        on_purged: Callable[[BlobRef], None] = lambda ref: None,
        follow: Callable[[Target], Sequence[NewJob]] = lambda target: (),
        hear: Hear = unheard,
    ) -> None:
        self._index = index
        self._blobs = blobs
        self._on_purged = on_purged
        self._follow = follow
        self._hear = hear

    def delete(self, target: Target, caller: Caller) -> int:
        """Delete a subtree; returns how many instances it had. Raises NotFound, or Gone when it is deleted already.

        Of a study that the caller sees in part, the series that the caller sees are deleted, one after the other.
        """
        if caller.scope.is_everything:
            return self._delete(target, caller)
        seen = self._index.locate(target, scope=caller.scope)
        if not seen:
            raise missing(self._index, target, caller.scope)
        if len(seen) == len(self._index.locate(target)):
            return self._delete(target, caller)
        series = dict.fromkeys(Target(each.target.study_uid, each.target.series_uid) for each in seen)
        return sum(self._delete(each, caller) for each in series)

    def _delete(self, target: Target, caller: Caller) -> int:
        versions = self._index.versions(target)
        if not versions:
            raise missing(self._index, target)
        patient_id = self._patient_of(target) if self._hear is not unheard else ""
        at = datetime.now(UTC)
        record = self._record(versions, at, caller)
        try:
            taken = self._index.delete(target, at, self._follow(target), self._note(target))
        except BaseException:
            self._withdraw(record)
            raise
        if not taken:  # by somebody else meanwhile, who has a record of it too
            self._withdraw(record)
            raise missing(self._index, target)
        recorded = {version.blob.key for version in versions}
        late = [version for version in taken if version.blob.key not in recorded]
        if late:
            self._record(late, at, caller)
        instances = len({version.target for version in taken})
        log.info(
            "deleted study=%s series=%s sop=%s from=%s instances=%d",
            target.study_uid,
            target.series_uid or "",
            target.sop_uid or "",
            caller.name,
            instances,
        )
        part = target.sop_uid or target.series_uid or ""
        # Nobody can look the patient up any more.
        self._hear(Access(Action.DELETED, caller, target.study_uid, patient_id, instances=instances, part=part))
        return instances

    def note(self, versions: Sequence[StoredInstance], caller: Caller) -> None:
        """Files in the store that are not to be shown, though no row points at them: deleted by the archive that they
        were taken over from, or there twice. Purge removes them; verify and reindex leave them alone.
        """
        at = datetime.now(UTC)
        self._record(versions, at, caller)
        self._index.bury([Discarded(version, at, is_deleted=True) for version in versions])

    def purge(
        self, until: datetime, *, dry_run: bool = False, progress: Callable[[int], None] = lambda n: None
    ) -> Purged:
        """Remove the files of versions that were deleted or superseded up to a moment (aware).

        First it is settled that nobody can restore them any more. Then file first, note second: after a crash in
        between the note points at nothing, and the next purge drops it. A file that cannot be removed stays noted.
        """
        purged = Purged()
        failed: list[tuple[str, str]] = []
        found = self._index.discarded(until)
        while batch := list(islice(found, _BATCH)):
            gone = []
            doomed = None if dry_run else self._index.doom([version.instance.blob.key for version in batch])
            for version in batch:
                if doomed is not None and version.instance.blob.key not in doomed:
                    continue  # restored since it was listed
                try:
                    if not dry_run:
                        self._blobs.delete(version.instance.blob)
                        self._on_purged(version.instance.blob)
                except PacsError as error:
                    failed.append((version.instance.blob.key, str(error)))
                    continue
                gone.append(version.instance.blob.key)
                purged.size_bytes += version.instance.blob.size_bytes
                purged.deleted += version.is_deleted
                purged.superseded += not version.is_deleted
            if gone and not dry_run:
                self._index.forget(gone)
            progress(len(batch))
        purged.failed = tuple(failed)
        if not dry_run:
            log.info("purged deleted=%d superseded=%d failed=%d", purged.deleted, purged.superseded, len(failed))
        return purged

    def _note(self, target: Target) -> bytes:
        """What people know a deletion by: attributes of what is deleted, which nobody can search for afterwards."""
        found = self._index.search(Query(target.level, {}, within=target, fields=_NOTED, limit=1)).rows
        return note_of(orjson.loads(found[0]) if found else {}, target)

    def _patient_of(self, target: Target) -> str:
        found = next(iter(self._index.metadata(target)), None)
        return str(first_value(orjson.loads(found.json), "00100020") or "") if found is not None else ""

    def _record(self, versions: Iterable[StoredInstance], at: datetime, caller: Caller) -> BlobRef:
        """Write down durably what is being deleted."""
        return write_record(
            self._blobs, at, {"deleted_at": at.isoformat(), "versions": [_listed(each) for each in versions]}, caller
        )

    def _withdraw(self, record: BlobRef) -> None:
        withdraw_record(self._blobs, record)


_TAGS = {
    "patientName": "00100010",
    "patientId": "00100020",
    "studyDate": "00080020",
    "studyDescription": "00081030",
    "modalities": "00080061",
}
_MODALITY = "00080060"
_NOTED = Fields(tags=frozenset({*_TAGS.values(), _MODALITY}))


def note_of(attributes: Attributes, target: Target) -> bytes:
    """JSON about a deletion: see ``services.trash``."""
    note: dict[str, object] = {"series": target.series_uid, "sop": target.sop_uid}
    for name, tag in _TAGS.items():
        values = [value for value in attributes.get(tag, {}).get("Value", ()) if value is not None]
        if name == "modalities":
            if target.series_uid is not None or not values:
                values = attributes.get(_MODALITY, {}).get("Value", [])
            note[name] = [str(value) for value in values]
            continue
        first = values[0] if values else ""
        if isinstance(first, dict):  # a person name: its first component group that is there
            first = next((first[group] for group in ("Alphabetic", "Ideographic", "Phonetic") if first.get(group)), "")
        note[name] = str(first)
    return orjson.dumps(note)


def write_record(
    blobs: BlobStore, at: datetime, content: dict[str, object], caller: Caller, *, is_restoring: bool = False
) -> BlobRef:
    """Write down in the blob store, durably, what is being deleted or restored. Raises OutOfResources."""
    written = orjson.dumps({"form": _FORM, "by": [caller.name, caller.address, caller.protocol], **content})
    folder = _RESTORED if is_restoring else RECORDS
    key = f"{folder}{at:%Y/%m}/{at:%Y%m%dT%H%M%S}-{secrets.token_hex(6)}.json"
    path = blobs.incoming() / f"{secrets.token_hex(12)}.record"
    try:
        path.write_bytes(written)
        blobs.adopt(path, key)
    except OSError as error:
        raise OutOfResources(f"this could not be recorded: {error.strerror}") from error
    finally:
        path.unlink(missing_ok=True)
    return BlobRef(key, len(written), "")


def withdraw_record(blobs: BlobStore, record: BlobRef) -> None:
    """Of what did not come about."""
    try:
        blobs.delete(record)
    except PacsError as error:
        log.error("a record of what failed stays; a reindex will heed it: key=%s %s", record.key, error)


def is_record(key: str) -> bool:
    """Whether a key of the blob store is a record of deletions, not an instance."""
    return key.startswith(RECORDS)


def deletions(blobs: BlobStore) -> Iterator[Discarded]:
    """Every deletion on record that has not been undone since. Raises Corrupt."""
    restored = restorations(blobs)
    for key, content in _records(blobs, RECORDS):
        if key.startswith(_RESTORED):
            continue
        try:
            at = datetime.fromisoformat(content["deleted_at"])
            versions = [_version(fields) for fields in content["versions"]]
        except (ValueError, KeyError, TypeError) as error:
            raise Corrupt(f"the record of deletions {key} cannot be read") from error
        for version in versions:
            undone_at = restored.get(version.blob.key)
            if undone_at is None or undone_at < at:
                yield Discarded(version, at, is_deleted=True)


def restorations(blobs: BlobStore) -> dict[str, datetime]:
    """When files were restored, by their keys: deletions up to then are undone. Raises Corrupt."""
    found: dict[str, datetime] = {}
    for key, content in _records(blobs, _RESTORED):
        try:
            at = datetime.fromisoformat(content["restored_at"])
            keys = [str(each) for each in content["keys"]]
        except (ValueError, KeyError, TypeError) as error:
            raise Corrupt(f"the record of deletions {key} cannot be read") from error
        for each in keys:
            found[each] = max(at, found.get(each, at))
    return found


def _records(blobs: BlobStore, folder: str) -> Iterator[tuple[str, Any]]:
    for key, state in blobs.entries(folder.rstrip("/")):
        try:
            yield key, orjson.loads(blobs.read(BlobRef(key, state.size_bytes, "")))
        except ValueError as error:
            raise Corrupt(f"the record of deletions {key} cannot be read") from error


def _listed(version: StoredInstance) -> list[str | int | None]:
    target, blob = version.target, version.blob
    return [
        *(target.study_uid, target.series_uid, target.sop_uid, version.sop_class_uid, version.transfer_syntax_uid),
        *(blob.key, blob.size_bytes, blob.digest, version.data_set_offset),
    ]


def _version(fields: list[str | int]) -> StoredInstance:
    study_uid, series_uid, sop_uid, sop_class_uid, transfer_syntax_uid, key, size_bytes, digest, offset = fields
    return StoredInstance(
        Target(str(study_uid), str(series_uid), str(sop_uid)),
        str(sop_class_uid),
        str(transfer_syntax_uid),
        BlobRef(str(key), int(size_bytes), str(digest)),
        int(offset),
    )
