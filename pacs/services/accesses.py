"""What services tell of who did what with which study; the audit trail listens (PS3.15 A.5)."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import NamedTuple

from pacs.dicom.model import Caller


class Action(StrEnum):
    """Of DICOM PS3.15 A.5.3, as the archive sees it."""

    STORED = "stored"  # taken in, from the caller
    SENT = "sent"  # by C-MOVE, C-GET, WADO or a rule; to the peer, or the caller
    QUERIED = "queried"
    VIEWED = "viewed"  # metadata, frames, pictures
    DELETED = "deleted"
    RESTORED = "restored"  # from the trash
    LOGGED_IN = "logged in"
    LOGGED_OUT = "logged out"
    ALERTED = "alerted"  # somebody who may not tried to
    STARTED = "started"  # the archive itself
    STOPPED = "stopped"
    AUDIT_READ = "audit read"


class Access(NamedTuple):
    """study_uid, patient_id: "" where there is none, or it is not known. peer: the other side, when it is not the
    caller. part: of the study, when it was not all of it. detail: the keys of a query, or the reason of a failure.
    """

    action: Action
    caller: Caller
    study_uid: str = ""
    patient_id: str = ""
    sop_class_uid: str = ""
    instances: int = 0
    is_failure: bool = False
    peer: str = ""
    part: str = ""
    detail: str = ""


Hear = Callable[[Access], None]


def unheard(access: Access) -> None:
    """Nobody listens."""
