"""Indexes over attributes outside the table of attributes: what they hold, and what a key may ask of them.

For each instance they hold the normal forms of the attribute's values. Values past ``_LONGEST`` characters are kept as
one mark that every key finds: an index may name too many instances, never too few.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import orjson

from pacs.dicom import criteria, normal
from pacs.dicom.attributes import BY_TAG
from pacs.dicom.criteria import Between, Glob, Name, Never, OneOf
from pacs.dicom.dictionary import AMBIGUOUS, public_vr
from pacs.dicom.matchers import CombinedRange, Empty, Matcher, TagPath, Universal, ValueList
from pacs.dicom.matchers import Sequence as Items
from pacs.dicom.matching import element_at, is_universal, items_of, kind_at
from pacs.dicom.model import Attributes
from pacs.dicom.normal import Kind
from pacs.errors import Invalid

_LONGEST = 256
_KINDS = tuple(kind for kind in Kind if kind is not Kind.OPAQUE)


def check(path: TagPath) -> None:
    """Raises Invalid for an attribute that is indexed anyway, or has no values that could be compared."""
    if len(path) == 1 and path[0] in BY_TAG:
        raise Invalid(f"{BY_TAG[path[0]].keyword} always has an index", "tag")
    tag = path[-1]
    vr = None if "@" in tag else public_vr(int(tag, 16))
    if vr == "SQ":
        raise Invalid("A sequence has no values of its own: name an attribute within it (A.B)", "tag")
    if vr == "OB or OW" or (vr is not None and vr not in AMBIGUOUS and normal.kind_of(vr) is Kind.OPAQUE):
        raise Invalid(f"Attributes of VR {vr} cannot be searched by value", "tag")


def leaves(keys: Mapping[TagPath, Matcher], within: TagPath = ()) -> Iterator[tuple[TagPath, Matcher]]:
    for path, matcher in keys.items():
        if isinstance(matcher, Items):
            yield from leaves(matcher.keys, within + path)
        else:
            yield within + path, matcher


def needs_a_value(matcher: Matcher) -> bool:
    if isinstance(matcher, ValueList):
        return all(map(needs_a_value, matcher.any_of))
    return not is_universal(matcher) and not isinstance(matcher, Empty | Universal | Items | CombinedRange)


def kinds_of(tag: str) -> tuple[Kind, ...]:
    """How values of an attribute may compare: in one way when the data dictionary knows its VR."""
    vr = None if "@" in tag else public_vr(int(tag, 16))
    return _KINDS if vr is None or vr in AMBIGUOUS else (normal.kind_of(vr),)


def criteria_of(matcher: Matcher, kind: Kind) -> list[OneOf | Glob | Between] | None:
    """What a value is asked for of which a match meets one. None: any value may be one."""
    if isinstance(matcher, ValueList):
        each = [criteria_of(one, kind) for one in matcher.any_of]
        return None if any(one is None for one in each) else [asked for one in each for asked in one or ()]
    match criteria.criterion(matcher, kind):
        case Never():
            return []
        case OneOf() | Glob() | Between() as asked:
            return [asked]
        case Name(groups, _):
            for wanted in groups:
                # A group that may be empty tells nothing: empty groups are not kept.
                if wanted is not None and not any(criteria.meets(one, "") for one in wanted):
                    return list(wanted)
            return None
        case _:
            return None


def values_of(attributes: Attributes, path: TagPath, timezone: str) -> Iterator[tuple[str, str | int | float | bytes]]:
    """(kind, value as it is kept) of all values at a path, of all items on the way."""
    data_sets: Sequence[Attributes] = [attributes]
    for tag in path[:-1]:
        data_sets = [item for data_set in data_sets for item in items_of(element_at(data_set, tag))]
    for data_set in data_sets:
        element = element_at(data_set, path[-1])
        kind = kind_at(path[-1], element)
        for value in normal.normal_values(element, kind, timezone) or ():
            # A name's groups are values of their own.
            for one in value if isinstance(value, tuple) else (value,):
                if one != "":
                    yield kind.value, b"" if isinstance(one, str) and len(one) > _LONGEST else one


def text_of(path: TagPath) -> str:
    return orjson.dumps(path).decode()


def path_of(text: str) -> TagPath:
    return tuple(orjson.loads(text))
