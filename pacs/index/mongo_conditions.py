"""One key as a MongoDB filter on the documents of a level: exact by the criteria of the reference, or wider.

``k.<tag>`` of a document is absent where the attribute has no value, else the list of its values' normal forms (all
component groups that are not empty, for a name); counters are plain numbers. Where the filter is wider than the key,
the rows that it finds are compared by the reference afterwards. Patterns on patients' names ask for parts of them
as well (``parts``), so that an index leads to what they find.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from bson.regex import Regex

from pacs.dicom import criteria
from pacs.dicom.attributes import Attribute
from pacs.dicom.criteria import Between, Glob, Name, Never, OneOf
from pacs.dicom.matchers import CombinedRange, Empty, Matcher, Sequence, TagPath, Universal, ValueList
from pacs.dicom.matching import is_universal
from pacs.dicom.normal import Kind, kind_of
from pacs.index.added import criteria_of, kinds_of, needs_a_value
from pacs.index.mongo_documents import PARTS, fit
from pacs.index.parts import PARTED, begin_of

Filter = dict[str, Any]
NEVER: Filter = {"_id": {"$in": []}}


def on_values(field: str, attribute: Attribute, matcher: Matcher) -> tuple[Filter, bool]:
    """(filter, whether it is exact) of one key on an attribute of the table, whose values are in a field."""
    kind = kind_of(attribute.vr)
    if is_universal(matcher):
        return {}, True
    match matcher:
        case Empty():
            return {field: {"$exists": False}}, True
        case ValueList(any_of):
            parts = [on_values(field, attribute, one) for one in any_of]
            return _either([one for one, _ in parts]), all(is_exact for _, is_exact in parts)
        case Sequence() | Universal():
            return NEVER, True
        case CombinedRange():
            return {field: {"$exists": True}}, False
        case _:
            return _on_criterion(field, kind, criteria.criterion(matcher, kind))


def on_added(index_id: int, path: TagPath, matcher: Matcher) -> Filter | None:
    """The filter, on instances, that no match of a key fails to meet; None when an added index does not help."""
    if not needs_a_value(matcher):
        return None
    found: list[Filter] = []
    for kind in kinds_of(path[-1]):
        asked = criteria_of(matcher, kind)
        base = {"p": index_id, "k": kind.value}
        if asked is None:
            return {"x": {"$elemMatch": {"p": index_id}}}
        # Long values are kept as None.
        found += [
            {"x": {"$elemMatch": {**base, "v": one}}} for one in (*(plain(kind, one) for one in asked), {"$eq": None})
        ]
    return _either(found)


def _on_criterion(field: str, kind: Kind, asked: criteria.Criterion) -> tuple[Filter, bool]:
    match asked:
        case Never():
            return NEVER, True
        case OneOf() | Glob() | Between():
            return {
                # Both bounds on the same one of several values; counters are no lists.
                field: {"$elemMatch": plain(kind, asked)}
                if isinstance(asked, Between) and not field.startswith("n.")
                else plain(kind, asked),
                **_led(field, asked),
            }, True
        case Name(groups, either):
            wanted = [one for group in groups if group is not None for one in group]
            if not wanted or any(criteria.meets(one, "") for one in wanted):
                return {field: {"$exists": True}}, False
            if either:
                return _on_any(field, kind, groups[0] or ()), True
            each = [_on_any(field, kind, group) for group in groups if group is not None]
            return {"$and": each}, False
        case _:
            return {field: {"$exists": True}}, False


def _on_any(field: str, kind: Kind, wanted: Iterable[OneOf | Glob]) -> Filter:
    return _either([{field: plain(kind, one), **_led(field, one)} for one in wanted])


def _led(field: str, asked: OneOf | Glob | Between) -> Filter:
    """What the parts of all names meet that a pattern finds; without parts is what a node of an older version wrote."""
    begin = begin_of(asked) if isinstance(asked, Glob) and field.endswith(PARTED) else None
    if begin is None:
        return {}
    return {field.replace(PARTED, PARTS): {"$in": [Regex(f"^{re.escape(begin)}", "s"), None]}}


def plain(kind: Kind, asked: OneOf | Glob | Between) -> Filter:
    """Operators on one value."""
    match asked:
        case OneOf(values):
            return {"$in": [fit(value) for value in values]}
        case Glob(pattern):
            return {"$regex": _expression(pattern)}
        case Between(low, high):
            found: Filter = {} if low is None else {"$gte": fit(low)}
            if high is not None:
                # The offset that follows a date and time's 21 characters sorts before DEL.
                found["$lte"] = f"{high}\x7f" if kind is Kind.DATE_TIME else fit(high)
            return found


def _expression(pattern: str) -> Regex[str]:
    r"""As the reference's: atomic groups, so that time stays linear. ``\z``: ``$`` would let a line end follow."""
    first, *others = ("".join("." if c == "?" else re.escape(c) for c in piece) for piece in pattern.split("*"))
    if others:
        *middle, last = others
        first += "".join(f"(?>.*?{piece})" for piece in middle) + ".*" + last
    return Regex(f"^{first}\\z", "s")


def _either(filters: list[Filter]) -> Filter:
    return {"$or": filters} if filters else NEVER
