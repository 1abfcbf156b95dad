"""What a key asks of one normal value.

The reference and the index engines turn matchers into these by ``criterion``, so that they differ at most in how they
run one, never in what it means.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from pacs.dicom import dates, normal, person_name
from pacs.dicom.matchers import Matcher, Range, Single, UidList, Wildcard, Words
from pacs.dicom.normal import Kind, Normal


@dataclass(frozen=True, slots=True)
class Never:
    """Nothing matches: the key cannot be a value of the attribute's VR."""


@dataclass(frozen=True, slots=True)
class OneOf:
    """Equal to one of these normal values."""

    values: frozenset[str | int | float]


@dataclass(frozen=True, slots=True)
class Glob:
    """Normal text against ``*`` and ``?``; all other characters stand for themselves."""

    pattern: str

    @property
    def prefix(self) -> str:
        """What every match begins with."""
        return re.split(r"[*?]", self.pattern, maxsplit=1)[0]


@dataclass(frozen=True, slots=True)
class Between:
    """low ≤ value ≤ high; None: open. For DATE_TIME the bounds are local and meet any offset."""

    low: int | str | None
    high: int | str | None


@dataclass(frozen=True, slots=True)
class Moments:
    """DATE_TIME bounds of which one at least has an offset: (local, offset) each."""

    low: tuple[str, str] | None
    high: tuple[str, str] | None


@dataclass(frozen=True, slots=True)
class Name:
    """Each group matches one of its criteria; None: any. With ``either`` the first group's are tried on all three."""

    groups: tuple[tuple[OneOf | Glob, ...] | None, ...]
    either: bool


@dataclass(frozen=True, slots=True)
class Sounding:
    """Every word begins, or sounds like, a word of the name."""

    words: tuple[str, ...]


Criterion = Never | OneOf | Glob | Between | Moments | Name | Sounding


@lru_cache(maxsize=2048)
def criterion(matcher: Matcher, kind: Kind) -> Criterion:
    """The criterion of a matcher that compares values: Single, UidList, Wildcard, Range or Words."""
    match matcher:
        case Single(value):
            return _single(value, kind)
        case UidList(values):
            one: Callable[[str], str] = _NORMAL_TEXT.get(kind, normal.uid)
            return OneOf(frozenset(one(value) for value in values))
        case Wildcard(pattern):
            if kind is Kind.NAME:
                return _name(pattern, is_pattern=True)
            return Glob(_collapsed(normal.text(pattern))) if kind is Kind.TEXT else Never()
        case Range(low, high):
            return _range(low, high, kind)
        case Words(words) if kind is Kind.NAME:
            return Sounding(tuple(found for word in words for found in person_name.words(word)))
        case _:
            return Never()


def meets(asked: Criterion, value: Normal) -> bool:
    """Whether one normal value is what the criterion asks for."""
    match asked:
        case OneOf(values):
            return value in values
        case Glob(pattern):
            return isinstance(value, str) and _expression(pattern).fullmatch(value) is not None
        case Between(low, high):
            return _is_between(low, high, value)
        case Moments():
            return isinstance(value, str) and _is_within(asked, value)
        case Name():
            return isinstance(value, tuple) and _is_name(asked, value)
        case Sounding(words):
            return isinstance(value, tuple) and person_name.is_like(words, value)
        case _:
            return False


def meets_combined(date: Criterion, time: Criterion, day: Normal, at: Normal) -> bool:
    """Whether one date and one time, taken together, lie in the ranges taken together (PS3.4 C.2.2.2.5.1).

    A bound without a time lies at the day's beginning, or its end; a bound without a date is open.
    """
    if not isinstance(date, Between) or not isinstance(time, Between):
        return False
    if date.low is not None and ((day, at) < (date.low, time.low or 0)):
        return False
    return date.high is None or (day, at) <= (date.high, END_OF_DAY if time.high is None else time.high)


END_OF_DAY = 235960999999


def _single(value: str, kind: Kind) -> Criterion:
    if kind is Kind.NAME:
        return _name(value, is_pattern=False)
    if kind in _SPANS:
        # A private attribute's VR is known only here, so a range may still look like a single value.
        ends = dates.split_range(value, _SPANS[kind])
        return _range(*ends, kind) if ends else _range(value, value, kind)
    one = _NORMAL_VALUE.get(kind)
    key = one(value) if one else None
    return Never() if key is None else OneOf(frozenset((key,)))


_SPANS = {Kind.DATE: "DA", Kind.TIME: "TM", Kind.DATE_TIME: "DT"}
_NORMAL_TEXT: dict[Kind, Callable[[str], str]] = {Kind.TEXT: normal.text, Kind.UID: normal.uid}
_NORMAL_VALUE: dict[Kind, Callable[[str], str | int | float | None]] = {
    Kind.TEXT: normal.text,
    Kind.UID: normal.uid,
    Kind.NUMBER: normal.number,
    Kind.FLOAT: normal.single_float,
}


def _range(low: str, high: str, kind: Kind) -> Criterion:
    """Both ends inclusive; the high one to the last instant of its precision."""
    if kind is Kind.DATE:
        first, last = dates.date_number(low), dates.date_number(high)
        return Never() if (low and first is None) or (high and last is None) else Between(first, last)
    if kind is Kind.TIME:
        begin, end = dates.time_span(low), dates.time_span(high)
        return Never() if (low and not begin) or (high and not end) else Between(begin and begin[0], end and end[1])
    if kind is Kind.DATE_TIME:
        start, stop = dates.date_time_span(low), dates.date_time_span(high)
        if (low and not start) or (high and not stop):
            return Never()
        if (start and start.offset) or (stop and stop.offset):
            return Moments(start and (start.low, start.offset), stop and (stop.high, stop.offset))
        return Between(start and start.low, stop and stop.high)
    return Never()


def _is_between(low: int | str | None, high: int | str | None, value: Normal) -> bool:
    if isinstance(value, str):  # DATE_TIME: the offset, past 21 characters, is not compared
        return (low is None or value[:21] >= str(low)) and (high is None or value[:21] <= str(high))
    if isinstance(value, tuple):
        return False
    return (low is None or value >= int(low)) and (high is None or value <= int(high))


def _is_within(asked: Moments, value: str) -> bool:
    local, offset = value[:21], value[21:]

    def order(bound: tuple[str, str]) -> int:
        """−1, 0, 1: the value is before, at, after the bound; by the clock's reading where an offset is not known."""
        mine: int | str = local
        theirs: int | str = bound[0]
        if offset and bound[1]:
            mine, theirs = dates.instant(local, offset), dates.instant(*bound)
        return (mine > theirs) - (mine < theirs)  # type: ignore[operator]  # both int or both str

    return (asked.low is None or order(asked.low) >= 0) and (asked.high is None or order(asked.high) <= 0)


def _name(text: str, is_pattern: bool) -> Name:
    parts = [person_name.normal_group(part) for part in text.split("=")][:3]
    parts += [""] * (3 - len(parts))
    groups = tuple(_group(part, is_pattern) if part else None for part in parts)
    return Name(groups, either="=" not in text)


def _group(part: str, is_pattern: bool) -> tuple[OneOf | Glob, ...]:
    if not is_pattern or not re.search(r"[*?]", part):
        return (OneOf(frozenset((part,))),)
    # "DOE^*": components at the end that may be anything may be missing too: stored padding is dropped.
    base = re.sub(r"(\^\**)+$", "", part)
    if base == part:
        return (Glob(_collapsed(part)),)
    return (*_group(base, is_pattern), Glob(_collapsed(base + "^*"))) if base else (Glob("*"),)


def _is_name(asked: Name, value: person_name.Groups) -> bool:
    if asked.either:
        wanted = asked.groups[0]
        return wanted is None or any(part and any(meets(one, part) for one in wanted) for part in value)
    return all(
        wanted is None or any(meets(one, part) for one in wanted)
        for wanted, part in zip(asked.groups, value, strict=True)
    )


def _collapsed(pattern: str) -> str:
    return re.sub(r"\*+", "*", pattern)


@lru_cache(maxsize=512)
def _expression(pattern: str) -> re.Pattern[str]:
    """Atomic groups take the first place where each piece fits: time stays linear whatever the peer sends."""
    first, *others = ("".join("." if c == "?" else re.escape(c) for c in piece) for piece in pattern.split("*"))
    if not others:
        return re.compile(first, re.DOTALL)
    *middle, last = others
    return re.compile(first + "".join(f"(?>.*?{piece})" for piece in middle) + ".*" + last, re.DOTALL)
