"""Sending what somebody asked for to a peer: kept until all of it has arrived, was refused, or was cancelled.

A send is a record, and a job for every bundle of its instances (``pacs.index.work``). What became of the instances of
a bundle stands in a record of its own, so that progress costs a small write, whatever the size of the send.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import Any

import orjson

from pacs.dicom.model import Caller, StoredInstance, Target
from pacs.errors import Invalid, NotFound, OutOfResources, TooLarge, Unchangeable
from pacs.index.work import Job, JobState, NewJob, Record, RecordWrite, Work
from pacs.services.records import document

log = logging.getLogger(__name__)

KIND = "send-asked"  # of the jobs; their keys begin with the id of their send
_SEND, _BUNDLE = "send", "send-bundle"  # of the records
_BUNDLE_INSTANCES = 100
_MOST_INSTANCES = 100_000
_KEPT = timedelta(days=30)
_PAGE = 500
_ATTEMPTS = 20  # at a record that others change at the same time
_LAST_MS = 1 << 44
_MISSING = "there is no such send"


@dataclass
class Bundle:
    """What a job of a send has to do, and how far it is. Used by one thread.

    left: not sent yet. failed: target and reason of what never will be.
    """

    send_id: str
    number: int
    peer: str
    left: list[Target]
    sent: int = 0
    failed: list[tuple[Target, str]] = field(default_factory=list)

    def note_sent(self, target: Target) -> None:
        self.left.remove(target)
        self.sent += 1

    def note_failed(self, target: Target, reason: str) -> None:
        self.left.remove(target)
        self.failed.append((target, reason))


class Sends:
    """instances: what a target stands for, that a caller may see; raises NotFound (``Retrieve.instances``).

    is_known: whether a peer can be sent to. Who sees a part of the archive sees the sends of their own: others name
    studies. Safe to call from any thread, process and node.
    """

    def __init__(
        self,
        work: Work,
        instances: Callable[[Target, Caller], Iterable[StoredInstance]],
        is_known: Callable[[str], bool],
    ) -> None:
        self._work = work
        self._instances = instances
        self._is_known = is_known

    def begin(self, peer: str, targets: Sequence[Target], caller: Caller) -> str:
        """The id of a new send; durable when it returns.

        Raises NotFound for a peer or target that is not there, Invalid for no target, TooLarge for more than can be
        sent at once.
        """
        if not self._is_known(peer):
            raise NotFound(f"no peer {peer[:16]} is known that can be reached")
        if not targets:
            raise Invalid("there is nothing to be sent", "targets")
        wanted: dict[Target, None] = {}
        for target in targets:
            wanted.update((instance.target, None) for instance in self._instances(target, caller))
            if len(wanted) > _MOST_INSTANCES:
                raise TooLarge(f"at most {_MOST_INSTANCES:,} instances are sent at once: send fewer studies")
        self._forget()
        now = datetime.now(UTC)
        send_id = _new_id()
        jobs = _jobs(send_id, peer, list(wanted), 0)
        content: dict[str, Any] = {
            "peer": peer,
            "by": caller.name,
            "targets": [_target_json(target) for target in targets[:_PAGE]],
            "total": len(wanted),
            "bundles": len(jobs),
            "began": now.isoformat(timespec="seconds"),
            "ended": None,
            "cancelled": False,
        }
        write = RecordWrite(_SEND, send_id, document(content), 0, content["began"])
        if not self._work.write_records([write], jobs):
            raise OutOfResources("another send was begun at the same moment")
        log.info("send begun id=%s to=%s from=%s instances=%d", send_id, peer, caller.name, len(wanted))
        return send_id

    def recent(self, caller: Caller, limit: int = 100) -> list[dict[str, Any]]:
        """The newest first, without what failed."""
        found = self._work.records(_SEND, limit=limit if caller.scope.is_everything else _PAGE)
        return [self._described(record, brief=True) for record in found if _is_seen(record, caller)][:limit]

    def one(self, send_id: str, caller: Caller) -> dict[str, Any]:
        """As JSON. Raises NotFound."""
        return self._described(self._seen(send_id, caller))

    def cancel(self, send_id: str, caller: Caller) -> None:
        """What has not been sent yet stays here. Nothing happens to one that has ended. Raises NotFound."""
        self._seen(send_id, caller)

        def cancelled(content: dict[str, Any]) -> dict[str, Any] | None:
            return None if content["ended"] else {**content, "cancelled": True, "ended": _now()}

        if self._change(send_id, cancelled):
            log.info("send cancelled id=%s", send_id)
        # Those that run see it themselves.
        for jobs in self._jobs(send_id):
            self._work.discard_jobs([job.job_id for job in jobs])

    def retry(self, send_id: str, caller: Caller) -> None:
        """Try now what waits for another attempt, and once more what failed. Raises NotFound, Unchangeable."""
        self._seen(send_id, caller)
        for _ in range(_ATTEMPTS):
            record = self._record(send_id)
            content = orjson.loads(record.content)
            if content["cancelled"]:
                raise Unchangeable("the send was cancelled: send again what is wanted")
            again: list[Target] = []
            writes: list[RecordWrite] = []
            for kept in self._bundles(send_id, content["bundles"]):
                bundle = orjson.loads(kept.content)
                if bundle["ended"] and bundle["failed"]:
                    again += [_target(each) for each in bundle["failed"]]
                    writes.append(RecordWrite(_BUNDLE, kept.key, document({**bundle, "failed": []}), kept.version))
            jobs = _jobs(send_id, content["peer"], again, content["bundles"])
            if jobs:
                content = {**content, "bundles": content["bundles"] + len(jobs), "ended": None}
                writes.append(RecordWrite(_SEND, send_id, document(content), record.version, record.label))
            if not writes or self._work.write_records(writes, jobs):
                break
        else:
            raise OutOfResources("others change the same send at the moment")
        for waiting in self._jobs(send_id):
            self._work.retry_jobs([job.job_id for job in waiting], datetime.now(UTC))

    # -- for whoever does the jobs --

    def bundle(self, job: Job) -> Bundle | None:
        """What is left to do of a job; None when its send was cancelled, or is forgotten."""
        payload = orjson.loads(job.payload)
        send_id, number = payload["send"], payload["bundle"]
        if not self._is_wanted(send_id):
            return None
        targets = [
            Target(study_uid, series_uid, sop_uid)
            for study_uid, series_uid, sops in payload["instances"]
            for sop_uid in sops
        ]
        kept = self._work.record(_BUNDLE, _key(send_id, number))
        if kept is None:
            return Bundle(send_id, number, job.group, targets)
        done = orjson.loads(kept.content)
        left = [target for target, is_left in zip(targets, done["left"], strict=True) if is_left == "1"]
        failed = [(_target(each), each["reason"]) for each in done["failed"]]
        return Bundle(send_id, number, job.group, left, done["sent"], failed)

    def note(self, bundle: Bundle, job: Job) -> bool:
        """Keep how far a bundle is; whether the rest of it is still wanted."""
        payload = orjson.loads(job.payload)
        left = {target.sop_uid for target in bundle.left}
        content = {
            "left": "".join("01"[sop_uid in left] for _, _, sops in payload["instances"] for sop_uid in sops),
            "sent": bundle.sent,
            "failed": [{**_target_json(target), "reason": reason} for target, reason in bundle.failed],
            "ended": not bundle.left,
        }
        send = self._work.record(_SEND, bundle.send_id)
        if send is None:
            return False
        self._work.write_records([RecordWrite(_BUNDLE, _key(bundle.send_id, bundle.number), document(content))])
        if not bundle.left:
            self._settle(bundle.send_id)
        return not orjson.loads(send.content)["cancelled"]

    def _settle(self, send_id: str) -> None:
        """Note the end of a send when all its bundles have theirs. Whoever ends the last one sees all of them."""
        content = orjson.loads(self._record(send_id).content)
        kept = [orjson.loads(record.content) for record in self._bundles(send_id, content["bundles"])]
        if len(kept) < content["bundles"] or not all(bundle["ended"] for bundle in kept):
            return
        sent, failed = sum(bundle["sent"] for bundle in kept), sum(len(bundle["failed"]) for bundle in kept)

        def ended(now: dict[str, Any]) -> dict[str, Any] | None:
            if now["ended"] or now["bundles"] != content["bundles"]:
                return None
            return {**now, "ended": _now(), "sent": sent, "failures": failed}

        if self._change(send_id, ended):
            log.info("send ended id=%s to=%s sent=%d failed=%d", send_id, content["peer"], sent, failed)

    # -- records --

    def _described(self, record: Record, *, brief: bool = False) -> dict[str, Any]:
        content = orjson.loads(record.content)
        found: dict[str, Any] = {
            "id": record.key,
            **{name: content[name] for name in ("peer", "by", "targets", "total", "began", "ended")},
        }
        is_over = bool(content["ended"])
        if brief and is_over and "sent" in content and not content["cancelled"]:
            sent, failures, failed = content["sent"], content["failures"], []
        else:
            kept = [orjson.loads(each.content) for each in self._bundles(record.key, content["bundles"])]
            sent, failed = sum(each["sent"] for each in kept), [one for each in kept for one in each["failed"]]
            failures = len(failed)
        found |= {"sent": sent, "failures": failures, "left": content["total"] - sent - failures}
        found |= {"error": "", "next_attempt": None}
        if content["cancelled"]:
            state = "cancelled"
        elif is_over:
            state = "failed" if failures else "done"
        else:
            state, found["error"], found["next_attempt"] = self._under_way(record.key)
        found["state"] = state
        return found if brief else {**found, "failed": failed}

    def _under_way(self, send_id: str) -> tuple[str, str, str | None]:
        """State, why it waits, and when it is tried again: sending; waiting; given-up, when nothing else is left."""
        jobs = [job for page in self._jobs(send_id) for job in page]
        troubled = [job for job in jobs if job.error]
        if not troubled or any(job.state is JobState.RUNNING for job in jobs):
            return "sending", "", None
        error = troubled[0].error
        waiting = [job.due for job in jobs if job.state is JobState.WAITING]
        if not waiting:
            return "given-up", error, None
        return "waiting", error, min(waiting).isoformat(timespec="seconds")

    def _jobs(self, send_id: str) -> Iterable[list[Job]]:
        after = ""
        while page := self._work.jobs(kind=KIND, key_prefix=f"{send_id}\\", after=after, limit=_PAGE):
            yield page
            after = page[-1].job_id

    def _seen(self, send_id: str, caller: Caller) -> Record:
        found = self._record(send_id)
        if not _is_seen(found, caller):
            raise NotFound(_MISSING)
        return found

    def _record(self, send_id: str) -> Record:
        found = self._work.record(_SEND, send_id)
        if found is None:
            raise NotFound(_MISSING)
        return found

    def _is_wanted(self, send_id: str) -> bool:
        found = self._work.record(_SEND, send_id)
        return found is not None and not orjson.loads(found.content)["cancelled"]

    def _bundles(self, send_id: str, count: int) -> list[Record]:
        prefix = f"{send_id}\\"
        found = self._work.records(_BUNDLE, after=prefix, limit=count)
        return [record for record in found if record.key.startswith(prefix)]

    def _change(self, send_id: str, change: Callable[[dict[str, Any]], dict[str, Any] | None]) -> bool:
        """Whether there was something to change."""
        for _ in range(_ATTEMPTS):
            record = self._record(send_id)
            changed = change(orjson.loads(record.content))
            if changed is None:
                return False
            if self._work.write_records([RecordWrite(_SEND, send_id, document(changed), record.version, record.label)]):
                return True
        raise OutOfResources("others change the same send at the moment")

    def _forget(self) -> None:
        """Of old sends, some at a time."""
        until = (datetime.now(UTC) - _KEPT).isoformat(timespec="seconds")
        for record in self._work.records(_SEND, labels=("", until), limit=20):
            content = orjson.loads(record.content)
            if content["ended"]:
                kept = self._bundles(record.key, content["bundles"])
                gone = [RecordWrite(_BUNDLE, each.key, None) for each in kept]
                self._work.write_records([*gone, RecordWrite(_SEND, record.key, None)])


def _jobs(send_id: str, peer: str, targets: Sequence[Target], first: int) -> list[NewJob]:
    jobs = []
    for number, start in enumerate(range(0, len(targets), _BUNDLE_INSTANCES), first):
        some = targets[start : start + _BUNDLE_INSTANCES]
        grouped = groupby(some, key=lambda target: (target.study_uid, target.series_uid))
        instances = [(*of, [target.sop_uid for target in each]) for of, each in grouped]
        payload = {"send": send_id, "bundle": number, "to": peer, "instances": instances}
        jobs.append(NewJob(KIND, _key(send_id, number), peer, orjson.dumps(payload)))
    return jobs


def _is_seen(record: Record, caller: Caller) -> bool:
    return caller.scope.is_everything or orjson.loads(record.content)["by"] == caller.name


def _new_id() -> str:
    """Ids are less the later they are made: records come in the order of their keys, and the newest are asked for."""
    return f"{_LAST_MS - time.time_ns() // 1_000_000:011x}{secrets.token_hex(4)}"


def _key(send_id: str, number: int) -> str:
    return f"{send_id}\\{number:06}"


def _target_json(target: Target) -> dict[str, str]:
    parts = {"study": target.study_uid, "series": target.series_uid, "sop": target.sop_uid}
    return {name: uid for name, uid in parts.items() if uid}


def _target(found: dict[str, str]) -> Target:
    return Target(found["study"], found.get("series"), found.get("sop"))


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
