"""Elements one by one: VRs and encodings that files in the field have, nesting, lengths, private attributes."""

from __future__ import annotations

import math
from struct import pack
from typing import Any

import orjson
import pytest

from pacs.dicom.json_model import dumps
from pacs.dicom.parsed import Encoding
from pacs.dicom.parser import MAX_DEPTH, parse
from pacs.errors import Unreadable

EXPLICIT = Encoding(False, False)
IMPLICIT = Encoding(True, False)
BIG = Encoding(False, True)
UNDEFINED = 0xFFFFFFFF
LONG = {b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"}
ITEM_END = pack("<HHL", 0xFFFE, 0xE00D, 0)
SEQUENCE_END = pack("<HHL", 0xFFFE, 0xE0DD, 0)


def explicit(tag: int, vr: bytes, value: bytes, length: int | None = None, order: str = "<") -> bytes:
    size = len(value) if length is None else length
    if vr in LONG:
        return pack(order + "HH2sHL", tag >> 16, tag & 0xFFFF, vr, 0, size) + value
    return pack(order + "HH2sH", tag >> 16, tag & 0xFFFF, vr, size) + value


def implicit(tag: int, value: bytes, length: int | None = None) -> bytes:
    return pack("<HHL", tag >> 16, tag & 0xFFFF, len(value) if length is None else length) + value


def item(content: bytes, *, undefined: bool = False) -> bytes:
    if undefined:
        return pack("<HHL", 0xFFFE, 0xE000, UNDEFINED) + content + ITEM_END
    return pack("<HHL", 0xFFFE, 0xE000, len(content)) + content


def read(data: bytes, encoding: Encoding = EXPLICIT, **options: Any) -> dict[str, Any]:
    return parse(data, 0, encoding, bulk_threshold=options.pop("bulk_threshold", None), **options).attributes


VALUES = [
    (b"CS", b"A \\B", ["A", "B"]),
    (b"CS", b"A\\\\B ", ["A", None, "B"]),
    (b"CS", b"\\ ", None),
    (b"AE", b" STORE ", ["STORE"]),
    (b"LO", b" lead\0", ["lead"]),
    (b"LT", b" a\\b  ", [" a\\b"]),
    (b"UT", b"line\r\n", ["line\r\n"]),
    (b"UC", b"a\\ b ", ["a", " b"]),
    (b"UR", b"http://x/?a=\\b ", ["http://x/?a=\\b"]),
    (b"UI", b"1.2.3\0", ["1.2.3"]),
    (b"IS", b" +12 ", [12]),
    (b"IS", b"1\\\\-3", [1, None, -3]),
    (b"IS", b"12.0", [12]),
    (b"IS", b"1_0 ", ["1_0"]),
    (b"IS", b"abc ", ["abc"]),
    (b"IS", b"99999999999999999999", ["99999999999999999999"]),
    (b"DS", b"1.50", [1.5]),
    (b"DS", b"1e400 ", ["1e400"]),
    (b"DS", b"abc ", ["abc"]),
    (b"DS", b"nan ", ["nan"]),
    (b"DS", b"-0.25\\3", [-0.25, 3]),
    (b"US", pack("<H", 65535), [65535]),
    (b"US", pack("<3H", 1, 2, 3), [1, 2, 3]),
    (b"US", b"\1\0\2", [1]),
    (b"US", b"\1", None),
    (b"SS", pack("<h", -2), [-2]),
    (b"UL", pack("<L", 1 << 31), [1 << 31]),
    (b"SL", pack("<l", -5), [-5]),
    (b"UV", pack("<Q", (1 << 64) - 1), [(1 << 64) - 1]),
    (b"SV", pack("<q", -(1 << 63)), [-(1 << 63)]),
    (b"FD", pack("<4d", 0.5, math.nan, math.inf, -math.inf), [0.5, "NaN", "Infinity", "-Infinity"]),
    (b"FL", pack("<f", 0.25), [0.25]),
    (b"AT", pack("<4H", 0x0018, 0x00FF, 0xFFFE, 0xE000), ["001800FF", "FFFEE000"]),
    (b"PN", b"A^B=C=D ", [{"Alphabetic": "A^B", "Ideographic": "C", "Phonetic": "D"}]),
    (b"PN", b"=C^D", [{"Ideographic": "C^D"}]),
    (b"PN", b"A\\\\B", [{"Alphabetic": "A"}, None, {"Alphabetic": "B"}]),
    (b"PN", b"== ", None),
]


@pytest.mark.parametrize(("vr", "raw", "values"), VALUES)
def test_values_become_the_json_that_the_standard_wants(vr: bytes, raw: bytes, values: Any) -> None:
    expected = {"vr": vr.decode()} | ({"Value": values} if values is not None else {})
    assert read(explicit(0x00091001, vr, raw)) == {"00091001": expected}
    assert orjson.loads(orjson.dumps(expected)) == expected


def test_an_empty_element_has_no_value() -> None:
    for vr in (b"CS", b"US", b"PN", b"OB", b"UN", b"SQ", b"AT", b"FD", b"IS"):
        assert read(explicit(0x00091001, vr, b"")) == {"00091001": {"vr": vr.decode()}}


@pytest.mark.parametrize(
    ("vr", "big", "little"),
    [
        (b"OW", "0102 0304", "0201 0403"),
        (b"OB", "0102 0304", "0102 0304"),
        (b"UN", "0102 0304", "0102 0304"),
        (b"OF", "01020304", "04030201"),
        (b"OL", "01020304", "04030201"),
        (b"OD", "0102030405060708", "0807060504030201"),
        (b"OV", "0102030405060708", "0807060504030201"),
    ],
)
def test_inline_binary_is_little_endian(vr: bytes, big: str, little: str) -> None:
    import base64

    found = read(explicit(0x00091001, vr, bytes.fromhex(big), order=">"), BIG)
    assert base64.b64decode(found["00091001"]["InlineBinary"]) == bytes.fromhex(little)


def test_implicit_vr_comes_from_the_dictionaries() -> None:
    data = (
        implicit(0x00080060, b"CT")
        + implicit(0x00190010, b"GEMS_ACQU_01")
        + implicit(0x00191002, b"\x05\0\0\0")
        + implicit(0x001910FE, b"??")
        + implicit(0x00210010, b"UNHEARD OF")
        + implicit(0x00211001, b"ab")
        + implicit(0x00280101, b"\x0c\0")
        + implicit(0x50020005, b"\1\0")
        + implicit(0x60040010, b"\2\0")
        + implicit(0x60043000, b"\1\2")
        + implicit(0x88889999, b"zz")
    )
    found = read(data, IMPLICIT)
    assert found["00080060"] == {"vr": "CS", "Value": ["CT"]}
    assert found["00190010"] == {"vr": "LO", "Value": ["GEMS_ACQU_01"]}
    assert found["00191002"] == {"vr": "SL", "Value": [5]}
    assert found["001910FE"]["vr"] == "UN"
    assert found["00211001"] == {"vr": "UN", "InlineBinary": "YWI="}
    assert found["50020005"] == {"vr": "US", "Value": [1]}
    assert found["60040010"] == {"vr": "US", "Value": [2]}
    assert found["60043000"] == {"vr": "OW", "InlineBinary": "AQI="}
    assert found["88889999"]["vr"] == "UN"


@pytest.mark.parametrize(("representation", "vr", "value"), [(0, "US", 65534), (1, "SS", -2)])
def test_us_or_ss_goes_by_pixel_representation_wherever_it_stands(representation: int, vr: str, value: int) -> None:
    lut = item(implicit(0x00283002, pack("<HhH", 2, -2, 16)) + implicit(0x00283006, b"\1\0\2\0"))
    data = (
        implicit(0x00189810, pack("<h", -2))
        + implicit(0x00221450, item(implicit(0x00221452, pack("<h", -2))))
        + implicit(0x00280103, pack("<H", representation))
        + implicit(0x00280106, pack("<h", -2))
        + implicit(0x00283000, lut)
    )
    found = read(data, IMPLICIT)
    assert found["00280106"] == {"vr": vr, "Value": [value]}
    assert found["00189810"] == {"vr": vr, "Value": [value]}
    (inner,) = found["00283000"]["Value"]
    assert inner["00283002"] == {"vr": vr, "Value": [2, value, 16]}
    assert inner["00283006"] == {"vr": "OW", "InlineBinary": "AQACAA=="}


def test_us_or_ss_is_unsigned_without_pixel_representation() -> None:
    assert read(implicit(0x00280106, b"\xfe\xff"), IMPLICIT)["00280106"] == {"vr": "US", "Value": [65534]}


def test_un_for_everything_is_read_by_the_dictionaries() -> None:
    inner = implicit(0x00080100, b"T-1 ")
    data = (
        explicit(0x00080005, b"UN", b"ISO_IR 100")
        + explicit(0x00080060, b"UN", b"CT")
        + explicit(0x00082218, b"UN", item(inner))
        + explicit(0x00100010, b"UN", b"J\xe9r\xf4me ")
        + explicit(0x00280010, b"UN", b"\1\2")
        + explicit(0x00290010, b"UN", b"NOBODY")
        + explicit(0x00291001, b"UN", item(inner))
    )
    found = read(data)
    assert found["00080060"] == {"vr": "CS", "Value": ["CT"]}
    assert found["00082218"] == {"vr": "SQ", "Value": [{"00080100": {"vr": "SH", "Value": ["T-1"]}}]}
    assert found["00100010"]["Value"] == [{"Alphabetic": "Jérôme"}]
    assert found["00280010"] == {"vr": "US", "Value": [513]}
    assert found["00290010"] == {"vr": "LO", "Value": ["NOBODY"]}
    assert found["00291001"]["vr"] == "UN"
    assert found["00291001"]["InlineBinary"]


@pytest.mark.parametrize("encoding", [EXPLICIT, BIG])
def test_un_of_undefined_length_is_an_implicit_little_endian_sequence(encoding: Encoding) -> None:
    order = ">" if encoding.big_endian else "<"
    content = item(implicit(0x00080100, b"T-1 ") + implicit(0x00091001, b"xx"), undefined=True) + SEQUENCE_END
    data = explicit(0x00091001, b"UN", content, UNDEFINED, order) + explicit(0x00100020, b"LO", b"P1", order=order)
    found = read(data, encoding)
    assert found["00091001"]["vr"] == "SQ"
    assert found["00091001"]["Value"][0]["00080100"] == {"vr": "SH", "Value": ["T-1"]}
    assert found["00100020"]["Value"] == ["P1"]


def test_un_of_undefined_length_with_explicit_items_is_read_too() -> None:
    content = item(explicit(0x00080100, b"SH", b"T-1 "), undefined=True) + SEQUENCE_END
    found = read(explicit(0x00091001, b"UN", content, UNDEFINED))
    assert found["00091001"]["Value"] == [{"00080100": {"vr": "SH", "Value": ["T-1"]}}]


def test_implicit_items_in_an_explicit_sequence_are_read_too() -> None:
    data = explicit(
        0x00081140, b"SQ", item(implicit(0x00081155, b"1.2\0")) + item(explicit(0x00081155, b"UI", b"1.3\0"))
    )
    values = [each["00081155"]["Value"] for each in read(data)["00081140"]["Value"]]
    assert values == [["1.2"], ["1.3"]]


@pytest.mark.parametrize("vr", [b"  ", b"\0\0", b"??", b"--"])
def test_an_element_with_an_invalid_vr_is_read_by_the_dictionary(vr: bytes) -> None:
    data = explicit(0x00080060, vr, b"CT") + explicit(0x00100020, b"LO", b"P1")
    found = read(data)
    assert found["00080060"] == {"vr": "CS", "Value": ["CT"]}
    assert found["00100020"]["Value"] == ["P1"]


def test_an_implicit_element_among_explicit_ones_is_read() -> None:
    data = explicit(0x00080050, b"SH", b"A1") + implicit(0x00080060, b"CT") + explicit(0x00100020, b"LO", b"P1")
    assert [element["Value"] for element in read(data).values()] == [["A1"], ["CT"], ["P1"]]


def test_a_vr_to_come_has_a_long_length() -> None:
    data = pack("<HH2sHL", 0x0009, 0x1001, b"ZZ", 0, 4) + b"abcd" + explicit(0x00100020, b"LO", b"P1")
    found = read(data)
    assert found["00091001"] == {"vr": "UN", "InlineBinary": "YWJjZA=="}
    assert found["00100020"]["Value"] == ["P1"]


def test_group_lengths_command_and_file_meta_elements_are_left_out() -> None:
    data = (
        explicit(0x00000100, b"US", b"\1\0")
        + explicit(0x00020010, b"UI", b"1.2\0")
        + explicit(0x00080000, b"UL", b"\1\0\0\0")
        + explicit(0x00080060, b"CS", b"CT")
        + explicit(0x00090000, b"UL", b"\1\0\0\0")
    )
    assert list(read(data)) == ["00080060"]


def test_attributes_come_in_tag_order_whatever_the_file_does() -> None:
    data = explicit(0x00100020, b"LO", b"P1") + explicit(0x00080060, b"CS", b"CT")
    assert list(read(data)) == ["00080060", "00100020"]
    assert list(read(explicit(0x00081140, b"SQ", item(data)))["00081140"]["Value"][0]) == ["00080060", "00100020"]


@pytest.mark.parametrize("undefined_sequence", [False, True])
@pytest.mark.parametrize("undefined_item", [False, True])
@pytest.mark.parametrize("encoding", [EXPLICIT, IMPLICIT])
def test_defined_and_undefined_lengths_nest(undefined_sequence: bool, undefined_item: bool, encoding: Encoding) -> None:
    write = implicit if encoding.implicit else lambda tag, value, n=None: explicit(tag, _vr(tag), value, n)
    data = write(0x00081155, b"1.2\0")
    for depth in range(12):
        flip = depth % 2 == 0
        content = item(data, undefined=undefined_item ^ flip) + item(b"", undefined=undefined_item)
        is_undefined = undefined_sequence ^ flip
        data = write(0x00081140, content + SEQUENCE_END * is_undefined, UNDEFINED if is_undefined else None)
        data += write(0x00100020, b"P1")
    found = read(data, encoding)
    for _ in range(12):
        assert found["00100020"]["Value"] == ["P1"]
        assert found["00081140"]["Value"][1] == {}
        found = found["00081140"]["Value"][0]
    assert found == {"00081155": {"vr": "UI", "Value": ["1.2"]}}


def _vr(tag: int) -> bytes:
    return {0x00081155: b"UI", 0x00081140: b"SQ", 0x00100020: b"LO"}[tag]


@pytest.mark.parametrize("encoding", [EXPLICIT, IMPLICIT])
@pytest.mark.parametrize("undefined", [False, True])
def test_sequences_nested_hundreds_deep_are_kept(encoding: Encoding, undefined: bool) -> None:
    data = nested(300, encoding, undefined)
    parsed = parse(data, 0, encoding, bulk_threshold=1024)
    assert parsed.depth == 300
    found: Any = orjson.loads(dumps(parsed.attributes))
    for _ in range(300):
        (found,) = found["00081140"]["Value"]
    assert found == {"00081155": {"vr": "UI", "Value": ["1.2"]}}


def test_sequences_nested_without_end_are_refused() -> None:
    for undefined in (False, True):
        with pytest.raises(Unreadable, match="deep"):
            read(nested(MAX_DEPTH + 1, IMPLICIT, undefined), IMPLICIT)
    with pytest.raises(Unreadable):
        read(implicit(0x00081140, item(b""), UNDEFINED)[:-8] * 100_000, IMPLICIT)


def nested(depth: int, encoding: Encoding, undefined: bool) -> bytes:
    write = implicit if encoding.implicit else lambda tag, value, n=None: explicit(tag, _vr(tag), value, n)
    head = write(0x00081155, b"1.2\0")
    for _ in range(depth):
        content = item(head, undefined=undefined) + (SEQUENCE_END if undefined else b"")
        length = UNDEFINED if undefined else None
        head = write(0x00081140, content, length)
    return head


@pytest.mark.parametrize(
    "data",
    [
        explicit(0x00080060, b"CS", b"CT", 20),
        explicit(0x0040A160, b"UT", b"text", 5000),
        explicit(0x0040A160, b"UT", b"text", UNDEFINED),
        explicit(0x00081140, b"SQ", item(b""), 5000),
        explicit(0x00081140, b"SQ", item(b""), UNDEFINED),
        explicit(0x00081140, b"SQ", pack("<HHL", 0xFFFE, 0xE000, 99)),
        explicit(0x00081140, b"SQ", pack("<HHL", 0xFFFE, 0xE000, UNDEFINED), UNDEFINED),
        explicit(0x00081140, b"SQ", item(explicit(0x00081155, b"UI", b"1.2\0", 40))),
        explicit(0x00080060, b"CS", b"CT") + b"\x10\0\x20",
        explicit(0x7FE00010, b"OB", pack("<HHL", 0xFFFE, 0xE000, 0) + pack("<HHL", 0xFFFE, 0xE000, 9), UNDEFINED),
    ],
)
def test_lengths_beyond_the_end_are_refused(data: bytes) -> None:
    with pytest.raises(Unreadable):
        read(data)


def test_missing_and_extra_delimiters_are_tolerated() -> None:
    uid = explicit(0x00081155, b"UI", b"1.2\0")
    after = explicit(0x00100020, b"LO", b"P1")
    begin = pack("<HHL", 0xFFFE, 0xE000, UNDEFINED)
    for content in (
        begin + uid + SEQUENCE_END,  # the item's is missing
        begin + uid + ITEM_END + ITEM_END + SEQUENCE_END,  # one too many
        item(uid + ITEM_END) + SEQUENCE_END,  # one in an item of defined length
    ):
        found = read(explicit(0x00081140, b"SQ", content, UNDEFINED) + after)
        assert found["00081140"]["Value"] == [{"00081155": {"vr": "UI", "Value": ["1.2"]}}]
        assert found["00100020"]["Value"] == ["P1"]


def test_odd_lengths_are_tolerated() -> None:
    data = (
        explicit(0x00080050, b"SH", b"A12") + explicit(0x00080060, b"CS", b"CT") + explicit(0x00091001, b"OB", b"abc")
    )
    assert [*read(data)] == ["00080050", "00080060", "00091001"]


def test_an_items_own_character_set_counts_and_is_inherited() -> None:
    name = explicit(0x00100010, b"PN", b"\xc4\xe9")
    cyrillic = explicit(0x00080005, b"CS", b"ISO_IR 144")
    inner = explicit(0x00081140, b"SQ", item(name))
    data = (
        explicit(0x00080005, b"CS", b"ISO_IR 100")
        + explicit(0x00081115, b"SQ", item(name) + item(cyrillic + inner + name) + item(name))
        + name
    )
    found = read(data)
    first, second, third = found["00081115"]["Value"]
    latin, russian = [{"Alphabetic": "Äé"}], [{"Alphabetic": "Фщ"}]
    assert first["00100010"]["Value"] == third["00100010"]["Value"] == found["00100010"]["Value"] == latin
    assert second["00100010"]["Value"] == second["00081140"]["Value"][0]["00100010"]["Value"] == russian
    assert second["00080005"]["Value"] == found["00080005"]["Value"] == ["ISO_IR 192"]


def test_the_same_bytes_are_read_by_the_character_set_around_them() -> None:
    def data_set(charset: bytes) -> bytes:
        return explicit(0x00080005, b"CS", charset) + explicit(0x00100010, b"PN", b"\xc4\xd6")

    for _ in range(2):  # the second time from what was read lately
        assert read(data_set(b"ISO_IR 100"))["00100010"]["Value"] == [{"Alphabetic": "ÄÖ"}]
        assert read(data_set(b"ISO_IR 144"))["00100010"]["Value"] == [{"Alphabetic": "Фж"}]


def test_the_same_bytes_are_read_by_the_encoding_around_them() -> None:
    raw = explicit(0x00100020, b"LO", b"")
    for _ in range(2):  # the second time from what was read lately
        assert read(raw) == {"00100020": {"vr": "LO"}}
        assert read(raw, BIG) == {"10002000": {"vr": "LO"}}


def test_nested_encapsulated_pixel_data_are_bulk_data_with_their_path() -> None:
    fragments = item(b"") + item(b"\xff\xd8\xff\xd9") + SEQUENCE_END
    icon = explicit(0x00280010, b"US", b"\1\0") + explicit(0x7FE00010, b"OB", fragments, UNDEFINED)
    data = explicit(0x00880200, b"SQ", item(icon)) + explicit(0x00880140, b"UI", b"1.2\0")
    parsed = parse(data, 0, EXPLICIT, bulk_threshold=1024)
    assert parsed.pixels is None
    span = parsed.bulk["00880200/1/7FE00010"]
    assert data[span.offset : span.offset + span.length] == fragments[:-8]
    assert parsed.attributes["00880140"]["Value"] == ["1.2"]


def test_elements_after_pixel_data_are_read_and_junk_is_not() -> None:
    pixels = explicit(0x7FE00010, b"OW", b"\0" * 8)
    trailing = explicit(0xFFFCFFFC, b"OB", b"\0" * 4)
    assert list(read(pixels + trailing)) == ["7FE00010", "FFFCFFFC"]
    for junk in (b"\0" * 100, b"\x12" * 5, b"junk and more junk", b"\xff" * 64):
        assert list(read(pixels + junk, bulk_threshold=1024)) == ["7FE00010"]


def test_dumps_writes_what_orjson_writes() -> None:
    attributes = read(explicit(0x00081140, b"SQ", item(explicit(0x00081155, b"UI", b"1.2\0")) + item(b"")))
    assert dumps(attributes) == orjson.dumps(attributes)
