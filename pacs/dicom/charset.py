"""Specific Character Set (PS3.3 C.12.1.1.2): bytes to text and back, ISO 2022 code extensions included.

Python has no codec that does what PS3.5 6.1.2.5 describes, so designations of G0 and G1 are followed here and only
the runs between them are handed to codecs. Nothing here raises: what cannot be decoded becomes U+FFFD.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

Decode = Callable[[bytes], str]
UTF_8 = "ISO_IR 192"

_ESC = b"\x1b"


@dataclass(frozen=True, slots=True)
class Charset:
    """text: for values without person names; name: for PN, where "^" and "=" also end a designation."""

    terms: tuple[str, ...]
    text: Decode
    name: Decode


@lru_cache(maxsize=256)
def of(terms: tuple[str, ...]) -> Charset:
    """The charset of the values of (0008,0005). Misspelled names are understood, unknown ones read as Latin-1."""
    known = tuple(_normal(term) for term in terms) or ("6",)
    first = known[0]
    if first in _STAND_ALONE:
        decode = _plain(_STAND_ALONE[first])
        return Charset(terms, decode, decode)
    if len(known) == 1 and not (terms and "2022" in terms[0]):
        decode = _plain(_SINGLE.get(first, "latin-1"))
        return Charset(terms, decode, decode)
    extensions = tuple(number for number in known if number not in _STAND_ALONE)
    return Charset(terms, _extended(extensions, b"\\"), _extended(extensions, b"\\^="))


def encode(text: str, term: str) -> bytes:
    """Text in one character set without code extensions; what it lacks becomes "?"."""
    number = _normal(term)
    codec = _STAND_ALONE.get(number) or _SINGLE.get(number, "latin-1")
    return text.encode(codec if number != "6" else "ascii", "replace")


def split(terms: str) -> tuple[str, ...]:
    """The values of (0008,0005), positions kept: the first may be empty."""
    values: Sequence[str] = [value.strip(" \0") for value in terms.split("\\")]
    return tuple(values) if any(values) else ()


# Sets that know no code extensions, by what _normal makes of their names.
_STAND_ALONE = {"192": "utf-8", "GB18030": "gb18030", "GBK": "gbk"}
# Defined terms by number of the ISO registry (PS3.3 Tables C.12-2 to C.12-4), as the only set.
_SINGLE = {
    "6": "latin-1",  # ASCII; bytes beyond are errors of the sender, mostly Latin-1
    "100": "latin-1",
    "101": "iso8859-2",
    "109": "iso8859-3",
    "110": "iso8859-4",
    "144": "iso8859-5",
    "127": "iso8859-6",
    "126": "iso8859-7",
    "138": "iso8859-8",
    "148": "iso8859-9",
    "203": "iso8859-15",
    "166": "iso8859-11",
    "13": "shift_jis",  # half-width katakana are a part of it, and senders mean all of it
    "14": "shift_jis",
    "87": "iso2022_jp",
    "159": "iso2022_jp_2",
    "149": "cp949",
    "58": "gb18030",
}
_ALIASES = {"UTF8": "192", "UTF": "192", "GB2312": "GB18030", "GB18030": "GB18030", "GBK": "GBK", "ASCII": "6"}
_LATIN = {"1": "100", "2": "101", "3": "109", "4": "110", "5": "144", "6": "127", "7": "126", "8": "138", "9": "148"}
_TERM = re.compile(r"ISO(?:2022)?(?:IR)?(\d+)")


def _normal(term: str) -> str:
    """ "ISO_IR 100", "ISO-IR 100", "iso 2022 ir100", "ISO IR-100" → "100"; "" → "6"; anything else as it is."""
    letters = re.sub(r"[^A-Z0-9]", "", term.upper())
    if not letters:
        return "6"
    if letters in _ALIASES:
        return _ALIASES[letters]
    if letters.startswith("ISO8859"):
        return _LATIN.get(letters[7:], "203" if letters[7:] == "15" else "100")
    match = _TERM.fullmatch(letters)
    return match[1] if match else letters


def _plain(codec: str) -> Decode:
    def decode(raw: bytes) -> str:
        return raw.decode(codec, "replace")

    return decode


@dataclass(frozen=True, slots=True)
class _Set:
    """One graphic set. double: two bytes a character; decode: takes its bytes with the high bit as in G1."""

    double: bool
    codec: str
    prefix: bytes = b""


_KATAKANA = _Set(False, "shift_jis")
_JIS_X_0208 = _Set(True, "euc_jp")
_JIS_X_0212 = _Set(True, "euc_jp", b"\x8f")
_KS_X_1001 = _Set(True, "cp949")
_GB_2312 = _Set(True, "gb18030")
# Escape sequences (PS3.3 Tables C.12-3 and C.12-4, and forms of ISO 2022 that senders use for them).
_TO_G0: dict[bytes, _Set | None] = {
    b"(B": None,
    b"(J": None,
    b"$B": _JIS_X_0208,
    b"$@": _JIS_X_0208,
    b"$(B": _JIS_X_0208,
    b"$(D": _JIS_X_0212,
    b"$(C": _KS_X_1001,
    b"$(A": _GB_2312,
    b"$A": _GB_2312,
}
_TO_G1 = {
    b"$)C": _KS_X_1001,
    b"$)A": _GB_2312,
    b")I": _KATAKANA,
    b"-A": _Set(False, "latin-1"),
    b"-B": _Set(False, "iso8859-2"),
    b"-C": _Set(False, "iso8859-3"),
    b"-D": _Set(False, "iso8859-4"),
    b"-L": _Set(False, "iso8859-5"),
    b"-G": _Set(False, "iso8859-6"),
    b"-F": _Set(False, "iso8859-7"),
    b"-H": _Set(False, "iso8859-8"),
    b"-M": _Set(False, "iso8859-9"),
    b"-T": _Set(False, "iso8859-11"),
    b"-b": _Set(False, "iso8859-15"),
}
# What G1 holds from the start when this is a value of (0008,0005).
_INITIAL_G1 = {
    "13": _KATAKANA,
    "14": _KATAKANA,
    "149": _KS_X_1001,
    "58": _GB_2312,
    **{number: _Set(False, _SINGLE[number]) for number in _SINGLE if _SINGLE[number].startswith(("latin", "iso8859"))},
}
del _INITIAL_G1["6"]
_ESCAPE = re.compile(rb"\x1b([$][()]?[@-~]|[()\-./*+,][@-~])")


def _extended(numbers: tuple[str, ...], delimiters: bytes) -> Decode:
    """Decoder of a set with code extensions. delimiters: characters after which the initial sets hold again."""
    initial = _INITIAL_G1.get(numbers[0])
    # The standard leaves G1 undefined where the first value is empty or ASCII. Senders then rely on the one declared.
    assumed = initial or next((_INITIAL_G1[number] for number in numbers[1:] if number in _INITIAL_G1), None)
    ends = re.compile(b"([\t\n\f\r" + re.escape(delimiters) + b"])")

    def decode(raw: bytes) -> str:
        if _ESC not in raw and raw.isascii():
            return raw.decode("ascii")
        text: list[str] = []
        g0: _Set | None = None
        g1 = assumed
        for index, part in enumerate(_ESCAPE.split(raw)):
            if index % 2:
                if part in _TO_G0:
                    g0 = _TO_G0[part]
                else:
                    g1 = _TO_G1.get(part, g1)
            elif g0 is not None:
                double, rest = _double_byte_run(part)
                text.append(_decode_set(bytes(byte | 0x80 for byte in double), g0))
                if rest:
                    g0 = None
                    text.append(_decode_eight_bit(rest, g1))
            else:
                for piece in ends.split(part):
                    text.append(_decode_eight_bit(piece, g1))
                    # A delimiter restores the initial state (PS3.5 6.1.2.5.3); where that leaves G1 undefined, the
                    # last one designated is the better guess.
                    if initial is not None and ends.fullmatch(piece):
                        g1 = initial
        return "".join(text)

    return decode


def _double_byte_run(part: bytes) -> tuple[bytes, bytes]:
    """Split at the first control character or blank at a character's start: there a double byte set in G0 ends."""
    for position in range(0, len(part), 2):
        if part[position] <= 0x20:
            return part[:position], part[position:]
    return part, b""


def _decode_eight_bit(part: bytes, g1: _Set | None) -> str:
    """ASCII in G0 with ``g1`` above."""
    if part.isascii():
        return part.decode("ascii")
    return _decode_set(part, g1) if g1 is not None else part.decode("latin-1")


def _decode_set(part: bytes, charset: _Set) -> str:
    if charset.prefix:
        part = b"".join(charset.prefix + part[i : i + 2] for i in range(0, len(part), 2))
    return part.decode(charset.codec, "replace")


DEFAULT = of(())
