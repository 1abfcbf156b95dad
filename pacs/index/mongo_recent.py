"""What a process knows of studies, series and patients from its last transactions.

The next instance of a series then needs no reading. What is known may be old: every write names the revision that it
goes by, and one that finds another is ``Stale``, which makes its transaction run again on what is there now.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping

from pacs.dicom.matching import TagPath
from pacs.index.mongo_documents import Document

# Collections whose documents carry a revision.
REVISED = frozenset({"studies", "series", "patients"})
Key = tuple[str, str]
Added = tuple[int, list[tuple[str, TagPath]]]
_LIMIT = 1000


class Stale(Exception):
    """Something that was known is no longer so."""


class Recent:
    """Documents by (collection, id), those used last; safe to call from any thread.

    added: how often the added indexes have changed, and what they are; None when that is not known.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._documents: dict[Key, Document] = {}
        self.added: Added | None = None

    def get(self, key: Key) -> Document | None:
        with self._lock:
            return self._documents.get(key)

    def learn(self, documents: Mapping[Key, Document | None]) -> None:
        """After a commit: documents as they were written or read, None for those that are gone."""
        with self._lock:
            for key, document in documents.items():
                # The last one again: a dict's order is that of insertion.
                self._documents.pop(key, None)
                if document is not None:
                    self._documents[key] = document
            while len(self._documents) > _LIMIT:
                del self._documents[next(iter(self._documents))]

    def forget(self, keys: Iterable[Key]) -> None:
        """Something went wrong with a transaction that went by these."""
        with self._lock:
            self.added = None
            for key in keys:
                self._documents.pop(key, None)
