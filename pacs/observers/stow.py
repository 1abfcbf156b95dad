"""Jobs that send instances to another archive by STOW-RS (PS3.18 10.5)."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Iterator, Sequence
from typing import Any

import orjson

from pacs.blobs.base import BlobStore
from pacs.dicom.dictionary import first_value
from pacs.dicom.model import StoredInstance
from pacs.errors import NotFound, PacsError
from pacs.index.base import Index
from pacs.index.work import Job
from pacs.observers.arrivals import stored
from pacs.observers.http import Answer, Http
from pacs.services.following import STOW
from pacs.services.jobs import Ended, Handler

log = logging.getLogger(__name__)

_BATCH = 50
_MAX_BYTES = 256 << 20  # of one request
_JSON = "application/dicom+json"
_FAILED, _REFERENCED, _SOP_UID, _REASON = "00081198", "00081199", "00081155", "00081197"
_DUPLICATE = 0x0111
_TRANSIENT = frozenset({0xA700, 0x0110, 0x0210})
_CONFLICT = 409


class Stow:
    """Stored files go as they are, in the transfer syntax that they have."""

    def __init__(self, index: Index, blobs: BlobStore, http: Http) -> None:
        self._index = index
        self._blobs = blobs
        self._http = http

    @property
    def handler(self) -> Handler:
        return Handler(STOW, self.run, batch=_BATCH, threads=2)

    def run(self, jobs: Sequence[Job]) -> Iterator[Ended]:
        """All jobs are of one address."""
        request: list[tuple[Job, StoredInstance]] = []
        size = 0
        for job in jobs:
            instance = stored(self._index, job)
            if instance is None:
                log.info("not sent, it has been deleted or replaced: to=%s key=%s", job.group, job.key)
                yield Ended(job)
                continue
            try:
                # What cannot be read must not take the others of its request along.
                is_whole = self._blobs.state(instance.blob.key).size_bytes == instance.blob.size_bytes
            except PacsError as error:
                yield Ended(job, str(error), is_final=isinstance(error, NotFound))
                continue
            if not is_whole:
                yield Ended(job, "the stored file is not as long as it was; run pacs verify")
                continue
            if request and size + instance.blob.size_bytes > _MAX_BYTES:
                yield from self._store(request)
                request, size = [], 0
            request.append((job, instance))
            size += instance.blob.size_bytes
        if request:
            yield from self._store(request)

    def _store(self, request: Sequence[tuple[Job, StoredInstance]]) -> Iterator[Ended]:
        boundary = secrets.token_hex(16)
        heads = [
            f"--{boundary}\r\nContent-Type: application/dicom;transfer-syntax={instance.transfer_syntax_uid}\r\n\r\n"
            for _, instance in request
        ]
        tail = f"--{boundary}--\r\n"
        length = sum(
            len(head) + instance.blob.size_bytes + 2 for head, (_, instance) in zip(heads, request, strict=True)
        )
        address = request[0][0].group.rstrip("/") + "/studies"
        answer = self._http.send(
            "POST",
            address,
            self._body(heads, [instance for _, instance in request], tail),
            {
                "Content-Type": f'multipart/related; type="application/dicom"; boundary={boundary}',
                "Content-Length": str(length + len(tail)),
                "Accept": _JSON,
            },
        )
        failures, stored_uids = _read(answer)
        for job, instance in request:
            yield _ended(job, instance, answer, failures, stored_uids)

    def _body(self, heads: Sequence[str], instances: Sequence[StoredInstance], tail: str) -> Iterator[bytes]:
        for head, instance in zip(heads, instances, strict=True):
            yield head.encode()
            yield from self._blobs.stream(instance.blob)
            yield b"\r\n"
        yield tail.encode()


def _ended(
    job: Job, instance: StoredInstance, answer: Answer, failures: dict[str, int], stored_uids: frozenset[str]
) -> Ended:
    sop_uid = instance.target.sop_uid or ""
    reason = failures.get(sop_uid)
    if sop_uid in stored_uids or reason == _DUPLICATE or (answer.is_success and reason is None):
        log.info("forwarded sop=%s to=%s", sop_uid, job.group)
        return Ended(job)
    if reason is not None:
        return Ended(job, f"the archive refused it with {reason:04X}H", is_final=reason not in _TRANSIENT)
    return Ended(job, f"the archive answered {answer.status}", is_final=answer.is_final)


def _read(answer: Answer) -> tuple[dict[str, int], frozenset[str]]:
    """Failure reasons by SOP Instance UID, and what was stored (PS3.18 10.5.3, PS3.18 I.2)."""
    if not (answer.is_success or answer.status == _CONFLICT):
        return {}, frozenset()
    try:
        found = orjson.loads(answer.body)
        found = found[0] if isinstance(found, list) else found
        failures = {
            str(first_value(item, _SOP_UID)): _number(first_value(item, _REASON)) for item in _items(found, _FAILED)
        }
        return failures, frozenset(str(first_value(item, _SOP_UID)) for item in _items(found, _REFERENCED))
    except (ValueError, AttributeError, TypeError, KeyError, IndexError):
        return {}, frozenset()


def _items(found: dict[str, Any], tag: str) -> list[dict[str, Any]]:
    return list(found.get(tag, {}).get("Value", ()))


def _number(value: object) -> int:
    return value if isinstance(value, int) else 0x0110
