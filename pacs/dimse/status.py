"""Errors to DIMSE status codes (PS3.7 Annex C; PS3.4 B.2.3, C.4.1.1.4, C.4.2.1.5, C.4.3.1.4), in this one place."""

from __future__ import annotations

from dataclasses import dataclass

from pacs.errors import (
    Cancelled,
    ClassMismatch,
    Conflict,
    Forbidden,
    Invalid,
    InvalidValue,
    MissingAttribute,
    MissingValue,
    NotStorable,
    OutOfResources,
    PacsError,
    PeerFailed,
    StudyMismatch,
    TooLarge,
    Unreadable,
)

SUCCESS = 0x0000
CANCELLED = 0xFE00
PENDING = 0xFF00
PENDING_UNSUPPORTED_KEYS = 0xFF01  # C-FIND: an optional key was not supported for existence or matching
SUB_OPERATIONS_FAILED = 0xB000  # one or more of C-MOVE's or C-GET's
NO_SUB_OPERATION_DONE = 0xA702  # all of them: out of resources, unable to perform sub-operations
UNKNOWN_DESTINATION = 0xA801
IDENTIFIER_MISMATCH = 0xA900
CANNOT_PROCESS = 0xC000
NOT_AUTHORIZED = 0x0124  # PS3.7 C.5.17
PROCESSING_FAILURE = 0x0110
UNRECOGNIZED_OPERATION = 0x0211
CLASS_NOT_SUPPORTED = 0x0122

_COMMENT_LIMIT = 64  # Error Comment (0000,0902) is LO


@dataclass(frozen=True, slots=True)
class Status:
    code: int
    comment: str | None = None


# The first kind that fits counts.
_KINDS: tuple[tuple[type[PacsError], int], ...] = (
    (OutOfResources, 0xA700),
    (TooLarge, 0xA700),
    (ClassMismatch, 0xA900),
    (StudyMismatch, 0xA900),
    (Unreadable, 0xC000),
    (Conflict, 0x0111),
    (Forbidden, NOT_AUTHORIZED),
    (NotStorable, CLASS_NOT_SUPPORTED),
    (MissingAttribute, 0x0120),
    (MissingValue, 0x0121),
    (InvalidValue, 0x0106),
    (Invalid, IDENTIFIER_MISMATCH),
    (Cancelled, CANCELLED),
    (PeerFailed, NO_SUB_OPERATION_DONE),
)


def status_of(error: BaseException) -> Status:
    """What a peer is told. Of what is not a PacsError it is told nothing but that it went wrong."""
    if not isinstance(error, PacsError):
        return Status(PROCESSING_FAILURE, "internal error")
    code = next((code for kind, code in _KINDS if isinstance(error, kind)), PROCESSING_FAILURE)
    return Status(code, comment(str(error)))


def comment(text: str) -> str:
    """``text`` as an Error Comment: one line of at most 64 characters of the default repertoire, no backslash."""
    plain = "".join(char if " " <= char <= "~" and char != "\\" else "?" for char in text)
    return plain if len(plain) <= _COMMENT_LIMIT else f"{plain[: _COMMENT_LIMIT - 3]}..."
