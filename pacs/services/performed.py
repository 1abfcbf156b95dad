"""Modality performed procedure steps (PS3.4 F.7): kept as records, moving the worklist with them."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import orjson

from pacs.dicom import performed_step
from pacs.dicom.matchers import Matcher, TagPath
from pacs.dicom.matching import matches_all
from pacs.dicom.model import Attributes, Caller
from pacs.dicom.uids import new_uid
from pacs.dicom.worklist_item import text_at
from pacs.errors import Conflict, NotFound
from pacs.index.work import RecordWrite, Work
from pacs.services.completeness import Completeness
from pacs.services.planned import sees_performed
from pacs.services.records import ANY_DATE, bounds, document
from pacs.services.worklist import ATTEMPTS, Worklist, too_busy

log = logging.getLogger(__name__)

_STEP = "performed-step"
_PAGE = 1000


class PerformedSteps:
    """Steps by SOP Instance UID. Safe to call from any thread and process.

    A change of a step, of the worklist items that it names, and of what its studies should hold is one transaction.
    """

    def __init__(self, work: Work, worklist: Worklist, completeness: Completeness) -> None:
        self._work = work
        self._worklist = worklist
        self._completeness = completeness

    def create(self, sop_uid: str | None, attributes: Attributes, caller: Caller) -> str:
        """Take in a step that has begun; its SOP Instance UID, made here when the modality names none.

        Raises Conflict when there is one already, and as ``performed_step.created`` does.
        """
        made_uid = sop_uid or new_uid()
        step = performed_step.created(made_uid, attributes)
        for _ in range(ATTEMPTS):
            if self._work.record(_STEP, made_uid) is not None:
                raise Conflict("there is a performed procedure step of this SOP Instance UID already")
            if self._write(step, 0):
                log.info("performed step created sop=%s from=%s", made_uid, caller.name)
                return made_uid
        raise too_busy()

    def change(self, sop_uid: str, changes: Attributes, caller: Caller) -> tuple[str, ...]:
        """Change a step; the tags that were left as they are, because no modality may change them.

        Raises NotFound, and as ``performed_step.changed`` does.
        """
        for _ in range(ATTEMPTS):
            record = self._work.record(_STEP, sop_uid)
            if record is None:
                raise NotFound("there is no such performed procedure step")
            step, ignored = performed_step.changed(orjson.loads(record.content), changes)
            if self._write(step, record.version):
                state = performed_step.state_of(step)
                log.info("performed step changed sop=%s state=%s from=%s", sop_uid, state, caller.name)
                if ignored:
                    log.warning("performed step attributes kept sop=%s tags=%s", sop_uid, ",".join(ignored))
                return ignored
        raise too_busy()

    def step(self, sop_uid: str, caller: Caller) -> dict[str, Any]:
        """One that the caller sees (``services.planned``). Raises NotFound."""
        record = self._work.record(_STEP, sop_uid)
        found: dict[str, Any] | None = orjson.loads(record.content) if record is not None else None
        if found is None or not sees_performed(caller.scope, found, self._work):
            raise NotFound("there is no such performed procedure step")
        return found

    def search(self, keys: Mapping[TagPath, Matcher], caller: Caller) -> list[Attributes]:
        """Steps that match, of those that the caller sees, by the date and time that they began."""
        labels = bounds(keys.get((performed_step.START_DATE,))) or ANY_DATE
        found, after = [], ""
        while True:
            page = self._work.records(_STEP, labels=labels, after=after, limit=_PAGE)
            steps = (orjson.loads(record.content) for record in page)
            found += [
                step for step in steps if matches_all(keys, step) and sees_performed(caller.scope, step, self._work)
            ]
            if len(page) < _PAGE:
                return sorted(found, key=_order)
            after = page[-1].key

    def _write(self, step: Attributes, version: int) -> bool:
        """False when somebody else has changed something of it meanwhile."""
        sop_uid, state = performed_step.sop_uid_of(step), performed_step.state_of(step)
        label = text_at(step, performed_step.START_DATE).replace(".", "")
        expectations, jobs = self._completeness.expectations(step)
        writes = [
            RecordWrite(_STEP, sop_uid, document(step), version, label),
            *self._worklist.moves(performed_step.references(step), sop_uid, state),
            *expectations,
        ]
        return self._work.write_records(writes, jobs)


def _order(step: Attributes) -> tuple[str, str, str]:
    return text_at(step, performed_step.START_DATE), text_at(step, "00400245"), performed_step.sop_uid_of(step)
