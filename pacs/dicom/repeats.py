"""What data sets have in common: instances of a series say nearly all the same, in the same bytes.

Elements that were read lately are taken as they were made then, one by one, or in runs of many that follow one another.
The JSON is shared by all data sets that hold it: nobody may change it.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from pacs.dicom.buffer import Buffer
from pacs.dicom.charset import Charset
from pacs.dicom.json_model import Element
from pacs.dicom.parsed import Encoding

LONGEST = 128  # bytes of an element that is kept
MOST = 4096  # elements that are kept
_MOST_RUNS = 512
_SHORTEST_RUN = 3
LONGEST_RUN = 256  # elements: wherever one might stand, so many bytes are compared
_MOST_MISSES = 2048
_KEY_BYTES = 8  # tag, VR and length of an element


class Known(NamedTuple):
    """An element by its key in DICOM JSON. size: bytes of it, with tag and length."""

    key: str
    element: Element
    size: int


class Run(NamedTuple):
    """Elements that follow one another, and their bytes."""

    raw: bytes
    elements: dict[str, Element]
    members: list[Known]


@lru_cache(maxsize=8)
def repeats_of(charset: Charset, encoding: Encoding) -> Repeats:
    """What has been read lately in a character set and an encoding."""
    return Repeats()


class Repeats:
    """Of one encoding and character set: equal bytes mean the same. Safe to use from several threads.

    elements: by their bytes.
    """

    def __init__(self) -> None:
        self.elements: dict[bytes, Known] = {}
        self._runs: dict[bytes, Run] = {}
        self._misses = 0

    def keep(self, raw: bytes, key: str, element: Element) -> None:
        """Note an element of up to LONGEST bytes."""
        if len(self.elements) >= MOST:
            self.elements.clear()
        self.elements[raw] = Known(key, element, len(raw))

    def run_at(self, buffer: Buffer, position: int, stop: int) -> Run | None:
        """The run that stands here, whole and before ``stop``."""
        run = self._runs.get(buffer[position : position + _KEY_BYTES])
        if run is None:
            return None
        end = position + len(run.raw)
        if end <= stop and buffer[position:end] == run.raw:
            return run
        self._misses += 1
        return None

    def keep_run(self, raw: bytes, members: list[Known]) -> None:
        """Note up to LONGEST_RUN elements that stood one after another, all of them known. raw: their bytes.

        Where another run begins alike, both go on to the first element that is not the same in both: that is one which
        instances differ in, and no run holds it any more.
        """
        if self._misses > _MOST_MISSES or len(self._runs) >= _MOST_RUNS:
            # Other series come than those that the runs were made from.
            self._runs, self._misses = {}, 0
        start = offset = 0
        while len(members) - start >= _SHORTEST_RUN:
            key = raw[offset : offset + _KEY_BYTES]
            other = self._runs.pop(key, None)
            stop = _first_other(members, start, other.members) if other else len(members)
            run = members[start:stop]
            end = offset + sum(member.size for member in run)
            if len(run) >= _SHORTEST_RUN:
                self._runs[key] = Run(raw[offset:end], {member.key: member.element for member in run}, run)
            offset = end + sum(member.size for member in members[stop : stop + 1])
            start = stop + 1


def _first_other(members: list[Known], start: int, others: list[Known]) -> int:
    """Position of the first member, from ``start`` on, that is not the same as its counterpart."""
    for position, other in zip(range(start, len(members)), others, strict=False):
        if members[position] is not other and members[position] != other:
            return position
    return min(len(members), start + len(others))
