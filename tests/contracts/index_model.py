"""An index by brute force: a list of instances and the reference matcher. What the engines are compared with."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pacs.dicom import normal, person_name
from pacs.dicom.attributes import ALL, BY_TAG, DEFAULT_SEQUENCES, KEPT_SEQUENCES, UNIQUE_KEYS
from pacs.dicom.matching import Matcher, TagPath, element_at, matches, private_tags
from pacs.dicom.model import EVERYTHING, InstanceRecord, Level, Scope, StoredInstance, Target
from pacs.index.base import Fields, Put, Query

Attributes = dict[str, Any]
Key = tuple[str, str, str]


@dataclass
class Entry:
    record: InstanceRecord
    last: int  # when it was last stored

    @property
    def key(self) -> Key:
        target = self.record.header.target
        return (target.study_uid, str(target.series_uid), str(target.sop_uid))

    @property
    def attributes(self) -> Attributes:
        header = self.record.header
        target = header.target
        identity = {
            "00080016": header.sop_class_uid,
            "00080018": target.sop_uid,
            "0020000D": target.study_uid,
            "0020000E": target.series_uid,
        }
        return {**header.attributes, **{tag: {"vr": "UI", "Value": [uid]} for tag, uid in identity.items()}}


class ModelIndex:
    """Everything is worked out anew at each question."""

    def __init__(self) -> None:
        self.entries: dict[Key, Entry] = {}
        self.superseded: list[StoredInstance] = []
        self._clock = 0
        # When each entity that is there came to be: (level, name) → number.
        self._born: dict[tuple[Level, Any], int] = {}
        self.labels: dict[str, set[str]] = {}

    def put(self, records: Sequence[InstanceRecord], replace: bool = False) -> list[Put]:
        return [self._put(record, replace) for record in records]

    def remove(self, targets: Sequence[Target]) -> set[str]:
        keys = set()
        for target in targets:
            gone = [entry for entry in self.entries.values() if is_within(stored(entry).target, target)]
            keys |= {entry.record.blob.key for entry in gone}
            keys |= {one.blob.key for one in self.superseded if is_within(one.target, target)}
            self.superseded = [one for one in self.superseded if not is_within(one.target, target)]
            for entry in gone:
                del self.entries[entry.key]
            self._note_births()
        return keys

    def search(self, query: Query) -> tuple[list[Attributes], set[int]]:
        """All rows in order, paging left out, and the positions of inconsistent studies."""
        rows = {level: self._rows(level) for level in Level}
        found: dict[Any, int] = {}
        for entry in self.entries.values():
            if query.within and not is_within(stored(entry).target, query.within):
                continue
            if not self.is_visible(entry, query.scope) or not self._is_listed(entry, query, rows):
                continue
            if self._matches(entry, query.keys, rows):
                name = self._name(query.level, entry)
                found[name] = self._born[(query.level, name)]
        names = sorted(found, key=lambda name: found[name])
        if query.order is not None:
            names = self._ordered(names, query, rows)
        answers = [self._answer(query.level, name, query.fields, rows) for name in names]
        inconsistent = set()
        if query.level is Level.STUDY:
            inconsistent = {at for at, name in enumerate(names) if self._is_inconsistent(name)}
        return answers, inconsistent

    def is_visible(self, entry: Entry, scope: Scope) -> bool:
        study, series, _ = entry.key
        last = self._last(one for one in self.entries.values() if one.key[:2] == (study, series))
        return (
            (scope.modalities is None or _text(last.attributes, "00080060") in scope.modalities)
            and (scope.labels is None or bool(self.labels.get(study, set()) & scope.labels))
            and (scope.studies is None or study in scope.studies)
        )

    def _is_listed(self, entry: Entry, query: Query, rows: dict[Level, dict[Any, tuple[Attributes, Entry]]]) -> bool:
        labels = self.labels.get(entry.key[0], set())
        if query.labels and not query.labels & labels:
            return False
        if not query.text:
            return True
        row = {**self._row(Level.PATIENT, entry, rows), **self._row(Level.STUDY, entry, rows)}
        there = set(labels)
        for tag in ("00100010", "00100020", "00080050", "00081030", "00080061", "00080020"):
            for value in row.get(tag, {}).get("Value") or []:
                found = normal.normal_values({"Value": [value]}, normal.kind_of(row[tag]["vr"]))
                for one in found or []:
                    there.update(one if isinstance(one, tuple) else [str(one)])
        gap = r"[\s^=\\]+"
        letters = r"[^\W_]+"
        words = set()
        for text in there:
            for piece in re.split(gap, person_name.fold(text)):
                words.update(re.findall(letters, piece))
                words.add("".join(re.findall(letters, piece)))
        asked = ["".join(re.findall(letters, one)) for one in re.split(gap, person_name.fold(query.text))]
        return all(any(word.startswith(one) for word in words) for one in asked if one)

    def _row(self, level: Level, entry: Entry, rows: dict[Level, dict[Any, tuple[Attributes, Entry]]]) -> Attributes:
        return rows[level][self._name(level, entry)][0]

    def _ordered(
        self, names: list[Any], query: Query, rows: dict[Level, dict[Any, tuple[Attributes, Entry]]]
    ) -> list[Any]:
        """names: in the order of first storage."""
        assert query.order is not None
        tag, is_descending = query.order.tag, query.order.is_descending

        def key(name: Any) -> Any:
            if tag == "":
                return 0
            row, last = rows[query.level][name]
            found = row if tag in row else self._row(Level.PATIENT, last, rows)
            element = found.get(tag)
            values = normal.normal_values(element, normal.kind_of(element["vr"])) if element else None
            if not values:
                return None
            if tag == "00080061":
                return "\\".join(map(str, values))
            if tag == "00080020":
                time = normal.normal_values(row.get("00080030"), normal.Kind.TIME)
                return (values[0], time[0] if time else -1)
            first = values[0]
            return next(one for one in first if one) if isinstance(first, tuple) else first

        having = sorted((name for name in names if key(name) is not None), key=key)
        # Equal ones too come the other way round.
        having = having[::-1] if is_descending else having
        return having + [name for name in names if key(name) is None]

    def select(
        self, keys: Mapping[TagPath, Matcher], within: Target | None, scope: Scope = EVERYTHING
    ) -> list[StoredInstance]:
        rows = {level: self._rows(level) for level in Level}
        found = [
            entry
            for entry in self.entries.values()
            if (within is None or is_within(stored(entry).target, within))
            and self.is_visible(entry, scope)
            and self._matches(entry, keys, rows)
        ]

        def order(entry: Entry) -> tuple[Any, ...]:
            values = entry.attributes.get("00200013", {}).get("Value")
            number = values[0] if values else None
            study, series, sop = entry.key
            born = self._born[(Level.STUDY, study)], self._born[(Level.SERIES, (study, series))]
            return (*born, number is None, number or 0, sop)

        return [stored(entry) for entry in sorted(found, key=order)]

    def counts(self) -> tuple[int, int, int, int, int]:
        size = sum(entry.record.blob.size_bytes for entry in self.entries.values())
        levels = [len({self._name(level, entry) for entry in self.entries.values()}) for level in Level]
        return levels[0], levels[1], levels[2], levels[3], size

    def _put(self, record: InstanceRecord, replace: bool) -> Put:
        entry = Entry(record, self._clock)
        old = self.entries.get(entry.key)
        if old:
            new_header, header = record.header, old.record.header
            same = old.record.blob.digest == record.blob.digest
            if same and header.transfer_syntax_uid == new_header.transfer_syntax_uid:
                return Put.SAME
            if not replace:
                return Put.CONFLICT
            self.superseded.append(stored(old))
        self._clock += 1
        self.entries[entry.key] = entry
        self._note_births()
        return Put.REPLACED if old else Put.STORED

    def _note_births(self) -> None:
        there = {(level, self._name(level, entry)) for entry in self.entries.values() for level in Level}
        for name in [name for name in self._born if name not in there]:
            del self._born[name]
        for one in there - set(self._born):
            self._clock += 1
            self._born[one] = self._clock

    def _name(self, level: Level, entry: Entry) -> Any:
        study, series, sop = entry.key
        if level is Level.PATIENT:
            return self._patient_of(study)
        return {Level.STUDY: study, Level.SERIES: (study, series), Level.IMAGE: (study, series, sop)}[level]

    def _patient_of(self, study: str) -> tuple[str, ...]:
        attributes = self._last(entry for entry in self.entries.values() if entry.key[0] == study).attributes
        patient_id = _text(attributes, "00100020")
        return (patient_id, _text(attributes, "00100021")) if patient_id else (study,)

    @staticmethod
    def _last(entries: Iterable[Entry]) -> Entry:
        return max(entries, key=lambda entry: entry.last)

    def _rows(self, level: Level) -> dict[Any, tuple[Attributes, Entry]]:
        """Entities of a level with the attributes of their rows, and their last stored instance."""
        members: dict[Any, list[Entry]] = {}
        for entry in self.entries.values():
            members.setdefault(self._name(level, entry), []).append(entry)
        rows = {}
        for name, entries in members.items():
            last = self._last(entries)
            if level is Level.PATIENT:
                # Each study speaks by its last stored instance.
                studies = {entry.key[0] for entry in entries}
                last = self._last(self._last(e for e in entries if e.key[0] == study) for study in studies)
            rows[name] = ({**_kept(last.attributes, level), **_counted(entries, level)}, last)
        return rows

    def _matches(
        self, entry: Entry, keys: Mapping[TagPath, Matcher], rows: dict[Level, dict[Any, tuple[Attributes, Entry]]]
    ) -> bool:
        for path, matcher in keys.items():
            attribute = BY_TAG.get(path[0]) if len(path) == 1 else None
            if attribute is None:
                found: Attributes = dict(entry.record.header.attributes)
            else:
                found = dict(rows[attribute.level][self._name(attribute.level, entry)][0])
                if attribute.level is Level.IMAGE and "00080201" in entry.attributes:
                    found["00080201"] = entry.attributes["00080201"]
            if not matches(matcher, path, found):
                return False
        return True

    def _answer(
        self, level: Level, name: Any, fields: Fields, rows: dict[Level, dict[Any, tuple[Attributes, Entry]]]
    ) -> Attributes:
        row, last = rows[level][name]
        found: Attributes = {}
        named = set(fields.tags)
        for at in Level:
            if at > level:
                continue
            kept = row if at is level else rows[at][self._name(at, last)][0]
            defaults = {a.tag for a in ALL if a.level is at and a.default} | {
                tag for tag in DEFAULT_SEQUENCES if KEPT_SEQUENCES[tag] is at
            }
            for tag in kept:
                if fields.everything or tag in fields.tags or (at in fields.levels and tag in defaults):
                    found[tag] = kept[tag]
            named -= set(kept)
        if fields.everything and level is Level.IMAGE:
            counted = {a.tag for a in ALL if a.counted}
            found.update({tag: v for tag, v in last.attributes.items() if tag not in counted})
        for tag in named:
            attribute = BY_TAG.get(tag)
            is_kept = attribute.level <= level or attribute.counted if attribute else False
            if is_kept or KEPT_SEQUENCES.get(tag, Level(3)) < level or KEPT_SEQUENCES.get(tag) is level:
                continue
            whole = last.record.header.attributes
            element = element_at(whole, tag)
            if element is None:
                continue
            place = tag
            if "@" in tag:
                place = next(one for one in private_tags(whole, tag) if one in whole)
                found[f"{place[:4]}00{place[4:6]}"] = whole[f"{place[:4]}00{place[4:6]}"]
            found[place] = element
        return dict(sorted(found.items()))

    def _is_inconsistent(self, study: str) -> bool:
        kinds = set()
        for entry in self.entries.values():
            if entry.key[0] == study:
                attributes = entry.attributes
                kinds.add(repr([_kept(attributes, level) for level in (Level.PATIENT, Level.STUDY)]))
        return len(kinds) > 1


def is_within(target: Target, within: Target) -> bool:
    return all(
        wanted is None or wanted == uid
        for wanted, uid in (
            (within.study_uid, target.study_uid),
            (within.series_uid, target.series_uid),
            (within.sop_uid, target.sop_uid),
        )
    )


def stored(entry: Entry) -> StoredInstance:
    header = entry.record.header
    return StoredInstance(
        header.target, header.sop_class_uid, header.transfer_syntax_uid, entry.record.blob, header.data_set_offset
    )


def _kept(attributes: Attributes, level: Level) -> Attributes:
    tags = {a.tag for a in ALL if a.level is level and not a.counted}
    tags |= {tag for tag, at in KEPT_SEQUENCES.items() if at is level}
    return {tag: attributes[tag] for tag in sorted(tags) if tag in attributes}


def _counted(entries: list[Entry], level: Level) -> Attributes:
    studies = {entry.key[0] for entry in entries}
    series = {entry.key[:2] for entry in entries}

    def number(value: int) -> Attributes:
        return {"vr": "IS", "Value": [value]}

    def listed(vr: str, values: Iterable[str]) -> Attributes:
        found = sorted(set(values) - {""})
        return {"vr": vr, "Value": found} if found else {"vr": vr}

    if level is Level.PATIENT:
        return {
            "00201200": number(len(studies)),
            "00201202": number(len(series)),
            "00201204": number(len(entries)),
        }
    if level is Level.STUDY:
        last = [ModelIndex._last(e for e in entries if e.key[:2] == one) for one in series]
        return {
            "00080061": listed("CS", (_text(entry.attributes, "00080060") for entry in last)),
            "00080062": listed("UI", (entry.record.header.sop_class_uid for entry in entries)),
            "00201206": number(len(series)),
            "00201208": number(len(entries)),
        }
    if level is Level.SERIES:
        return {"00201209": number(len(entries))}
    return {"00083002": {"vr": "UI", "Value": [entries[0].record.header.transfer_syntax_uid]}}


def _text(attributes: Attributes, tag: str) -> str:
    values = attributes.get(tag, {}).get("Value")
    return str(values[0]).strip() if values and values[0] is not None else ""


assert set(UNIQUE_KEYS) == set(Level)
