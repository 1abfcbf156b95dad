"""What the archive raises on purpose.

Every adapter turns these kinds into its own protocol's answer in one place (``dimse/status.py``,
``web/problem.py``); nothing else decides a status code.

    PacsError
    ├── Invalid            the request, key, parameter or setting cannot mean anything
    ├── NotFound           no such study, series, instance, frame or bulk data
    │   └── Gone               it was there, and has been deleted
    ├── Unauthorized       nobody knows who asks, or what they show for it does not hold
    ├── TooOften           tried too often; the same request may work after a while
    ├── Forbidden          this archive's configuration, or the caller's rights, do not allow it
    ├── NotAcceptable      nothing of what the caller accepts can be made from what is stored
    ├── Unchangeable       what should be changed is in its final state
    ├── Cancelled          the peer asked to stop
    ├── Rejected           this one instance is not taken; the others of the request are not concerned
    │   ├── Unreadable         the bytes are not a DICOM data set, or end early
    │   ├── MissingAttribute   a UID that identifies the instance is absent
    │   ├── MissingValue       a UID that identifies the instance is empty
    │   ├── InvalidValue       a UID that identifies the instance cannot be one
    │   ├── StudyMismatch      StudyInstanceUID is not the one that the request names
    │   ├── ClassMismatch      SOP Class or Instance UID is not the one that the request names
    │   ├── NotStorable        the SOP class is not one of stored composite objects
    │   └── Conflict           the SOP Instance UID is already stored with other bytes
    ├── TooLarge           over a configured limit
    ├── OutOfResources     no space, store read-only, too busy: may work later
    │   ├── TooSlow            the time that one image may take is over
    │   └── Uncertain          the index did not say whether it has taken the change
    ├── Undecodable        stored pixels (or a deflated data set) cannot be decoded
    └── Corrupt            the store does not hold what the index says
"""

from __future__ import annotations


class PacsError(Exception):
    """Base of all; ``str(error)`` is one sentence fit for a peer: no paths, no patient data."""


class Invalid(PacsError):
    """The request cannot mean anything. ``subject`` names the key, parameter or setting."""

    def __init__(self, message: str, subject: str = "") -> None:
        super().__init__(message)
        self.subject = subject


class NotFound(PacsError):
    """There is nothing at this address."""


class Gone(NotFound):
    """What was here has been deleted."""


class Unauthorized(PacsError):
    """Nobody knows who asks, or what they show for it does not hold."""


class TooOften(PacsError):
    """Tried too often. ``retry_after_s``: when it may be tried again, whole seconds."""

    def __init__(self, message: str, retry_after_s: int = 30) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Forbidden(PacsError):
    """The request is understood, and not allowed here."""


class NotAcceptable(PacsError):
    """Nothing that the caller accepts can be made. ``available`` lists what can."""

    def __init__(self, message: str, available: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.available = available


class Unchangeable(PacsError):
    """What should be changed is in its final state, and stays so."""


class Cancelled(PacsError):
    """The peer asked to stop."""


class Rejected(PacsError):
    """This one instance is not taken. The UIDs are what could be read of it, for the answer."""

    def __init__(self, message: str, sop_class_uid: str = "", sop_uid: str = "") -> None:
        super().__init__(message)
        self.sop_class_uid = sop_class_uid
        self.sop_uid = sop_uid


class Unreadable(Rejected):
    """The bytes are not a DICOM data set, or end early."""


class MissingAttribute(Rejected):
    """A UID that identifies the instance is absent."""


class MissingValue(Rejected):
    """A UID that identifies the instance is empty."""


class InvalidValue(Rejected):
    """A UID that identifies the instance cannot be one."""


class StudyMismatch(Rejected):
    """StudyInstanceUID is not the one that the request names."""


class ClassMismatch(Rejected):
    """SOP Class or Instance UID is not the one that the request names."""


class NotStorable(Rejected):
    """The SOP class is not one of stored composite objects (a DICOMDIR, for example)."""


class Conflict(Rejected):
    """The SOP Instance UID is already stored with other bytes."""


class TooLarge(PacsError):
    """Over a configured limit."""


class OutOfResources(PacsError):
    """No space, store read-only, index busy: the same request may work later."""


class TooSlow(OutOfResources):
    """The time that one image may take is over; the others of the request are not concerned."""


class Uncertain(OutOfResources):
    """The index went away before it said whether the change took effect: nothing that it may point at may go."""


class Undecodable(PacsError):
    """Stored pixels, or a deflated data set, cannot be decoded."""


class PeerFailed(PacsError):
    """Another archive could not be asked, or refused; says why. status: the DIMSE status that it refused with."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class Corrupt(PacsError):
    """The store does not hold what the index says."""
