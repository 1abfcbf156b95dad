"""Metadata that mean harm, or nothing: they are refused in time, and what is taken can be written."""

from __future__ import annotations

import base64
import contextlib
import time
import tracemalloc
from datetime import timedelta
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pacs.dicom.charset import DEFAULT
from pacs.dicom.encode import encode_around_bulk, encode_data_set
from pacs.dicom.header import parse_data_set
from pacs.dicom.json_model import value_types
from pacs.dicom.json_reader import checked, read_json
from pacs.dicom.xml_model import from_xml, to_xml
from pacs.errors import Invalid, Rejected, TooLarge, Unreadable

EXPLICIT = "1.2.840.10008.1.2.1"
LIMITS = settings(
    deadline=timedelta(seconds=1),
    max_examples=400,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
VRS = sorted(vr for vr in value_types(DEFAULT, False) if isinstance(vr, str))
TAGS = st.sampled_from(
    [
        *("00080005", "00080016", "00080018", "00100010", "00280010", "00186011", "7FE00010", "00110010", "00111001"),
        *("0040a730", "00020010", "00080000", "FFFEE000", "54000100", "nonsense", "", "0008001"),
    ]
)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(1 << 70), 1 << 70)
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["NaN", "1\\2", "00080018", "1.5", "-0", "9" * 5000, "\ud7ff", "\x1b$B", "=a=b", "^"])
)
NAMES = st.dictionaries(st.sampled_from(["Alphabetic", "Ideographic", "Phonetic", "Other"]), SCALARS, max_size=3)


def elements(items: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    values = st.lists(SCALARS | NAMES | items, max_size=3)
    return st.fixed_dictionaries(
        {},
        optional={
            "vr": st.sampled_from([*VRS, "XX", None, 5]),
            "Value": values | SCALARS,
            "InlineBinary": SCALARS | st.binary(max_size=30).map(lambda raw: base64.b64encode(raw).decode()),
            "BulkDataURI": SCALARS,
        },
    )


DATA_SETS = st.recursive(
    st.dictionaries(TAGS, elements(st.nothing()) | SCALARS, max_size=4),
    lambda inner: st.dictionaries(TAGS, elements(inner), max_size=4),
    max_leaves=12,
)


@LIMITS
@given(DATA_SETS | SCALARS | st.lists(SCALARS))
def test_any_json_is_refused_or_can_be_written(data_set: Any) -> None:
    try:
        metadata = checked(data_set)
    except Rejected:
        return
    pieces = encode_around_bulk(metadata.attributes)
    assert all(isinstance(piece, bytes) or piece.uri for piece in pieces)
    encoded = encode_data_set(metadata.attributes, EXPLICIT)
    if all(isinstance(piece, bytes) for piece in pieces):
        assert b"".join(piece for piece in pieces if isinstance(piece, bytes)) == encoded
    to_xml(metadata.attributes)


def plain_data_sets() -> st.SearchStrategy[Any]:
    """Data sets that are in order."""
    text = st.text(
        st.characters(codec="utf-8", exclude_characters="\\\0^=", exclude_categories=["Cc", "Cs", "Zs"]), min_size=1
    )
    element = st.one_of(
        st.lists(text, min_size=1, max_size=3).map(lambda v: ("00081030", {"vr": "LO", "Value": v})),
        text.map(lambda v: ("00100010", {"vr": "PN", "Value": [{"Alphabetic": v, "Phonetic": v}]})),
        st.integers(0, 65535).map(lambda v: ("00280010", {"vr": "US", "Value": [v]})),
        st.floats(allow_nan=False, allow_infinity=False).map(lambda v: ("00186028", {"vr": "FD", "Value": [v, v]})),
        st.floats(width=32, allow_nan=False, allow_infinity=False).map(
            lambda v: ("00189461", {"vr": "FL", "Value": [v]})
        ),
        st.binary(min_size=2, max_size=40).map(
            lambda v: ("00111001", {"vr": "OB", "InlineBinary": base64.b64encode(v[: len(v) & ~1]).decode()})
        ),
        st.sampled_from(["NaN", "Infinity", "-Infinity"]).map(lambda v: ("00186030", {"vr": "FD", "Value": [v]})),
    )
    data_set = st.lists(element, max_size=5).map(lambda pairs: dict(sorted(dict(pairs).items())))
    nested = st.lists(data_set, min_size=1, max_size=3).map(lambda v: {"0040A730": {"vr": "SQ", "Value": v}})
    return data_set | nested


@LIMITS
@given(plain_data_sets())
def test_what_is_in_order_is_the_same_after_xml_json_and_bytes(data_set: dict[str, Any]) -> None:
    assert checked(data_set).attributes == data_set
    assert from_xml(to_xml(data_set)) == data_set
    (again,) = read_json(orjson.dumps([data_set]))
    assert checked(again).attributes == data_set
    pieces = encode_around_bulk(data_set)
    back = parse_data_set(b"".join(piece for piece in pieces if isinstance(piece, bytes)), EXPLICIT)
    back.pop("00080005", None)
    assert back == data_set


@pytest.mark.parametrize("text", ["Infinity", "-Infinity", "NaN", "INF"])
def test_a_text_that_looks_like_a_number_stays_as_it_is(text: str) -> None:
    data_set = {"00081030": {"vr": "LO", "Value": [text]}, "00200020": {"vr": "CS", "Value": [text]}}
    assert from_xml(to_xml(data_set)) == data_set


@LIMITS
@given(st.binary(max_size=300) | st.text(max_size=300).map(str.encode))
def test_any_bytes_are_refused_as_xml_or_json(data: bytes) -> None:
    with pytest.raises(Unreadable):
        from_xml(data)
    try:
        for each in read_json(data):
            checked(each)
    except (Invalid, Rejected):
        pass


DOCUMENT = to_xml(
    {
        "00080005": {"vr": "CS", "Value": ["ISO_IR 192"]},
        "00100010": {"vr": "PN", "Value": [{"Alphabetic": "Doe^Jane", "Ideographic": "山田"}, None]},
        "00110010": {"vr": "LO", "Value": ["ACME"]},
        "00111001": {"vr": "OB", "InlineBinary": "AAAA"},
        "0040A730": {"vr": "SQ", "Value": [{"00280010": {"vr": "US", "Value": [1, None, 3]}}, {}]},
        "7FE00010": {"vr": "OW", "BulkDataURI": "x"},
    }
)


@LIMITS
@given(
    st.lists(
        st.tuples(st.integers(0, len(DOCUMENT)), st.integers(0, 30), st.binary(max_size=12)), min_size=1, max_size=4
    )
)
def test_a_document_that_is_changed_anywhere_is_refused_or_read(changes: list[tuple[int, int, bytes]]) -> None:
    document = DOCUMENT
    for at, length, new in changes:
        document = document[:at] + new + document[at + length :]
    try:
        data_set = from_xml(document)
    except Rejected:
        return
    with contextlib.suppress(Rejected):
        encode_around_bulk(checked(data_set).attributes)


LAUGHS = b'<!DOCTYPE l [<!ENTITY a "ha">' + b"".join(
    b'<!ENTITY %c "%s">' % (98 + n, b"&%c;" % (97 + n) * 10) for n in range(12)
)
OPEN = b'<DicomAttribute tag="0040A730" vr="SQ"><Item number="1">'
HOSTILE = {
    "entities": LAUGHS + b"]><NativeDicomModel>&m;</NativeDicomModel>",
    "external entity": b'<!DOCTYPE l [<!ENTITY a SYSTEM "file:///etc/passwd">]><NativeDicomModel>&a;</NativeDicomModel>',
    "external subset": b'<!DOCTYPE l SYSTEM "http://127.0.0.1:1/x.dtd"><NativeDicomModel/>',
    "nesting": b"<NativeDicomModel>" + OPEN * 200_000,
    "unknown elements nested": b"<NativeDicomModel>" + b"<a>" * 3_000_000,
    "a comment without end": b"<NativeDicomModel><!--" + b"-x" * 8_000_000,
    "an attribute without end": b'<NativeDicomModel><DicomAttribute tag="' + b"x" * 16_000_000,
    "a tag without end": b"<NativeDicomModel><" + b"x" * 16_000_000,
    "references": b'<NativeDicomModel><DicomAttribute tag="00081030" vr="LO"><Value number="1">' + b"&#65;" * 1_000_000,
    "large numbers": b'<NativeDicomModel><DicomAttribute tag="00081030" vr="LO"><Value number="9999999"/>',
    "huge number": b'<NativeDicomModel><DicomAttribute tag="00081030" vr="LO"><Value number="'
    + b"9" * 100_000
    + b'"/>',
    "many XML attributes": b"<NativeDicomModel " + b" ".join(b'a%d="1"' % n for n in range(100_000)),
    "another encoding": b'<?xml version="1.0" encoding="utf-7"?><NativeDicomModel/>',
    "no encoding": b'<?xml version="1.0" encoding="rot13"?><NativeDicomModel/>',
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_xml_is_refused_within_a_second_and_without_memory(name: str) -> None:
    document = HOSTILE[name]
    began = time.process_time()
    with pytest.raises(Unreadable):
        from_xml(document)
    assert time.process_time() - began < 1
    if len(document) < 1_000_000:
        return
    tracemalloc.start()
    try:
        with pytest.raises(Unreadable):
            from_xml(document)
        assert tracemalloc.get_traced_memory()[1] < 40 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("document", "kind"),
    [
        (b"[" * 200_000, Invalid),
        (b'{"a":' * 200_000, Invalid),
        (b"[" + b"[]," * 3_000_000 + b"1]", TooLarge),
        (b'[{"00081030":' + b"1" * 5_000_000, Invalid),
    ],
)
def test_hostile_json_is_refused_within_a_second(document: bytes, kind: type[Exception]) -> None:
    began = time.process_time()
    with pytest.raises(kind):
        read_json(document)
    assert time.process_time() - began < 1


def test_sequences_nested_too_deep_are_refused_and_those_of_files_are_not() -> None:
    for depth, is_taken in ((300, True), (330, False)):
        data_set: dict[str, Any] = {}
        for _ in range(depth):
            data_set = {"0040A730": {"vr": "SQ", "Value": [data_set]}}
        if is_taken:
            assert from_xml(to_xml(data_set)) == data_set
            assert checked(data_set).attributes == data_set
            encode_around_bulk(data_set)
        else:
            with pytest.raises(Unreadable):
                checked(data_set)
            with pytest.raises(Unreadable):
                from_xml(to_xml(data_set))
