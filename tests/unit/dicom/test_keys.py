"""From identifiers and parameters to matchers."""

from __future__ import annotations

from typing import Any

import pytest

from pacs.dicom import keys
from pacs.dicom.matching import (
    CombinedRange,
    Empty,
    Matcher,
    Range,
    Sequence,
    Single,
    TagPath,
    UidList,
    Universal,
    ValueList,
    Wildcard,
    Words,
)
from pacs.errors import Invalid


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("PatientName", ("00100010",)),
        ("00100010", ("00100010",)),
        ("0020000d", ("0020000D",)),
        ("SliceThickness", ("00180050",)),
        ("RequestAttributesSequence.00400009", ("00400275", "00400009")),
        ("00400275.ScheduledProcedureStepID", ("00400275", "00400009")),
        ("00091002", ("00091002",)),
        ("000910fe", ("000910FE",)),
        ("00091002@ACME 1.0", ("00090002@ACME 1.0",)),
        ("60003000", ("60003000",)),
    ],
)
def test_names_are_resolved(name: str, path: TagPath) -> None:
    assert keys.resolve(name) == path


@pytest.mark.parametrize(
    "name",
    ["", "NoSuchName", "0008", "00080001x", "00089999", "PatientName.StudyDate", "a.b", "limit", "X" * 5000, "."],
)
def test_a_name_of_nothing_is_invalid_and_named(name: str) -> None:
    with pytest.raises(Invalid) as refused:
        keys.resolve(name)
    assert refused.value.subject == name
    assert len(str(refused.value)) < 6000


@pytest.mark.parametrize(
    ("name", "values", "matcher"),
    [
        ("PatientName", ["Doe^J*"], Wildcard("Doe^J*")),
        ("PatientName", ["Doe"], Single("Doe")),
        ("PatientName", ["^^"], Universal()),
        ("PatientID", ["***"], Universal()),
        ("PatientID", ['""'], Empty()),
        ("PatientID", ["a,b"], Single("a,b")),
        ("PatientID", ["a", "b*"], ValueList((Single("a"), Wildcard("b*")))),
        ("PatientID", ["a", ""], Universal()),
        ("PatientID", [], Universal()),
        ("StudyInstanceUID", ["1.2,1.3"], UidList(("1.2", "1.3"))),
        ("StudyInstanceUID", ["1.2\\1.3", "1.4"], UidList(("1.2", "1.3", "1.4"))),
        ("StudyInstanceUID", ["1.2,"], UidList(("1.2",))),
        ("ModalitiesInStudy", ["CT,US"], ValueList((Single("CT"), Single("US")))),
        ("Modality", ["CT\\MR", "US", ""], ValueList((Single("CT"), Single("MR"), Single("US")))),
        ("Modality", [""], Universal()),
        ("StudyDate", ["20200101-"], Range("20200101", "")),
        ("StudyDate", ["20200101"], Single("20200101")),
        ("StudyDate", ["*"], Universal()),
        ("AcquisitionDateTime", ["20200101-0500"], Single("20200101-0500")),
        ("Rows", ["512"], Single("512")),
        ("00091002", ["A*"], Wildcard("A*")),
    ],
)
def test_a_parameter_becomes_a_matcher(name: str, values: list[str], matcher: Matcher) -> None:
    assert keys.from_parameter(name, values)[1] == matcher


def test_fuzzy_names_become_words() -> None:
    assert keys.from_parameter("PatientName", ["Müller^J*"], fuzzy=True)[1] == Words(("muller", "j"))
    assert keys.from_parameter("PatientID", ["A*"], fuzzy=True)[1] == Wildcard("A*")
    assert keys.from_parameter("PatientName", ["*"], fuzzy=True)[1] == Universal()


def test_text_that_no_character_set_holds_does_no_harm() -> None:
    assert keys.from_parameter("PatientID", ["a\ud800\0"])[1] == Wildcard("a?")


@pytest.mark.parametrize("name", ["PixelData", "RequestAttributesSequence"])
def test_bulk_data_and_sequences_have_no_value_to_search_by(name: str) -> None:
    with pytest.raises(Invalid):
        keys.from_parameter(name, ["x"])


def test_an_overlong_value_is_refused() -> None:
    with pytest.raises(Invalid):
        keys.from_parameter("PatientID", ["x" * 5000])


def test_an_identifier_becomes_matchers_and_tags() -> None:
    identifier: dict[str, Any] = {
        "00080005": {"vr": "CS", "Value": ["ISO_IR 192"]},
        "00080020": {"vr": "DA", "Value": ["20200101-20200131"]},
        "00080030": {"vr": "TM", "Value": ["08-10"]},
        "00080052": {"vr": "CS", "Value": ["STUDY"]},
        "00080060": {"vr": "CS", "Value": ["CT", "MR"]},
        "00080201": {"vr": "SH", "Value": ["+0100"]},
        "00090010": {"vr": "LO", "Value": ["ACME"]},
        "00091002": {"vr": "SH", "Value": ["x"]},
        "00100010": {"vr": "PN", "Value": [{"Alphabetic": "Doe*", "Ideographic": "山*"}]},
        "00100020": {"vr": "LO"},
        "0020000D": {"vr": "UI", "Value": ["1.2", "1.3"]},
        "00200013": {"vr": "IS", "Value": [7]},
        "00400275": {"vr": "SQ", "Value": [{"00400009": {"vr": "SH", "Value": ["S1"]}, "00401001": {"vr": "SH"}}]},
        "00081032": {"vr": "SQ", "Value": [{}]},
    }
    found = keys.from_identifier(identifier)
    assert found.matchers == {
        ("00080020",): CombinedRange(("00080030",), Range("20200101", "20200131"), Range("08", "10")),
        ("00080060",): ValueList((Single("CT"), Single("MR"))),
        ("00090002@ACME",): Single("x"),
        ("00100010",): Wildcard("Doe*=山*"),
        ("0020000D",): UidList(("1.2", "1.3")),
        ("00200013",): Single("7"),
        ("00400275",): Sequence({("00400009",): Single("S1")}),
    }
    assert found.tags == (
        *("00080020", "00080030", "00080060", "00081032", "00090002@ACME"),
        *("00100010", "00100020", "0020000D", "00200013", "00400275"),
    )


def test_a_malformed_key_of_an_identifier_is_named() -> None:
    with pytest.raises(Invalid) as refused:
        keys.from_identifier({"00080020": {"vr": "DA", "Value": ["yesterday"]}})
    assert refused.value.subject == "00080020"


def test_an_identifier_nested_without_end_is_refused() -> None:
    identifier: dict[str, Any] = {"00100020": {"vr": "LO", "Value": ["x"]}}
    for _ in range(300):
        identifier = {"00400275": {"vr": "SQ", "Value": [identifier]}}
    with pytest.raises(Invalid):
        keys.from_identifier(identifier)


def test_keys_that_belong_together_are_combined_once() -> None:
    asked: dict[TagPath, Matcher] = {
        ("00080020",): Range("20200101", ""),
        ("00080030",): Range("08", ""),
        ("00080021",): Range("20200101", ""),
        ("00080031",): Single("08"),
        ("00400275", "00400009"): Single("a"),
        ("00400275", "00401001"): Single("b"),
        ("00090010",): Single("ACME"),
        ("00091002",): Single("c"),
        ("00110010",): Single("unused"),
    }
    combined = keys.combine(asked)
    assert combined == {
        ("00080020",): CombinedRange(("00080030",), Range("20200101", ""), Range("08", "")),
        ("00080021",): Range("20200101", ""),
        ("00080031",): Single("08"),
        ("00400275",): Sequence({("00400009",): Single("a"), ("00401001",): Single("b")}),
        ("00090002@ACME",): Single("c"),
        ("00110010",): Single("unused"),
    }
    assert keys.combine(combined) == combined


@pytest.mark.parametrize(
    ("name", "vr"), [("PatientName", "PN"), ("SmallestImagePixelValue", "US"), ("00091002", "UN"), ("00091002@A", "UN")]
)
def test_the_vr_of_a_key_is_the_dictionarys(name: str, vr: str) -> None:
    assert keys.vr_of(keys.resolve(name)) == vr
