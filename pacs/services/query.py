"""The one way to search: C-FIND and QIDO-RS ask here."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

from pacs.dicom.model import Caller
from pacs.index.base import Index, Page, Query
from pacs.services.accesses import Access, Action, Hear, unheard
from pacs.services.visible import search_visible

log = logging.getLogger(__name__)


class QueryService:
    """Searches the index on behalf of a caller. Safe to call from any thread.

    hear: told of each search, but for further pages of one and those that are part of something else.
    """

    def __init__(self, index: Index, hear: Hear = unheard) -> None:
        self._index = index
        self._hear = hear

    def search(self, query: Query, caller: Caller, *, log_level: int = logging.INFO) -> Page:
        """Rows that match, of what the caller sees. Raises Invalid naming the key that cannot be searched by.

        log_level: less for what is one of many searches behind one request.
        """
        began = time.perf_counter()
        if caller.scope.is_everything:
            page = self._index.search(query)
        else:
            page = search_visible(self._index, query, caller.scope)
        # Only which keys were used, never their values: those are patients.
        keys = ",".join(sorted(".".join(path) for path in query.keys))
        log.log(
            log_level,
            "searched level=%s from=%s keys=%s rows=%d ms=%.1f",
            query.level.name,
            caller.name,
            keys,
            len(page.rows),
            (time.perf_counter() - began) * 1000,
        )
        if query.after is None and log_level >= logging.INFO:
            self._hear(Access(Action.QUERIED, caller, detail=_asked(query)))
        return page

    def labels_of(self, study_uids: Sequence[str], caller: Caller) -> dict[str, list[str]]:
        """Labels of those of some studies that the caller sees."""
        return self._index.labels_of(study_uids, scope=caller.scope)

    def label_counts(self, caller: Caller) -> dict[str, int]:
        """All labels of studies that the caller sees, and how many studies bear each."""
        return self._index.label_counts(scope=caller.scope)


def _asked(query: Query) -> str:
    """With the values, other than in the log: the audit trail is to tell who looked for whom."""
    keys = [f"{'.'.join(path)}={matcher}" for path, matcher in sorted(query.keys.items())]
    within = [f"study={query.within.study_uid}"] if query.within is not None else []
    text = [f"text={query.text}"] if query.text else []
    return " ".join([f"level={query.level.name}", *within, *keys, *text])
