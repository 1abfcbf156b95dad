"""The modality worklist (PS3.4 K): what is to be done, from orders over REST and from a folder of files."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import orjson

from pacs.dicom import worklist_item
from pacs.dicom.matchers import CombinedRange, Matcher, Range, TagPath
from pacs.dicom.matchers import Sequence as ItemMatcher
from pacs.dicom.matching import is_universal, matches_all
from pacs.dicom.model import Attributes, Caller
from pacs.dicom.worklist_item import CLOSED, ItemKey, key_of, start_of, status_of
from pacs.errors import Forbidden, Invalid, NotFound, OutOfResources
from pacs.index.work import Record, RecordWrite, Work
from pacs.services.planned import sees_scheduled
from pacs.services.records import ANY_DATE, bounds, document
from pacs.services.worklist_folder import WorklistFolder

log = logging.getLogger(__name__)

_ITEM = "worklist"  # records of orders
_FILE = "worklist-file"  # what was done of an item that comes from a file
_CLOSED = "closed "  # begins the label of what is not offered unasked, so that years of it are not read
_PAGE = 1000
ATTEMPTS = 50  # at a record that others change at the same time


@dataclass(frozen=True, slots=True)
class _Entry:
    """An item as it is kept. performed: states of the performed steps that are about it, by SOP Instance UID.

    version: of its record, 0 when it has none yet. file_says: None for an order; else status and date in the file.
    """

    attributes: dict[str, Any]
    performed: Mapping[str, str] = field(default_factory=dict)
    version: int = 0
    file_says: str | None = None


class Worklist:
    """Items by Study Instance UID and Scheduled Procedure Step ID. Safe to call from any thread and process.

    What lies outside a caller's scope (``services.planned``) is not there for that caller.
    folder: further items, which only their files change; None for none.
    """

    def __init__(self, work: Work, folder: WorklistFolder | None = None) -> None:
        self._work = work
        self._folder = folder

    def search(self, keys: Mapping[TagPath, Matcher], caller: Caller, called: str | None = None) -> list[Attributes]:
        """Items that match, by date and time. called: leaves out files in the folder of another AE title.

        Items of which nothing is left to be done are only found when a key asks for their status.
        """
        asked = combined(keys)
        step_keys = _step_keys(asked)
        status_key = step_keys.get((worklist_item.STEP_STATUS,))
        with_closed = status_key is not None and not is_universal(status_key)
        found = [
            item
            for item in self._candidates(bounds(step_keys.get((worklist_item.START_DATE,))), with_closed, called)
            if (with_closed or status_of(item) not in CLOSED)
            and matches_all(asked, item)
            and sees_scheduled(caller.scope, item, self._work)
        ]
        names = ",".join(sorted(".".join(path) for path in (*asked, *((worklist_item.STEPS, *at) for at in step_keys))))
        log.info("searched worklist from=%s keys=%s items=%d", caller.name, names, len(found))
        return sorted(found, key=lambda item: (*start_of(item), key_of(item)))

    def item(self, key: ItemKey, caller: Caller) -> Attributes:
        """Raises NotFound."""
        return self._entry(key, caller).attributes

    def put(self, item: Attributes, caller: Caller, key: ItemKey | None = None) -> tuple[Attributes, bool]:
        """Take in an item, or the new content of one: (as it is kept, whether it is new).

        Without a status it keeps the one that it has. key: that it has to have, and to exist: it is completed from
        there. Raises Invalid naming the attribute, NotFound, and Forbidden for one that comes from a file, or lies
        outside the caller's scope.
        """
        made = item
        if key is not None:
            self._entry(key, caller)
            made = _named(item, key)
        has_status = bool(worklist_item.text_at(worklist_item.step_of(made), worklist_item.STEP_STATUS))
        made = worklist_item.completed(made, datetime.now().astimezone().date())
        own_key = key_of(made)
        if not sees_scheduled(caller.scope, made, self._work):
            raise Forbidden("this worklist item is of a modality, or study, that is not yours")

        def changed(there: _Entry | None) -> _Entry:
            if there is None:
                return _Entry(made)
            if not sees_scheduled(caller.scope, there.attributes, self._work):
                raise Forbidden("this worklist item is of a modality, or study, that is not yours")
            if there.file_says is not None:
                raise Forbidden("this worklist item comes from a file of WORKLIST_FOLDER: change the file")
            kept = made if has_status else worklist_item.with_status(made, status_of(there.attributes))
            return _Entry(kept, there.performed, there.version)

        entry = self._change(own_key, changed)
        log.info("worklist item put study=%s from=%s new=%s", own_key.study_uid, caller.name, not entry.version)
        return entry.attributes, not entry.version

    def set_status(self, key: ItemKey, status: str, caller: Caller) -> Attributes:
        """Raises NotFound, and Invalid for a status that there is not."""
        known = worklist_item.known_status(status)

        def changed(there: _Entry | None) -> _Entry:
            if there is None or not sees_scheduled(caller.scope, there.attributes, self._work):
                raise NotFound("there is no such worklist item")
            attributes = worklist_item.with_status(there.attributes, known)
            return _Entry(attributes, there.performed, there.version, there.file_says)

        entry = self._change(key, changed)
        log.info("worklist item set study=%s status=%s from=%s", key.study_uid, known, caller.name)
        return entry.attributes

    def remove(self, key: ItemKey, caller: Caller) -> None:
        """Raises NotFound, and Forbidden for one that comes from a file."""
        for _ in range(ATTEMPTS):
            entry = self._entry(key, caller)
            if entry.file_says is not None:
                raise Forbidden("this worklist item comes from a file of WORKLIST_FOLDER: remove the file")
            if self._work.write_records([RecordWrite(_ITEM, str(key), None, entry.version)]):
                log.info("worklist item removed study=%s from=%s", key.study_uid, caller.name)
                return
        raise too_busy()

    def moves(self, references: Sequence[Attributes], performed_uid: str, state: str) -> list[RecordWrite]:
        """What a performed step's state makes of the items that it names, to be written together with it.

        references: items of its Scheduled Step Attributes Sequence; those that name no item here are unscheduled.
        """
        found = {key: entry for each in references for key, entry in self._referenced(each)}
        writes = []
        for key, entry in found.items():
            performed = {**entry.performed, performed_uid: state}
            attributes = worklist_item.with_status(entry.attributes, _status_after(performed.values()))
            writes.append(_write(key, _Entry(attributes, performed, entry.version, entry.file_says)))
        return writes

    def _referenced(self, reference: Attributes) -> Iterator[tuple[ItemKey, _Entry]]:
        """The item by its step's ID; else the only one of the study that has the accession number."""
        study_uid = worklist_item.text_at(reference, worklist_item.STUDY_UID)
        of_study = list(self._of_study(study_uid))
        step_id = worklist_item.text_at(reference, worklist_item.STEP_ID)
        number = worklist_item.text_at(reference, worklist_item.ACCESSION_NUMBER)
        found = [(key, entry) for key, entry in of_study if step_id and key.step_id == step_id] or [
            (key, entry)
            for key, entry in of_study
            if number and worklist_item.text_at(entry.attributes, worklist_item.ACCESSION_NUMBER) == number
        ]
        if len(found) == 1:
            yield found[0]

    def _of_study(self, study_uid: str) -> Iterator[tuple[ItemKey, _Entry]]:
        prefix = f"{study_uid}/"
        files = {key: item for key, item in self._files().items() if key.study_uid == study_uid}
        for key, item in files.items():
            yield key, self._of_file(item, self._work.record(_FILE, str(key)))
        for record in self._work.records(_ITEM, after=prefix):
            if not record.key.startswith(prefix):
                break
            entry = _ordered(record)
            if key_of(entry.attributes) not in files:
                yield key_of(entry.attributes), entry

    def _candidates(
        self, dates: tuple[str, str] | None, with_closed: bool, called: str | None
    ) -> Iterator[dict[str, Any]]:
        first, last = dates or ANY_DATE
        files = {key: item for key, item in self._files(called).items() if first <= start_of(item)[0] <= last}
        done = {record.key: record for record in self._records(_FILE, (first, last))} if files else {}
        for key, item in files.items():
            yield self._of_file(item, done.get(str(key))).attributes
        in_files = self._files()
        for labels in [(first, last), *([(_CLOSED + first, _CLOSED + last)] if with_closed else [])]:
            for record in self._records(_ITEM, labels):
                entry = _ordered(record)
                if not in_files or key_of(entry.attributes) not in in_files:
                    yield entry.attributes

    def _records(self, kind: str, labels: tuple[str, str]) -> Iterator[Record]:
        after = ""
        while True:
            page = self._work.records(kind, labels=labels, after=after, limit=_PAGE)
            yield from page
            if len(page) < _PAGE:
                return
            after = page[-1].key

    def _files(self, called: str | None = None) -> dict[ItemKey, dict[str, Any]]:
        """What files say, which wins over an order of the same key. Of two files with it, the first one counts."""
        found: dict[ItemKey, dict[str, Any]] = {}
        for item in self._folder.items() if self._folder is not None else ():
            if called is None or item.called in ("", called):
                found.setdefault(key_of(item.attributes), item.attributes)
        return found

    def _entry(self, key: ItemKey, caller: Caller) -> _Entry:
        found = self._find(key)
        if found is None or not sees_scheduled(caller.scope, found.attributes, self._work):
            raise NotFound("there is no such worklist item")
        return found

    def _find(self, key: ItemKey) -> _Entry | None:
        item = self._files().get(key)
        if item is not None:
            return self._of_file(item, self._work.record(_FILE, str(key)))
        record = self._work.record(_ITEM, str(key))
        return _ordered(record) if record is not None else None

    def _change(self, key: ItemKey, change: Callable[[_Entry | None], _Entry]) -> _Entry:
        for _ in range(ATTEMPTS):
            entry = change(self._find(key))
            if self._work.write_records([_write(key, entry)]):
                return entry
        raise too_busy()

    def _of_file(self, item: dict[str, Any], record: Record | None) -> _Entry:
        """A file's item in the state that it was brought to, unless the file names another status or date since."""
        says = f"{status_of(item)} {start_of(item)[0]}"
        if record is None:
            return _Entry(item, file_says=says)
        content = orjson.loads(record.content)
        if content["file_says"] != says:
            return _Entry(item, {}, record.version, says)
        return _Entry(worklist_item.with_status(item, content["status"]), content["performed"], record.version, says)


def combined(keys: Mapping[TagPath, Matcher]) -> dict[TagPath, Matcher]:
    """Keys in which ranges over Scheduled Procedure Step Start Date and Time are one (PS3.4 Table K.6-1)."""
    step_keys = _step_keys(keys)
    date, time = step_keys.get((worklist_item.START_DATE,)), step_keys.get((worklist_item.START_TIME,))
    if not isinstance(date, Range) or not isinstance(time, Range):
        return dict(keys)
    made = {path: key for path, key in step_keys.items() if path != (worklist_item.START_TIME,)}
    made[(worklist_item.START_DATE,)] = CombinedRange((worklist_item.START_TIME,), date, time)
    return {**keys, (worklist_item.STEPS,): ItemMatcher(made)}


def too_busy() -> OutOfResources:
    return OutOfResources("others change the same worklist item at the moment")


def _step_keys(keys: Mapping[TagPath, Matcher]) -> Mapping[TagPath, Matcher]:
    steps = keys.get((worklist_item.STEPS,))
    return steps.keys if isinstance(steps, ItemMatcher) else {}


def _ordered(record: Record) -> _Entry:
    content = orjson.loads(record.content)
    return _Entry(content["attributes"], content["performed"], record.version)


def _write(key: ItemKey, entry: _Entry) -> RecordWrite:
    status, date = status_of(entry.attributes), start_of(entry.attributes)[0]
    if entry.file_says is not None:
        done = {"status": status, "file_says": entry.file_says, "performed": entry.performed}
        return RecordWrite(_FILE, str(key), document(done), entry.version, date)
    content = {"attributes": entry.attributes, "performed": entry.performed}
    label = _CLOSED + date if status in CLOSED else date
    return RecordWrite(_ITEM, str(key), document(content), entry.version, label)


def _status_after(states: Iterable[str]) -> str:
    """Of an item, by the states of all performed steps that are about it."""
    found = set(states)
    if "IN PROGRESS" in found:
        return worklist_item.STARTED
    return worklist_item.COMPLETED if "COMPLETED" in found else worklist_item.DISCONTINUED


def _named(item: Attributes, key: ItemKey) -> dict[str, Any]:
    """The item with the key of its address. Raises Invalid when it says another one."""
    step = worklist_item.step_of(item)
    for attributes, tag, wanted, name in (
        (item, worklist_item.STUDY_UID, key.study_uid, "StudyInstanceUID"),
        (step, worklist_item.STEP_ID, key.step_id, "ScheduledProcedureStepID"),
    ):
        said = worklist_item.text_at(attributes, tag)
        if said and said != wanted:
            raise Invalid(f"{name} is {said[:64]!r} in the body, and another one in the address", name)
    if not step:
        return dict(item)  # is told what is missing
    named = {**step, worklist_item.STEP_ID: {"vr": "SH", "Value": [key.step_id]}}
    return {
        **item,
        worklist_item.STUDY_UID: {"vr": "UI", "Value": [key.study_uid]},
        worklist_item.STEPS: {"vr": "SQ", "Value": [named, *item[worklist_item.STEPS]["Value"][1:]]},
    }
