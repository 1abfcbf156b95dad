"""Retention rules: which studies are deleted by age or because the archive is large, as data (``retention.toml``).

    keep = ["keep", "teaching"]         # studies with one of these labels stay, whatever the rules say

    [[rule]]
    name = "CT after ten years"
    older_than = "10y"                  # of the study; d, w or y (365 days)
    by = "study date"                   # or "received": when its last instance came in (the default)
    match = { Modality = "CT" }         # as in forwarding rules: one instance has to match
    label = ["routine"]                 # only studies with one of these

    [[rule]]
    name = "at most 2 TB"
    larger_than = "2TB"                 # of all that is stored; what is oldest goes first
    older_than = "30d"                  # and nothing younger goes for it

A study goes as a whole, into the trash.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
from pydantic import ByteSize, TypeAdapter, ValidationError

from pacs.dicom.matchers import Matcher, TagPath
from pacs.dicom.model import Level, Target
from pacs.errors import Invalid
from pacs.index.base import Fields, Index, Query
from pacs.services import labels, rule_file
from pacs.services.labels import Labels
from pacs.services.rule_file import match_keys, texts

_AGE = re.compile(r"([1-9][0-9]{0,4})([dwy])")
_DAYS = {"d": 1, "w": 7, "y": 365}
_KNOWN = {"name", "older_than", "by", "larger_than", "match", "label"}
_PAGE = 200
_STUDY_UID, _STUDY_DATE = "0020000D", "00080020"
_FIELDS = Fields(tags=frozenset({_STUDY_UID, _STUDY_DATE}))
_SIZE: TypeAdapter[ByteSize] = TypeAdapter(ByteSize)


@dataclass(frozen=True, slots=True)
class RetentionRule:
    """older_than: of a study, by its date or by when its last instance was received. larger_than: bytes of all."""

    name: str
    keys: Mapping[TagPath, Matcher] = field(default_factory=dict)
    older_than: timedelta | None = None
    by_study_date: bool = False
    larger_than: int | None = None
    label: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Retention:
    """keep: labels of studies that stay."""

    rules: tuple[RetentionRule, ...] = ()
    keep: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Leaving:
    """A study that a rule lets go. since: what its age was counted from."""

    study_uid: str
    rule: str
    since: datetime
    size_bytes: int


def load(path: Path | None) -> Retention:
    """The rules of a file; none without one. Raises Invalid, which says in which rule what is wrong."""
    if path is None:
        return Retention()
    content = rule_file.read(path, "RETENTION", ("keep",))
    try:
        keep = frozenset(texts(content, "keep"))
        for label in keep:
            labels.check(label)
    except Invalid as error:
        raise Invalid(f"{path}: {error}", "RETENTION") from error
    return Retention(tuple(rule_file.rules(content, path, "RETENTION", _KNOWN, _rule)), keep)


def _rule(name: str, table: Mapping[str, Any]) -> RetentionRule:
    by = table.get("by", "received")
    if by not in ("received", "study date"):
        raise Invalid('by is neither "received" nor "study date"')
    rule = RetentionRule(
        name,
        match_keys(table.get("match", {})),
        _age(table.get("older_than")),
        by == "study date",
        _size(table.get("larger_than")),
        texts(table, "label"),
    )
    for label in rule.label:
        labels.check(label)
    if rule.older_than is None and rule.larger_than is None:
        raise Invalid("it says neither older_than nor larger_than")
    return rule


def _age(value: Any) -> timedelta | None:
    if value is None:
        return None
    matched = _AGE.fullmatch(value) if isinstance(value, str) else None
    if matched is None:
        raise Invalid('older_than is not an age such as "90d", "12w" or "10y"')
    return timedelta(days=int(matched[1]) * _DAYS[matched[2]])


def _size(value: Any) -> int | None:
    if value is None:
        return None
    try:
        size = int(_SIZE.validate_python(value)) if isinstance(value, str | int) and not isinstance(value, bool) else 0
    except ValidationError:
        size = 0
    if size <= 0:
        raise Invalid('larger_than is not a size such as "2TB" or "500GiB"')
    return size


class Retaining:
    """Finds out what the rules let go. retention: may be exchanged while it is in use."""

    def __init__(self, index: Index, retention: Retention) -> None:
        self._index = index
        self._labels = Labels(index.work)
        self.retention = retention

    def leaving(self, now: datetime) -> Iterator[Leaving]:
        """Studies that are to go, rule by rule. Whoever deletes them may do so as they come; no study comes twice."""
        retention, gone = self.retention, set[str]()
        for rule in retention.rules:
            excess = None
            if rule.larger_than is not None:
                excess = self._index.counts().size_bytes - rule.larger_than
                # What came before may have been deleted, or not (a dry run): both are told by what is still there.
                excess -= sum(self._size_of(study) for study in gone)
                if excess <= 0:
                    continue
            found = self._candidates(rule, now)
            if excess is not None:
                found = iter(sorted(found))
            freed = 0
            for since, study_uid in found:
                if study_uid in gone or not self._may_go(study_uid, rule, retention):
                    continue
                if excess is not None and freed >= excess:
                    break
                size_bytes = self._size_of(study_uid)
                freed += size_bytes
                gone.add(study_uid)
                yield Leaving(study_uid, rule.name, since, size_bytes)

    def _candidates(self, rule: RetentionRule, now: datetime) -> Iterator[tuple[datetime, str]]:
        after = None
        while True:
            page = self._index.search(Query(Level.STUDY, rule.keys, fields=_FIELDS, limit=_PAGE, after=after))
            for row in map(orjson.loads, page.rows):
                study_uid = str(row[_STUDY_UID]["Value"][0])
                since = _study_date(row) if rule.by_study_date else self._index.last_arrival(study_uid)
                if since is not None and (rule.older_than is None or since + rule.older_than <= now):
                    yield since, study_uid
            after = page.next
            if after is None:
                return

    def _may_go(self, study_uid: str, rule: RetentionRule, retention: Retention) -> bool:
        if not (retention.keep or rule.label):
            return True
        borne = set(self._labels.of(study_uid))
        return not borne & retention.keep and (not rule.label or bool(borne & set(rule.label)))

    def _size_of(self, study_uid: str) -> int:
        return sum(instance.blob.size_bytes for instance in self._index.locate(Target(study_uid)))


def _study_date(row: Mapping[str, Any]) -> datetime | None:
    """None for a study without a date: nothing says that it is old."""
    values = row.get(_STUDY_DATE, {}).get("Value") or [""]
    try:
        return datetime.strptime(str(values[0]), "%Y%m%d").replace(tzinfo=UTC)
    except ValueError:
        return None
