"""The one way in: C-STORE, STOW-RS and ``pacs import`` all store through here.

File durable first, index row second, answer third. A crash in between leaves at worst a file that no row points at,
which ``pacs verify`` finds.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from pacs.blobs.base import BlobStore
from pacs.dicom import file_meta
from pacs.dicom.dictionary import first_value
from pacs.dicom.file_meta import FileMeta
from pacs.dicom.header import read_header
from pacs.dicom.model import BlobRef, Caller, Header, InstanceRecord, StoredInstance
from pacs.dicom.transfer_syntax import find
from pacs.errors import ClassMismatch, Conflict, OutOfResources, PacsError, Rejected, StudyMismatch, Uncertain
from pacs.index.base import Index, Put, PutResult
from pacs.index.work import NewJob
from pacs.services.accesses import Access, Action, Hear, unheard
from pacs.services.bulk_file import BulkFile
from pacs.services.file_key import FileKeyPattern
from pacs.services.room import Room
from pacs.services.spool import Spool

log = logging.getLogger(__name__)

_AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class Stored:
    """outcome: Put.STORED, Put.SAME (already there, nothing written) or Put.REPLACED.

    warnings: what was changed. mismatches: what in the data set contradicts itself, kept as it is.
    """

    instance: StoredInstance
    outcome: Put
    warnings: tuple[str, ...] = ()
    mismatches: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Prepared:
    record: InstanceRecord
    warnings: tuple[str, ...]
    mismatches: tuple[str, ...]


class Store:
    """Takes spooled objects into the archive. Safe to call from any thread.

    replace: what a known SOP Instance UID with other bytes does; False: Conflict, True: it replaces, and the earlier
    version is kept. min_free_bytes: below this much free space nothing is taken; room, where it is given, says so
    instead. max_object_bytes: the largest object, None for any; may be changed while it is in use. max_inflated_bytes:
    the largest data set that a deflated one may become. on_stored: called with each instance that is new, when it is
    durable. follow: the jobs that follow from an instance, written in the transaction that takes it in; it must not
    raise. hear: told of each object that was taken, or refused.
    """

    def __init__(
        self,
        index: Index,
        blobs: BlobStore,
        file_key: FileKeyPattern,
        *,
        replace: bool = False,
        min_free_bytes: int = 0,
        max_object_bytes: int | None = None,
        max_inflated_bytes: int = 4 << 30,
        on_stored: Callable[[StoredInstance], None] = lambda instance: None,
        follow: Callable[[InstanceRecord], Sequence[NewJob]] | None = None,
        room: Room | None = None,
        hear: Hear = unheard,
    ) -> None:
        self._index = index
        self._blobs = blobs
        self._file_key = file_key
        self._replace = replace
        self._room = room or Room(blobs.free_bytes, min_free_bytes)
        self.max_object_bytes = max_object_bytes
        self._max_inflated_bytes = max_inflated_bytes
        self._on_stored = on_stored
        self._follow = follow
        self._hear = hear

    def spool(self, meta: FileMeta | None = None) -> Spool:
        """A file to receive one object into. Raises OutOfResources when there is no room for it."""
        self._check_room()
        return Spool(self._blobs.incoming(), meta, self.max_object_bytes, self._room.check)

    def bulk_file(self) -> BulkFile:
        """A file to receive one value of bulk data into. Raises OutOfResources when there is no room for it."""
        self._check_room()
        return BulkFile(self._blobs.incoming())

    def store(self, spool: Spool, caller: Caller, *, study_uid: str | None = None, derive_uids: bool = False) -> Stored:
        """Take one object; durable and indexed when it returns. See ``store_many``; raises what that returns."""
        (result,) = self.store_many([spool], caller, study_uid=study_uid, derive_uids=derive_uids)
        if isinstance(result, PacsError):
            raise result
        return result

    def store_many(
        self,
        spools: Sequence[Spool],
        caller: Caller,
        *,
        study_uid: str | None = None,
        derive_uids: bool = False,
    ) -> list[Stored | PacsError]:
        """Take objects in one index transaction; each succeeds or fails by itself, in order.

        study_uid: what StudyInstanceUID must be. derive_uids: an object without Study or Series Instance UID is indexed
        under UIDs made from its SOP Instance UID (its bytes stay) instead of being refused. The spools are used up.
        A caller's modalities and labels say what is seen, not what is taken: a modality never has to keep its images.
        Who has but some studies stores into those alone.
        Failures are a Rejected kind or OutOfResources.
        """
        results: list[Stored | PacsError | None] = [None] * len(spools)
        prepared: dict[int, _Prepared] = {}
        try:
            for position, ready in enumerate(self._prepare_all(spools, caller, study_uid, derive_uids)):
                if isinstance(ready, _Prepared):
                    prepared[position] = ready
                else:
                    results[position] = ready
        finally:
            for spool in spools:
                spool.discard()
        for position, result in self._put(prepared).items():
            results[position] = result
        answers = [result for result in results if result is not None]
        for position, answer in enumerate(answers):
            _log(answer, caller)
            self._hear(_access(answer, prepared.get(position), caller))
        return answers

    def _check_room(self) -> None:
        # An index that is away could not say whether a file may go again: a long outage would fill the disk.
        self._index.check()
        self._room.check()

    def _prepare_all(
        self, spools: Sequence[Spool], caller: Caller, study_uid: str | None, derive_uids: bool
    ) -> list[_Prepared | Stored | PacsError]:
        def prepare(spool: Spool) -> _Prepared | Stored | PacsError:
            try:
                return self._prepare(spool, caller, study_uid, derive_uids)
            except PacsError as error:
                return error
            except OSError as error:
                log.error("the data folder failed: %s", error)
                return OutOfResources("the data folder cannot be read or written")

        if self._blobs.is_local or len(spools) < 2:
            return [prepare(spool) for spool in spools]
        # A store that is far away takes several files as fast as one.
        with ThreadPoolExecutor(min(len(spools), _AT_ONCE), "store") as threads:
            return list(threads.map(prepare, spools))

    def _prepare(self, spool: Spool, caller: Caller, study_uid: str | None, derive_uids: bool) -> _Prepared | Stored:
        """Read, check and place one object; Stored when it is there already."""
        with spool.mapped() as content:
            header = read_header(
                spool.path,
                fallback=spool.meta,
                derive_uids=derive_uids,
                max_inflated_bytes=self._max_inflated_bytes,
                content=content,
                known_meta=spool.known_meta,
            )
            head = bytes(content[: header.data_set_offset]) if spool.meta is None else b""
        spool.finish()
        _check(header, spool.meta, study_uid, caller)
        digest = spool.digest(header.data_set_offset)
        warnings: list[str] = []
        mismatches = _mismatches(header)
        if spool.meta is None:
            meta = mended_meta(head, header)
            if meta is not None:
                if header.data_set_offset:
                    warnings.append("the file meta information did not fit the data set and was renewed")
                spool = spool.rewrite(meta, header.data_set_offset)
                offset = len(file_meta.encode(meta))
                layout = header.layout.shifted(offset - header.data_set_offset)
                header = replace(header, data_set_offset=offset, layout=layout)
        try:
            # Where placing a file costs next to nothing, it is left to the index to find out.
            known = [] if self._blobs.is_local else self._index.locate(header.target)
            if known:
                if known[0].blob.digest == digest and known[0].transfer_syntax_uid == header.transfer_syntax_uid:
                    return Stored(known[0], Put.SAME, tuple(warnings), mismatches)
                if not self._replace:
                    raise _conflict(header)
            received_at = datetime.now(UTC)
            blob = BlobRef(self._file_key.key(header, received_at), spool.size_bytes, digest)
            self._blobs.place(spool.path, blob.key, digest)
            if self._blobs.is_local:
                spool.taken()
        finally:
            spool.discard()
        return _Prepared(InstanceRecord(header, blob, received_at, caller), tuple(warnings), mismatches)

    def _put(self, prepared: dict[int, _Prepared]) -> dict[int, Stored | PacsError]:
        if not prepared:
            return {}
        records = [each.record for each in prepared.values()]
        try:
            # While the disk takes the files, the index makes itself ready to commit.
            outcomes: list[PutResult | PacsError] = list(
                self._index.put(
                    records,
                    replace=self._replace,
                    durable=lambda: self._blobs.settle([record.blob.key for record in records]),
                    jobs=[self._follow(record) for record in records] if self._follow else (),
                )
            )
        except PacsError as error:
            outcomes = [error] * len(records)
        results: dict[int, Stored | PacsError] = {}
        for (position, each), outcome in zip(prepared.items(), outcomes, strict=True):
            record = each.record
            if isinstance(outcome, Uncertain):
                # There may be a row for it by now, or in a moment.
                log.warning("kept a file that may have a row key=%s", record.blob.key)
                results[position] = outcome
                continue
            if isinstance(outcome, PacsError):
                results[position] = outcome
            elif outcome.outcome is Put.CONFLICT:
                results[position] = _conflict(record.header)
            else:
                instance = outcome.existing if outcome.outcome is Put.SAME else None
                stored = instance or _stored_instance(record)
                results[position] = Stored(stored, outcome.outcome, each.warnings, each.mismatches)
                if instance is None:
                    self._on_stored(stored)
                    continue
            self._drop(record.blob)
        return results

    def _drop(self, blob: BlobRef) -> None:
        """Remove a file that got no row; when in doubt it stays, for ``pacs verify`` to find."""
        try:
            if not self._index.holds_key(blob.key):
                self._blobs.delete(blob)
        except PacsError as error:
            log.warning("left an orphan file key=%s reason=%s", blob.key, error)


def _check(header: Header, command: FileMeta | None, study_uid: str | None, caller: Caller) -> None:
    target = header.target
    if caller.scope.studies is not None and target.study_uid not in caller.scope.studies:
        raise StudyMismatch("the study is not one of yours", header.sop_class_uid, target.sop_uid or "")
    if study_uid is not None and target.study_uid != study_uid:
        raise StudyMismatch("Study Instance UID is not the URL's", header.sop_class_uid, target.sop_uid or "")
    if command is not None and (header.sop_class_uid, target.sop_uid) != (command.sop_class_uid, command.sop_uid):
        raise ClassMismatch(
            "SOP UIDs of the data set are not those of the command",
            command.sop_class_uid,
            command.sop_uid,
        )


def _mismatches(header: Header) -> tuple[str, ...]:
    """Where Number of Frames or the image's size promise more pixels than there are."""
    pixels = header.layout.pixels
    if pixels is None:
        return ()
    claimed = first_value(header.attributes, "00280008")
    if isinstance(claimed, int) and claimed > pixels.number_of_frames and not find(header.transfer_syntax_uid).video:
        return (f"Number of Frames is {claimed}, and there are {pixels.number_of_frames}",)
    if not pixels.encapsulated and pixels.value.length < pixels.frame_length:
        return ("Pixel Data are shorter than the image",)
    return ()


def mended_meta(head: bytes, header: Header) -> FileMeta | None:
    """The file meta information to write when the received file has none, or one that contradicts its data set.

    head: of the file, up to the data set.
    """
    source_ae_title = ""
    if header.data_set_offset:
        meta, offset = file_meta.read(head)
        fits = (
            head[128:132] == b"DICM"
            and meta is not None
            and offset == header.data_set_offset
            and (meta.sop_class_uid, meta.sop_uid) == (header.sop_class_uid, header.target.sop_uid)
            and meta.transfer_syntax_uid == header.transfer_syntax_uid
        )
        if fits:
            return None
        source_ae_title = meta.source_ae_title if meta else ""
    return FileMeta(header.sop_class_uid, header.target.sop_uid or "", header.transfer_syntax_uid, source_ae_title)


def _conflict(header: Header) -> Conflict:
    return Conflict(
        "already stored with other content",
        header.sop_class_uid,
        header.target.sop_uid or "",
    )


def _stored_instance(record: InstanceRecord) -> StoredInstance:
    header = record.header
    return StoredInstance(
        header.target, header.sop_class_uid, header.transfer_syntax_uid, record.blob, header.data_set_offset
    )


def _access(answer: Stored | PacsError, prepared: _Prepared | None, caller: Caller) -> Access:
    """A result is at the place of what it was prepared from."""
    header = prepared.record.header if prepared is not None else None
    patient_id = str(first_value(header.attributes, "00100020") or "") if header is not None else ""
    if isinstance(answer, Stored):
        instance = answer.instance
        return Access(Action.STORED, caller, instance.target.study_uid, patient_id, instance.sop_class_uid, instances=1)
    return Access(
        Action.STORED,
        caller,
        header.target.study_uid if header is not None else "",
        patient_id,
        instances=1,
        is_failure=True,
        detail=str(answer),
    )


def _log(answer: Stored | PacsError, caller: Caller) -> None:
    if isinstance(answer, Stored):
        blob, sop_uid = answer.instance.blob, answer.instance.target.sop_uid
        log.info("%s sop=%s from=%s size_bytes=%d", answer.outcome.value, sop_uid, caller.name, blob.size_bytes)
    else:
        sop_uid = answer.sop_uid if isinstance(answer, Rejected) else ""
        log.warning("refused sop=%s from=%s reason=%s", sop_uid, caller.name, answer)
