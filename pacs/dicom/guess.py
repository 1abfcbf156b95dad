"""How a data set is encoded when its file does not say so, or says what is not true."""

from __future__ import annotations

from struct import unpack_from

from pacs.dicom.buffer import Buffer
from pacs.dicom.dictionary import public_vr
from pacs.dicom.json_model import LONG_VRS
from pacs.dicom.parsed import Encoding
from pacs.dicom.transfer_syntax import (
    BY_UID,
    EXPLICIT_VR_BIG_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
    TransferSyntax,
)
from pacs.errors import Unreadable

_SHORT_VRS = b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US"
_VRS = frozenset({*_SHORT_VRS.split(), *(vr.encode() for vr in LONG_VRS)})


def encoding_at(buffer: Buffer, start: int, syntax: TransferSyntax) -> Encoding:
    """The encoding of a data set that is said to be in ``syntax``, checked against its first element.

    Explicit and implicit VR get mixed up by senders and archives; byte order does not.
    """
    stated = Encoding(syntax.implicit, syntax.big_endian)
    if len(buffer) - start < 8:
        return stated
    if syntax.uid not in BY_UID:
        return _guess(buffer, start) or stated
    is_explicit = buffer[start + 4 : start + 6] in _VRS
    if is_explicit == (not syntax.implicit):
        return stated
    seen = _guess(buffer, start)
    return seen if seen is not None and seen.big_endian == syntax.big_endian else stated


def guessed_transfer_syntax(buffer: Buffer, start: int) -> str:
    """The uncompressed transfer syntax that the bytes look like. Raises Unreadable when they look like none."""
    encoding = _guess(buffer, start)
    if encoding is None:
        raise Unreadable("The bytes are not a DICOM data set")
    if encoding.implicit:
        return IMPLICIT_VR_LITTLE_ENDIAN
    return EXPLICIT_VR_BIG_ENDIAN if encoding.big_endian else EXPLICIT_VR_LITTLE_ENDIAN


def _guess(buffer: Buffer, start: int) -> Encoding | None:
    """Encoding by the first element; None when it cannot be one."""
    remaining = len(buffer) - start
    if remaining < 8:
        return None
    group, element, length = unpack_from("<HHL", buffer, start)
    if buffer[start + 4 : start + 6] in _VRS:
        # First groups are low: 0008 read in the wrong order is 0800.
        big_endian = (group & 0xFF) << 8 | group >> 8 < group
        return Encoding(False, big_endian)
    known = group & 1 or public_vr(group << 16 | element) is not None
    fits = length <= remaining - 8 or length == 0xFFFFFFFF
    return Encoding(True, False) if known and fits and 0 < group < 0xFFFE else None
