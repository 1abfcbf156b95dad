"""Specific Character Set: the defined terms, code extensions, and what senders make of them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pacs.dicom import charset

# (terms, bytes, text): PS3.3 C.12.1.1.2; Japanese, Korean and Chinese names are the examples of PS3.5 Annexes H to K.
NAMES = [
    ("", b"Wang^XiaoDong", "Wang^XiaoDong"),
    ("ISO_IR 6", b"Wang^XiaoDong", "Wang^XiaoDong"),
    ("ISO_IR 100", b"Buc^J\xe9r\xf4me", "Buc^Jérôme"),
    ("ISO_IR 101", b"Wa\xb3\xeasa", "Wałęsa"),
    ("ISO_IR 109", b"\xa6a\xf8", "Ĥaĝ"),
    ("ISO_IR 110", b"\xa3\xb3", "Ŗŗ"),
    ("ISO_IR 144", b"\xbb\xee\xdace\xdc\xd1\xe3\xe0\xd3", "Люкceмбург"),
    ("ISO_IR 127", b"\xe2\xc8\xc7\xe6\xea^\xe4\xe6\xd2\xc7\xd1", "قباني^لنزار"),
    ("ISO_IR 126", b"\xc4\xe9\xef\xed\xf5\xf3\xe9\xef\xf2", "Διονυσιος"),
    ("ISO_IR 138", b"\xf9\xf8\xe5\xef^\xe3\xe1\xe5\xf8\xe4", "שרון^דבורה"),
    ("ISO_IR 148", b"\xd0\xfd", "Ğı"),
    ("ISO_IR 166", b"\xb9\xd2\xc2", "นาย"),
    ("ISO_IR 203", b"\xa4\xbd", "€œ"),
    ("ISO_IR 13", b"\xd4\xcf\xc0\xde^\xc0\xdb\xb3", "ﾔﾏﾀﾞ^ﾀﾛｳ"),
    ("ISO_IR 192", "Wang^XiaoDong=王^小東=".encode(), "Wang^XiaoDong=王^小東="),
    ("GB18030", b"Wang^XiaoDong=\xcd\xf5^\xd0\xa1\xb6\xab=", "Wang^XiaoDong=王^小东="),
    ("GBK", b"Wang^XiaoDong=\xcd\xf5^\xd0\xa1\xb6\xab=", "Wang^XiaoDong=王^小东="),
    (
        "\\ISO 2022 IR 87",
        b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B=\x1b$B$d$^$@\x1b(B^\x1b$B$?$m$&\x1b(B",
        "Yamada^Tarou=山田^太郎=やまだ^たろう",
    ),
    (
        "ISO 2022 IR 13\\ISO 2022 IR 87",
        b"\xd4\xcf\xc0\xde^\xc0\xdb\xb3=\x1b$B;3ED\x1b(J^\x1b$BB@O:\x1b(J=\x1b$B$d$^$@\x1b(J^\x1b$B$?$m$&\x1b(J",
        "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎=やまだ^たろう",
    ),
    ("\\ISO 2022 IR 159", b"\x1b$(D\x30\x21\x1b(B", "丂"),
    (
        "\\ISO 2022 IR 149",
        b"Hong^Gildong=\x1b$)C\xfb\xf3^\x1b$)C\xd1\xce\xd4\xd7=\x1b$)C\xc8\xab^\x1b$)C\xb1\xe6\xb5\xbf",
        "Hong^Gildong=洪^吉洞=홍^길동",
    ),
    # pydicom 3.0.2 misreads this one.
    ("\\ISO 2022 IR 58", b"Zhang^XiaoDong=\x1b$)A\xd5\xc5^\x1b$)A\xd0\xa1\xb6\xab=", "Zhang^XiaoDong=张^小东="),
    # Two single byte sets: the delimiter brings the first one back (PS3.5 6.1.2.5.3).
    ("ISO 2022 IR 100\\ISO 2022 IR 144", b"J\xe9r^\x1b-L\xbb\xee^J\xe9r", "Jér^Лю^Jér"),
    ("ISO 2022 IR 100\\ISO 2022 IR 126", b"Dionysios=\x1b-F\xc4\xe9\xef", "Dionysios=Διο"),
    ("ISO 2022 IR 6\\ISO 2022 IR 166", b"\x1b-T\xb9\xd2\xc2", "นาย"),
    ("ISO 2022 IR 6\\ISO 2022 IR 203", b"\x1b-b\xa4", "€"),
]


@pytest.mark.parametrize(("terms", "raw", "text"), NAMES, ids=[terms or "none" for terms, _, _ in NAMES])
def test_names_are_decoded_as_the_standard_says(terms: str, raw: bytes, text: str) -> None:
    assert charset.of(charset.split(terms)).name(raw) == text


@pytest.mark.parametrize(
    ("spelling", "same_as"),
    [
        ("ISO-IR 100", "ISO_IR 100"),
        ("ISO IR 100", "ISO_IR 100"),
        ("iso_ir_100", "ISO_IR 100"),
        ("ISO_IR100 ", "ISO_IR 100"),
        ("ISO8859-1", "ISO_IR 100"),
        ("UTF-8", "ISO_IR 192"),
        ("utf8", "ISO_IR 192"),
        ("ISO IR 192", "ISO_IR 192"),
        ("GB2312", "GB18030"),
    ],
)
def test_misspelled_terms_are_understood(spelling: str, same_as: str) -> None:
    raw = "é王".encode({"ISO_IR 100": "latin-1", "ISO_IR 192": "utf-8", "GB18030": "gb18030"}[same_as], "replace")
    assert charset.of(charset.split(spelling)).text(raw) == charset.of((same_as,)).text(raw)


@pytest.mark.parametrize("spelling", ["ISO 2022-IR 87", "ISO-2022-IR-87", "ISO2022 IR 87"])
def test_misspelled_extensions_are_understood(spelling: str) -> None:
    assert charset.of(("", spelling)).text(b"\x1b$B;3ED\x1b(B") == "山田"


@pytest.mark.parametrize("terms", ["ISO_IR 13", "GB18030", "GBK", "ISO 2022 IR 13\\ISO 2022 IR 87"])
def test_a_backslash_as_second_byte_is_no_delimiter(terms: str) -> None:
    encodings = {"ISO_IR 13": ("shift_jis", "表示"), "GB18030": ("gb18030", "乗誠"), "GBK": ("gbk", "乗誠")}
    if terms in encodings:
        codec, text = encodings[terms]
        raw = text.encode(codec)
    else:
        raw, text = b"\x1b$B\x25\x5c\x1b(J", "ボ"
    decoded = charset.of(charset.split(terms)).text(raw)
    assert b"\\" in raw
    assert decoded == text
    assert "\\" not in decoded


def test_senders_that_do_not_designate_again_after_a_delimiter_are_understood() -> None:
    name = charset.of(("", "ISO 2022 IR 149")).name(b"Hong=\x1b$)C\xfb\xf3^\xd1\xce\xd4\xd7")
    assert name == "Hong=洪^吉洞"


def test_bytes_without_escape_use_the_declared_set() -> None:
    assert charset.of(("ISO 2022 IR 149",)).text(b"\xc8\xab") == "홍"


def test_a_line_end_closes_a_double_byte_run() -> None:
    assert charset.of(("", "ISO 2022 IR 87")).text(b"\x1b$B;3ED\r\nABC") == "山田\r\nABC"


@given(
    st.sampled_from([terms for terms, _, _ in NAMES] + ["nonsense", "ISO_IR 999", "ISO 2022 IR 999\\x"]),
    st.binary(max_size=60)
    | st.lists(
        st.sampled_from(
            [b"\x1b$B", b"\x1b(B", b"\x1b$)C", b"\x1b$)A", b"\x1b", b"\x1b-L", b"^", b"=", b"\\", b"A", b"\xe9"]
        )
    ).map(b"".join),
)
def test_no_bytes_raise(terms: str, raw: bytes) -> None:
    found = charset.of(charset.split(terms))
    assert isinstance(found.text(raw) + found.name(raw), str)
    found.text(raw).encode("utf-8")


@given(st.sampled_from([terms for terms, _, _ in NAMES]), st.text(st.characters(min_codepoint=32, max_codepoint=126)))
def test_ascii_is_ascii_in_every_set(terms: str, text: str) -> None:
    assert charset.of(charset.split(terms)).name(text.encode("ascii")) == text


def test_text_is_encoded_with_replacement() -> None:
    assert charset.encode("Jérôme王", "ISO_IR 100") == b"J\xe9r\xf4me?"
    assert charset.encode("王", "ISO_IR 192") == "王".encode()
    assert charset.encode("王", "GB18030") == b"\xcd\xf5"
    assert charset.encode("é", "ISO_IR 6") == b"?"
