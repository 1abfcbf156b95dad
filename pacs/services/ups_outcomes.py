"""What may come of a request about a Unified Procedure Step besides success: the standard's failures and warnings.

``dimse/status.py`` and ``web/problem.py`` give each its code, in one place per protocol.

    Invalid
    ├── AttributeRefused       an attribute of the data set breaks Table CC.2.5-3
    │   ├── AttributeMissing       it has to be there
    │   ├── AttributeEmpty         it has to have a value
    │   ├── AttributeWrong         its value cannot be one
    │   └── AttributeNotAllowed    it cannot be set by this request
    ├── NotScheduled           a step is created in another state than SCHEDULED
    ├── OnlyCreationSchedules  SCHEDULED is asked for otherwise than by creation
    └── ActionMisplaced        the action makes no sense for this instance
    NotFound
    ├── UnknownStep            there is no such step
    └── UnknownReceiver        no such AE to send events to
    StepRefused                the step's state does not allow the request
    ├── StepFinal              it is COMPLETED or CANCELED
    │   └── StepFinalUpdate        and its attributes were to be changed
    ├── WrongTransaction       the Transaction UID is not that of its performer
    ├── StepClaimed            it is IN PROGRESS already
    ├── StepUnclaimed          it is not IN PROGRESS yet
    ├── StepCompleted          it is COMPLETED, so it cannot be canceled
    └── FinalStateUnmet        attributes that a final state needs have no value
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum, auto

from pacs.errors import Invalid, NotFound, PacsError


class Caveat(Enum):
    """A request that was fulfilled, but."""

    ALREADY_CANCELED = auto()
    ALREADY_COMPLETED = auto()
    CREATED_OTHERWISE = auto()  # the archive has set what the request wanted otherwise
    UPDATED_OTHERWISE = auto()


def examples() -> list[PacsError]:
    """One of each failure, for whoever wants to tell which there are."""
    about_attributes = (AttributeMissing, AttributeEmpty, AttributeWrong, AttributeNotAllowed)
    plain = (
        *(NotScheduled, OnlyCreationSchedules, ActionMisplaced, UnknownStep, UnknownReceiver),
        *(StepFinal, StepFinalUpdate, StepClaimed, StepUnclaimed, StepCompleted),
    )
    return [
        *(kind("", ()) for kind in about_attributes),
        *(kind("") for kind in plain),
        WrongTransaction("", is_missing=False),
        FinalStateUnmet("", ()),
    ]


class AttributeRefused(Invalid):
    """tags: of the attributes, from the outermost sequence's on; ``subject`` is the first."""

    def __init__(self, message: str, tags: Sequence[str]) -> None:
        super().__init__(message, tags[0] if tags else "")
        self.tags = tuple(tags)


class AttributeMissing(AttributeRefused):
    """An attribute of type 1 is absent."""


class AttributeEmpty(AttributeRefused):
    """An attribute of type 1 has no value."""


class AttributeWrong(AttributeRefused):
    """An attribute has a value that it cannot have."""


class AttributeNotAllowed(AttributeRefused):
    """N-SET cannot change this attribute."""


class NotScheduled(Invalid):
    """The Procedure Step State of a new step is not SCHEDULED."""


class OnlyCreationSchedules(Invalid):
    """A step becomes SCHEDULED only when it is created."""


class ActionMisplaced(Invalid):
    """The action is not one for the specified instance."""


class UnknownStep(NotFound):
    """There is no such Unified Procedure Step here."""


class UnknownReceiver(NotFound):
    """The Receiving AE is not known here."""


class StepRefused(PacsError):
    """The step is in a state that does not allow this."""


class StepFinal(StepRefused):
    """The step is COMPLETED or CANCELED, and may no longer be updated."""


class StepFinalUpdate(StepFinal):
    """The attributes of a step that is COMPLETED or CANCELED may no longer be changed."""


class WrongTransaction(StepRefused):
    """The Transaction UID is not that of whoever performs the step.

    is_missing: none was given.
    """

    def __init__(self, message: str, *, is_missing: bool) -> None:
        super().__init__(message)
        self.is_missing = is_missing


class StepClaimed(StepRefused):
    """The step is already IN PROGRESS."""


class StepUnclaimed(StepRefused):
    """The step is not IN PROGRESS yet.

    is_update: its attributes were to be changed.
    """

    def __init__(self, message: str, *, is_update: bool = False) -> None:
        super().__init__(message)
        self.is_update = is_update


class StepCompleted(StepRefused):
    """The step is COMPLETED already."""


class FinalStateUnmet(StepRefused):
    """The step does not meet what its final state requires.

    tags: attributes that have no value yet.
    """

    def __init__(self, message: str, tags: Sequence[str]) -> None:
        super().__init__(message)
        self.tags = tuple(tags)
