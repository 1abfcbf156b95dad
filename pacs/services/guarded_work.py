"""Records that are written only while there is room for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

from pacs.index.work import NewJob, RecordWrite, Work


def guarded(work: Work, check: Callable[[], None]) -> Work:
    """The same, but that records are written only after ``check``, which raises OutOfResources.

    For services that people and machines write into. Jobs go on: they clear away more than they write.
    """
    return cast(Work, _Guarded(work, check))


class _Guarded:
    def __init__(self, work: Work, check: Callable[[], None]) -> None:
        self._work = work
        self._check = check

    def write_records(self, writes: Sequence[RecordWrite], jobs: Sequence[NewJob] = ()) -> bool:
        if any(write.content is not None for write in writes):
            self._check()
        return self._work.write_records(writes, jobs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._work, name)
