"""Changes of what a caller sees, page by page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import orjson

from pacs.dicom.matchers import UidList
from pacs.dicom.model import Caller, Level, Scope
from pacs.index.base import Fields, Index, Query
from pacs.index.work import Change, ChangeKind

_STUDY_UID, _SERIES_UID = "0020000D", "0020000E"


@dataclass(frozen=True, slots=True)
class ChangePage:
    """last: the cursor to go on after. looked_at: how many changes there were, visible or not."""

    changes: Sequence[Change]
    last: int
    looked_at: int


class ChangeFeed:
    """Safe to call from any thread.

    Who sees a part of the archive is told of what came to series that are visible now. Of what is gone nothing says
    whose it was: deletions are told to those whose scope is studies, or labels of studies that are still there.
    """

    def __init__(self, index: Index) -> None:
        self._index = index
        self.span = index.work.change_span

    def page(self, after: int, limit: int, caller: Caller) -> ChangePage:
        found = self._index.work.changes(after, limit)
        last = found[-1].cursor if found else after
        shown = found if caller.scope.is_everything or not found else self._visible(found, caller.scope)
        return ChangePage(shown, last, len(found))

    def _visible(self, changes: Sequence[Change], scope: Scope) -> list[Change]:
        uids = tuple(sorted({change.target.study_uid for change in changes}))
        fields = Fields(tags=frozenset({_STUDY_UID, _SERIES_UID}))
        query = Query(Level.SERIES, {(_STUDY_UID,): UidList(uids)}, fields=fields, scope=scope)
        series = set()
        for row in map(orjson.loads, self._index.search(query).rows):
            series.add((row[_STUDY_UID]["Value"][0], row[_SERIES_UID]["Value"][0]))
        studies = {study for study, _ in series}
        if scope.modalities is not None:
            gone: set[str] = set()
        else:
            gone = studies if scope.labels is not None else set(scope.studies or ())
        return [
            change
            for change in changes
            if (change.target.study_uid, change.target.series_uid) in series
            or (change.kind is ChangeKind.DELETED and change.target.study_uid in gone)
        ]
