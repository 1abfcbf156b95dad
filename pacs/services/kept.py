"""How requests for storage commitment are kept in records: compactly, and not for ever."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from pacs.dicom.references import Reference
from pacs.index.work import RecordWrite, Work

_FORGOTTEN_AT_ONCE = 200
_EVERY_S = 900.0


def packed(references: Iterable[Reference]) -> dict[str, list[Any]]:
    """For JSON: what many references share is there once, and each is [SOP Instance UID, position of the shared]."""
    shared: dict[tuple[str, str, str], int] = {}
    items = []
    for each in references:
        key = (each.sop_class_uid, each.study_uid, each.series_uid)
        items.append([each.sop_uid, shared.setdefault(key, len(shared))])
    return {"shared": [list(key) for key in shared], "items": items}


def unpacked(content: dict[str, list[Any]]) -> Sequence[Reference]:
    """What ``packed`` packed."""
    shared = content["shared"]
    return tuple(
        Reference(shared[at][0], sop_uid, study_uid=shared[at][1], series_uid=shared[at][2])
        for sop_uid, at in content["items"]
    )


class Forgetting:
    """Of records whose label, a moment in ISO 8601, is older than ``keep``."""

    def __init__(self, work: Work, kind: str, keep: timedelta) -> None:
        self._work = work
        self._kind = kind
        self._keep = keep
        self._next_s = 0.0  # of time.monotonic

    def run(self) -> None:
        """Remove some of them, once in a while only."""
        if time.monotonic() < self._next_s:
            return
        self._next_s = time.monotonic() + _EVERY_S
        before = (datetime.now(UTC) - self._keep).isoformat()
        old = self._work.records(self._kind, labels=("", before), limit=_FORGOTTEN_AT_ONCE)
        if old:
            # What somebody has changed in the meantime is not old any more: another time then.
            self._work.write_records([RecordWrite(self._kind, each.key, None, each.version) for each in old])
