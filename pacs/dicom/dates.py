"""Dates and times (VR DA, TM and DT, PS3.5 6.2) in forms that sort: what keys and stored values are compared by."""

from __future__ import annotations

import re
from calendar import monthrange
from datetime import date
from typing import NamedTuple

# Stored values of ACR-NEMA times ("2020.01.31", "10:15:00") are still met and still mean what they say (PS3.5 6.2).
_DATE = re.compile(r"(\d{4})(\.?)(\d\d)\2(\d\d)", re.ASCII)
_TIME = re.compile(r"(\d\d)(?:(:?)(\d\d)(?:\2(\d\d)(?:\.(\d{1,6}))?)?)?", re.ASCII)
_DATE_TIME = re.compile(
    r"(\d{4})(?:(\d\d)(?:(\d\d)(?:(\d\d)(?:(\d\d)(?:(\d\d)(?:\.(\d{1,6}))?)?)?)?)?)?([+-]\d{4})?", re.ASCII
)
_LATEST = "99991231235959999999"


class DateTimeSpan(NamedTuple):
    """What a DT covers. low, high: local "YYYYMMDDHHMMSS.ffffff", both inclusive; offset: "+ZZXX", or "" for none."""

    low: str
    high: str
    offset: str


def date_number(text: str) -> int | None:
    """YYYYMMDD as a number; None when the text is no date. Days past the month's end are taken as they are."""
    found = _DATE.fullmatch(text.strip(" \0"))
    if not found:
        return None
    year, _, month, day = found.groups()
    if not ("01" <= month <= "12" and "01" <= day <= "31"):
        return None
    return int(year + month + day)


def is_calendar_date(number: int) -> bool:
    """Whether a YYYYMMDD number names a day that exists."""
    year, month, day = number // 10_000, number // 100 % 100, number % 100
    return year >= 1 and 1 <= month <= 12 and 1 <= day <= monthrange(year, month)[1]


def time_span(text: str) -> tuple[int, int] | None:
    """First and last instant that a TM covers, each as the number HHMMSSffffff; None when it is no time."""
    found = _TIME.fullmatch(text.strip(" \0"))
    if not found:
        return None
    hours, _, minutes, seconds, fraction = found.groups()
    # 60 is a leap second (PS3.5 6.2).
    if hours > "23" or (minutes or "") > "59" or (seconds or "") > "60":
        return None
    digits = hours + (minutes or "") + (seconds or "") + (fraction or "")
    return int(digits.ljust(12, "0")), int(digits + "235960999999"[len(digits) :])


def date_time_span(text: str) -> DateTimeSpan | None:
    """What a DT covers at its precision; None when it is none."""
    found = _DATE_TIME.fullmatch(text.strip(" \0"))
    if not found:
        return None
    *parts, offset = found.groups()
    _, month, day, hours, minutes, seconds, _ = parts
    if month and not "01" <= month <= "12":
        return None
    if day and not "01" <= day <= "31":
        return None
    if (hours or "") > "23" or (minutes or "") > "59" or (seconds or "") > "60":
        return None
    if offset and not is_offset(offset):
        return None
    digits = "".join(part for part in parts if part)
    low = digits + "00000101000000000000"[len(digits) :]
    high = digits + _LATEST[len(digits) :]
    return DateTimeSpan(f"{low[:14]}.{low[14:]}", f"{high[:14]}.{high[14:]}", offset or "")


def is_offset(text: str) -> bool:
    """Whether the text is an offset from UTC, -1200 to +1400 (PS3.5 6.2, DT)."""
    if not re.fullmatch(r"[+-]\d{4}", text, re.ASCII) or text[3:] > "59":
        return False
    return text[1:] <= ("1200" if text[0] == "-" else "1400")


def instant(local: str, offset: str) -> int:
    """Microseconds of "YYYYMMDDHHMMSS.ffffff" at an offset, counted from a fixed instant in UTC."""
    year, month = max(int(local[:4]), 1), int(local[4:6])
    day = min(int(local[6:8]), monthrange(year, month)[1])
    minutes = date(year, month, day).toordinal() * 1440 + int(local[8:10]) * 60 + int(local[10:12])
    east = int(offset[1:3]) * 60 + int(offset[3:5])
    minutes -= east if offset[0] == "+" else -east
    return (minutes * 60 + int(local[12:14])) * 1_000_000 + int(local[15:])


def split_range(text: str, vr: str) -> tuple[str, str] | None:
    """The two ends of "a-b", "a-" or "-b"; None when the key is no range, or its ends are not values of the VR.

    In DT a hyphen may also belong to a negative offset: no year lies within the offsets, so one reading remains.
    """
    is_value = {"DA": date_number, "TM": time_span, "DT": date_time_span}[vr]
    if vr == "DT" and date_time_span(text):
        return None
    for found in re.finditer("-", text):
        low, high = text[: found.start()].strip(" \0"), text[found.end() :].strip(" \0")
        if (low or high) and all(not end or is_value(end) is not None for end in (low, high)):
            return low, high
    return None
