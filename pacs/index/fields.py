"""Which attributes an answer's rows carry, and how they are put together from ready JSON."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from pacs.dicom.attributes import BY_TAG, DEFAULT_SEQUENCES, KEPT_SEQUENCES, Attribute
from pacs.dicom.matching import private_tags
from pacs.dicom.model import Level
from pacs.index.base import Fields
from pacs.index.rows import attributes_of

# Counted attributes that are lists, and what the engines call them; the other counted ones are numbers. (Available
# Transfer Syntax UID never changes, so it is part of the ready JSON.)
LISTS = {"00080061": "modalities", "00080062": "classes"}


@dataclass(frozen=True)
class Wanted:
    """What is asked of one level. tags: None for all; defaults: the default ones, with ``tags`` added."""

    defaults: bool
    tags: frozenset[str] | None
    counted: tuple[Attribute, ...]

    @property
    def is_anything(self) -> bool:
        return self.defaults or self.tags is None or bool(self.tags) or bool(self.counted)

    @property
    def bodies(self) -> int:
        """How many of the first values that ``read`` wants are JSON: fragment, and rest; then come the counted ones."""
        if not self.is_anything:
            return 0
        return 2 if self.tags is None or self.tags else 1

    def read(self, values: Sequence[Any]) -> dict[str, Any]:
        if not self.is_anything:
            return {}
        found: dict[str, Any] = {}
        defaults = orjson.loads(values[0])
        if self.defaults or self.tags is None:
            found = defaults
        if self.tags is None:
            found.update(orjson.loads(values[1]))
        elif self.tags:
            pool = {**defaults, **orjson.loads(values[1])}
            found.update({tag: pool[tag] for tag in self.tags if tag in pool})
        if self.counted:
            for attribute, value in zip(self.counted, values[len(values) - len(self.counted) :], strict=True):
                listed = orjson.loads(value) if attribute.tag in LISTS else [value]
                found[attribute.tag] = {"vr": attribute.vr, "Value": listed} if listed else {"vr": attribute.vr}
        return found


# Values of these in a data set are not looked at: the index knows better.
COUNTED = frozenset(tag for tag, attribute in BY_TAG.items() if attribute.counted)
IDENTITY = frozenset({"00080016", "00080018", "0020000D", "0020000E"})


def wanted(fields: Fields, level: Level) -> Wanted:
    defaults = level in fields.levels
    kept = {a.tag for a in attributes_of(level)} | {tag for tag, at in KEPT_SEQUENCES.items() if at is level}
    tags = None if fields.everything else frozenset(fields.tags & kept)
    counted = tuple(
        a
        for a in attributes_of(level)
        if a.counted and a.tag != "00083002" and (fields.everything or a.tag in fields.tags or (defaults and a.default))
    )
    if tags is not None:
        tags -= {a.tag for a in counted}
        if defaults:
            # They are there already: the rest need not be looked at for them.
            tags -= {a.tag for a in attributes_of(level) if a.default} | DEFAULT_SEQUENCES
    return Wanted(defaults, tags, counted)


def outside(fields: Fields, level: Level) -> frozenset[str]:
    """Tags asked for by name that no row at or above this level keeps."""

    def is_kept(tag: str) -> bool:
        attribute = BY_TAG.get(tag)
        if attribute is not None:
            return attribute.level <= level or attribute.counted
        return tag in KEPT_SEQUENCES and KEPT_SEQUENCES[tag] <= level

    return frozenset(tag for tag in fields.tags if not is_kept(tag))


def take(whole: dict[str, Any], tags: Iterable[str], found: dict[str, Any]) -> None:
    """Add these tags of a data set; a private one with the element that reserves its block (PS3.5 7.8.1)."""
    for tag in tags:
        if "@" not in tag:
            if tag in whole:
                found[tag] = whole[tag]
            continue
        for place in private_tags(whole, tag):
            if place in whole:
                creator = f"{place[:4]}00{place[4:6]}"
                found[creator], found[place] = whole[creator], whole[place]
