"""Labels of studies: words that people and rules put on them, apart from their data sets."""

from __future__ import annotations

import re
from collections.abc import Callable

import orjson

from pacs.errors import Invalid, OutOfResources
from pacs.index.listing import LABELS as _KIND
from pacs.index.work import RecordWrite, Work

_LABEL = re.compile(r"[\w.:-]{1,64}")
_TRIES = 20


class Labels:
    """Safe to call from any thread, of any process."""

    def __init__(self, work: Work) -> None:
        self._work = work

    def of(self, study_uid: str) -> list[str]:
        """In alphabetical order."""
        found = self._work.record(_KIND, study_uid)
        return orjson.loads(found.content) if found else []

    def add(self, study_uid: str, label: str) -> None:
        """Raises Invalid for what is no label."""
        check(label)
        self._change(study_uid, lambda labels: labels | {label})

    def remove(self, study_uid: str, label: str) -> None:
        """Removing what is not there is no error."""
        self._change(study_uid, lambda labels: labels - {label})

    def _change(self, study_uid: str, change: Callable[[set[str]], set[str]]) -> None:
        for _ in range(_TRIES):
            found = self._work.record(_KIND, study_uid)
            before: set[str] = set(orjson.loads(found.content)) if found else set()
            after = change(before)
            if after == before:
                return
            content = orjson.dumps(sorted(after)) if after else None
            if self._work.write_records([RecordWrite(_KIND, study_uid, content, found.version if found else 0)]):
                return
        raise OutOfResources("the labels of this study are being changed by too many at once")


def check(label: str) -> None:
    """Raises Invalid."""
    if not _LABEL.fullmatch(label):
        raise Invalid(f"{label!r} is not a label: 1 to 64 letters, digits, or . : _ -", "label")
