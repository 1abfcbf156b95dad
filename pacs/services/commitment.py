"""Storage commitment for those who ask this archive (PS3.4 J, PS3.18 13): what was asked, what is found, who was told.

A request is a record; the job that answers it is written in the same transaction, so that no restart loses either.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import IntEnum

import orjson

from pacs.blobs.base import BlobStore
from pacs.dicom.matchers import UidList
from pacs.dicom.model import EVERYTHING, Caller, Scope, StoredInstance
from pacs.dicom.references import Reference
from pacs.errors import Cancelled, Conflict, NotFound, OutOfResources, PacsError
from pacs.index.base import Index
from pacs.index.work import NewJob, RecordWrite, job_id
from pacs.services.access import scope_as_json, scope_of
from pacs.services.kept import Forgetting, packed, unpacked

log = logging.getLogger(__name__)

COMMITMENT = "commitment"  # kind of records and of jobs; keys are Transaction UIDs
_WEB = "web"
_AT_ONCE = 500  # references that the index is asked for together
_THREADS_AFAR = 16
_FAILURES_LOGGED = 20  # of one request


class Failure(IntEnum):
    """Failure Reasons, PS3.3 C.14.1.1."""

    PROCESSING = 0x0110  # there, and damaged
    NO_SUCH_OBJECT = 0x0112
    CLASS_INSTANCE_CONFLICT = 0x0119


@dataclass(frozen=True, slots=True)
class Result:
    """failed: position in the request → why; all others are committed."""

    checked_at: datetime
    failed: Mapping[int, int]


@dataclass(frozen=True, slots=True)
class Transaction:
    """One request. requester: AE title; by_web: it came by DICOMweb, and nobody waits to be told.

    result: as it was told, or None. by, scope: of who asked by web: of what they do not see, nothing is committed. A
    peer's commitment has no such limits: it asks about what it sent, and deletes that when told that it is here.
    """

    uid: str
    requester: str
    by_web: bool
    asked_at: datetime
    references: Sequence[Reference]
    result: Result | None
    version: int
    by: str = ""
    scope: Scope = EVERYTHING

    @property
    def job_id(self) -> str:
        return job_id(COMMITMENT, self.uid)

    def committed(self, result: Result) -> Iterator[Reference]:
        return (each for position, each in enumerate(self.references) if position not in result.failed)

    def failed(self, result: Result) -> Iterator[tuple[Reference, int]]:
        return ((self.references[position], why) for position, why in sorted(result.failed.items()))


class Commitments:
    """Safe to call from any thread. blobs: the store itself, no copies of it. digests: whether files are read through.

    keep: how long requests are remembered. expect: told of what is missing: study, all instances that it should hold,
    and who says so (``Completeness.expect``).
    """

    def __init__(
        self,
        index: Index,
        blobs: BlobStore,
        *,
        digests: bool = True,
        keep: timedelta = timedelta(days=30),
        expect: Callable[[str, Sequence[str], str], None] | None = None,
    ) -> None:
        self._index = index
        self._blobs = blobs
        self._digests = digests
        self._expect = expect
        self._forgetting = Forgetting(index.work, COMMITMENT, keep)

    def accept(self, uid: str, caller: Caller, references: Sequence[Reference], answer_in_s: float) -> Transaction:
        """Take a request in, durably, with the job that answers it in answer_in_s if nobody has done so by then.

        The same request again is answered again. Raises Conflict when another one has this Transaction UID.
        """
        by_web = caller.protocol == _WEB
        requester = caller.address if by_web else caller.name
        by, scope = (caller.name, caller.scope) if by_web else ("", EVERYTHING)
        now = datetime.now(UTC)
        content = {
            "requester": requester,
            "by_web": by_web,
            "asked_at": now.isoformat(),
            "instances": packed(references),
            "result": None,
            "by": by,
            "scope": scope_as_json(scope),
        }
        job = NewJob(COMMITMENT, uid, "" if by_web else requester, due=now + timedelta(seconds=answer_in_s))
        while True:
            there = self.find(uid)
            # Who asks by web behind several proxies has several addresses.
            if there is not None and not (
                list(there.references) == list(references)
                and there.by_web == by_web
                and there.scope == scope
                and (by_web or there.requester == requester)
            ):
                raise Conflict("the Transaction UID is in use for another request")
            if there is not None and by_web:
                return there
            version = there.version if there else 0
            write = RecordWrite(COMMITMENT, uid, orjson.dumps(content), version, now.isoformat())
            if self._index.work.write_records([write], [job]):
                break
        log.info("commitment asked transaction=%s from=%s instances=%d", uid, requester, len(references))
        return Transaction(uid, requester, by_web, now, references, None, version + 1, by, scope)

    def find(self, uid: str) -> Transaction | None:
        record = self._index.work.record(COMMITMENT, uid)
        return None if record is None else _transaction(record.key, record.content, record.version)

    def check(self, transaction: Transaction, is_stopping: Callable[[], bool] = lambda: False) -> Result:
        """Whether each instance is there to stay: indexed, and its file is as it was stored.

        Raises OutOfResources when the store or the index cannot be asked now, Cancelled when is_stopping.
        """
        checked_at = datetime.now(UTC)
        failed: dict[int, int] = {}
        studies: set[str] = set()
        threads = 1 if self._blobs.is_local else _THREADS_AFAR
        with ThreadPoolExecutor(threads, "commitment-check") as pool:

            def check(instance: StoredInstance) -> str:
                return "" if is_stopping() else self._fault(instance)

            for start in range(0, len(transaction.references), _AT_ONCE):
                batch = transaction.references[start : start + _AT_ONCE]
                there = self._there({each.sop_uid for each in batch}, transaction.scope)
                studies.update(one.target.study_uid for found in there.values() for one in found)
                wanted = {one.blob.key: one for each in batch for one in _meant(each, there)}
                faults = dict(zip(wanted, pool.map(check, wanted.values()), strict=True))
                if is_stopping():
                    raise Cancelled("the server is stopping")
                for position, reference in enumerate(batch, start):
                    why = _failure(reference, there, faults)
                    if why is not None:
                        failed[position] = why
                        if len(failed) <= _FAILURES_LOGGED:
                            _log_failure(transaction, reference, why, there, faults)
        is_told_all = transaction.scope.is_everything
        if is_told_all and Failure.NO_SUCH_OBJECT in failed.values() and len(studies) == 1:
            self._announce(studies.pop(), transaction)
        return Result(checked_at, failed)

    def _announce(self, study_uid: str, transaction: Transaction) -> None:
        """Something of a study has not arrived. A request need not say of which; where it is of one, that is it."""
        if self._expect is not None:
            instances = [each.sop_uid for each in transaction.references]
            try:
                self._expect(study_uid, instances, f"commitment {transaction.uid}")
            except OutOfResources as error:
                log.warning("not noted that something is missing study=%s reason=%s", study_uid, error)

    def settle(self, transaction: Transaction, result: Result) -> None:
        """Note what the requester has been told. A second telling, by another node, changes nothing."""
        record = self._index.work.record(COMMITMENT, transaction.uid)
        if record is None:
            return
        content = orjson.loads(record.content)
        content["result"] = {
            "checked_at": result.checked_at.isoformat(),
            "failed": [[position, int(why)] for position, why in result.failed.items()],
        }
        write = RecordWrite(COMMITMENT, record.key, orjson.dumps(content), record.version, record.label)
        self._index.work.write_records([write])
        log.info(
            "commitment answered transaction=%s to=%s instances=%d failed=%d",
            *(transaction.uid, transaction.requester, len(transaction.references), len(result.failed)),
        )
        self._forgetting.run()

    def hurry(self, transaction: Transaction) -> None:
        """Its job need not wait any longer."""
        self._index.work.retry_jobs([transaction.job_id], datetime.now(UTC))

    def done(self, transaction: Transaction) -> None:
        """Its job has nothing left to do."""
        self._index.work.discard_jobs([transaction.job_id])

    def _there(self, sop_uids: set[str], scope: Scope) -> dict[str, list[StoredInstance]]:
        found: dict[str, list[StoredInstance]] = {}
        for instance in self._index.select({("00080018",): UidList(tuple(sorted(sop_uids)))}, scope=scope):
            found.setdefault(instance.target.sop_uid or "", []).append(instance)
        return found

    def _fault(self, instance: StoredInstance) -> str:
        """What is wrong with the stored file, "" for nothing."""
        blob = instance.blob
        try:
            size_bytes = self._blobs.state(blob.key).size_bytes
            if size_bytes != blob.size_bytes:
                return f"the file has {size_bytes} bytes, {blob.size_bytes} expected"
            if self._digests:
                digest = hashlib.sha256()
                for piece in self._blobs.stream(blob, instance.data_set_offset):
                    digest.update(piece)
                if f"sha256:{digest.hexdigest()}" != blob.digest:
                    return "the file does not hold what was stored"
        except NotFound:
            return "the file is missing"
        except OutOfResources:
            raise
        except PacsError as error:
            return str(error)
        return ""


def _meant(reference: Reference, there: Mapping[str, Sequence[StoredInstance]]) -> list[StoredInstance]:
    """What a reference means: all that have its SOP Instance UID, should several studies have one."""
    return [
        each
        for each in there.get(reference.sop_uid, ())
        if reference.study_uid in ("", each.target.study_uid) and reference.series_uid in ("", each.target.series_uid)
    ]


def _failure(
    reference: Reference, there: Mapping[str, Sequence[StoredInstance]], faults: Mapping[str, str]
) -> int | None:
    meant = _meant(reference, there)
    if not meant:
        return Failure.NO_SUCH_OBJECT
    if any(each.sop_class_uid != reference.sop_class_uid for each in meant):
        return Failure.CLASS_INSTANCE_CONFLICT
    # Which of several was meant cannot be known: one that is damaged may be it.
    return Failure.PROCESSING if any(faults[each.blob.key] for each in meant) else None


def _log_failure(
    transaction: Transaction,
    reference: Reference,
    why: int,
    there: Mapping[str, Sequence[StoredInstance]],
    faults: Mapping[str, str],
) -> None:
    if why == Failure.PROCESSING:
        for each in _meant(reference, there):
            if faults[each.blob.key]:
                log.error(
                    "stored file damaged sop=%s key=%s reason=%s; pacs verify says more",
                    *(reference.sop_uid, each.blob.key, faults[each.blob.key]),
                )
    reason = f"{why:04X}H"
    log.warning("not committed transaction=%s sop=%s reason=%s", transaction.uid, reference.sop_uid, reason)


def _transaction(uid: str, content: bytes, version: int) -> Transaction:
    found = orjson.loads(content)
    result = found["result"]
    return Transaction(
        uid,
        found["requester"],
        found["by_web"],
        datetime.fromisoformat(found["asked_at"]),
        unpacked(found["instances"]),
        Result(datetime.fromisoformat(result["checked_at"]), dict(result["failed"])) if result else None,
        version,
        found.get("by", ""),
        scope_of(found.get("scope", {})),
    )
