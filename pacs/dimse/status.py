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
    NotFound,
    NotStorable,
    OutOfResources,
    PacsError,
    PeerFailed,
    StudyMismatch,
    TooLarge,
    TooOften,
    Unauthorized,
    Unreadable,
)
from pacs.services import ups_outcomes as ups
from pacs.services.ups_outcomes import Caveat

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
CLASS_NOT_SUPPORTED = 0x0122

# Of DIMSE-N, PS3.7 C.5; the first three are warnings.
ATTRIBUTE_VALUE_OUT_OF_RANGE = 0x0116
ATTRIBUTE_LIST_ERROR = 0x0107
REQUESTED_OPTIONAL_ATTRIBUTES_NOT_SUPPORTED = 0x0001
NO_SUCH_ATTRIBUTE = 0x0105
INVALID_ATTRIBUTE_VALUE = 0x0106
PROCESSING_FAILURE = 0x0110
DUPLICATE_SOP_INSTANCE = 0x0111
NO_SUCH_SOP_INSTANCE = 0x0112
NO_SUCH_EVENT_TYPE = 0x0113
NO_SUCH_ARGUMENT = 0x0114
INVALID_ARGUMENT_VALUE = 0x0115
INVALID_SOP_INSTANCE = 0x0117
NO_SUCH_SOP_CLASS = 0x0118
CLASS_INSTANCE_CONFLICT = 0x0119
MISSING_ATTRIBUTE = 0x0120
MISSING_ATTRIBUTE_VALUE = 0x0121
NO_SUCH_ACTION_TYPE = 0x0123
UNRECOGNIZED_OPERATION = 0x0211
MISTYPED_ARGUMENT = 0x0212
RESOURCE_LIMITATION = 0x0213

# Of Unified Procedure Steps, PS3.4 CC.2.
CAVEATS = {
    Caveat.CREATED_OTHERWISE: 0xB300,
    Caveat.ALREADY_CANCELED: 0xB304,
    Caveat.UPDATED_OTHERWISE: 0xB305,
    Caveat.ALREADY_COMPLETED: 0xB306,
}
_UPS_KINDS: tuple[tuple[type[PacsError], int], ...] = (
    (ups.StepFinal, 0xC300),
    (ups.WrongTransaction, 0xC301),
    (ups.StepClaimed, 0xC302),
    (ups.OnlyCreationSchedules, 0xC303),
    (ups.FinalStateUnmet, 0xC304),
    (ups.UnknownStep, 0xC307),
    (ups.UnknownReceiver, 0xC308),
    (ups.NotScheduled, 0xC309),
    (ups.StepUnclaimed, 0xC310),
    (ups.StepCompleted, 0xC311),
    (ups.ActionMisplaced, 0xC314),
    (ups.AttributeMissing, MISSING_ATTRIBUTE),
    (ups.AttributeEmpty, MISSING_ATTRIBUTE_VALUE),
    (ups.AttributeNotAllowed, NO_SUCH_ATTRIBUTE),
    (ups.AttributeWrong, INVALID_ATTRIBUTE_VALUE),
)

_COMMENT_LIMIT = 64  # Error Comment (0000,0902) is LO


@dataclass(frozen=True, slots=True)
class Status:
    """Of an answer. attributes: tags that it is about, told as Offending Element (DIMSE-C) or Attribute Identifier List

    (DIMSE-N). error_id: the service's own number for what went wrong (0000,0903).
    """

    code: int
    comment: str | None = None
    attributes: tuple[str, ...] = ()
    error_id: int | None = None


class Refused(PacsError):
    """A DIMSE service answers with just this status: where its standard says which, and no other kind of error fits."""

    def __init__(self, status: Status) -> None:
        super().__init__(status.comment or f"status {status.code:04X}H")
        self.status = status


# The first kind that fits counts.
_KINDS: tuple[tuple[type[PacsError], int], ...] = (
    (OutOfResources, 0xA700),
    (TooLarge, 0xA700),
    (ClassMismatch, 0xA900),
    (StudyMismatch, 0xA900),
    (Unreadable, 0xC000),
    (Conflict, 0x0111),
    (Forbidden, NOT_AUTHORIZED),
    (Unauthorized, NOT_AUTHORIZED),
    (TooOften, NOT_AUTHORIZED),
    (NotStorable, CLASS_NOT_SUPPORTED),
    (MissingAttribute, 0x0120),
    (MissingValue, 0x0121),
    (InvalidValue, 0x0106),
    (Invalid, IDENTIFIER_MISMATCH),
    (Cancelled, CANCELLED),
    (PeerFailed, NO_SUB_OPERATION_DONE),
)
# The same for DIMSE-N, whose statuses are others where those of DIMSE-C belong to a service class.
_NORMALIZED_KINDS: tuple[tuple[type[PacsError], int], ...] = (
    *_UPS_KINDS,
    (OutOfResources, RESOURCE_LIMITATION),
    (TooLarge, RESOURCE_LIMITATION),
    (ClassMismatch, CLASS_INSTANCE_CONFLICT),
    (Unreadable, PROCESSING_FAILURE),
    (Conflict, DUPLICATE_SOP_INSTANCE),
    (Forbidden, NOT_AUTHORIZED),
    (Unauthorized, NOT_AUTHORIZED),
    (TooOften, NOT_AUTHORIZED),
    (NotStorable, CLASS_NOT_SUPPORTED),
    (MissingAttribute, MISSING_ATTRIBUTE),
    (MissingValue, MISSING_ATTRIBUTE_VALUE),
    (InvalidValue, INVALID_ATTRIBUTE_VALUE),
    (Invalid, INVALID_ATTRIBUTE_VALUE),
    (NotFound, NO_SUCH_SOP_INSTANCE),
)


def status_of(error: BaseException, *, normalized: bool = False) -> Status:
    """What a peer is told. Of what is not a PacsError it is told nothing but that it went wrong.

    normalized: as the answer to a DIMSE-N request.
    """
    if isinstance(error, Refused):
        return error.status
    if not isinstance(error, PacsError):
        return Status(PROCESSING_FAILURE, "internal error")
    kinds = _NORMALIZED_KINDS if normalized else _KINDS
    code = next((code for kind, code in kinds if isinstance(error, kind)), PROCESSING_FAILURE)
    about = error.tags if isinstance(error, ups.AttributeRefused | ups.FinalStateUnmet) else ()
    return Status(code, comment(str(error)), about)


def is_failure(code: int) -> bool:
    """Whether a final status is neither Success, nor a Warning (PS3.7 C.1, C.3)."""
    return code not in (SUCCESS, 0x0001, ATTRIBUTE_LIST_ERROR, ATTRIBUTE_VALUE_OUT_OF_RANGE) and code >> 12 != 0xB


def comment(text: str) -> str:
    """``text`` as an Error Comment: one line of at most 64 characters of the default repertoire, no backslash."""
    plain = "".join(char if " " <= char <= "~" and char != "\\" else "?" for char in text)
    return plain if len(plain) <= _COMMENT_LIMIT else f"{plain[: _COMMENT_LIMIT - 3]}..."
