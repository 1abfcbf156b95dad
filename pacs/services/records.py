"""Data sets kept as records: their documents, and dates as labels."""

from __future__ import annotations

from typing import Any

import orjson

from pacs.dicom.dates import split_range
from pacs.dicom.matchers import CombinedRange, Matcher, Range, Single, ValueList
from pacs.errors import Invalid

ANY_DATE = ("", "99999999")


def document(content: Any) -> bytes:
    """JSON of a record. Raises Invalid for sequences that are nested deeper than any use."""
    try:
        return orjson.dumps(content)
    except orjson.JSONEncodeError as error:
        raise Invalid("the data set cannot be kept: its sequences are nested too deep") from error


def bounds(key: Matcher | None) -> tuple[str, str] | None:
    """First and last date, YYYYMMDD, that a key over a date can match; None for any."""
    match key:
        case Range(low, high) | CombinedRange(_, Range(low, high), _):
            return _plain(low) or ANY_DATE[0], _plain(high) or ANY_DATE[1]
        case Single(value):
            return bounds(Range(*(split_range(value, "DA") or (value, value))))
        case ValueList(any_of):
            found = [bounds(one) or ANY_DATE for one in any_of]
            return min(low for low, _ in found), max(high for _, high in found)
        case _:
            return None


def _plain(date: str) -> str:
    return date.strip(" \0").replace(".", "")
