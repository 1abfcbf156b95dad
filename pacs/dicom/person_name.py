"""Person names (VR PN, PS3.5 6.2.1): component groups, and forms in which case, accents and padding do not count."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

# Alphabetic, ideographic, phonetic.
Groups = tuple[str, str, str]
GROUPS = ("Alphabetic", "Ideographic", "Phonetic")

# Marks on Latin, Greek and Cyrillic letters. Others stay: without its dakuten a kana is another syllable.
_MARKS = re.compile("[\u0300-\u036f]")
_LETTERS = str.maketrans({"ø": "o", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "æ": "ae", "œ": "oe", "ı": "i"})
_SEPARATORS = re.compile(r"[\s^=,.\-]+")
_CODES = dict(zip("bfpvcgjkqsxzdtlmnr", "111122222222334556", strict=True))


def fold(text: str) -> str:
    """Without case, accents and width: "Müller", "MULLER" and "ＭＵＬＬＥＲ" are one."""
    if text.isascii():
        return text.lower()
    decomposed = unicodedata.normalize("NFKD", text).casefold()
    plain = _MARKS.sub("", unicodedata.normalize("NFKD", decomposed)).translate(_LETTERS)
    return unicodedata.normalize("NFC", plain)


def groups(value: Any) -> Groups:
    """Folded component groups of a DICOM JSON name object, or of text with "="; padding and trailing "^" dropped."""
    if isinstance(value, Mapping):
        found = [str(value.get(name) or "") for name in GROUPS]
    else:
        found = [*str(value).split("="), "", ""]
    return normal_group(found[0]), normal_group(found[1]), normal_group(found[2])


def normal_group(text: str) -> str:
    """One component group, folded; spaces around components and empty components at the end do not count."""
    folded = fold(text.replace("\0", ""))
    if "^" not in folded:
        return folded.strip()
    return "^".join(part.strip() for part in folded.split("^")).rstrip("^")


def to_json(text: str) -> dict[str, str]:
    """The DICOM JSON name object (PS3.18 F.2.2) of text with "="; empty groups left out."""
    return {name: part for name, part in zip(GROUPS, text.split("="), strict=False) if part}


def to_text(value: Any) -> str:
    """The PN value of a DICOM JSON name object; text passes through."""
    if not isinstance(value, Mapping):
        return str(value)
    return "=".join(str(value.get(name) or "") for name in GROUPS).rstrip("=")


def words(text: str) -> tuple[str, ...]:
    """Folded words of a name or key, of all its groups and components."""
    return tuple(word for word in _SEPARATORS.split(fold(text.replace("\0", ""))) if word)


@lru_cache(maxsize=65536)
def sound(word: str) -> str:
    """Soundex of a folded word ("meyer" and "maier" agree); "" for what is not Latin."""
    if not word or not (word.isascii() and word.isalpha()):
        return ""
    code, previous = word[0], _CODES.get(word[0], "")
    for letter in word[1:]:
        digit = _CODES.get(letter, "")
        if digit and digit != previous:
            code += digit
        # h and w do not part two letters of one code; vowels do.
        if letter not in "hw":
            previous = digit
    return code[:4].ljust(4, "0")


def is_like(key_words: tuple[str, ...], name: Groups) -> bool:
    """Whether every word of the key begins, or sounds like, some word of the name."""
    # Groups are folded already.
    name_words = [word for group in name if group for word in _SEPARATORS.split(group) if word]
    return all(
        any(word.startswith(wanted) or (sound(wanted) != "" and sound(wanted) == sound(word)) for word in name_words)
        for wanted in key_words
    )
