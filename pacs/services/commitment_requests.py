"""Storage commitment that this archive asks of others, for what it has sent them (PS3.4 J).

A request is a record, and the job that asks is written with it. One without an answer is asked again under another
Transaction UID, as long as the runner of jobs tries; nothing of it is lost in a restart.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

import orjson

from pacs.dicom.model import StoredInstance
from pacs.dicom.references import Reference
from pacs.dicom.uids import new_uid
from pacs.errors import Invalid, NotFound
from pacs.index.work import NewJob, Record, RecordWrite, Work, job_id
from pacs.services.kept import Forgetting, packed, unpacked

log = logging.getLogger(__name__)

COMMITMENT_REQUEST = "commitment-request"  # kind of records and of jobs; keys are Transaction UIDs
_PAGE = 200
_UNMENTIONED = 0x0110  # processing failure: asked for, and neither committed nor failed in the answer


class State(StrEnum):
    WAITING = "waiting"  # the peer has not been asked yet
    ASKED = "asked"
    COMMITTED = "committed"  # all of it
    FAILED = "failed"  # at least one instance
    REPEATED = "repeated"  # no answer came; asked again under another UID
    UNANSWERED = "unanswered"  # and not asked any more


@dataclass(frozen=True, slots=True)
class Asked:
    """One request. failed: SOP Instance UID → Failure Reason. then: jobs that follow once all is committed.

    rounds: how often it has been asked, under whatever UID; next: the UID of the next round, "" for none.
    """

    uid: str
    peer: str
    state: State
    created_at: datetime
    references: Sequence[Reference]
    asked_at: datetime | None = None
    failed: Mapping[str, int] = field(default_factory=dict)
    answered_at: datetime | None = None
    rounds: int = 1
    next: str = ""
    then: Sequence[NewJob] = ()
    version: int = 0

    @property
    def is_open(self) -> bool:
        return self.state in (State.WAITING, State.ASKED, State.REPEATED, State.UNANSWERED)

    def as_json(self, *, with_failed: bool = False) -> dict[str, object]:
        """As people and scripts are told."""
        found: dict[str, object] = {
            "transaction": self.uid,
            "peer": self.peer,
            "state": self.state.value,
            "created": self.created_at.isoformat(timespec="seconds"),
            "asked": self.asked_at and self.asked_at.isoformat(timespec="seconds"),
            "answered": self.answered_at and self.answered_at.isoformat(timespec="seconds"),
            "rounds": self.rounds,
            "next": self.next or None,
            "instances": len(self.references),
            "failures": len(self.failed),
        }
        if with_failed:
            found["failed"] = [{"instance": uid, "reason": f"{why:04X}H"} for uid, why in self.failed.items()]
        return found


class CommitmentRequests:
    """Safe to call from any thread. again_after: how long an answer is waited for; rounds: how often one asks at most.

    keep: how long requests are remembered.
    """

    def __init__(
        self,
        work: Work,
        *,
        again_after: timedelta = timedelta(hours=6),
        rounds: int = 10,
        keep: timedelta = timedelta(days=30),
    ) -> None:
        self._work = work
        self._again_after = again_after
        self._rounds = rounds
        self._forgetting = Forgetting(work, COMMITMENT_REQUEST, keep)

    def ask(self, peer: str, instances: Iterable[StoredInstance], then: Sequence[NewJob] = ()) -> str:
        """Have a peer asked to commit; the Transaction UID.

        then: jobs to be added in the transaction that notes that all is committed. Raises Invalid when there are no
        instances.
        """
        uid, write, job = self.asking(peer, instances, then)
        self._work.write_records([write], [job])
        self._forgetting.run()
        return uid

    def asking(
        self, peer: str, instances: Iterable[StoredInstance], then: Sequence[NewJob] = ()
    ) -> tuple[str, RecordWrite, NewJob]:
        """The same, to be written together with something else."""
        found = tuple(Reference(each.sop_class_uid, each.target.sop_uid or "") for each in instances)
        if not found:
            raise Invalid("there are no instances to ask storage commitment for", "instances")
        asked = Asked(new_uid(), peer, State.WAITING, datetime.now(UTC), found, then=tuple(then))
        return asked.uid, _write(asked), self._job(asked)

    def find(self, uid: str) -> Asked | None:
        record = self._work.record(COMMITMENT_REQUEST, uid)
        return None if record is None else _read(record)

    def page(self, states: Collection[State] = tuple(State), after: str = "", limit: int = 100) -> list[Asked]:
        """Those in one of the states, in the order of Transaction UIDs, after ``after``."""
        found: list[Asked] = []
        while len(found) < limit:
            records = self._work.records(COMMITMENT_REQUEST, after=after, limit=_PAGE)
            found += [asked for each in records if (asked := _read(each)).state in states]
            if len(records) < _PAGE:
                break
            after = records[-1].key
        return found[:limit]

    def note_asked(self, asked: Asked) -> bool:
        """The peer has taken the request; false when it has been answered already."""
        now = datetime.now(UTC)
        write = _write(replace(asked, state=State.ASKED, asked_at=now), asked.version)
        return self._work.write_records([write], [self._job(asked, now + self._again_after)])

    def is_overdue(self, asked: Asked) -> bool:
        return asked.asked_at is not None and datetime.now(UTC) >= asked.asked_at + self._again_after

    def wait_on(self, asked: Asked) -> None:
        """Look again when it is overdue."""
        self._work.add_jobs([self._job(asked, (asked.asked_at or asked.created_at) + self._again_after)])

    def repeat(self, asked: Asked, *, after_s: float = 0.0, at_most: bool = True) -> bool:
        """Ask again, in after_s: no answer has come, or a refusal, after which its UID must not be used again.

        False when it has been asked for often enough (if at_most): then it stays without an answer.
        """
        if at_most and asked.rounds >= self._rounds:
            self._work.write_records([_write(replace(asked, state=State.UNANSWERED), asked.version)])
            return False
        again = replace(asked, uid=new_uid(), state=State.WAITING, asked_at=None, rounds=asked.rounds + 1)
        writes = [_write(replace(asked, state=State.REPEATED, next=again.uid), asked.version), _write(again)]
        # Otherwise it has been answered in the meantime.
        if self._work.write_records(writes, [self._job(again, datetime.now(UTC) + timedelta(seconds=after_s))]):
            log.warning("to be asked again transaction=%s instead_of=%s peer=%s", again.uid, asked.uid, asked.peer)
        return True

    def settle(self, uid: str, committed: Iterable[str], failed: Mapping[str, int]) -> Asked:
        """Take the answer: SOP Instance UIDs that are committed, and those that are not, with the reason.

        What it does not speak of has failed. The first answer counts. Raises NotFound for a UID that was not asked.
        """
        known = set(committed) - set(failed)
        while True:
            asked = self.find(uid)
            if asked is None:
                raise NotFound("no storage commitment has been asked under this Transaction UID")
            if not asked.is_open:
                return asked
            missing = {
                each.sop_uid: failed.get(each.sop_uid, _UNMENTIONED)
                for each in asked.references
                if each.sop_uid not in known
            }
            state = State.FAILED if missing else State.COMMITTED
            rounds = self._rounds_of(asked)
            now = datetime.now(UTC)
            answered = [replace(each, state=state, failed=missing, answered_at=now) for each in rounds]
            writes = [_write(each, each.version) for each in answered]
            # Where the last round has been answered before, what follows from that has followed.
            then = () if missing or rounds[-1].next else asked.then
            if self._work.write_records(writes, then):
                break
        # Nothing is left to ask; one that runs finds that out itself.
        self._work.discard_jobs([_job_id(each.uid) for each in rounds])
        _log(answered[0])
        return answered[0]

    def _job(self, asked: Asked, due: datetime | None = None) -> NewJob:
        return NewJob(COMMITMENT_REQUEST, asked.uid, asked.peer, due=due)

    def _rounds_of(self, asked: Asked) -> list[Asked]:
        """This round and those after it, as far as nobody has answered: an answer that comes late answers them too."""
        rounds = [asked]
        while rounds[-1].next:
            following = self.find(rounds[-1].next)
            if following is None or not following.is_open:
                break
            rounds.append(following)
        return rounds


def _log(asked: Asked) -> None:
    count = len(asked.references)
    if not asked.failed:
        log.info("commitment transaction=%s by=%s instances=%d", asked.uid, asked.peer, count)
        return
    first, why = next(iter(asked.failed.items()))
    log.error(
        "not all committed transaction=%s by=%s instances=%d failed=%d first_sop=%s reason=%04XH",
        *(asked.uid, asked.peer, count, len(asked.failed), first, why),
    )


def _write(asked: Asked, expected: int = 0) -> RecordWrite:
    content: dict[str, Any] = {
        "peer": asked.peer,
        "state": asked.state,
        "created_at": asked.created_at.isoformat(),
        "instances": packed(asked.references),
        "failed": asked.failed,
        "asked_at": asked.asked_at and asked.asked_at.isoformat(),
        "answered_at": asked.answered_at and asked.answered_at.isoformat(),
        "rounds": asked.rounds,
        "next": asked.next,
        "then": [[job.kind, job.key, job.group, job.payload.decode()] for job in asked.then],
    }
    label = asked.created_at.isoformat()
    return RecordWrite(COMMITMENT_REQUEST, asked.uid, orjson.dumps(content), expected, label)


def _read(record: Record) -> Asked:
    found = orjson.loads(record.content)
    return Asked(
        record.key,
        found["peer"],
        State(found["state"]),
        datetime.fromisoformat(found["created_at"]),
        unpacked(found["instances"]),
        _moment(found["asked_at"]),
        found["failed"],
        _moment(found["answered_at"]),
        found["rounds"],
        found["next"],
        tuple(NewJob(kind, key, group, payload.encode()) for kind, key, group, payload in found["then"]),
        record.version,
    )


def _moment(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def _job_id(uid: str) -> str:
    return job_id(COMMITMENT_REQUEST, uid)
