"""UIDs: ours, what one may look like, which name a storage SOP class, and how a missing one is made up."""

from __future__ import annotations

import hashlib
import uuid
from functools import cache

# Made once by uuid4 (PS3.5 B.2); names this implementation in file meta information and association requests.
IMPLEMENTATION_CLASS_UID = "2.25.128467391570226390584961320657318432975"
IMPLEMENTATION_VERSION_NAME = "RACCOON_PACS_1"

MAX_LENGTH = 128  # the standard's 64 is broken by real senders; this is what the index and file names bear

_ROOT = "1.2.840.10008."
_COMPOSITE = "1.2.840.10008.5.1.4.1.1."
_MEDIA_STORAGE_DIRECTORY = "1.2.840.10008.1.3.10"


def new_uid() -> str:
    """A fresh UID under 2.25 (PS3.5 B.2)."""
    return f"2.25.{uuid.uuid4().int}"


def derived_uid(seed: str, level: str) -> str:
    """The same UID for the same seed and level ("study", "series"…), at most 44 characters."""
    digest = hashlib.sha256(f"{level}\0{seed}".encode()).digest()
    return f"2.25.{int.from_bytes(digest[:16], 'big')}"


def is_possible(uid: str) -> bool:
    """Whether this can identify anything here: no "/" or "\\", blanks or control characters, at most 128 long.

    Wider than PS3.5 9.1 on purpose: leading zeros, letters and over-long UIDs exist in real archives.
    """
    return (
        0 < len(uid) <= MAX_LENGTH
        and uid.isascii()
        and uid.isprintable()
        and not set(uid) & set("/\\ ")
        and uid.strip(".") != ""
    )


@cache
def is_storage_class(uid: str) -> bool:
    """Whether instances of this SOP class are stored (PS3.4 B.5); private and unheard-of classes are taken."""
    if not uid.startswith(_ROOT) or uid.startswith(_COMPOSITE):
        return True
    from pydicom._uid_dict import UID_dictionary

    if uid == _MEDIA_STORAGE_DIRECTORY:
        return False
    known = UID_dictionary.get(uid)
    if known is None:
        return True
    name, kind = known[0], known[1]
    return kind == "SOP Class" and "Storage" in name and "Commitment" not in name
