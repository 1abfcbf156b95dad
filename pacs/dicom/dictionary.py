"""VRs of attributes where the bytes do not tell: implicit VR, UN, and the VRs that depend on other attributes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache, lru_cache
from types import ModuleType
from typing import Any

_Dataset = Mapping[str, Any]

# VRs of the data dictionary (PS3.6) that are settled by resolve().
AMBIGUOUS = frozenset({"US or SS", "OB or OW", "US or OW", "US or SS or OW"})


def pydicom_dictionary() -> ModuleType:
    """``pydicom.datadict``, loaded at first use: pydicom takes longer to load than most commands take to run."""
    from pydicom import datadict

    return datadict


@cache
def public_vrs() -> dict[int, str]:
    """Tag → VR of the data dictionary without repeating groups. Made at first use: 10 ms."""
    from pydicom._dicom_dict import DicomDictionary

    return {tag: entry[0] for tag, entry in DicomDictionary.items() if entry[0] != "NONE"}


@lru_cache(maxsize=4096)
def public_vr(tag: int) -> str | None:
    """VR of a public tag, repeating groups (50xx, 60xx…) included; UL for a group length; None: unheard of."""
    vr = public_vrs().get(tag)
    if vr is None and not tag & 0xFFFF:
        return "UL"
    if vr is None:
        try:
            vr = str(pydicom_dictionary().dictionary_VR(tag))
        except KeyError:
            return None
    return None if vr == "NONE" else vr


@lru_cache(maxsize=4096)
def private_vr(tag: int, creator: str) -> str | None:
    """VR of a private tag whose block ``creator`` reserved, from pydicom's private dictionary."""
    try:
        vr = str(pydicom_dictionary().private_dictionary_VR(tag, creator))
    except KeyError:
        return None
    return "OB or OW" if vr == "OB_OW" else vr


def vr_within(tag: int, data_set: _Dataset) -> str | None:
    """VR of an element that bears none; of a private one by the creator in its data set. None: unheard of."""
    group, element = tag >> 16, tag & 0xFFFF
    if not group & 1:
        return public_vr(tag)
    if 0x10 <= element <= 0xFF:
        return "LO"
    creator = first_value(data_set, f"{group:04X}{element >> 8:04X}") if element else None
    return private_vr(tag, creator) if isinstance(creator, str) else None


def resolve(tag: int, vr: str, length: int, implicit: bool, enclosing: Iterable[_Dataset]) -> str:
    """Settle an ambiguous VR (PS3.5 Annex A and 8.1.2, PS3.3 C.7.6.3.1 and C.11.1.1).

    enclosing: the data sets read so far, nearest first, in DICOM JSON.
    """
    if vr == "US or SS":
        for data_set in enclosing:
            representation = first_value(data_set, "00280103")
            if representation is not None:
                return "SS" if representation == 1 else "US"
        return "US"
    if vr in ("US or OW", "US or SS or OW"):
        entries = first_value(next(iter(enclosing)), "00283002")
        return "US" if entries == 1 or length == 2 else "OW"
    if vr != "OB or OW":
        return vr
    if implicit or tag >> 24 in (0x60, 0x50):
        return "OW"
    bits = first_value(next(iter(enclosing)), "00280100" if tag == 0x7FE00010 else "54001004")
    return "OB" if isinstance(bits, int) and bits <= 8 else "OW"


def first_value(data_set: _Dataset, tag: str) -> Any:
    """The first value of an attribute in DICOM JSON; None when it is absent or empty."""
    values = data_set.get(tag, {}).get("Value")
    return values[0] if values else None
