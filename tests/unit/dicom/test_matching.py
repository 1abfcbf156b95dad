"""The reference matcher where the matching table does not reach."""

from __future__ import annotations

import time
from typing import Any

import pytest

from pacs.dicom.matching import (
    CombinedRange,
    Empty,
    Range,
    Sequence,
    Single,
    UidList,
    Universal,
    ValueList,
    Wildcard,
    is_universal,
    matches,
    matches_all,
    values_at,
)

NESTED: dict[str, Any] = {
    "00400275": {
        "vr": "SQ",
        "Value": [
            {"00400009": {"vr": "SH", "Value": ["S1"]}},
            {"00400009": {"vr": "SH", "Value": ["S2", None]}, "00401001": {"vr": "SH"}},
        ],
    },
    "00090010": {"vr": "LO", "Value": ["OTHER"]},
    "000900FF": {"vr": "LO", "Value": ["ACME "]},
    "0009FF01": {"vr": "DS", "Value": [1.5]},
    "0009FF02": {"vr": "DA", "Value": ["20200131"]},
    "0009FF03": {"vr": "OB", "InlineBinary": "AAA="},
}


def test_values_are_found_in_all_items_and_in_private_blocks() -> None:
    assert values_at(NESTED, ("00400275", "00400009")) == ["S1", "S2"]
    assert values_at(NESTED, ("00400275", "00401001")) == []
    assert values_at(NESTED, ("00090001@ACME",)) == [1.5]
    assert values_at(NESTED, ("00090001@OTHER",)) == []
    assert values_at(NESTED, ("00100010",)) == []


def test_a_private_attribute_compares_by_its_own_vr() -> None:
    assert matches(Single("1.50"), ("00090001@ACME",), NESTED)
    assert matches(Single("20200101-20200201"), ("00090002@ACME",), NESTED)
    assert matches(Single("20200131"), ("0009FF02",), NESTED)
    assert not matches(Wildcard("2020*"), ("00090002@ACME",), NESTED)
    assert not matches(Single("AAA="), ("00090003@ACME",), NESTED)
    assert not matches(Empty(), ("00090003@ACME",), NESTED)
    assert matches(Empty(), ("00090004@ACME",), NESTED)


def test_sequences_match_by_one_item() -> None:
    assert matches(Sequence({("00400009",): Single("s2"), ("00401001",): Empty()}), ("00400275",), NESTED)
    assert not matches(Sequence({("00400009",): Single("S2"), ("00401001",): Single("x")}), ("00400275",), NESTED)
    assert matches(Sequence({("00400009",): Universal()}), ("00081032",), NESTED)
    assert matches(Empty(), ("00081032",), {"00081032": {"vr": "SQ", "Value": []}})
    assert matches(Empty(), ("00400275", "00401001"), NESTED)
    assert not matches(Empty(), ("00081032", "00080100"), NESTED)


def test_the_same_criterion_is_met_by_any_of_several_values() -> None:
    attributes = {"00080008": {"vr": "CS", "Value": ["ORIGINAL", None, "AXIAL"]}}
    assert matches(Single("axial"), ("00080008",), attributes)
    assert matches(ValueList((Single("x"), Wildcard("orig*"))), ("00080008",), attributes)
    assert not matches(Empty(), ("00080008",), attributes)
    assert matches(Empty(), ("00080008",), {"00080008": {"vr": "CS", "Value": [None, " "]}})


def test_date_and_time_are_combined_by_pairs() -> None:
    attributes = {
        "00080020": {"vr": "DA", "Value": ["20200101", "20200103"]},
        "00080030": {"vr": "TM", "Value": ["10"]},
    }
    for low, high, expected in (("0900", "1100", True), ("1001", "1002", True), ("1001", "0959", False)):
        asked = CombinedRange(
            ("00080030",), Range("20200102" if expected else "20200101", "20200103"), Range(low, high)
        )
        if not expected:
            asked = CombinedRange(("00080030",), Range("20200101", "20200103"), Range(low, high))
            assert not matches(asked, ("00080020",), {**attributes, "00080020": {"vr": "DA", "Value": ["20200101"]}})
        else:
            assert matches(asked, ("00080020",), attributes)


@pytest.mark.parametrize(
    ("matcher", "expected"),
    [
        (Universal(), True),
        (Wildcard("**"), True),
        (Wildcard("*?"), False),
        (Wildcard(""), False),
        (Range(), True),
        (Sequence({}), True),
        (Sequence({("00080100",): Wildcard("*")}), True),
        (Sequence({("00080100",): Single("x")}), False),
        (ValueList((Single("x"), Universal())), True),
        (Empty(), False),
        (UidList(()), False),
    ],
)
def test_what_matches_everything_matches_nothing_too(matcher: Any, expected: bool) -> None:
    assert is_universal(matcher) is expected
    assert matches(matcher, ("00081032",), {}) is expected or isinstance(matcher, Empty)


def test_all_keys_have_to_match() -> None:
    keys = {("00400275",): Sequence({("00400009",): Single("S1")}), ("00090001@ACME",): Single("1.5")}
    assert matches_all(keys, NESTED)
    assert not matches_all({**keys, ("00100010",): Single("x")}, NESTED)


def test_a_hostile_pattern_takes_no_long() -> None:
    attributes = {"00104000": {"vr": "LT", "Value": ["a" * 10_000]}}
    began = time.process_time()
    assert not matches(Wildcard("*a" * 500 + "b"), ("00104000",), attributes)
    assert time.process_time() - began < 2


@pytest.mark.parametrize("weird", [".", "(x", "a|b", "^", "$", "\\", "[a]", "{2}", "+"])
def test_signs_of_other_pattern_languages_stand_for_themselves(weird: str) -> None:
    attributes = {"00104000": {"vr": "LT", "Value": [f"x{weird}y"]}}
    assert matches(Wildcard(f"?{weird}*"), ("00104000",), attributes)
    assert not matches(Wildcard(f"?{weird}*"), ("00104000",), {"00104000": {"vr": "LT", "Value": ["xqy"]}})
