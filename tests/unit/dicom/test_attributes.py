"""The table of attributes hangs together."""

from __future__ import annotations

from pydicom import datadict

from pacs.dicom.attributes import (
    ALL,
    BY_KEYWORD,
    BY_TAG,
    DATE_TIME_PAIRS,
    DEFAULT_SEQUENCES,
    KEPT_SEQUENCES,
    UNIQUE_KEYS,
)
from pacs.dicom.model import Level


def test_every_attribute_is_the_standards() -> None:
    for attribute in ALL:
        number = int(attribute.tag, 16)
        assert datadict.keyword_for_tag(number) == attribute.keyword
        assert datadict.dictionary_VR(number) == attribute.vr


def test_no_attribute_is_listed_twice() -> None:
    assert len(BY_TAG) == len(BY_KEYWORD) == len(ALL)


def test_pairs_are_a_date_and_a_time_of_one_level() -> None:
    for date, time in DATE_TIME_PAIRS.items():
        assert (BY_TAG[date].vr, BY_TAG[time].vr) == ("DA", "TM")
        assert BY_TAG[date].level is BY_TAG[time].level


def test_kept_sequences_are_sequences_beside_the_table() -> None:
    assert all(datadict.dictionary_VR(int(tag, 16)) == "SQ" and tag not in BY_TAG for tag in KEPT_SEQUENCES)
    assert set(KEPT_SEQUENCES) >= DEFAULT_SEQUENCES


def test_unique_keys_belong_to_their_level() -> None:
    assert {level: BY_TAG[tag].level for level, tag in UNIQUE_KEYS.items()} == {level: level for level in Level}
