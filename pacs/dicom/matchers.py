"""What a key asks for (PS3.4 C.2.2.2), as values. Frozen; ``pacs.dicom.matching`` says what they mean."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

# The way to an attribute: tags from the outermost sequence inwards, each "GGGGEEEE" in upper case. A private tag whose
# creator is known is "GGGG00EE@CREATOR": the block it has in a given data set is found by the creator.
TagPath = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Universal:
    """Zero length key: every value matches, absent ones too (C.2.2.2.3)."""


@dataclass(frozen=True, slots=True)
class Single:
    """One value (C.2.2.2.1); for DA, TM and DT every instant that the key's precision covers."""

    value: str


@dataclass(frozen=True, slots=True)
class UidList:
    """Any of these UIDs (C.2.2.2.2)."""

    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ValueList:
    """Any of these matchers: several values in one key (C.2.2.2.8)."""

    any_of: tuple[Matcher, ...]


@dataclass(frozen=True, slots=True)
class Wildcard:
    """``*`` any run of characters, ``?`` exactly one (C.2.2.2.4)."""

    pattern: str


@dataclass(frozen=True, slots=True)
class Range:
    """low ≤ value ≤ high, either end open when empty (C.2.2.2.5). DA, TM and DT as DICOM text."""

    low: str = ""
    high: str = ""


@dataclass(frozen=True, slots=True)
class CombinedRange:
    """A range over a date attribute and its time attribute together (C.2.2.2.5.1), filed under the date's path."""

    time_path: TagPath
    date: Range = field(default_factory=Range)
    time: Range = field(default_factory=Range)


@dataclass(frozen=True, slots=True)
class Words:
    """Fuzzy person name matching: every word of the key begins, or sounds like, a word of the name."""

    words: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Sequence:
    """Some one item matches all of these keys (C.2.2.2.6)."""

    keys: Mapping[TagPath, Matcher]


@dataclass(frozen=True, slots=True)
class Empty:
    """The attribute is absent or has no value (Empty Value Matching, C.2.2.2.7: the key is two quotes)."""


Matcher = Universal | Single | UidList | ValueList | Wildcard | Range | CombinedRange | Words | Sequence | Empty
