"""Dates and times in sortable forms."""

from __future__ import annotations

import pytest

from pacs.dicom import dates


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("20200131", 20200131),
        ("2020.01.31", 20200131),
        (" 20200131\0", 20200131),
        ("20200231", 20200231),
        ("20201301", None),
        ("20200100", None),
        ("2020-01-31", None),
        ("2020.0131", None),
        ("202001", None),
        ("２０２００１３１", None),
        ("", None),
    ],
)
def test_a_date_is_a_number_that_sorts(text: str, number: int | None) -> None:
    assert dates.date_number(text) == number


def test_only_days_that_exist_are_calendar_dates() -> None:
    assert dates.is_calendar_date(20200229)
    assert not dates.is_calendar_date(20210229)
    assert not dates.is_calendar_date(101)


@pytest.mark.parametrize(
    ("text", "span"),
    [
        ("10", (100000000000, 105960999999)),
        ("1015", (101500000000, 101560999999)),
        ("101530", (101530000000, 101530999999)),
        ("101530.5", (101530500000, 101530599999)),
        ("101530.123456", (101530123456, 101530123456)),
        ("10:15:30", (101530000000, 101530999999)),
        ("235960", (235960000000, 235960999999)),
        ("24", None),
        ("1060", None),
        ("10:1530", None),
        ("101530.1234567", None),
        ("noon", None),
    ],
)
def test_a_time_covers_its_precision(text: str, span: tuple[int, int] | None) -> None:
    assert dates.time_span(text) == span


@pytest.mark.parametrize(
    ("text", "low", "high", "offset"),
    [
        ("2020", "20200101000000.000000", "20201231235959.999999", ""),
        ("202002-0500", "20200201000000.000000", "20200231235959.999999", "-0500"),
        ("20200131101500.5+1400", "20200131101500.500000", "20200131101500.599999", "+1400"),
    ],
)
def test_a_date_time_covers_its_precision(text: str, low: str, high: str, offset: str) -> None:
    assert dates.date_time_span(text) == (low, high, offset)


@pytest.mark.parametrize("text", ["2020+1401", "2020-1201", "2020-05", "20201301", "2020013124", "2020.5", "x"])
def test_what_is_no_date_time_has_no_span(text: str) -> None:
    assert dates.date_time_span(text) is None


@pytest.mark.parametrize(
    ("text", "vr", "ends"),
    [
        ("20200101-20200131", "DA", ("20200101", "20200131")),
        ("20200101 - ", "DA", ("20200101", "")),
        ("-20200131", "DA", ("", "20200131")),
        ("2020.01.01-2020.01.31", "DA", ("2020.01.01", "2020.01.31")),
        ("-", "DA", None),
        ("20200101", "DA", None),
        ("2020-01-01", "DA", None),
        ("10:15-11", "TM", ("10:15", "11")),
        ("2020-2021", "DT", ("2020", "2021")),
        ("2020-0500", "DT", None),
        ("2020-0500-", "DT", ("2020-0500", "")),
        ("-2020-0500", "DT", ("", "2020-0500")),
        ("2020-0500-2021-0500", "DT", ("2020-0500", "2021-0500")),
        ("2020+0100-2021", "DT", ("2020+0100", "2021")),
        ("2020-2021-0500", "DT", ("2020", "2021-0500")),
    ],
)
def test_a_hyphen_parts_a_range_unless_it_begins_an_offset(text: str, vr: str, ends: tuple[str, str] | None) -> None:
    assert dates.split_range(text, vr) == ends


def test_instants_at_different_offsets_compare() -> None:
    noon = dates.instant("20200101120000.000000", "+0000")
    assert dates.instant("20200101130000.000000", "+0100") == noon
    assert dates.instant("20191231223000.000000", "-1330") == noon
    assert dates.instant("20200101120000.000001", "+0000") == noon + 1
    assert dates.instant("00000231000000.000000", "-1200") < noon
